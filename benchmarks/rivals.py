"""Searches of other packages, on the clock: Optuna's, NePS's PriorBand and Ray Tune's asynchronous halving."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import hard_tasks
import numpy as np
import optuna
import torch
from full_trainings import validations
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import BasePruner, HyperbandPruner, NopPruner
from optuna.samplers import BaseSampler, GPSampler, TPESampler
from optuna.trial import TrialState

from frostline.records import Value
from frostline.run.execution.options import TrainingOptions
from frostline.run.tuning import own_configuration
from frostline.tasks.loading import load_task
from frostline.training.supervised.supervised_task import SupervisedTask

OPTIONS = TrainingOptions(device="cpu", horizon="full", threads=1)
VALIDATIONS = 10  # of a full training that is watched; frostline's own are its default, at every rung
WATCHED = replace(OPTIONS, num_validations=VALIDATIONS)
DIVERGED = 1e3  # for what wants a number

TASKS: dict[str, Callable[[], SupervisedTask]] = {
    "digits-mlp": lambda: load_task("digits-mlp", {"full_images": 200 * 64}),
    "deep-mlp": hard_tasks.deep_mlp,
    "small-resnet": lambda: load_task(
        "digits-resnet", {"full_images": 100 * 64, "widths": (8, 8, 16, 16, 32, 32), "image_size": 8}
    ),
    "byte-retention": lambda: hard_tasks.byte_retention(full_tokens=16_384),
    "tied-gpt": hard_tasks.tied_gpt,
}


class TimeUp(BaseException):
    """The seconds are over. No Exception: searches record those of trainings and go on."""


@dataclass
class Clock:
    """What was trained in full, when, and whether there is time left."""

    limit: float
    begin: float | None = None
    best: list[tuple[float, float]] = field(default_factory=list)
    """Seconds, and the loss of the best full training by then; only where it fell."""
    full_trainings: int = 0

    @property
    def seconds(self) -> float:
        """Seconds since the first look."""
        if self.begin is None:
            self.begin = time.perf_counter()
        return time.perf_counter() - self.begin

    def trained(self, loss: float) -> None:
        """Note a full training."""
        self.full_trainings += 1
        if not self.best or loss < self.best[-1][1]:
            self.best.append((self.seconds, loss))

    def look(self) -> None:
        """Raises: TimeUp if there is no time left."""
        if self.seconds > self.limit:
            raise TimeUp


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What is searched, from which seed, and until when."""

    name: str
    task: SupervisedTask
    seed: int
    clock: Clock

    @property
    def own(self) -> dict[str, Value]:
        """The task's defaults, of what is searched."""
        return own_configuration(self.task)

    def steps(self, number: int, values: dict[str, Value]) -> Iterator[float]:
        """Train in full while there is time; yield each validation's loss, the last one noted."""
        self.clock.look()
        with closing(validations(self.task, number, values, WATCHED, seed=self.seed)) as trained:
            for score, is_last in trained:
                self.clock.look()
                if is_last:
                    self.clock.trained(score)
                yield score


# --- Optuna -----------------------------------------------------------------------------------------------------------


def optuna_search(bench: Bench, sampler: BaseSampler, pruner: BasePruner) -> None:
    study = optuna.create_study(study_name=f"{bench.seed}", sampler=sampler, pruner=pruner)
    study.enqueue_trial(bench.own)
    bench.clock.look()
    while True:
        trial = study.ask(dict(bench.task.space.distributions))
        score = None
        before = bench.clock.full_trainings
        for step, loss in enumerate(bench.steps(trial.number, trial.params), start=1):
            score = loss
            trial.report(loss, step)
            if trial.should_prune():
                break
        if bench.clock.full_trainings > before:
            study.tell(trial, score)
        else:
            study.tell(trial, state=TrialState.PRUNED)


# --- NePS -------------------------------------------------------------------------------------------------------------


def priorband(bench: Bench) -> None:
    """PriorBand around the task's defaults, with medium confidence, after these; trainings are kept in memory and go on."""
    import neps

    def domain(name: str, distribution: BaseDistribution) -> Any:
        belief = {"prior": bench.task.defaults[name], "prior_confidence": "medium"}
        if isinstance(distribution, CategoricalDistribution):
            belief["prior"] = distribution.choices.index(belief["prior"])
            return neps.Categorical(distribution.choices, **belief)
        kind = neps.Integer if isinstance(distribution, IntDistribution) else neps.Float
        return kind(distribution.low, distribution.high, log=distribution.log, **belief)

    domains = {name: domain(name, each) for name, each in bench.task.space.distributions.items()}
    space = type("Space", (neps.PipelineSpace,), domains | {"validations": neps.IntegerFidelity(1, VALIDATIONS)})
    under_way: dict[str, tuple[int, Iterator[float]]] = {}
    last: dict[str, float] = {}

    def evaluate_pipeline(
        pipeline_directory: Path, previous_pipeline_directory: Path | None, validations: int, **values: Value
    ) -> dict[str, float]:
        before = str(previous_pipeline_directory)
        done, steps = under_way.pop(before, None) or (0, bench.steps(len(under_way), values))
        loss = last.get(before, DIVERGED)
        try:
            for _ in range(done, validations):
                loss = next(steps, DIVERGED)
        except (
            TimeUp
        ):  # NePS ends when its own budget is spent, and after an exception never begins again in a process
            return {"objective_to_minimize": DIVERGED, "cost": 1.0}
        under_way[f"{pipeline_directory}"], last[f"{pipeline_directory}"] = (validations, steps), loss
        return {"objective_to_minimize": loss, "cost": 0.0}

    np.random.seed(bench.seed)  # noqa: NPY002 - what NePS draws from
    torch.manual_seed(bench.seed)
    with tempfile.TemporaryDirectory() as folder:
        neps.run(
            evaluate_pipeline,
            space(),
            root_directory=Path(folder) / "neps",  # which must not be there
            optimizer=("neps_priorband", {"sample_prior_first": "highest_fidelity"}),
            worker_cost_to_spend=1.0,
        )


