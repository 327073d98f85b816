"""transformers: ``tune_trainer`` searches in a line, ``train`` lets a ``Trainer`` of one's own train as a trial says.

``task_from_trainer`` makes a task of a ``Trainer``, so that populations, costs and audits apply.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import TYPE_CHECKING, Unpack

from frostline.errors import ObjectiveError, OptionError
from frostline.inputs.model_costs import check_counted
from frostline.integrations.trained_parameters import keep_trained
from frostline.run.own_objective import tune

try:
    from transformers import Trainer
    from transformers.trainer_callback import PrinterCallback, ProgressCallback

    from frostline.integrations.transformers.transformers_callback import TrialCallback
    from frostline.integrations.transformers.transformers_task import task_from_trainer
except ImportError as error:
    raise OptionError(
        f"transformers' Trainer cannot be imported ({error}): pip install 'frostline[hf]'."
    ) from None

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from frostline.objectives.trial import Trial
    from frostline.run.outcome.result import TuneResult
    from frostline.run.own_objective import TuneOptions

__all__ = ["task_from_trainer", "train", "tune_trainer"]


def tune_trainer(
    make_trainer: Callable[[Trial], Trainer],
    *,
    samples: int,
    monitor: str = "eval_loss",
    samples_per_example: int = 1,
    **options: Unpack[TuneOptions],
) -> TuneResult:
    """Search for the best hyperparameters of a ``Trainer``, and return them.

    ``make_trainer(trial)`` asks the trial for hyperparameters and returns a trainer with its model (or ``model_init``),
    its ``TrainingArguments`` and its data; how long it trains, when it is evaluated at last, logged and saved is set from
    the trial. ``samples`` are those of a full training. ``monitor`` names the metric of ``Trainer.evaluate`` that is to be
    best. The rest is as in ``train`` and ``frostline.tune``.

    Raises: ObjectiveError if ``make_trainer`` returns no trainer; what ``train`` and ``frostline.tune`` raise.
    """
    check_counted(options.get("against"), of="a Trainer")

    @wraps(make_trainer)
    def objective(trial: Trial) -> float:
        trainer = make_trainer(trial)
        return train(trainer, trial, monitor=monitor, samples_per_example=samples_per_example)

    return tune(objective, samples=samples, **options)


def train(trainer: Trainer, trial: Trial, *, monitor: str = "eval_loss", samples_per_example: int = 1) -> float:
    """Train as ``trainer.train()`` does, but the layers and the samples of a trial, and return the last ``monitor``.

    If the trainer loads its best model at the end (``load_best_model_at_end``), its model is left with those weights, and
    what is returned is the ``monitor`` of the evaluation that was best by ``metric_for_best_model``, of lower rungs of the
    same training too.

    The model is frozen before its optimizer is made, a ``model_init`` included, which is called with the trial if it takes
    one. A trial that goes on does so from where it stopped. ``samples_per_example`` is for samples that are tokens: how many
    are in an example.

    Raises: ObjectiveError if there is no trainer, or no such metric; OptionError if it trains in several processes.
    """
    if not isinstance(trainer, Trainer):
        raise ObjectiveError(f"the function returned a {type(trainer).__name__}: return a transformers.Trainer.")
    if trainer.args.world_size > 1:
        raise OptionError(
            f"the trainer runs in {trainer.args.world_size} processes, but a search begins its trainings in one: start it "
            f"without torchrun, and give executor=RayExecutor() for several machines."
        )
    if trainer.model_init is None:
        trial.freeze(trainer.model)
    else:
        trainer.model_init = _frozen(trainer.model_init, trial)
    if trainer.optimizer is not None:
        keep_trained(trainer.optimizer)
    for shown in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(shown)
    with TrialCallback(trial, trainer, monitor=monitor, samples_per_example=samples_per_example) as callback:
        trainer.train(resume_from_checkpoint=callback.resumed_folder)
        return callback.end()


def _frozen(model_init: Callable[..., PreTrainedModel], trial: Trial) -> Callable[[], PreTrainedModel]:
    def frozen_model() -> PreTrainedModel:
        model = model_init(trial) if signature(model_init).parameters else model_init()
        trial.freeze(model)
        return model

    return frozen_model
