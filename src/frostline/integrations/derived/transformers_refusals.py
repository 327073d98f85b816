"""What a Trainer of transformers may not do if a task is to train its model: each refusal is one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from transformers import Trainer
from transformers.trainer_callback import DefaultFlowCallback, PrinterCallback, ProgressCallback

from frostline.errors import TaskError

# What a subclass may do in its own way: the optimizer and its schedule are read when they are made, the others only tell.
_MAY_DIFFER = frozenset(
    {
        "__init__",
        "create_optimizer",
        "create_optimizer_and_scheduler",
        "create_scheduler",
        "get_decay_parameter_names",
        "get_optimizer_cls_and_kwargs",
        "create_model_card",
        "log",
        "predict",
        "save_model",
    }
)
_LOOKING_CALLBACKS = (DefaultFlowCallback, PrinterCallback, ProgressCallback)

_PLAIN: Mapping[str, tuple[Any, ...]] = {
    "auto_find_batch_size": (False,),
    "bf16": (False,),
    "fp16": (False,),
    "deepspeed": (None,),
    "gradient_accumulation_steps": (1,),
    "gradient_checkpointing": (False,),
    "label_smoothing_factor": (0, 0.0),
    "load_best_model_at_end": (False,),
    "neftune_noise_alpha": (None,),
    "torch_compile": (False,),
    "train_sampling_strategy": ("random",),
    "group_by_length": (False,),
    "use_liger_kernel": (False,),
    "world_size": (1,),
    "n_gpu": (0, 1),
}
_ADVICE = "frostline.integrations.transformers.tune_trainer"


def check_trainer(trainer: object) -> None:
    """Raise TaskError if a Trainer takes its training into its own hands, or is given what a task has no word for."""
    if not isinstance(trainer, Trainer):
        raise TaskError(f"the function returned a {type(trainer).__name__}: return a transformers.Trainer.")
    for kind in type(trainer).__mro__:
        if kind is Trainer:
            break
        own = sorted((vars(kind).keys() & vars(Trainer).keys()) - _MAY_DIFFER - {"__module__", "__doc__"})
        own = [name for name in own if callable(vars(kind)[name])]
        if own:
            refuse(f"{kind.__name__} has a {own[0]} of its own, which may change the training: leave it out")
    if trainer.compute_loss_func is not None:
        refuse("compute_loss_func is given, but a task's loss is the model's own: leave it out")
    for callback in trainer.callback_handler.callbacks:
        if not isinstance(callback, _LOOKING_CALLBACKS) and not _only_tells(callback):
            refuse(f"the callback {type(callback).__name__} may change the training: leave it out")
    for name, allowed in _PLAIN.items():
        value = getattr(trainer.args, name, allowed[0])
        if value not in allowed:
            refuse(f"{name} is {value!r}, but of a task it is {allowed[0]!r}: leave it out")
    if trainer.train_dataset is None or trainer.eval_dataset is None or isinstance(trainer.eval_dataset, dict):
        refuse("a task trains on a train_dataset and is scored on one eval_dataset: give both")


def _only_tells(callback: object) -> bool:
    """Return whether a callback is one of transformers' own that hand figures to a tracker."""
    return type(callback).__module__.startswith("transformers.integrations")


def refuse(reason: str) -> NoReturn:
    """Raise TaskError, with what one can do instead."""
    raise TaskError(f"{reason}, or tune it as trials, with {_ADVICE}.")