# --- Ray Tune ---------------------------------------------------------------------------------------------------------


def asha(bench: Bench) -> None:
    """Ray Tune's asynchronous halving from a tenth on, one trial at a time in a process that stays."""
    import ray
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search import BasicVariantGenerator

    name, seed, clock = bench.name, bench.seed, bench.clock

    def domain(distribution: BaseDistribution) -> Any:
        if isinstance(distribution, CategoricalDistribution):
            return tune.choice(distribution.choices)
        if isinstance(distribution, FloatDistribution):
            make = tune.loguniform if distribution.log else tune.uniform
            return make(distribution.low, distribution.high)
        assert isinstance(distribution, IntDistribution)
        make = tune.lograndint if distribution.log else tune.randint
        return make(distribution.low, distribution.high + 1)

    def train(values: dict[str, Value]) -> None:
        import rivals

        rivals.report_to_tune(name, seed, values)

    class Watching(tune.Callback):
        def on_trial_result(self, *, result: dict[str, Any], **_: Any) -> None:
            if clock.begin is None:  # the wall's clock is one for all processes of a machine
                clock.begin = result["first_began"]
            if result["is_last"]:
                clock.trained(result["loss"])

    class Ending(tune.Stopper):
        def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
            return False

        def stop_all(self) -> bool:
            return clock.begin is not None and clock.seconds > clock.limit

    np.random.seed(seed)  # noqa: NPY002 - what Ray draws from
    with tempfile.TemporaryDirectory() as folder:
        if not ray.is_initialized():
            ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        tune.Tuner(
            tune.with_resources(train, {"cpu": 1}),
            param_space={name: domain(each) for name, each in bench.task.space.distributions.items()},
            tune_config=tune.TuneConfig(
                metric="loss",
                mode="min",
                num_samples=-1,
                reuse_actors=True,
                search_alg=BasicVariantGenerator(points_to_evaluate=[bench.own], max_concurrent=1),
                scheduler=ASHAScheduler(
                    time_attr="training_iteration", max_t=VALIDATIONS, grace_period=1, reduction_factor=3
                ),
            ),
            run_config=tune.RunConfig(storage_path=folder, verbose=0, callbacks=[Watching()], stop=Ending()),
        ).fit()


# In a worker of Ray's: its task, once loaded, and when its first training began.
_loaded: dict[str, SupervisedTask] = {}
_began: dict[tuple[str, int], float] = {}


def report_to_tune(name: str, seed: int, values: dict[str, Value]) -> None:
    """Train in full, and report each validation to Ray Tune."""
    from ray import tune

    if name not in _loaded:
        warm_up()
        _loaded[name] = TASKS[name]()
    began = _began.setdefault((name, seed), time.perf_counter())
    ended = False
    for loss, is_last in validations(_loaded[name], 0, values, WATCHED, seed=seed):
        ended = is_last
        tune.report({"loss": loss, "is_last": is_last, "first_began": began})
    if not ended:
        tune.report({"loss": DIVERGED, "is_last": False, "first_began": began})


# --- All of them ------------------------------------------------------------------------------------------------------

RIVALS: dict[str, Callable[[Bench], None]] = {
    "Optuna, TPE": lambda bench: optuna_search(bench, TPESampler(seed=bench.seed), NopPruner()),
    "Optuna, Gaussian process": lambda bench: optuna_search(bench, GPSampler(seed=bench.seed), NopPruner()),
    "Optuna, TPE and Hyperband": lambda bench: optuna_search(
        bench, TPESampler(seed=bench.seed), HyperbandPruner(min_resource=1, max_resource=VALIDATIONS)
    ),
    "Ray Tune, ASHA": asha,
    "NePS, PriorBand": priorband,
}


def warm_up() -> None:
    """Load what is nobody's cost: torch's first optimizer imports its compiler."""
    torch.set_num_threads(1)
    torch.optim.SGD([torch.zeros(1)])
    study = optuna.create_study(sampler=GPSampler(seed=0, n_startup_trials=1))
    for _ in range(2):  # the second is drawn from a Gaussian process, which loads what it is made with
        study.tell(study.ask({"x": FloatDistribution(0.0, 1.0)}), 0.0)
