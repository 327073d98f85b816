"""Whether trainings of few layers take less time than those of all, in the very search that relies on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from frostline.records import Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.records import Evaluation, Fidelity
    from frostline.search.history import History

LEAST_SAVED = 0.35
"""Where few layers save less than this share of what a sample takes with all, it is cheaper to begin with all."""

# Where all of them are trained a third of the layers saves more than half of a step. Less than a tenth is nothing.
_NOTHING_SAVED = 0.1

# Of each kind, to be told at all: clocks and starts decide what is shorter.
_FEWEST_EVALUATIONS = 5
_FEWEST_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Paces:
    """Seconds that a sample takes, validation included, in the mean of the trainings that finished."""

    few_layers: float
    all_layers: float

    @property
    def saved(self) -> float:
        """The share of the time that few layers save."""
        return 1 - self.few_layers / self.all_layers


def unprofitable_paces(history: History, rungs: Sequence[Fidelity]) -> Paces | None:
    """Return the paces of few layers and of all if few save next to nothing; None if they do, or too little is known."""
    most = rungs[-1].trainable_layers
    finished = [each for each in history.evaluations() if each.status is Status.FINISHED]
    few = _sure_pace([each for each in finished if each.fidelity.trainable_layers < most])
    whole = _sure_pace([each for each in finished if each.fidelity.trainable_layers == most])
    if few is None or whole is None:
        return None
    paces = Paces(few_layers=few, all_layers=whole)
    return paces if paces.saved < _NOTHING_SAVED else None


def paces_of_both(history: History, rungs: Sequence[Fidelity]) -> tuple[Paces, int] | None:
    """Return the paces at the lowest rung and the lowest of all layers, and how many began at the latter.

    Those of the configurations that finished both; None if none has, if few save enough, or all began at the lowest.
    """
    whole = next(rung for rung, each in enumerate(rungs) if each.trainable_layers == rungs[-1].trainable_layers)
    both = {*history.rung(0).ranking} & {*history.rung(whole).ranking}
    few, all_layers = (
        pace([each for each in history.evaluations() if each.rung == rung and each.number in both])
        for rung in (0, whole)
    )
    begun = sum(
        not any(history.has_begun(number, lower) for lower in range(whole))
        for number in history.rung(whole).ranking
    )
    # The first alone begins there in any case.
    if whole == 0 or begun < 2 or few is None or not all_layers:
        return None
    paces = Paces(few_layers=few, all_layers=all_layers)
    return (paces, begun) if paces.saved < LEAST_SAVED else None


def pace(evaluations: Sequence[Evaluation]) -> float | None:
    """Return the seconds that a sample took, in the mean of these evaluations; None if nothing was trained."""
    samples = sum(each.cost.samples for each in evaluations)
    return sum(each.cost.seconds for each in evaluations) / samples if samples > 0 else None


def _sure_pace(evaluations: Sequence[Evaluation]) -> float | None:
    seconds = sum(each.cost.seconds for each in evaluations)
    is_enough = len(evaluations) >= _FEWEST_EVALUATIONS and seconds >= _FEWEST_SECONDS
    return pace(evaluations) if is_enough else None
