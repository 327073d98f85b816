"""Of the models that a search trains in full, the best stays on disk, that of one's own configuration, and any front."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.run.loop import Observer
from frostline.run.outcome.front import front_at

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.records import Evaluation, Job, Progress
    from frostline.search.history import History
    from frostline.search.interface import Search
    from frostline.training.files.kept_models import KeptModels


class KeepingTheBest(Observer):
    """Deletes the models that are not the best any more, whenever a training in full has ended; the rest it hands on."""

    def __init__(self, observer: Observer, models: KeptModels | None, *, last_rung: int, num_own: int) -> None:
        self._observer = observer
        self._models = models
        self._last_rung = last_rung
        self._num_own = num_own

    def began(self, search: Search, history: History) -> None:
        """See ``Observer``."""
        self._observer.began(search, history)

    def started(self, jobs: Sequence[Job]) -> None:
        """See ``Observer``."""
        self._observer.started(jobs)

    def ended(self, evaluation: Evaluation, history: History) -> None:
        """See ``Observer``."""
        if evaluation.rung == self._last_rung:
            self.sweep(history)
        self._observer.ended(evaluation, history)

    def sweep(self, history: History) -> None:
        """Delete the models of ``history`` that are not the best, nor of the front, whoever left them."""
        if self._models is None:
            return
        ranking = history.rung(self._last_rung).ranking
        own = [number for number in ranking if number < self._num_own]
        front = (member.configuration.number for member in front_at(history, self._last_rung))
        self._models.prune(
            history.configurations,
            has_ended=lambda number: history.evaluation(number, self._last_rung) is not None,
            kept={*ranking[:1], *own[:1], *front},
        )

    def progressed(self, progress: Progress) -> None:
        """See ``Observer``."""
        self._observer.progressed(progress)
