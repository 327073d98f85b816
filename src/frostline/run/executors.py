"""Running jobs on this machine: one after the other, or in populations. A job that raises is an evaluation that failed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from frostline.populations.packing import Packing
from frostline.populations.population import Population
from frostline.populations.prefix.share import CannotShareError
from frostline.protocols import Executor
from frostline.records import Evaluation, Job
from frostline.search.alignment import Alignment
from frostline.training.failures import failed, give_memory_back, is_out_of_memory

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalExecutor:
    """Evaluates one job at a time in this process."""

    evaluate: Callable[[Job], Evaluation]

    @property
    def capacity(self) -> int:
        """How many jobs it takes at once: one."""
        return 1

    def run(self, jobs: Sequence[Job]) -> Iterator[Evaluation]:
        """Yield one evaluation for every job, in their order."""
        for job in jobs:
            yield self._run_one(job)

    def _run_one(self, job: Job) -> Evaluation:
        begin = time.perf_counter()
        try:
            return self.evaluate(job)
        except Exception as error:
            logger.debug("configuration %d failed", job.configuration.number, exc_info=True)
            evaluation = failed(job, error, seconds=time.perf_counter() - begin)
        # Outside the except clause, where the traceback no longer keeps the model and its activations alive.
        give_memory_back()
        return evaluation


@dataclass(frozen=True, slots=True, kw_only=True)
class PopulationExecutor:
    """Evaluates jobs in populations, as large as memory allows, and one by one what cannot be trained together.

    When memory runs out the population is made again in halves, and that size never tried again.
    """

    populate: Callable[[Sequence[Job]], Population]
    alone: LocalExecutor
    packing: Packing
    capacity: int
    """How many jobs it takes at once."""
    _reasons: set[str] = field(default_factory=set)

    def run(self, jobs: Sequence[Job]) -> Iterator[Evaluation]:
        """Yield one evaluation for every job, as they end."""
        for group in self.packing.groups(jobs):
            waiting = list(group)
            while waiting:
                members = self.packing.next(waiting)
                for evaluation in self._together(members) if len(members) > 1 else self.alone.run(members):
                    waiting = [job for job in waiting if job.request != evaluation.request]
                    yield evaluation

    def _together(self, jobs: Sequence[Job]) -> Iterator[Evaluation]:
        """Yield the evaluations of as many of the jobs as one population takes, or of all of them, one by one."""
        left, size, reason = list(jobs), len(jobs), None
        population: Population | None = None
        try:
            population = self.populate(jobs)
            size = population.size
            if size < len(jobs):
                self.packing.limit(jobs, size)
            for evaluation in population.run():
                left = [job for job in left if job.request != evaluation.request]
                yield evaluation
        except Exception as error:
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
            yield from self.alone.run(left)

    def _say_once(self, reason: str) -> None:
        if reason not in self._reasons:
            self._reasons.add(reason)
            logger.warning("configurations are trained one by one: %s.", reason.removesuffix("."))


@dataclass(frozen=True, slots=True, kw_only=True)
class AligningExecutor:
    """Has configurations trained as an alignment says; the evaluations are those of the configurations themselves."""

    alignment: Alignment
    executor: Executor

    @property
    def capacity(self) -> int:
        """How many jobs it takes at once."""
        return self.executor.capacity

    def run(self, jobs: Sequence[Job]) -> Iterator[Evaluation]:
        """Yield one evaluation for every job, as they end."""
        changed = {job.request: self.alignment.changed(job.configuration, job.fidelity) for job in jobs}
        aligned = [
            replace(job, configuration=self.alignment.aligned(job.configuration, job.fidelity)) for job in jobs
        ]
        for evaluation in self.executor.run(aligned):
            yield replace(evaluation, trained_with=changed[evaluation.request])


@dataclass(frozen=True, slots=True, kw_only=True)
class RememberingExecutor:
    """Answers the jobs whose evaluation is known already, and hands the others on."""

    known: Callable[[Job], Evaluation | None]
    executor: Executor

    @property
    def capacity(self) -> int:
        """How many jobs it takes at once."""
        return self.executor.capacity

    def run(self, jobs: Sequence[Job]) -> Iterator[Evaluation]:
        """Yield one evaluation for every job, those that are known first."""
        unknown = []
        for job in jobs:
            evaluation = self.known(job)
            if evaluation is None:
                unknown.append(job)
            else:
                yield evaluation
        if unknown:
            yield from self.executor.run(unknown)
