"""Rungs that tell nothing: nobody has learnt anything there, so that the order of the scores is chance."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from frostline.records import loss_sign

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.records import Fidelity
    from frostline.search.history import History
    from frostline.search.rung_history import RungHistory

# On the recorded tables no rung has ever had less than 0.022, whatever sixteen configurations were drawn; with one layer of
# an LSTM behind frozen ones, where all scores are those of guessing, it is 0.003.
_LEAST_LEAD = 0.01

# The best of fewer need not be ahead of their median.
_FEWEST_SCORES = 8


def tells_nothing(rung: RungHistory, *, reference: float) -> bool:
    """Return whether a rung's scores are as good as equal, given the loss that a training of all layers came to.

    They are if the best is ahead of the median by less than a hundredth of what lies between the median and ``reference``.
    """
    losses = rung.losses
    if len(losses) < _FEWEST_SCORES:
        return False
    middle = median(losses)
    return middle - losses[0] < _LEAST_LEAD * (middle - reference)


def silent_rungs(history: History, rungs: Sequence[Fidelity]) -> list[int]:
    """Return the rungs of few layers that tell nothing, measured by the best loss with all layers; none if there is none."""
    most = rungs[-1].trainable_layers
    full = [history.rung(index).losses[:1] for index, rung in enumerate(rungs) if rung.trainable_layers == most]
    reference = min((loss for best in full for loss in best), default=None)
    if reference is None:
        return []
    return [
        index
        for index, rung in enumerate(rungs)
        if rung.trainable_layers < most and tells_nothing(history.rung(index), reference=reference)
    ]


def reference_loss(history: History, numbers: Sequence[int], rung: int) -> float | None:
    """Return the best loss that configurations ``numbers`` came to at ``rung``; None if none of them has a score."""
    found = [history.evaluation(number, rung) for number in numbers]
    scores = [evaluation.score for evaluation in found if evaluation is not None and evaluation.score is not None]
    return min((loss_sign(history.direction) * score for score in scores), default=None)
