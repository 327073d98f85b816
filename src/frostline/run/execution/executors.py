"""Executors of this machine: one job after the other, or in populations; and those that change or spare some jobs."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from frostline.errors import BudgetTooSmallError, ObjectiveError
from frostline.populations.prefix.cannot_share import CannotShareError
from frostline.process import old_objects_passed_over
from frostline.run.execution.stations import Here, asking
from frostline.training.failures import failed, give_memory_back, is_out_of_memory

if TYPE_CHECKING:
    from frostline.populations.packing import Packing
    from frostline.populations.population import Population
    from frostline.protocols import Executor
    from frostline.records import Configuration, Evaluation, Job, Request, Station
    from frostline.search.alignment import Alignment

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluator:
    """Evaluates a job in the calling process; one that raises, or calls ``sys.exit``, is an evaluation that failed.

    What is not an objective at all ends the search. It can be pickled if ``train`` can.
    """

    train: Callable[[Job], Evaluation]

    def __call__(self, job: Job) -> Evaluation:
        """Return the evaluation of ``job``."""
        begin = time.perf_counter()
        try:
            return self.train(job)
        except (ObjectiveError, BudgetTooSmallError):
            # It would be the same for every configuration, or is one that no search can rank.
            raise
        except (Exception, SystemExit) as error:
            logger.debug("configuration %d failed", job.configuration.number, exc_info=True)
            evaluation = failed(job, error, seconds=time.perf_counter() - begin)
        # Outside the except clause, where the traceback no longer keeps the model and its activations alive.
        give_memory_back()
        return evaluation


_HERE = Here()


class SerialExecutor:
    """Evaluates one job at a time in this process."""

    def __init__(
        self,
        evaluate: Callable[[Job], Evaluation],
        *,
        forget: Callable[[int], None] = lambda _: None,
        here: Here = _HERE,
    ) -> None:
        self._evaluate = evaluate
        self._forget = forget
        self._here = here
        self._waiting: deque[Job] = deque()
        self._training: tuple[Request, ...] = ()
        self._began = 0.0

    is_training = False
    """Between two calls nothing is under way."""

    def room(self) -> int:
        """Return 1 unless a job is waiting."""
        return 0 if self._waiting else 1

    def submit(self, jobs: Sequence[Job]) -> None:
        """Let ``jobs`` wait."""
        self._waiting.extend(jobs)

    def next_ended(self) -> Evaluation:
        """Evaluate the job that has waited longest."""
        job = self._waiting.popleft()
        self._began, self._training = time.time(), (job.request,)
        try:
            return self._evaluate(job)
        finally:
            self._training = ()

    def stations(self) -> Sequence[Station]:
        """See ``TellsStations``."""
        return self._here.training(self._training, self._began)

    def forget(self, number: int) -> None:
        """Let go of the checkpoints of configuration ``number``."""
        self._forget(number)

    def close(self) -> None:
        """Give up what is waiting."""
        self._waiting.clear()


@dataclass(slots=True, kw_only=True)
class PopulationExecutor:
    """Evaluates jobs in populations, as large as memory allows, and one by one what cannot be trained together.

    When memory runs out the population is made again in halves, and that size never tried again. While a population is
    trained nothing else can begin, so there is room for more jobs only between two of them.
    """

    populate: Callable[[Sequence[Job]], Population]
    evaluate: Callable[[Job], Evaluation]
    packing: Packing
    capacity: int
    """How many jobs may wait, to choose from what is trained together."""
    in_waves: bool = False
    """Whether all that wait are trained before there is room for more."""
    here: Here = _HERE
    drop_checkpoints: Callable[[int], None] = lambda _: None
    _waiting: dict[Request, Job] = field(default_factory=dict)
    """What is trained now too, until it has ended."""
    _training: set[Request] = field(default_factory=set)
    _ending: Iterator[Evaluation] = field(default_factory=lambda: iter(()))
    _reasons: set[str] = field(default_factory=set)
    _began: float = 0.0
    _until_closed: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        # After every population what it held is collected.
        self._until_closed.enter_context(old_objects_passed_over())

    @property
    def is_training(self) -> bool:
        """Whether a population is under way that has not ended."""
        return bool(self._training)

    def room(self) -> int:
        """Return how many more jobs may wait, none while a population is trained."""
        if self._training or (self.in_waves and self._waiting):
            return 0
        return self.capacity - len(self._waiting)

    def submit(self, jobs: Sequence[Job]) -> None:
        """Let ``jobs`` wait for those that they can be trained with."""
        self._waiting.update((job.request, job) for job in jobs)

    def next_ended(self) -> Evaluation:
        """Train on until one of a population has ended; begin the next population where there is none."""
        evaluation = next(self._ending, None)
        while evaluation is None:
            self._ending = self._train_next()
            evaluation = next(self._ending, None)
        del self._waiting[evaluation.request]
        self._training.discard(evaluation.request)
        if not self._training:
            # Whatever the population held is let go of before anything else begins.
            assert next(self._ending, None) is None, "a population ended more jobs than it was given"
        return evaluation

    def stations(self) -> Sequence[Station]:
        """See ``TellsStations``."""
        return self.here.training(self._training, self._began)

    def forget(self, number: int) -> None:
        """Let go of the checkpoints of configuration ``number``."""
        self.drop_checkpoints(number)

    def close(self) -> None:
        """Give up what is trained and what is waiting."""
        self._waiting.clear()
        self._training.clear()
        self._ending = iter(())
        self._until_closed.close()

    def _train_next(self) -> Iterator[Evaluation]:
        """Yield the evaluations of the next population, or of the next job that is trained alone."""
        group = self.packing.groups([*self._waiting.values()])[0]
        members = self.packing.next(group)
        self._began, self._training = time.time(), {job.request for job in members}
        return self._together(members) if len(members) > 1 else self._one_by_one(members)

    def _one_by_one(self, jobs: Sequence[Job]) -> Iterator[Evaluation]:
        return map(self.evaluate, jobs)

    def _together(self, jobs: Sequence[Job]) -> Iterator[Evaluation]:
        """Yield the evaluations of as many of the jobs as one population takes, or of all of them, one by one."""
        size, reason = len(jobs), None
        population: Population | None = None
        try:
            population = self.populate(jobs)
            size = population.size
            if size < len(jobs):
                self.packing.limit(jobs, size)
                self._training = {job.request for job in jobs[:size]}
            yield from population.run()
        except (Exception, SystemExit) as error:
            if is_out_of_memory(error):
                self.packing.limit(jobs, size // 2)
                logger.warning("memory ran out with %d configurations together: they are halved", size)
            else:
                logger.debug("a population of %d failed", size, exc_info=True)
                reason = f"{error}" if isinstance(error, CannotShareError) else f"{type(error).__name__}: {error}"
        population = None
        # Models and their freezings hold each other; an error's traceback no longer holds them here.
        give_memory_back()
        if reason is not None:
            self._say_once(reason)
            yield from self._one_by_one([job for job in jobs if job.request in self._training])

    def _say_once(self, reason: str) -> None:
        if reason not in self._reasons:
            self._reasons.add(reason)
            logger.warning("configurations are trained one by one: %s.", reason.removesuffix("."))


@dataclass(slots=True, kw_only=True)
class _Wrapper:
    """An executor in front of another one, which does the work."""

    executor: Executor

    def room(self) -> int:
        """See ``Executor``."""
        return self.executor.room()

    def submit(self, jobs: Sequence[Job]) -> None:
        """See ``Executor``."""
        self.executor.submit(jobs)

    def next_ended(self) -> Evaluation:
        """See ``Executor``."""
        return self.executor.next_ended()

    def stations(self) -> Sequence[Station]:
        """See ``TellsStations``."""
        return asking(self.executor)() or ()

    def forget(self, number: int) -> None:
        """See ``Executor``."""
        self.executor.forget(number)

    def close(self) -> None:
        """See ``Executor``."""
        self.executor.close()


@dataclass(slots=True, kw_only=True)
class AligningExecutor(_Wrapper):
    """Has configurations trained as an alignment says; the evaluations are those of the configurations themselves."""

    alignment: Alignment
    _configurations: dict[Request, Configuration] = field(default_factory=dict)

    def submit(self, jobs: Sequence[Job]) -> None:
        """See ``Executor``."""
        self._configurations.update((job.request, job.configuration) for job in jobs)
        self.executor.submit(
            [replace(job, configuration=self.alignment.aligned(job.configuration, job.fidelity)) for job in jobs]
        )

    def next_ended(self) -> Evaluation:
        """See ``Executor``."""
        evaluation = self.executor.next_ended()
        configuration = self._configurations.pop(evaluation.request)
        return replace(evaluation, trained_with=self.alignment.changed(configuration, evaluation.fidelity))


@dataclass(slots=True, kw_only=True)
class MeteringExecutor(_Wrapper):
    """Tells with every evaluation what the configuration's model costs.

    It is measured before the training begins, while nothing of this process is under way.
    """

    model_cost: Callable[[Configuration], float | None]
    _costs: dict[Request, float | None] = field(default_factory=dict)

    def submit(self, jobs: Sequence[Job]) -> None:
        """See ``Executor``."""
        self._costs.update((job.request, self.model_cost(job.configuration)) for job in jobs)
        self.executor.submit(jobs)

    def next_ended(self) -> Evaluation:
        """See ``Executor``."""
        evaluation = self.executor.next_ended()
        return replace(evaluation, model_cost=self._costs.pop(evaluation.request))


@dataclass(slots=True, kw_only=True)
class RememberingExecutor(_Wrapper):
    """Answers the jobs whose evaluation is known already, and hands the others on."""

    known: Callable[[Job], Evaluation | None]
    _answers: deque[Evaluation] = field(default_factory=deque)

    def room(self) -> int:
        """See ``Executor``: what is known takes the room of what is not until it has been told."""
        return max(0, self.executor.room() - len(self._answers))

    def submit(self, jobs: Sequence[Job]) -> None:
        """See ``Executor``."""
        answers = [(job, self.known(job)) for job in jobs]
        self._answers.extend(answer for _, answer in answers if answer is not None)
        unknown = [job for job, answer in answers if answer is None]
        if unknown:
            self.executor.submit(unknown)

    def next_ended(self) -> Evaluation:
        """See ``Executor``: those that are known come first."""
        return self._answers.popleft() if self._answers else self.executor.next_ended()
