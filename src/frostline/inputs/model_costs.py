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


def check_counted(cost: str | None, *, of: str) -> None:
    """Raise OptionError if a model's cost is to count that nobody counts where a score alone is returned, as ``of`` does."""
    if cost in (FLOPS, SECONDS):
        raise OptionError(
            f"against is {cost!r}, but {of} returns a score alone, beside which only bytes are counted: use bytes, or an "
            f"objective of your own for frostline.tune, which returns the {cost} too."
        )
