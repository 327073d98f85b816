"""The history of a study as one worker knows it: read once, and kept up to date by what the others tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from frostline.records import Configuration, Request
from frostline.search.history import History
from frostline.store.parsing import parse_configuration, parse_state
from frostline.store.retries import counting_trials
from frostline.store.sharing.deaths import Deaths, deaths_in
from frostline.store.sharing.news import Claimed, Ended, Event, Made, Recorded, Retried
from frostline.store.trials import Claim, claims_in, evaluation_of, read_trial

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from frostline.records import Direction, Evaluation, Fidelity


class SharedHistory:
    """What is known of a study's trials."""

    def __init__(self, direction: Direction, rungs: Sequence[Fidelity]) -> None:
        self.direction: Direction = direction
        self._rungs = rungs
        self.is_read = False
        self._begin()
        self.newly_ended: list[int] = []
        """The configurations whose trials were found ended, or were ended, since somebody emptied this."""

    def read(self, trials: Sequence[FrozenTrial], is_alive: Callable[[str], bool]) -> None:
        """Take the history from the trials: what other workers did, and what those left that are gone."""
        known = self.ended
        self._begin()
        counting = counting_trials(trials)
        self.num_retrials = len(trials) - len(counting)
        for number, trial in enumerate(counting):
            self.trial_ids[number] = trial._trial_id
            read_trial(trial, self.history, self._rungs)
            if trial.state.is_finished():
                self.end(number, was_known=number in known)
                continue
            for claim in claims_in(trial, num_rungs=len(self._rungs)):
                request = Request(number, claim.rung)
                if self.history.evaluation(number, claim.rung) is not None:
                    continue
                if is_alive(claim.worker):
                    self.start(request)
                else:
                    self.abandoned[request] = claim
                    self.deaths[request] = deaths_in(trial, claim.rung)
        counted = {trial.number for trial in counting}
        self.left_open += [
            trial._trial_id for trial in trials if trial.number not in counted and not trial.state.is_finished()
        ]
        self.is_read = True

    def has_applied(self, events: Sequence[Event]) -> bool:
        """Add what others have told, known or not; return False where it does not fit, and the trials must be read."""
        # Of two workers' news, those of a configuration may come before the one that it was made.
        for event in sorted(events, key=_by_configuration):
            if isinstance(event, Retried):
                return False
            if isinstance(event, Made) and event.number == len(self.history.configurations):
                made = Configuration(
                    number=event.number,
                    hyperparameters=parse_configuration(event.number, event.values),
                    sampler_state=parse_state(event.number, event.state),
                )
                self.history.add_configuration(made)
            if event.number >= len(self.history.configurations):
                return False
            if isinstance(event, Claimed | Recorded) and not 0 <= event.rung < len(self._rungs):
                return False
            match event:
                case Claimed():
                    self.start(Request(event.number, event.rung))
                case Recorded():
                    self.finish(evaluation_of(event.number, event.rung, event.record, self._rungs))
                case Ended():
                    self.end(event.number)
        return True

    def start(self, request: Request) -> None:
        """Let a request be under way, unless it is known to be, or to have ended."""
        self.abandoned.pop(request, None)
        if not self.history.has_begun(request.number, request.rung):
            self.history.start(request)

    def finish(self, evaluation: Evaluation) -> None:
        """Let a request have ended, unless that is known."""
        self.abandoned.pop(evaluation.request, None)
        if self.history.evaluation(evaluation.number, evaluation.rung) is None:
            self.history.finish(evaluation)

    def end(self, number: int, *, was_known: bool = False) -> None:
        """Let a configuration's trial have ended."""
        if number not in self.ended:
            self.ended.add(number)
            self.history.eliminate(number)
            for request in [request for request in self.abandoned if request.number == number]:
                del self.abandoned[request]
            if not was_known:
                self.newly_ended.append(number)

    def _begin(self) -> None:
        self.history = History(self.direction)
        self.trial_ids: dict[int, int] = {}
        """Of the trials that this worker has made or read."""
        self.abandoned: dict[Request, Claim] = {}
        """What a worker had claimed that is gone, and has not evaluated; the lowest number first."""
        self.deaths: dict[Request, Deaths] = {}
        """Who died of what is abandoned."""
        self.num_retrials = 0
        """How many trials take the place of another."""
        self.left_open: list[int] = []
        """The trials, by their ids, in whose place another is, and that have not ended."""
        self.ended: set[int] = set()
        """The configurations whose trials have ended."""


def _by_configuration(event: Event) -> tuple[int, bool]:
    return event.number, not isinstance(event, Made)
