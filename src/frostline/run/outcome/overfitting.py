"""Whether full trainings are too long: models that were better before the end of their training than any is at its end."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from frostline.records import Status, loss_sign
from frostline.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from frostline.search.history import History
    from frostline.store.terms import Terms

# By so much of what lies between the best of a rung and its median. On the ten recorded tables, whose rates fall towards the
# end, the best of all candidates at any lower fidelity is ahead of the best in full by at most 0.02.
_LEAST_LEAD = 0.1

# From so many scores on a rung has a median that says how far apart configurations are.
_FEWEST_SCORES = 5


class _Earlier(NamedTuple):
    """Where a configuration stood before the end of its full training; what is less is better."""

    loss: float
    samples: int
    layers: int
    number: int


def overfitting_lines(history: History, terms: Terms) -> list[str]:
    """Return a line if a configuration that was trained in full was better before than any that was; else nothing.

    Only those are asked that were trained in full: what others would have come to is not known, and a good one may well be
    ahead on few samples of a poor one in full.
    """
    last = len(terms.rungs) - 1
    losses, spread = history.rung(last).losses, _spread(history, last)
    earliest = min(_earlier(history, terms), default=None)
    if earliest is None or spread is None or not losses or losses[0] - earliest.loss <= _LEAST_LEAD * spread:
        return []
    sign = loss_sign(terms.direction)
    layers = counted(earliest.layers, "layer")
    instead = ["a shorter full training"]
    if terms.training is not None:
        instead.append("judge each by the best of its validations (keep_best)")
    if earliest.layers < terms.rungs[last].trainable_layers:
        instead.append("freeze the first layers for good")
    return [
        f"Full trainings are too long here: configuration {earliest.number} had {sign * earliest.loss:.5g} with {layers} "
        f"after {earliest.samples:,} {terms.sample_unit}, better than any has in full ({sign * losses[0]:.5g}). Search "
        f"again with {', or '.join(instead)}."
    ]


def _earlier(history: History, terms: Terms) -> Iterator[_Earlier]:
    """Yield where those that were trained in full stood before: at lower rungs, and at validations on the way."""
    last, full = len(terms.rungs) - 1, terms.rungs[-1]
    for number in history.rung(last).ranking:
        for evaluation in history.evaluations_of(number):
            if evaluation.status is not Status.FINISHED:
                continue
            layers = evaluation.fidelity.trainable_layers
            scores = {point.samples: point.score for point in evaluation.curve}
            assert evaluation.score is not None
            scores[evaluation.fidelity.samples] = evaluation.score
            for samples, score in scores.items():
                is_end = layers == full.trainable_layers and samples >= full.samples
                if not is_end:
                    yield _Earlier(loss_sign(terms.direction) * score, samples, layers, number)


def _spread(history: History, last: int) -> float | None:
    """Return how far the best of a rung is ahead of its median, where that is most; None if no rung has scores enough."""
    rungs = (history.rung(rung).losses for rung in range(last + 1))
    return max((median(losses) - losses[0] for losses in rungs if len(losses) >= _FEWEST_SCORES), default=None)
