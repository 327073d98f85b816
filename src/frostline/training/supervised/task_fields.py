"""Whether a ``SupervisedTask`` can be trained: types and bounds of its fields, checked before anything is built."""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Mapping
from typing import Any, get_args

from torch import nn
from torch.optim import Optimizer

from frostline.errors import TaskError
from frostline.inputs.safe_names import check_name
from frostline.inputs.whole_numbers import LARGEST, check_whole, shown
from frostline.layers.freezing.freeze import check_options
from frostline.records import Direction, Value
from frostline.search.spaces.space import SearchSpace
from frostline.training.supervised.blueprint import largest_value
from frostline.training.supervised.criteria import Metric
from frostline.training.supervised.data import num_examples

_COUNTS = ("full_samples", "samples_per_example", "batch_size", "validation_batch_size", "num_calibration_batches")


def check_fields(task: Any) -> None:
    """Check the fields of a ``SupervisedTask``.

    Raises: TaskError if one is of the wrong type, out of range or missing; OptionError for its name, how it
    is frozen and num_workers.
    """
    check_name("task", task.name)
    check_name("unit of samples", task.sample_unit)
    if task.metric is not None:
        check_name("metric", task.metric)
    check_options(
        tied=task.tied,
        frozen_statistics=task.frozen_statistics,
        frozen_dtype=task.frozen_dtype,
        frozen_placement=task.frozen_placement,
    )
    _check_types(task)
    for which, data in (("training", task.training_data), ("validation", task.validation_data)):
        if num_examples(data) == 0:
            raise TaskError(f"the {which} set of {task.name} is empty: it must hold at least one example.")
    for count in _COUNTS:
        value = getattr(task, count)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LARGEST:
            raise TaskError(
                f"{count} of {task.name} is {shown(value)}, but must be at least 1, and a whole number up to 2^53."
            )
    check_whole(f"num_workers of {task.name}", task.num_workers, least=0)
    missing = [name for name in task.space.distributions if name not in task.defaults]
    if missing:
        raise TaskError(
            f"the defaults of {task.name} lack {', '.join(missing)}: give a value to all that is searched (on the command "
            f"line with --default NAME=VALUE)."
        )
    if _needs_closure(task.optimizer):
        raise TaskError(
            f"the optimizer of {task.name} is {task.optimizer.__name__}, which computes the loss several times a step: use "
            f"one that makes a step of one gradient, such as AdamW."
        )
    if task.direction == "maximize" and task.score_function is None:
        raise TaskError(f"{task.name} is to be maximized, but its score is the loss: give a score_function.")
    better_higher = getattr(task.score_function, "higher_is_better", None)
    if isinstance(better_higher, bool) and better_higher != (task.direction == "maximize"):
        meant = "maximize" if better_higher else "minimize"
        raise TaskError(
            f"the score of {task.name} is a {type(task.score_function).__name__}, which is to {meant}, but its direction is "
            f"{task.direction!r}: give direction={meant!r}."
        )
    if isinstance(task.loss_function, nn.Module) and any(
        each.requires_grad for each in task.loss_function.parameters()
    ):
        raise TaskError(
            f"loss_function of {task.name} has parameters of its own, which nobody would train: make them part of the model."
        )
    batch_size = largest_value(task.space, "batch_size", task.defaults.get("batch_size", task.batch_size))
    if task.full_samples < batch_size * task.samples_per_example:
        raise TaskError(
            f"full_samples of {task.name} is {task.full_samples} {task.sample_unit}, less than one batch of "
            f"{batch_size * task.samples_per_example}: train longer, or in smaller batches."
        )


def completed_defaults(task: Any) -> Mapping[str, Value]:
    """Return the defaults of a ``SupervisedTask``, with those of what is searched that other fields say."""
    if not isinstance(task.defaults, Mapping) or not isinstance(task.space, SearchSpace):
        return task.defaults  # type: ignore[no-any-return]  # refused where it is checked
    optimizer = task.optimizer.__name__ if isinstance(task.optimizer, type) else None
    fields = {
        "batch_size": task.batch_size,
        "gradient_clip_norm": task.gradient_clip_norm,
        "optimizer": optimizer,
    }
    missing = [name for name in fields if name in task.space.distributions and name not in task.defaults]
    return {**task.defaults, **{name: fields[name] for name in missing}} if missing else task.defaults


def _check_types(task: Any) -> None:
    norm, score_function = task.gradient_clip_norm, task.score_function
    has_norm = isinstance(norm, int | float) and not isinstance(norm, bool) and 0 < norm < math.inf
    allowed: dict[str, tuple[bool, str]] = {
        "space": (isinstance(task.space, SearchSpace), "a frostline.SearchSpace"),
        "defaults": (_are_values(task.defaults), "a mapping of names to finite numbers, text, booleans or None"),
        "optimizer": (
            isinstance(task.optimizer, type) and issubclass(task.optimizer, Optimizer),
            "a class of torch.optim",
        ),
        "score_function": (
            score_function is None or callable(score_function) or isinstance(score_function, Metric),
            "a function, a metric of torchmetrics or torcheval, or None",
        ),
        "direction": (task.direction in get_args(Direction), " or ".join(map(repr, get_args(Direction)))),
        "data_fingerprint": (isinstance(task.data_fingerprint, str), "text"),
        "gradient_clip_norm": (norm is None or has_norm, "a finite number above 0, or None"),
        **{
            name: (isinstance(getattr(task, name), bool), "True or False")
            for name in ("chunked_logits", "keep_best")
        },
        "pretrained": (
            task.pretrained is None or isinstance(task.pretrained, str | os.PathLike),
            "the path of a file or folder, or None",
        ),
        "new_modules": (_all_are(task.new_modules, str), "a tuple of names"),
        "undecayed": (_all_are(task.undecayed, str), "a tuple of names"),
        "also_read": (_all_are(task.also_read, str), "a tuple of names"),
        "unwrap": (_all_are(task.unwrap, type), "a tuple of classes"),
        **{name: (callable(getattr(task, name)), "a function") for name in ("model", "loss_function", "schedule")},
        **{
            name: (getattr(task, name) is None or callable(getattr(task, name)), "a function, or None")
            for name in ("augment", "collate_fn")
        },
    }
    for name, (is_allowed, what) in allowed.items():
        if not is_allowed:
            raise TaskError(f"{name} of {task.name} is {shown(getattr(task, name))}, but must be {what}.")


def _needs_closure(optimizer: type[Optimizer]) -> bool:
    """Return whether steps of an optimizer are given a function that computes the loss, as those of LBFGS."""
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty


def _are_values(values: object) -> bool:
    return isinstance(values, Mapping) and all(
        isinstance(name, str)
        and isinstance(value, Value)
        and not (isinstance(value, float) and not math.isfinite(value))
        for name, value in values.items()
    )


def _all_are(values: object, kind: type) -> bool:
    return isinstance(values, tuple) and all(isinstance(value, kind) for value in values)
