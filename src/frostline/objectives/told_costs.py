"""What an objective says of its model's cost, beside the score that it returns."""

from __future__ import annotations

import math

from frostline.errors import ObjectiveError
from frostline.inputs.model_costs import BYTES
from frostline.training.black_box import score_of


def score_and_cost(result: object, against: str | None) -> tuple[object, float | None]:
    """Return what an objective returned as its score, and as its model's cost: None if that does not count, or is counted.

    Raises: ObjectiveError if it told none that nobody else knows, or one that is no number from 0 on.
    """
    if against is None:
        return result, None
    match result:
        case (score, told):
            cost = score_of(told)
            if cost is None or not 0 <= cost < math.inf:
                raise ObjectiveError(
                    f"the objective returned {told!r:.60} for the {against} of its model: return a number from 0 on."
                )
            return score, cost
    if against == BYTES:
        return result, None
    raise ObjectiveError(
        f"the objective returned {result!r:.60}, but the search is against {against}, which only the objective knows: "
        f"return the score and these, as in 'return score, {against}'."
    )
