"""How every configuration of a search stands among all, though each rung ranks some alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from frostline.records import Configuration, Evaluation
    from frostline.report.study_record import StudyRecord
    from frostline.search.history import History


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A configuration and its last evaluation."""

    configuration: Configuration
    last: Evaluation
    share: float
    """Which part of all is better, as far as it was compared with them: near 0 for the best, 1 for the worst."""


def standings(record: StudyRecord) -> list[Standing]:
    """Return the configurations that were evaluated: those that came furthest first, and of these the best.

    The ``share`` of one is its rank at the highest rung that it came to, among those that came there; these, in turn, are
    the better part of the rung that they were promoted from. What diverged or failed is the worst of its rung.
    """
    rungs = _Rungs(record.history, len(record.terms.rungs))
    found = []
    for configuration in record.history.configurations:
        evaluations = record.history.evaluations_of(configuration.number)
        if evaluations:
            last = max(evaluations, key=lambda evaluation: evaluation.rung)
            evaluated = record.history.configuration_of(last)
            found.append(Standing(configuration=evaluated, last=last, share=rungs.share(last)))
    return sorted(found, key=lambda one: (-one.last.rung, rungs.place(one.last), one.configuration.number))


class _Rungs:
    """The rankings of all rungs, and which part of each went on from it."""

    def __init__(self, history: History, num_rungs: int) -> None:
        self._history = history
        rankings = [history.rung(rung).ranking for rung in range(num_rungs)]
        self._places = [{number: place for place, number in enumerate(ranking)} for ranking in rankings]
        self._promoted = [
            sum(last.rung > rung for number in ranking if (last := history.last_evaluation(number)))
            / max(1, len(ranking))
            for rung, ranking in enumerate(rankings[:-1])
        ]

    def place(self, last: Evaluation) -> int:
        """Return how many are better at the rung of an evaluation; one without a score comes last."""
        places = self._places[last.rung]
        return places.get(last.number, len(places))

    def share(self, last: Evaluation) -> float:
        """Return which part of all is better than a configuration by its ``last`` evaluation."""
        num_places = len(self._places[last.rung])
        place = self.place(last)
        share = (place + 0.5) / num_places if place < num_places else 1.0
        for rung in range(last.rung - 1, -1, -1):
            # One of a higher bracket did not begin at the lowest rung, and one that is skipped has nobody.
            if self._history.evaluation(last.number, rung) is not None:
                share *= self._promoted[rung]
        return share
