"""Several configurations of one rung trained in lockstep, behind one frozen prefix."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, TypeVar

from frostline.layers.weights.idle_values import IdleValues
from frostline.populations.beginning import Beginning, template_of
from frostline.populations.engines import Engine, EngineTrial
from frostline.populations.footprint import even_share, footprint_of
from frostline.populations.freed_memory import FreedMemory
from frostline.populations.prefix.cannot_share import CannotShareError
from frostline.populations.prefix.proof import prove
from frostline.populations.prefix.shared_prefix import SharedPrefix
from frostline.populations.stacking.stacks import Stacks
from frostline.populations.validation import MemberScore
from frostline.records import Evaluation, Job, Progress
from frostline.sizes import format_size
from frostline.training.course import Course, TrainingSettings, checkpoints_of
from frostline.training.failures import failed, is_out_of_memory
from frostline.training.machine.devices import peak_bytes, reset_peak_bytes, synchronise
from frostline.training.machine.pinning import pinned_batches
from frostline.training.machine.randomness import borrowed_generators
from frostline.training.machine.threads import Threads
from frostline.training.steps.optimizers import import_optimizers

if TYPE_CHECKING:
    from frostline.populations.prefix.prefix_store import PrefixStore
    from frostline.protocols import Batch, Task
    from frostline.training.session import Session

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")


class Population:
    """Trains the configurations of several jobs together; each comes to what ``train_serially`` makes of it, to rounding.

    The configurations are of one program (``populations/programs.py``): the same model, initialisation and data. Their
    fidelities may differ, in layers and in samples. Each has its own model, optimizer, schedule, clipping and
    checkpoints; they share the frozen tensors and, for every batch, one pass through the frozen layers. One that
    diverges, fails or is done leaves, and its memory with it. Of the jobs it takes as many as fit into ``memory_bytes``,
    and at least one: ``size`` of them, the first ones.
    Raises: CannotShareError if the frozen layers cannot be computed once for all; nothing is trained then. Whatever the
    task raises on building its model, or torch when memory runs out.
    """

    def __init__(
        self,
        task: Task,
        jobs: Sequence[Job],
        settings: TrainingSettings,
        *,
        engine: Engine = Engine.AUTO,
        memory_bytes: int | None = None,
        store: PrefixStore | None = None,
        threads: Threads | None = None,
        observe: Callable[[Progress], None] = lambda _: None,
    ) -> None:
        self.trial = EngineTrial(engine, why="as asked for")
        self._said = Engine.AUTO
        self._task = task
        self._settings = settings
        self._memory_bytes = memory_bytes
        self.size = len(jobs)
        self._threads = threads or Threads.as_they_are()
        self._observe = observe
        self._living: list[Course] = []
        self._ended: list[Evaluation] = []
        self._stacks = Stacks()
        self._freed = FreedMemory()
        device = settings.device_plan.device
        import_optimizers()
        reset_peak_bytes(device)
        begin = time.perf_counter()
        with borrowed_generators(device), self._threads.lent():
            self._begin(jobs, store)
            sessions = [course.session for course in self._living]
            for session in sessions:
                session.shares_batches = True
            self._shared_values = IdleValues(sessions[0].model) if len(sessions) > 1 else None
            self._prefix = SharedPrefix(sessions, store=store, compiled=engine is Engine.COMPILED)
            if self._prefix.shares:
                try:
                    prove(self._prefix)
                    self._refuse_changed_values()
                except BaseException:
                    self._prefix.release()
                    raise
        self._split(time.perf_counter() - begin, self._living)

    def run(self) -> Iterator[Evaluation]:
        """Train, and yield every evaluation as it ends."""
        steps = self._steps()
        more = True
        while more:
            # Borrowed step by step: what is between two evaluations is other people's code.
            with borrowed_generators(self._settings.device_plan.device), self._threads.lent():
                more = next(steps, False)
            yield from self._ended
            self._ended = []

    def _begin(self, jobs: Sequence[Job], store: PrefixStore | None) -> None:
        """Build a model for every job that fits, each from the template of its number of trainable layers."""
        sessions: dict[int, Session] = {}
        for job in sorted(jobs, key=lambda job: job.fidelity.trainable_layers):
            if job.fidelity.trainable_layers not in sessions:
                sessions[job.fidelity.trainable_layers] = template_of(
                    self._task, job, self._settings, among=sessions
                )
        jobs = jobs[: self._fitting(jobs, sessions, store)]
        self.size = len(jobs)
        checkpoints = checkpoints_of(self._task, self._settings)
        # Whoever has the most frozen layers goes first: what it records of them serves all others.
        for job in sorted(jobs, key=lambda job: job.fidelity.trainable_layers):
            begin = time.perf_counter()
            beginning = Beginning(sessions[job.fidelity.trainable_layers], job, self._settings)
            try:
                course = Course(job, beginning, self._settings, checkpoints=checkpoints)
            except CannotShareError:
                raise
            except Exception as error:
                if is_out_of_memory(error):
                    raise
                self._ended.append(failed(job, error, seconds=time.perf_counter() - begin))
            else:
                self._living.append(course)

    def _fitting(self, jobs: Sequence[Job], templates: Mapping[int, Session], store: PrefixStore | None) -> int:
        """Return how many of the jobs fit into memory, evenly over as many populations as they need.

        Where not even one does beside what ``store`` may keep, nothing is kept any more.
        """
        if self._memory_bytes is None:
            return len(jobs)
        hungriest = templates[max(templates)]
        batches = self._task.training_batches(
            hungriest.configuration, seed=self._settings.root_seed, skip_samples=0
        )
        footprint = footprint_of(hungriest, next(batches))
        stacked = self.trial.engine.stacks
        most = footprint.most(self._memory_bytes, stacked=stacked)
        if most == 0 and store is not None:
            self._memory_bytes += store.give_way()
            most = min(1, footprint.most(self._memory_bytes, stacked=stacked))
        size = even_share(len(jobs), most=most)
        if most == 0:
            logger.warning(
                "%s of memory is not enough for one configuration, which needs %s: it is trained all the same",
                format_size(self._memory_bytes),
                format_size(footprint.member + footprint.step),
            )
        elif size < len(jobs):
            logger.info(
                "%d of %d configurations together: each needs %s, and a step %s, of %s",
                size,
                len(jobs),
                *map(format_size, (footprint.member, footprint.step, self._memory_bytes)),
            )
        return size

    def _steps(self) -> Iterator[bool]:
        """Offer batch after batch to all members; yield True whenever one has ended, and stop when none is left."""
        if not self._living:
            return
        leader = self._living[0].session
        position = min(course.session.samples_seen for course in self._living)
        progress = Progress(
            rung=min(course.job.rung for course in self._living),
            members=len(self._living),
            engine=self.trial.engine,
            started=position,
            samples=position,
            budget=max(course.job.fidelity.samples for course in self._living),
        )
        self._observe(progress)
        batches = pinned_batches(
            self._task.training_batches(
                leader.configuration, seed=self._settings.root_seed, skip_samples=position
            ),
            self._settings.device_plan,
        )
        while self._living:
            begin = time.perf_counter()
            members = list(self._living)
            before = sum(course.seconds for course in members)
            batch = self._next(batches, members)
            if batch is None:
                break
            num_samples = self._task.num_samples(batch)
            # One that has a checkpoint further on joins when the others have come there.
            here = [course for course in members if course.session.samples_seen == position]
            while ending := [course for course in self._still(here) if course.is_over(num_samples)]:
                self._conclude(ending, is_over=True)
            ready = [course for course in self._still(here) if not course.finished]
            if ready:
                self._step(batch, num_samples, ready)
                self._conclude(self._still(ready))
            position += num_samples
            progress = replace(
                progress,
                members=len(self._living),
                engine=self.trial.engine,
                samples=position,
                scores=_scores_of(members),
            )
            self._observe(progress)
            own = sum(course.seconds for course in members) - before
            self._split(time.perf_counter() - begin - own, members)
            if self._collect():
                yield True
        for course in list(self._living):
            self._guarded(course, course.close)
        self._collect()
        self._prefix.release()
        yield False

    def _still(self, courses: Sequence[Course]) -> list[Course]:
        """Return those that have not failed."""
        return [course for course in courses if course in self._living]

    def _next(self, batches: Iterator[Batch], courses: Sequence[Course]) -> Batch | None:
        """Return the next batch, or None if there is none; data that raise fail all who wait for them."""
        try:
            return next(batches, None)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            for course in self._still(courses):
                self._drop(course, error)
            return None

    def _conclude(self, courses: Sequence[Course], *, is_over: bool = False) -> None:
        """Score those that need it, several on every validation batch together, and let all go on or end."""
        due = [course for course in courses if self._guarded(course, course.needs_score, is_over=is_over)]
        if due:
            self._refuse_changed_values()
        scores = self._scores(due, is_over=is_over) if len(due) > 1 else {}
        for course in self._still(courses):
            self._guarded(course, course.conclude, scores.get(course), is_over=is_over)

    def _refuse_changed_values(self) -> None:
        changed = [] if self._shared_values is None else self._shared_values.changed()
        if changed:
            raise CannotShareError(f"the model changes {changed[0]} itself, which its copies have in common")

    def _scores(self, courses: Sequence[Course], *, is_over: bool) -> dict[Course, float]:
        """Return the scores of members; none if their task makes them of whole validation sets alone."""
        found = [self._guarded(course, MemberScore.begun, course, is_over=is_over) for course in courses]
        members = [member for member in found if member is not None]
        with ExitStack() as stack:
            each = (self._guarded(member.course, member.measuring_batches) for member in members)
            measuring = next((batches for batches in each if batches), [])
            for member in members:
                stack.callback(member.close)
                if member.course in self._living:
                    self._guarded(member.course, member.begin, measuring)
            batches = iter(self._task.validation_batches(courses[0].session.configuration) if members else ())
            for place in count():
                batch = self._next(batches, courses)
                members = [member for member in members if member.course in self._living]
                if batch is None or not members:
                    break
                for member in members:
                    self._guarded(member.course, member.update, batch, place)
            scores = {member.course: self._guarded(member.course, member.end) for member in members}
        return {course: score for course, score in scores.items() if score is not None}

    def _step(self, batch: Batch, num_samples: int, courses: Sequence[Course]) -> None:
        """Let ``courses`` learn from a batch."""
        self._refuse_stacking_in_vain(batch, courses)
        engine = self.trial.next()
        kind = (engine, max(course.job.fidelity.trainable_layers for course in courses))
        # Sharing trains one member after the other, a stack all of them at once.
        work = len(courses) if engine is Engine.SHARED else 1
        with self._threads.step(kind, work=work):
            if engine is Engine.SHARED:
                self._stacks.release()
                begin = time.perf_counter()
                for course in courses:
                    self._guarded(course, course.learn, batch)
                    self._freed.look()
                self._engine_took(begin, len(courses))
            else:
                self._step_stacked(batch, num_samples, courses, engine)
        self._say_engine(len(courses))

    def _step_stacked(self, batch: Batch, num_samples: int, courses: Sequence[Course], engine: Engine) -> None:
        for group, stacked in self._stacks.of(courses, engine=engine):
            begin = time.perf_counter()
            # A score rests on steps that were seen to be the model's own.
            is_due = any(course.is_due(num_samples) for course in group)
            results = stacked.step(batch, [course.rate_factor(num_samples) for course in group], compare=is_due)
            self._engine_took(begin, len(courses))
            for course, (loss, norm) in zip(group, results, strict=True):
                self._guarded(course, course.note, num_samples, loss, norm)
            if engine is Engine.CAPTURED and stacked.why_not_captured is not None:
                logger.warning(
                    "%d configurations' steps are not captured: %s", len(group), stacked.why_not_captured
                )
                self.trial.settle(Engine.STACKED, stacked.why_not_captured)

    def _engine_took(self, begin: float, members: int) -> None:
        """Tell the engine's trial how long a step took, unless the number of threads is being tried in it."""
        if self.trial.engine is Engine.AUTO and self._threads.settled is not None:
            synchronise(self._settings.device_plan.device)
            self.trial.took(time.perf_counter() - begin, members=members)

    def _say_engine(self, members: int) -> None:
        """Log the engine as soon as it is settled."""
        if self.trial.engine is not self._said and self.trial.engine is not Engine.AUTO:
            self._said = self.trial.engine
            logger.info("%d configurations together, engine %s: %s", members, self._said, self.trial.why)

    def _refuse_stacking_in_vain(self, batch: Batch, courses: Sequence[Course]) -> None:
        """Settle for sharing where stacking is not possible, before its first step."""
        if self.trial.next() in (Engine.SHARED, Engine.SERIAL) or self._stacks:
            return
        is_forced = self.trial.engine is not Engine.AUTO
        reason, begin = None, time.perf_counter()
        if not is_forced and len({course.job.fidelity.trainable_layers for course in courses}) > 1:
            reason = "they train different numbers of layers"
        for _, stacked in self._stacks.of(courses, engine=self.trial.next()) if not reason else ():
            reason = reason or stacked.prove(batch)
        self._prefix.forget()
        if reason is not None:
            level = logging.WARNING if is_forced else logging.INFO
            logger.log(level, "%d configurations cannot be stacked: %s", len(courses), reason)
            self.trial.settle(Engine.SHARED, reason)
        elif self.trial.engine is Engine.COMPILED:
            seconds = time.perf_counter() - begin
            logger.info("%d configurations' step is compiled and proven, in %.1f s", len(courses), seconds)

    def _guarded(
        self, course: Course, function: Callable[..., _Result], *args: object, **keywords: object
    ) -> _Result | None:
        """Call a function of one member's; if it raises, that member has failed, and the others go on: None."""
        begin, shared, result = time.perf_counter(), self._prefix.seconds, None
        try:
            result = function(*args, **keywords)
        except CannotShareError:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise
            logger.debug("configuration %d failed", course.job.configuration.number, exc_info=True)
            self._drop(course, error)
        course.seconds += time.perf_counter() - begin - (self._prefix.seconds - shared)
        return result

    def _drop(self, course: Course, error: Exception) -> None:
        self._ended.append(failed(course.job, error, seconds=course.seconds))
        self._leave(course)

    def _collect(self) -> bool:
        """Take the evaluations of those that are finished; return whether any member has ended."""
        for course in [course for course in self._living if course.finished]:
            # Read only here: on CUDA asking for one figure gathers all of the allocator's.
            peak = peak_bytes(self._settings.device_plan.device)
            self._ended.append(course.evaluation(peak_bytes=peak, population=self.size))
            self._leave(course)
        return bool(self._ended)

    def _leave(self, course: Course) -> None:
        self._living.remove(course)
        self._stacks.release()
        session = course.session
        self._prefix.leave(session)
        # At once, and not when the garbage collector comes: model and freezing hold each other.
        session.optimizer.state.clear()
        for parameter in session.parameters:
            parameter.grad = None
            parameter.data = parameter.data.new_empty(0)

    def _split(self, seconds: float, courses: Sequence[Course]) -> None:
        """Share out what nobody spent alone."""
        for course in courses:
            course.seconds += seconds / len(courses)


def _scores_of(courses: Sequence[Course]) -> dict[int, float]:
    """Return the latest validation score of each member that has one."""
    return {
        course.job.configuration.number: course.session.curve[-1].score
        for course in courses
        if course.session.curve
    }
