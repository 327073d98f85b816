"""A ready-made task: a model, examples with targets, a loss."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from frostline.layers import LayerStack, build_deferred, freeze, freezing_of
from frostline.layers.freezing.freezing import Tied
from frostline.layers.trained_steps import split_into_steps
from frostline.records import Configuration, Direction, Value
from frostline.training.files.initial_weights import start_from
from frostline.training.files.pretrained import PretrainedWeights
from frostline.training.losses.lazy_logits import (
    is_transformed,
    lazy_output,
    output_projection,
    require_lazy,
)
from frostline.training.machine.devices import move_batch
from frostline.training.steps.optimizers import build_optimizer, hyperparameters_of, optimizer_class
from frostline.training.steps.schedules import schedule_from_hyperparameters
from frostline.training.supervised.blueprint import ALWAYS_READ, Blueprint, draw_blueprint
from frostline.training.supervised.checked_values import (
    checked_batch_size,
    checked_gradient_norm,
    checked_layer_decay,
)
from frostline.training.supervised.criteria import Criterion, Metric, loss_of, score_by
from frostline.training.supervised.data import Collate, Example, data_identity, examples_of, num_examples
from frostline.training.supervised.feed import Augment, Feed
from frostline.training.supervised.hyperparameter_reads import CompletedHyperparameters, unwatched
from frostline.training.supervised.known_layers import KnownLayers
from frostline.training.supervised.model_calls import as_arguments, device_of, outputs_of
from frostline.training.supervised.task_fields import check_fields, completed_defaults

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.utils.data import Dataset

    from frostline.protocols import RunningScore, Schedule
    from frostline.search.spaces.space import SearchSpace

# Calibration is a property of the task, not of a study: the frozen prefix is the same function for all of them.
_CALIBRATION_SEED = 0


@dataclass(frozen=True, kw_only=True, eq=False)  # no slots: the fingerprint is kept once it is known
class SupervisedTask:
    """A model trained on (inputs, targets) to lower a loss: the task that most people have.

    Inputs that are a mapping are given to the model by keyword, a tuple or list by position; of an output with
    ``logits`` (Hugging Face's), those are the outputs. ``loss_function`` and ``score_function`` take (outputs,
    targets) and return the mean over the batch; without a score function the score is the loss. A score that is no mean
    over batches is a metric of torchmetrics or torcheval.

    Hyperparameters: those of the optimizer in full words (``learning_rate``, ``weight_decay``, ``beta1``,
    ``momentum``, ``epsilon``, ...), ``optimizer`` (a class of ``torch.optim``, by name), ``batch_size`` (in
    examples) and ``gradient_clip_norm`` override what is given here; with ``layer_decay``, at most 1, each layer's
    learning rate is that of the layer behind it times this; ``model`` and ``schedule`` may read any
    others. ``defaults`` need not repeat a batch size, optimizer or norm that is given here.
    What ``defaults`` names and the space does not is the same for all configurations. Weight decay acts on
    all parameters but the ``undecayed``.

    Units: ``full_samples`` counts ``sample_unit``, of which every example holds ``samples_per_example``: 1, or the
    context's length for a language model that counts tokens. Batch sizes are in examples.
    Raises: TaskError if there are no examples, the full budget is less than one batch, a default is missing, or a
    field is of the wrong type or out of range; from a loss, if ``chunked_logits`` has no effect on the model.
    HyperparameterError, when the fingerprint is first read, if a name in the space is read by nobody.
    """

    name: str
    model: Callable[[Configuration], nn.Module]
    training_data: Dataset[Any]
    validation_data: Dataset[Any]
    loss_function: Callable[[Any, Any], Tensor]
    space: SearchSpace
    full_samples: int
    defaults: Mapping[str, Value]
    optimizer: type[Optimizer] = torch.optim.AdamW
    schedule: Callable[[Configuration], Schedule] = schedule_from_hyperparameters
    score_function: Criterion | Metric | None = None
    direction: Direction = "minimize"
    metric: str | None = None
    """What the score is called where it is shown, such as "validation loss"; None: "score". It changes no number."""
    keep_best: bool = False
    """Whether a training is judged by the best of its validations so far, and its model is the one that had that score, as
    with early stopping; else by its end. One copy more of the trained weights lies in host memory."""
    sample_unit: str = "examples"
    samples_per_example: int = 1
    batch_size: int = 32
    validation_batch_size: int = 256
    gradient_clip_norm: float | None = None
    augment: Augment | None = None
    collate_fn: Collate | None = None
    """What puts a list of the data's examples together into an (inputs, targets) pair, such as one that pads; None: torch's
    default_collate."""
    num_workers: int = 0
    """How many processes fetch batches ahead, as for torch's DataLoader; 0: this one does when they are needed. It changes
    no number."""
    pretrained: str | os.PathLike[str] | None = None
    """Weights to start from instead of random ones: a safetensors file, a folder written by ``save_pretrained``, or a file
    with a state dict, of which nothing but tensors is loaded. Another checkpoint is another task: its hash is in the
    fingerprint."""
    new_modules: tuple[str, ...] = ()
    """The modules and parameters that keep their initial weights all the same, by name: a new head."""
    unwrap: tuple[type[nn.Module], ...] = ()
    tied: Tied = "auto"
    """What a frozen layer sees of a weight that it shares with a trained one: its initial value where that is possible, so
    that configurations share what is computed of it."""
    frozen_statistics: Literal["calibrated", "batch"] = "calibrated"
    frozen_dtype: torch.dtype | Literal["bfloat16"] | None = None
    frozen_placement: Literal["device", "stream"] = "device"
    """Where frozen weights are kept, and in which type: see ``frostline.freeze``."""
    num_calibration_batches: int = 8
    chunked_logits: bool = False
    """Whether cross-entropy goes through the model's output projection, the last ``nn.Linear`` of its last layer, piece by
    piece: the same loss and gradients to rounding, and the logits over a large vocabulary are never held whole. A loss or
    score that reads the logits themselves gets them whole, and nothing is saved."""
    data_fingerprint: str = ""
    """What tells these data from others; needed unless they are tensors in memory, which are hashed. And whatever of the
    model shows neither in its modules' text nor in its parameters' shapes, such as a number of heads."""
    undecayed: tuple[str, ...] = ()
    """The parameters that weight decay leaves alone, by their names in the model: biases and norms, say."""
    also_read: tuple[str, ...] = ()
    """Names of the space that ``model`` or ``schedule`` read only for some configurations."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "defaults", completed_defaults(self))
        check_fields(self)
        if self.pretrained is not None:
            _ = self._pretrained_weights  # refused at once, if it is to be refused

    @property
    def fingerprint(self) -> str:
        """A hash over the data, the model's modules and parameters, the budget and how they are used.

        Raises: HyperparameterError if a hyperparameter of the space or the defaults is read by nobody.
        """
        self._refuse_unread([*self.space.distributions, *self.defaults])
        return self._fingerprint

    def build_model(self, configuration: Configuration) -> nn.Module:
        """Return a model at its initial or pretrained weights, on the CPU, built deferred if frozen ones are kept small.

        Raises: HyperparameterError if the configuration holds a name that nobody reads; ModelError if the pretrained
        weights are another model's.
        """
        completed = self._completed(configuration)
        is_whole = self.frozen_dtype is None and self.frozen_placement == "device"
        model = self.model(completed) if is_whole else build_deferred(lambda: self.model(completed))
        if self.pretrained is not None:
            start_from(model, self._pretrained_weights, new_modules=self.new_modules)
        return model

    def split(self, model: nn.Module) -> LayerStack:
        """Return the layers of ``model`` in the order of execution, with something to train in each behind the first."""
        return self._known_layers.of(
            model,
            lambda: split_into_steps(model, unwrap=self.unwrap, example_inputs=self._example_inputs(model)),
        )

    def freeze(self, model: nn.Module, *, trainable_layers: int) -> None:
        """Freeze ``model`` in place; calibrated statistics come from the first batches of one fixed order."""
        freezing = freeze(
            model,
            trainable_layers=trainable_layers,
            layers=self.split(model),
            tied=self.tied,
            frozen_statistics=self.frozen_statistics,
            frozen_dtype=self.frozen_dtype,
            frozen_placement=self.frozen_placement,
        )
        if self.frozen_statistics == "calibrated":
            freezing.calibrate(self._calibration_inputs(model), forward=outputs_of)

    def build_optimizer(self, parameters: Sequence[nn.Parameter], configuration: Configuration) -> Optimizer:
        """Return the optimizer of the trained parameters."""
        completed = self._completed(configuration)
        name = completed.get("optimizer")
        return build_optimizer(self.optimizer if name is None else optimizer_class(name), parameters, completed)

    def build_schedule(self, configuration: Configuration) -> Schedule:
        """Return the learning-rate schedule."""
        return self.schedule(self._completed(configuration))

    def max_gradient_norm(self, configuration: Configuration) -> float | None:
        """Return the largest allowed L2 norm of the gradient, or None for no clipping.

        Raises: HyperparameterError if it is not above 0.
        """
        return checked_gradient_norm(
            self._completed(configuration).get("gradient_clip_norm", self.gradient_clip_norm)
        )

    def layer_decay(self, configuration: Configuration) -> float:
        """Return what each layer's learning rate is of that of the layer behind it: 1 where nothing is said.

        Raises: HyperparameterError unless it is above 0 and at most 1.
        """
        return checked_layer_decay(self._completed(configuration).get("layer_decay", 1))

    def training_batches(self, configuration: Configuration, *, seed: int, skip_samples: int) -> Iterator[Example]:
        """Yield CPU batches without end, in an order that depends on ``seed`` alone, from after ``skip_samples``.

        The order of the examples is the same whatever the batch size. Whatever is drawn for a batch depends on the seed and
        its place, so that it too can be gone on from anywhere.
        """
        assert skip_samples % self.samples_per_example == 0, (
            f"{skip_samples} samples are no whole number of examples"
        )
        return self._training_feed.shuffled(
            batch_size=self._batch_size(configuration),
            seed=seed,
            skip_examples=skip_samples // self.samples_per_example,
        )

    def num_samples(self, batch: Example) -> int:
        """Return how many samples a batch holds."""
        return examples_of(batch) * self.samples_per_example

    def loss(self, model: nn.Module, batch: Example) -> Tensor:
        """Return the mean training loss of a batch, a scalar tensor with gradient."""
        inputs, targets = batch
        return loss_of(self.loss_function, self._loss_outputs(model, inputs), targets, task=self.name)

    def validation_batches(self, configuration: Configuration) -> Iterable[Example]:  # noqa: ARG002 (same for all)
        """Return the CPU batches of the validation set, always the same."""
        feed = replace(self._training_feed, dataset=self.validation_data, augment=None)
        return feed.ordered(batch_size=self.validation_batch_size)

    def score(self, model: nn.Module, batches: Iterable[Example]) -> float:
        """Return the mean score over validation batches, weighted by their examples, or what a metric gathers of them."""
        score = _ModelScore(self, model)
        for batch in batches:
            score.update(batch)
        return score.compute()

    def running_score(self, model: nn.Module) -> RunningScore | None:
        """See ``protocols.ScoresByBatch``; None where ``score`` is a subclass' own."""
        return _ModelScore(self, model) if type(self).score is SupervisedTask.score else None

    @property
    def _training_feed(self) -> Feed:
        return Feed(
            dataset=self.training_data,
            collate_fn=self.collate_fn,
            augment=self.augment,
            num_workers=self.num_workers,
        )

    @cached_property
    def _blueprint(self) -> Blueprint:
        defaults = Configuration(number=0, hyperparameters=self.defaults)
        return draw_blueprint(
            defaults, model=self.model, schedule=self.schedule, space=self.space, optimizer=self.optimizer
        )

    @cached_property
    def _known_layers(self) -> KnownLayers:
        return KnownLayers()

    @cached_property
    def _pretrained_weights(self) -> PretrainedWeights:
        assert self.pretrained is not None
        return PretrainedWeights.open(self.pretrained)

    @cached_property
    def _fingerprint(self) -> str:
        facts = (
            self.name,
            self.data_fingerprint,
            # Not called upon where the user vouches for the data: hashing all of them takes time.
            "" if self.data_fingerprint else data_identity(self.training_data),
            "" if self.data_fingerprint else data_identity(self.validation_data),
            num_examples(self.training_data),
            num_examples(self.validation_data),
            self._blueprint.structure,
            self.full_samples,
            self.samples_per_example,
            self.sample_unit,
            self.batch_size,
            self.direction,
            self.gradient_clip_norm,
            self.optimizer.__qualname__,
            sorted(self.defaults.items()),
            # Where nothing is tied the fingerprint is what it was when "detach" was the default.
            self.tied if self._blueprint.has_ties or self.tied != "auto" else "detach",
            self.frozen_statistics,
            # Where the weights are kept changes no number. Without rounding the fingerprint is what it was before.
            *(() if self.frozen_dtype is None else (f"frozen as {self.frozen_dtype}".replace("torch.", ""),)),
            self.num_calibration_batches,
            # Chunks change the last bits. Without them the fingerprint is what it was before.
            *(("chunked logits",) if self.chunked_logits else ()),
            *((("undecayed", self.undecayed),) if self.undecayed else ()),
            *(("keeps the best",) if self.keep_best else ()),
            *(() if self.collate_fn is None else (("collated", _name_of(self.collate_fn)),)),
            *(() if self.pretrained is None else (self._pretrained_weights.sha256, self.new_modules)),
            [_name_of(part) for part in (self.loss_function, self.score_function, self.schedule, self.augment)],
        )
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]

    def _completed(self, configuration: Configuration) -> Configuration:
        """Return ``configuration`` with the defaults of whatever is not searched."""
        # A check of the names alone, which must not look as if the model or the data read them all.
        given = unwatched(configuration)
        unknown = given.keys() - self.space.distributions.keys() - self.defaults.keys() - ALWAYS_READ
        if given.get("optimizer") is not None:
            unknown -= hyperparameters_of(optimizer_class(given["optimizer"]))
        self._refuse_unread(sorted(unknown))
        fixed = {name: value for name, value in self.defaults.items() if name not in self.space.distributions}
        completed = CompletedHyperparameters(configuration.hyperparameters, others=fixed)
        return replace(configuration, hyperparameters=completed)

    def _refuse_unread(self, names: Iterable[str]) -> None:
        names = list(names)
        if names:
            self._blueprint.refuse_unread(names, task=self.name, also_read=self.also_read)

    def _batch_size(self, configuration: Configuration) -> int:
        return checked_batch_size(self._completed(configuration).get("batch_size", self.batch_size))

    def _loss_outputs(self, model: nn.Module, inputs: Any) -> Any:
        if not self.chunked_logits or is_transformed():
            return outputs_of(model, inputs)
        freezing = freezing_of(model)
        layers = self.split(model).layers if freezing is None else freezing.trained_layers
        with lazy_output(output_projection(model, layers[-1])):
            outputs = outputs_of(model, inputs)
        require_lazy(outputs, task=self.name)
        return outputs

    def _example_inputs(self, model: nn.Module) -> Mapping[str, Any] | tuple[Any, ...]:
        # Two: there are models that compare examples with each other.
        first = list(range(min(2, num_examples(self.training_data))))
        inputs, _ = move_batch(self._training_feed.fetch((0, first), seed=_CALIBRATION_SEED), device_of(model))
        return as_arguments(inputs)

    def _calibration_inputs(self, model: nn.Module) -> Iterator[Any]:
        # With the task's own batch size, and not a configuration's: the frozen prefix must not depend on either.
        batches = self._training_feed.shuffled(batch_size=self.batch_size, seed=_CALIBRATION_SEED)
        for inputs, _targets in islice(batches, self.num_calibration_batches):
            yield move_batch(inputs, device_of(model))


class _ModelScore:
    """A model's score by a task, batch by batch."""

    def __init__(self, task: SupervisedTask, model: nn.Module) -> None:
        self._task = task
        self._model = model
        self._score = score_by(task.score_function or task.loss_function, task=task.name)

    def update(self, batch: Example) -> None:
        inputs, targets = batch
        outputs = self._task._loss_outputs(self._model, inputs)
        self._score.update(outputs, targets, size=examples_of(batch))

    def compute(self) -> float:
        return self._score.compute()


def keeps_weights_small(task: object) -> bool:
    """Return whether a task's frozen weights are kept smaller than they are: its process is to be small, too."""
    return isinstance(task, SupervisedTask) and (
        task.frozen_dtype is not None or task.frozen_placement == "stream"
    )


def _name_of(function: Any) -> str:
    """Return a name that stays the same between runs; for instances and partials that of their class."""
    return str(getattr(function, "__qualname__", type(function).__qualname__))
