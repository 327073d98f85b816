"""What a method needs to do as well as another one: read between what it did for several costs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def cost_for(target: float, costs: Sequence[float], losses: Sequence[float]) -> float | None:
    """Return which cost comes to ``target``, between rising ``costs`` that came to ``losses``; None if none of them does.

    Who is offered more never has to take a worse answer than for less.
    """
    reached = np.minimum.accumulate(losses)
    for index, loss in enumerate(reached):
        if loss <= target:
            if index == 0:
                return costs[0]
            share = (reached[index - 1] - target) / (reached[index - 1] - loss)
            return float(costs[index - 1] + share * (costs[index] - costs[index - 1]))
    return None
