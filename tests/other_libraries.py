"""torchvision, timm and LitGPT in a process of their own: writes what the tests ask of them, as one JSON object.

Of their own because a torchvision beside a torch that was built without its operators breaks transformers; one for all tests
because these libraries take seconds to load.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import torch


def make_importable(folder: Path) -> torch.library.Library | None:
    """Let the libraries be imported from ``folder`` for as long as what is returned is kept."""
    sys.path.insert(0, str(folder))
    # Only LitGPT's model: the package itself imports its command line, and with it an older huggingface-hub.
    package = ModuleType("litgpt")
    package.__path__ = [str(folder / "litgpt")]
    sys.modules["litgpt"] = package
    # Of it the model takes a function for older checkpoints; it would bring Lightning along, and that torchmetrics.
    conversion = ModuleType("litgpt.scripts.convert_hf_checkpoint")
    conversion.qkv_reassemble = None  # type: ignore[attr-defined]
    sys.modules[conversion.__name__] = conversion
    sys.modules["wandb"] = None  # type: ignore[assignment]  # timm would load it, and go on without
    if torch.version.cuda is not None:
        return None
    # The CPU build of torch lacks two operators that torchvision expects to find when it is imported.
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


def ask_other_libraries(folder: Path, kept: Path) -> None:
    """Write to ``kept`` what is found of the libraries in ``folder``."""
    torch.set_num_threads(1)
    library = make_importable(folder)
    from tests.layers import split_families
    from tests.populations import share_families
    from tests.tasks import with_families

    found = {
        "layers": split_families.found(),
        "populations": share_families.found(),
        "tasks": with_families.found(),
    }
    del library
    kept.write_text(json.dumps(found))
