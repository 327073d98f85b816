"""torchvision, timm and LitGPT in a process of their own: prints what the tests ask of them, as one JSON object.

    python -m tests.other_libraries .families

Of their own because a torchvision beside a torch that was built without its operators breaks transformers; one for all tests
because these libraries take seconds to load.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import torch


def make_importable(folder: Path) -> torch.library.Library:
    """Let the libraries be imported from ``folder`` for as long as what is returned is kept."""
    sys.path.insert(0, str(folder))
    # Only LitGPT's model: the package itself imports its command line, and with it an older huggingface-hub.
    package = ModuleType("litgpt")
    package.__path__ = [str(folder / "litgpt")]
    sys.modules["litgpt"] = package
    # The CPU build of torch lacks two operators that torchvision expects to find when it is imported.
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


def main() -> None:
    torch.set_num_threads(1)
    library = make_importable(Path(sys.argv[1]))
    from tests.layers import split_families
    from tests.populations import share_families
    from tests.tasks import with_families

    found = {
        "layers": split_families.found(),
        "populations": share_families.found(),
        "tasks": with_families.found(),
    }
    del library
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
