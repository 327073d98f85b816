"""An objective, called for one job: the trial that it is handed, and the evaluation that is made of what it returns."""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from optuna import TrialPruned

from frostline.errors import ObjectiveError
from frostline.folders.study_place import StudyPlace
from frostline.inputs.model_costs import BYTES
from frostline.objectives.kept_training import KeptTraining
from frostline.objectives.suggestions import Suggestions
from frostline.objectives.surroundings import Surroundings
from frostline.objectives.told_costs import score_and_cost
from frostline.objectives.trial import Trial
from frostline.process import collect_garbage
from frostline.records import Cost, Evaluation, Job, Progress
from frostline.search.spaces.dimensions import is_dimension
from frostline.seeding import derive_seed
from frostline.training.black_box import evaluation_by
from frostline.training.files.checkpoints import CheckpointKey, Checkpoints
from frostline.training.files.kept_models import KeptModels
from frostline.training.machine.randomness import seeded

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from torch import nn

    from frostline.objectives.look import Objective, Sketch
    from frostline.records import Configuration

# As often a display is told how far a training is.
_SECONDS_BETWEEN_REPORTS = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectiveTraining:
    """Evaluates jobs by calling ``objective``.

    Every call begins with torch's, NumPy's and Python's global generators in the same state, derived from ``root_seed``,
    so that all configurations start from one initialisation. What a job yields is by definition the continuation of the
    rungs right below, if the objective keeps checkpoints: one that is lost is made again. It can be pickled if the objective
    can; another process's tells its progress to nobody.
    Raises: whatever the objective raises; ObjectiveError if it does not keep to what a trial asks of it.
    """

    objective: Objective
    sketch: Sketch
    root_seed: int
    full_samples: int
    place: StudyPlace
    """Where checkpoints are kept, and what was trained in full."""
    against: str | None = None
    """What of a model counts beside its score: ``inputs.model_costs``."""
    progress: Callable[[Progress], object] = lambda _: None

    def __reduce__(self) -> tuple[Any, ...]:
        # Whoever hears of it shows it in this process, with what no other one can have: a terminal, threads, locks.
        kept = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "progress"}
        return partial(ObjectiveTraining, **kept), ()

    @property
    def name(self) -> str:
        """The objective's name."""
        return name_of(self.objective)

    def in_study(self, identity: str) -> ObjectiveTraining:
        """Return the same in the study that ``identity`` tells from others of its name."""
        return replace(self, place=replace(self.place, identity=identity))

    @property
    def checkpoints(self) -> Checkpoints:
        """Those of the study."""
        return Checkpoints.of_study(
            self.place.folder,
            fingerprint=self.sketch.space.fingerprint,
            root_seed=self.root_seed,
            settings="objective",
        )

    @property
    def models(self) -> KeptModels:
        """Where what was trained in full is kept."""
        return KeptModels.in_folder(self.place.folder)

    def __call__(self, job: Job) -> Evaluation:
        """Return the evaluation of ``job``."""
        evaluation, model = self._evaluation(job)
        # Model and freezing hold each other. Restoring would change a model that somebody keeps, so garbage is looked for.
        if model is not None and model() is not None:
            collect_garbage()
        return evaluation

    def _evaluation(self, job: Job) -> tuple[Evaluation, weakref.ref[nn.Module] | None]:
        """Return the evaluation of ``job``, and the model if it was frozen, which nothing here holds any more."""
        begin = time.perf_counter()
        kept = self._kept(job)
        trial = self._trial(job, kept, self._reporter(job, kept))
        told: float | None = None
        has_ended = False
        with seeded(derive_seed(self.root_seed, "initialisation")):
            try:
                score, told = score_and_cost(self.objective(trial), self.against)
                curve = trial.ended(score)
                has_ended = True
            except TrialPruned as pruned:
                if not trial.should_prune():
                    raise ObjectiveError(
                        "the objective raised TrialPruned though trial.should_prune() says no: the rungs decide who goes on."
                    ) from pruned
                curve = trial.curve
            finally:
                trial.rest(is_over=has_ended)
        seen_before = 0 if kept is None else kept.samples_seen
        seconds, samples = time.perf_counter() - begin, max(curve[-1].samples - seen_before, 0)
        cost = Cost(seconds=seconds, samples=samples, fixed_seconds=trial.fixed_seconds(seconds, samples))
        evaluation = evaluation_by(curve, job, cost)
        if evaluation.score is not None and trial.model is not None and self._is_full(job):
            self.models.keep(trial.model, job.configuration, score=evaluation.score)
        if trial.params != dict(job.configuration.hyperparameters):
            evaluation = replace(
                evaluation, suggested=trial.params, ranges=_ranges_beside(job.configuration, trial)
            )
        if self.against == BYTES and told is None:
            told = float(trial.model_bytes)
        return replace(evaluation, model_cost=told), None if trial.model is None else weakref.ref(trial.model)

    def samples_kept(self, job: Job) -> int:
        """Return after how many samples the training of ``job`` would be gone on with, by the data or by its scores."""
        kept = self._latest(job)
        if kept is None:
            below = _below(job)
            return 0 if below is None else self.samples_kept(below)
        return max(kept.samples_seen, kept.curve[-1].samples if kept.curve else 0)

    def forget(self, number: int) -> None:
        """Delete the checkpoints of configuration ``number``."""
        self.checkpoints.forget(number)

    def _is_full(self, job: Job) -> bool:
        is_whole = job.fidelity.trainable_layers == self.sketch.num_layers
        return is_whole and job.fidelity.samples == self.full_samples

    def _trial(self, job: Job, kept: KeptTraining | None, progressed: Callable[[int], object]) -> Trial:
        number, key = job.configuration.number, _key_of(job)
        return Trial(
            number,
            job.fidelity,
            Suggestions(
                values=job.configuration.hyperparameters,
                seed=derive_seed(self.root_seed, "suggestions", number),
            ),
            Surroundings(
                full_samples=self.full_samples,
                num_layers=self.sketch.num_layers,
                layers=self.sketch.layers,
                kept=kept,
                keep=lambda training: self.checkpoints.save_newer(key, training.contents()),
                may_continue=job.may_continue,
                progressed=progressed,
            ),
        )

    def _kept(self, job: Job) -> KeptTraining | None:
        """Return what the training of ``job`` goes on from; a rung below is trained again if what it kept is lost."""
        kept = self._latest(job)
        below = _below(job)
        if kept is not None or below is None:
            return kept
        kept = self._latest(below)
        # The folder is there if the objective keeps anything at all.
        if kept is None and self.checkpoints.keeps_any():
            self(below)
            kept = self._latest(below)
        return kept

    def _latest(self, job: Job) -> KeptTraining | None:
        found = [KeptTraining.of(contents) for contents in self.checkpoints.load_contents(_key_of(job))]
        return max(found, key=lambda kept: kept.samples_seen, default=None)

    def _reporter(self, job: Job, kept: KeptTraining | None) -> Callable[[int], None]:
        """Return what tells a display, now and then, how many samples were seen."""
        last = -math.inf

        def report(samples: int) -> None:
            nonlocal last
            if (now := time.monotonic()) - last < _SECONDS_BETWEEN_REPORTS:
                return
            last = now
            self.progress(
                Progress(
                    rung=job.rung,
                    members=1,
                    engine=None,
                    started=0 if kept is None else kept.samples_seen,
                    samples=samples,
                    budget=job.fidelity.samples,
                )
            )

        return report


def function_of(objective: Objective) -> Objective:
    """Return the function that an objective is, or that some of its arguments were given to."""
    return objective.func if isinstance(objective, partial) else objective


def name_of(objective: Objective) -> str:
    """Return the name of the function that an objective is."""
    function = function_of(objective)
    return getattr(function, "__qualname__", type(function).__qualname__)


def _ranges_beside(configuration: Configuration, trial: Trial) -> dict[str, BaseDistribution]:
    """Return the ranges of what was asked for and is not in the configuration, those that leave something to choose."""
    return {
        name: distribution
        for name, distribution in trial.ranges.items()
        if name not in configuration and is_dimension(name, distribution)
    }


def _below(job: Job) -> Job | None:
    """Return the job whose training ``job`` continues, or None."""
    if not job.continued_from:
        return None
    *path, fidelity = job.continued_from
    return replace(job, rung=job.rung - 1, fidelity=fidelity, continued_from=tuple(path), may_continue=True)


def _key_of(job: Job) -> CheckpointKey:
    return CheckpointKey(configuration=job.configuration, rung=job.rung, path=(*job.continued_from, job.fidelity))
