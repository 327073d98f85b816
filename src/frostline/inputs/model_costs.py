"""What of a trained model a search may weigh its score against, by name: checked before anything slow is loaded."""

from __future__ import annotations

import difflib

from frostline.errors import OptionError
from frostline.inputs.whole_numbers import shown

BYTES, FLOPS, SECONDS = "bytes", "flops", "seconds"
MODEL_COSTS = (BYTES, FLOPS, SECONDS)


def check_model_cost(name: str, cost: object) -> None:
    """Raise OptionError, which calls it ``name``, unless ``cost`` is one of a model."""
    if cost in MODEL_COSTS:
        return
    close = difflib.get_close_matches(cost, MODEL_COSTS, n=1) if isinstance(cost, str) else []
    hint = f" Did you mean {close[0]}?" if close else ""
    raise OptionError(f"{name} is {shown(cost)}, but must be one of {', '.join(MODEL_COSTS)}.{hint}")
