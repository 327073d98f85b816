"""Lightning: ``tune`` searches in a line, ``TrialCallback`` puts a trial into a ``Trainer`` of one's own.

``task_from_module`` makes a task of a module, so that populations, costs and audits apply.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Any, Unpack

from frostline.errors import ObjectiveError, OptionError
from frostline.inputs.model_costs import check_counted
from frostline.process import only_warnings
from frostline.run.own_objective import tune as tune_objective

try:
    from lightning.pytorch import LightningModule, Trainer

    from frostline.integrations.lightning.lightning_callback import TrialCallback, keeps_best
    from frostline.integrations.lightning.lightning_task import task_from_module
except ModuleNotFoundError as error:
    raise OptionError(f"the package {error.name} is not installed: pip install 'frostline[lightning]'.") from None

if TYPE_CHECKING:
    from lightning.pytorch import LightningDataModule

    from frostline.objectives.trial import Trial
    from frostline.run.outcome.result import TuneResult
    from frostline.run.own_objective import TuneOptions

__all__ = ["TrialCallback", "task_from_module", "tune"]

# How long a training lasts says the trial.
_LENGTHS = (
    "max_epochs",
    "max_steps",
    "min_epochs",
    "min_steps",
    "max_time",
    "fast_dev_run",
    "limit_train_batches",
)

# A search trains often: what each of its trainings would draw, list and write is left out, unless it is asked for.
_QUIET = {
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
    "logger": False,
}


def tune(
    build: Callable[[Trial], LightningModule],
    *,
    monitor: str,
    samples: int,
    datamodule: LightningDataModule | Callable[[Trial], LightningDataModule] | None = None,
    train_dataloaders: Any = None,
    val_dataloaders: Any = None,
    trainer: Mapping[str, Any] | None = None,
    **options: Unpack[TuneOptions],
) -> TuneResult:
    """Search for the best hyperparameters of a Lightning module, and return them.

    ``build(trial)`` asks the trial for hyperparameters and returns the module; ``monitor`` names what it logs that is to be
    best; a full training is one on ``samples`` samples. Data are given as to ``Trainer.fit``; a function of the trial that
    returns a datamodule may ask for hyperparameters too. ``trainer`` are the arguments of ``Trainer``, but for how long it
    trains. Among them ``strategy="ddp_spawn"`` with several ``devices`` trains each configuration in several processes.
    A ``ModelCheckpoint`` with a ``monitor`` among its callbacks keeps the best of each training: see ``TrialCallback``.
    The rest is as in ``frostline.tune``.

    Raises: OptionError for an argument of the trainer that is the trial's to set; ObjectiveError if ``build`` returns no
        module, or it logs no ``monitor``; what ``frostline.tune`` raises.
    """
    arguments = dict(trainer or {})
    _check(arguments)
    check_counted(options.get("against"), of="a LightningModule")
    objective = Fitting(
        build=build,
        monitor=monitor,
        trainer=arguments,
        data={
            "datamodule": datamodule,
            "train_dataloaders": train_dataloaders,
            "val_dataloaders": val_dataloaders,
        },
    )
    return tune_objective(objective.as_function, samples=samples, **options)


@dataclass(frozen=True, kw_only=True)
class Fitting:
    """The objective of a module: a ``Trainer`` is made and fits it."""

    build: Callable[[Trial], LightningModule]
    monitor: str
    trainer: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of ``Trainer.fit``."""

    @property
    def as_function(self) -> Callable[[Trial], float]:
        """The same as a function, which names the study, and whose file tells whether it was mended, as ``build`` does."""

        @wraps(self.build)
        def objective(trial: Trial) -> float:
            return self(trial)

        return objective

    def __call__(self, trial: Trial) -> float:
        """Return the score of one trial."""
        module = self.build(trial)
        if not isinstance(module, LightningModule):
            raise ObjectiveError(f"the function returned a {type(module).__name__}: return a LightningModule.")
        data = dict(self.data)
        if callable(data.get("datamodule")):
            data["datamodule"] = data["datamodule"](trial)
        arguments = {**_QUIET, **self.trainer, "max_epochs": -1}
        # One object would watch all trainings of a search, and bring what it saw in one into the next.
        given = [_copied(each) for each in _as_list(arguments.get("callbacks"))]
        # Its files are of no use here.
        best = next((each for each in given if keeps_best(each)), None)
        if best is not None:
            given.remove(best)
            arguments["enable_checkpointing"] = False
        callback = TrialCallback(trial, monitor=self.monitor, best=best)
        arguments["callbacks"] = [*given, callback]
        if not trial.trains:
            # What a search has to know of a module shows in one process.
            arguments.update(strategy="auto", devices=1, num_nodes=1)
        # Lightning lists for every training what it runs on.
        with only_warnings("lightning.pytorch"):
            trainer = Trainer(**arguments)
            trainer.fit(module, **data, ckpt_path=callback.ckpt_path)
        return callback.score(trainer)


def _as_list(callbacks: Any) -> list[Any]:
    """Return callbacks as a Trainer takes them: several, one, or None."""
    return [*callbacks] if isinstance(callbacks, list | tuple) else [] if callbacks is None else [callbacks]


def _copied(callback: Any) -> Any:
    """Return a copy of a callback, or itself if it holds what cannot be copied, such as a connection."""
    try:
        return deepcopy(callback)
    except Exception:  # whatever its parts raise
        return callback


def _check(trainer: Mapping[str, Any]) -> None:
    length = next((name for name in _LENGTHS if name in trainer), None)
    if length is not None:
        raise OptionError(
            f"the trainer is given {length}, but how long it trains say the rungs: leave it out, and give samples=..., "
            f"the number of epochs of a full training times that of samples in one."
        )
    strategy = trainer.get("strategy", "auto")
    if strategy in ("ddp", "ddp_find_unused_parameters_true", "ddp_find_unused_parameters_false"):
        raise OptionError(
            f"strategy {strategy!r} starts the whole script again for each training, and with it the search: give "
            f"strategy='ddp_spawn'."
        )
