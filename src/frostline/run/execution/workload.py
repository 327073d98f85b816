"""What an executor is to evaluate, and who makes it for that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from frostline.errors import OptionError
from frostline.folders.study_place import StudyPlace
from frostline.inputs.whole_numbers import shown
from frostline.protocols import is_task
from frostline.run.execution.executors import Evaluator
from frostline.training.course import checkpoints_of, samples_kept
from frostline.training.files.kept_models import KeptModels
from frostline.training.machine.threads import Threads
from frostline.training.serial import train_serially

if TYPE_CHECKING:
    from frostline.protocols import Executor, Task
    from frostline.records import Evaluation, Job, Progress
    from frostline.run.execution.options import TrainingOptions
    from frostline.search.interface import Rungs
    from frostline.training.course import TrainingSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskTraining:
    """The trainings of a task in one study: what becomes of a job, wherever that is. It can be pickled if the task can."""

    task: Task
    options: TrainingOptions
    study: str
    seed: int
    identity: str = ""
    """What tells the study from others of its name."""

    def in_study(self, identity: str) -> TaskTraining:
        """Return the trainings of the study that ``identity`` tells from others of its name."""
        return replace(self, identity=identity)

    @property
    def place(self) -> StudyPlace:
        """Where they keep what they leave."""
        return StudyPlace(runs=self.options.folder, name=self.study, identity=self.identity)

    @property
    def models(self) -> KeptModels:
        """Where they keep the models that are trained in full."""
        return KeptModels.in_folder(self.place.folder, data=self.task.fingerprint)

    @property
    def settings(self) -> TrainingSettings:
        """How they run."""
        return self.options.settings(folder=self.place.folder, seed=self.seed)

    def __call__(
        self, job: Job, *, threads: Threads | None = None, observe: Callable[[Progress], None] = lambda _: None
    ) -> Evaluation:
        """Train one configuration by itself, and return its evaluation; ``threads`` know what was measured before."""
        settings = self.settings
        threads = threads or Threads.of(self.options.threads, settings.device_plan.device)
        return train_serially(self.task, job, settings, threads=threads, observe=observe)

    def samples_kept(self, job: Job) -> int:
        """Return after how many samples the training of ``job`` would be gone on with."""
        return samples_kept(self.task, job, self._anywhere)

    @property
    def forget(self) -> Callable[[int], None]:
        """Deletes the checkpoints of the configuration of that number; where they lie is worked out once, here."""
        checkpoints = checkpoints_of(self.task, self._anywhere)
        assert checkpoints is not None, "a study keeps checkpoints"
        return checkpoints.forget

    @property
    def _anywhere(self) -> TrainingSettings:
        """The settings where nothing is trained: whoever decides may have no device such as those that train."""
        return replace(self, options=replace(self.options, device="cpu")).settings


class OwnTraining(Protocol):
    """A training of the user's own: what it does inside, nobody here knows. Pickled, it leaves behind who listens to it."""

    @property
    def name(self) -> str:
        """What it is called in a study."""
        ...

    def in_study(self, identity: str) -> OwnTraining:
        """Return the training in the study that ``identity`` tells from others of its name."""
        ...

    @property
    def place(self) -> StudyPlace | None:
        """Where it keeps what it leaves; None if it leaves nothing."""
        ...

    @property
    def models(self) -> KeptModels | None:
        """Where it keeps the models that it trains in full; None if nowhere."""
        ...

    def __call__(self, job: Job) -> Evaluation:
        """Return the evaluation of ``job``."""
        ...

    def samples_kept(self, job: Job) -> int:
        """Return after how many samples the training of ``job`` would be gone on with; 0: it begins anew."""
        ...

    def forget(self, number: int) -> None:
        """Let go of whatever is kept to continue configuration ``number``."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The trainings of one search. What of it travels to other processes is ``training``; the rest stays with the loop."""

    training: TaskTraining | OwnTraining
    ladder: Rungs
    learns: bool = False
    """Whether configurations are drawn by what was evaluated: then few are to be under way at once."""
    in_waves: bool = False
    """Whether it matters which evaluations have ended when it is decided what comes next. One process then evaluates all
    that was decided before it decides again: a killed search begins with the rest of that, and goes on as if nothing was."""
    progress: Callable[[Progress], None] = lambda _: None
    """To be told how far populations are."""

    @property
    def evaluate(self) -> Evaluator:
        """Evaluates one job in the process that calls it, by itself; one that raises is an evaluation that failed.

        It can be pickled if the task or the training can; whoever hears of progress stays in this process.
        """
        return Evaluator(train=self.training)

    @property
    def forget(self) -> Callable[[int], None]:
        """Lets go of whatever is kept to continue the configuration of that number, wherever it was trained."""
        return self.training.forget


class ExecutorFactory(Protocol):
    """Makes the executor of a search: ``local_executor``, or what stands in for it."""

    def __call__(self, workload: Workload) -> Executor:
        """Return the executor of ``workload``; raise what makes it impossible before anything is trained."""
        ...


def check_task(task: object) -> None:
    """Raise OptionError unless ``task`` is one."""
    if not is_task(task):
        raise OptionError(f"task is {shown(task)}, but must be a task, such as frostline.SupervisedTask(...).")


def check_factory(executor: object) -> None:
    """Raise OptionError unless ``executor`` may be what makes one."""
    if not callable(executor):
        raise OptionError(
            f"executor is {executor!r:.60}, but must be what makes one, such as frostline.integrations.RayExecutor()."
        )
