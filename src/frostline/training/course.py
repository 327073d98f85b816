"""One configuration's way through the fidelities of its job: what it learns from, when it is validated, how it ends."""

from __future__ import annotations

import logging
import math
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from frostline.errors import FidelityError, OptionError, TaskError
from frostline.inputs.whole_numbers import check_seed
from frostline.layers import freezing_of
from frostline.protocols import keeps_best
from frostline.records import Cost, CurvePoint, Evaluation, Fidelity, Job, Status
from frostline.training.files.checkpoints import CheckpointKey, Checkpoints
from frostline.training.files.kept_models import KeptModels
from frostline.training.steps.finiteness import Readings
from frostline.training.steps.schedules import share_done
from frostline.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from frostline.folders.folder import Folder
    from frostline.protocols import Batch, Task
    from frostline.training.machine.devices import DevicePlan
    from frostline.training.session import Session

logger = logging.getLogger(__name__)

# Reading a loss makes the host wait for an accelerator: there it is read this many steps late.
_STEPS_BETWEEN_READINGS = 16

# Of a task that keeps the best: at each tenth, where most rungs end, so that a training straight to the end is judged where
# others are that climb.
_FEWEST_TO_CHOOSE_FROM = 10

_HORIZONS = ("rung", "full")

_STATISTICS = ("batches", "running")
_MEASURED = _STATISTICS[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """How a study trains, the same for all of its configurations.

    ``horizon`` "rung" compresses the learning-rate schedule to the samples of the rung, "full" cuts the full one
    short. ``num_validations`` are made after equal shares of the samples that the schedule is for, and one where the rung
    ends, which is the score: cut short, a training is validated where the full one is, and seldom on few samples. Of a task
    that keeps the best there are ten at least.
    ``statistics`` "batches" scores a training before its end by statistics of batch normalisations that are measured where
    it stands (``steps.batch_statistics``), "running" by the running ones, as its end always is.
    Raises: OptionError if ``horizon``, ``statistics``, ``num_validations`` or the seed is out of range.
    """

    device_plan: DevicePlan
    root_seed: int
    horizon: str = "rung"
    folder: Folder | None = None
    """The folder of the study, where checkpoints and models are kept; None: none are."""
    num_validations: int = 4
    statistics: str = _MEASURED

    def __post_init__(self) -> None:
        for name, allowed in (("horizon", _HORIZONS), ("statistics", _STATISTICS)):
            if getattr(self, name) not in allowed:
                raise OptionError(f"{name} is {getattr(self, name)!r}, but must be one of {', '.join(allowed)}.")
        check_seed("seed", self.root_seed)
        if self.num_validations < 1:
            raise OptionError(
                f"num_validations is {self.num_validations}, but the last one is the score: use at least 1."
            )


def checkpoints_of(task: Task, settings: TrainingSettings) -> Checkpoints | None:
    """Return where a study with these settings keeps its checkpoints; None if it keeps none."""
    if settings.folder is None:
        return None
    way = f"{settings.horizon} {settings.device_plan.compute_dtype} {settings.num_validations}"
    # Those of before had none but running statistics.
    way += f" {settings.statistics}" if settings.statistics == _MEASURED else ""
    return Checkpoints.of_study(
        settings.folder, fingerprint=task.fingerprint, root_seed=settings.root_seed, settings=way
    )


def kept_models_of(task: Task, settings: TrainingSettings) -> KeptModels | None:
    """Return where the models of a task's study are kept; None outside a study."""
    if settings.folder is None:
        return None
    return KeptModels.in_folder(settings.folder, data=task.fingerprint)


class Course:
    """The training that a job asks for, batch by batch, from the highest fidelity on its path that has a checkpoint.

    Whoever drives it offers it the task's batches in their order; what it makes of them depends on nothing else. It
    makes as many steps as whole batches fit into the samples, and at least one; a loss, gradient norm or score that is
    not finite ends it as diverged.
    Raises: FidelityError if the job continues something else.
    """

    def __init__(
        self,
        job: Job,
        begin: Callable[[], Session],
        settings: TrainingSettings,
        *,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self.job = job
        self.finished = False
        self.seconds = 0.0
        """What whoever drives it says that it took."""
        self._settings = settings
        self._checkpoints = checkpoints
        self._path = path_of(job)
        self._reason: str | None = None
        self._is_due = False
        self.session, self._rung = self._resumed(begin)
        self._schedule = self.session.task.build_schedule(job.configuration)
        at_once = settings.device_plan.device.type == "cpu"
        self._readings = Readings(interval=1 if at_once else _STEPS_BETWEEN_READINGS)
        self._samples_before = self.session.samples_seen

    def wants(self, num_samples: int) -> bool:
        """Return whether it learns from the next batch, of ``num_samples``; if none is wanted any more, it is finished."""
        while self.is_over(num_samples):
            self.conclude(is_over=True)
        return not self.finished

    def is_over(self, num_samples: int) -> bool:
        """Return whether its rung ends before the next batch, of ``num_samples``: not all of it is wanted."""
        seen = self.session.samples_seen
        return not self.finished and seen > 0 and seen + num_samples > self._budget

    def close(self) -> None:
        """Make do with what was learnt, because there are no more batches.

        Raises: TaskError if there was none.
        """
        if self.session.samples_seen == 0:
            name = self.session.task.name
            raise TaskError(f"{name} gave no training batch: training_batches must yield without end.")
        while not self.finished:
            self.conclude(is_over=True)

    def rate_factor(self, num_samples: int) -> float:
        """Return the schedule's factor on the learning rate for a batch of ``num_samples``."""
        return self._schedule(
            share_done(
                samples_seen=self.session.samples_seen, batch_samples=num_samples, horizon_samples=self._horizon
            )
        )

    def learn(self, batch: Batch) -> None:
        """Make one training step; ``conclude`` comes next."""
        num_samples = self.session.task.num_samples(batch)
        loss, norm = self.session.step(batch, rate_factor=self.rate_factor(num_samples))
        # Not only at the next step: other members make theirs before, and all gradients would be in memory at once, between
        # what those need and let go.
        self.session.optimizer.zero_grad()
        self.note(num_samples, loss, norm)

    def note(self, num_samples: int, loss: Tensor, norm: Tensor | None) -> None:
        """Take note of a step on ``num_samples`` that gave ``loss`` and the gradient's ``norm``; ``conclude`` comes next."""
        before = self.session.samples_seen - num_samples
        self._readings.add(before, loss, norm)
        # Not only when all have made their steps: what is held until then keeps malloc from giving back what lies beside it.
        self._reason = self._readings.complaint(at_once=False)
        self._is_due = self._comes_due(before, self.session.samples_seen)

    def needs_score(self, *, is_over: bool = False) -> bool:
        """Return whether there is to be a score of the model as it stands; ``is_over``: because no further batch fits."""
        ends = is_over or self._ends
        self._reason = self._reason or self._readings.complaint(at_once=self._is_due or ends)
        return self._reason is None and (self._is_due or (ends and not self._is_scored))

    def score(self, *, is_over: bool = False) -> float:
        """Return the score that there is to be."""
        session = self.session
        with session.measured(session.measuring_batches()) if self.measures(is_over=is_over) else nullcontext():
            return session.judged_score()

    def measures(self, *, is_over: bool = False) -> bool:
        """Return whether that is by measured statistics. The end of a full training is as it is, if it can be."""
        reached, session = self._budget if is_over else self.session.samples_seen, self.session
        return self._measures and (reached < session.task.full_samples or session.measures_to_the_end)

    def conclude(self, score: float | None = None, *, is_over: bool = False) -> None:
        """Score the model, if it is to be scored now, and end the rung if its samples are used up or it ``is_over``.

        The ``score`` may be given, if it is known.
        """
        if self.needs_score(is_over=is_over):
            self._add(self.score(is_over=is_over) if score is None else score)
        ends, self._is_due = is_over or self._ends, False
        if self._reason is not None:
            self.finished = True
        elif ends:
            self._end_rung()

    def is_due(self, num_samples: int) -> bool:
        """Return whether a step on ``num_samples`` is one after which there is a score."""
        before = self.session.samples_seen
        return self._comes_due(before, before + num_samples) or before + num_samples >= self._budget

    def _comes_due(self, before: int, now: int) -> bool:
        shares = self._settings.num_validations
        if keeps_best(self.session.task):
            shares = max(shares, _FEWEST_TO_CHOOSE_FROM)
        return now * shares // self._horizon > before * shares // self._horizon

    def evaluation(self, *, peak_bytes: int | None, population: int = 1) -> Evaluation:
        """Return what a finished course came to; ``population`` configurations were trained together."""
        assert self.finished
        curve = self.session.curve
        return Evaluation(
            number=self.job.configuration.number,
            rung=self.job.rung,
            fidelity=self.job.fidelity,
            status=Status.FINISHED if self._reason is None else Status.DIVERGED,
            score=curve[-1].score if self._reason is None else None,
            cost=Cost(
                seconds=self.seconds,
                samples=self.session.samples_seen - self._samples_before,
                peak_bytes=peak_bytes,
                population=population,
            ),
            curve=tuple(curve),
            reason=self._reason,
        )

    @property
    def _measures(self) -> bool:
        return self._settings.statistics == _MEASURED

    @property
    def _ends(self) -> bool:
        """Whether the rung's samples are used up."""
        return self.session.samples_seen >= self._budget

    @property
    def _is_scored(self) -> bool:
        """Whether the score of the model as it stands is known, for the end of the rung."""
        session = self.session
        if not session.curve or session.curve[-1].samples != session.samples_seen:
            return False
        # It may have seemed to be on its way, and no batch fits any more.
        is_end = self._budget >= session.task.full_samples
        return not (is_end and self._measures and session.samples_seen < session.task.full_samples)

    @property
    def _budget(self) -> int:
        return self._path[self._rung].samples

    @property
    def _horizon(self) -> int:
        """The samples that the schedule is for."""
        return self._budget if self._settings.horizon == "rung" else self.session.task.full_samples

    def _resumed(self, begin: Callable[[], Session]) -> tuple[Session, int]:
        """Return a session after the highest fidelity that has a checkpoint, or a new one, and which one comes next."""
        for index in reversed(range(len(self.job.continued_from))):
            checkpoint = None if self._checkpoints is None else self._checkpoints.load(self._key(index))
            if checkpoint is not None:
                session = begin()
                try:
                    session.restore(checkpoint)
                except (RuntimeError, KeyError, ValueError) as error:
                    stem = self._key(index).stem
                    logger.warning("%s is not used, the training is made again: %s", stem, error)
                else:
                    return session, index + 1
        return begin(), 0

    def _end_rung(self) -> None:
        """Keep a checkpoint of the fidelity that was trained for if it may be continued, and go on to the next."""
        session = self.session
        is_last = self._rung + 1 == len(self._path)
        self.finished = is_last
        may_continue = self.job.may_continue and self.job.fidelity.samples < session.task.full_samples
        if self._checkpoints is not None and (may_continue or not is_last):
            self._checkpoints.save(self._key(self._rung), session.checkpoint())
        if is_last:
            session.finish()
            self._keep_model()
        else:
            self._rung += 1

    def _keep_model(self) -> None:
        """Write the weights down if all layers were trained on all samples: they may turn out to be the best."""
        session, freezing = self.session, freezing_of(self.session.model)
        is_full = self.job.fidelity.samples >= session.task.full_samples
        if not is_full or (freezing is not None and freezing.frozen_layers):
            return
        models = kept_models_of(session.task, self._settings)
        if models is not None:
            models.keep(session.model, self.job.configuration, score=session.curve[-1].score)

    def _add(self, score: float) -> None:
        """Add a point to the curve, in the place of another after as many samples, unless it says why it is none."""
        seen, curve = self.session.samples_seen, self.session.curve
        if not math.isfinite(score):
            self._reason = f"the score after {seen} samples is {score}"
            return
        if curve and curve[-1].samples == seen:
            curve.pop()
        curve.append(CurvePoint(seen, score))

    def _key(self, index: int) -> CheckpointKey:
        return _key_of(self.job, index)


def samples_kept(task: Task, job: Job, settings: TrainingSettings) -> int:
    """Return after how many samples the training of ``job`` would be gone on with: those of a rung that has a checkpoint."""
    checkpoints = checkpoints_of(task, settings)
    for index, fidelity in reversed([*enumerate(job.continued_from)]):
        if checkpoints is not None and checkpoints.has(_key_of(job, index)):
            return fidelity.samples
    return 0


def _key_of(job: Job, index: int) -> CheckpointKey:
    """Return the key of the checkpoint after the fidelity ``index`` of the job's path."""
    path = path_of(job)
    rung = job.rung - (len(path) - 1 - index)
    return CheckpointKey(configuration=job.configuration, rung=rung, path=path[: index + 1])


def path_of(job: Job) -> tuple[Fidelity, ...]:
    """Return the fidelities that the job's training goes through, its own last.

    Raises: FidelityError if it continues a training of other layers, or on more samples.
    """
    path = (*job.continued_from, job.fidelity)
    for lower, higher in pairwise(path):
        if lower.trainable_layers != higher.trainable_layers or lower.samples > higher.samples:
            raise FidelityError(
                f"a training of {counted(lower.trainable_layers, 'layer')} on {lower.samples} samples cannot go on to "
                f"{counted(higher.trainable_layers, 'layer')} and {higher.samples} samples: only the samples may rise; a "
                f"training of other layers starts from scratch."
            )
    return path
