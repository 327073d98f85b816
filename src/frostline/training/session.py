"""A model being trained: its parameters, optimizer and learning rates, how far it has come, and what it scored."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from frostline.layers.cutting.execution import undisturbed
from frostline.layers.freezing.frozen_statistics import cumulative
from frostline.layers.freezing.optimizer_state import has_modes, set_optimizer_mode
from frostline.layers.weights.deferred import move
from frostline.protocols import keeps_best
from frostline.records import loss_sign
from frostline.seeding import derive_seed
from frostline.training.files.best_weights import BestWeights
from frostline.training.files.checkpoints import Checkpoint
from frostline.training.machine.devices import DevicePlan, move_batch
from frostline.training.machine.randomness import seed_generators
from frostline.training.steps.batch_statistics import measured_normalisations, measuring_batches
from frostline.training.steps.layer_groups import build_group_optimizer
from frostline.training.steps.unsaved_state import UnsavedState

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from torch.optim import Optimizer

    from frostline.protocols import Batch, RunningScore, Task
    from frostline.records import Configuration, CurvePoint


class Prefix(Protocol):
    """Computes the frozen layers of one session's model, for several sessions at once."""

    def prepare(self, batch: Batch) -> None:
        """See to the frozen layers' outputs for a CPU batch that the model is going to be run on, in its present mode."""
        ...

    def forget(self) -> None:
        """Let go of the outputs of the batch that was prepared last."""
        ...

    def handed_over(self) -> list[Tensor]:
        """Return the frozen layers' outputs that are handed back for the batch that was prepared last."""
        ...

    def hand_over(self, outputs: list[Tensor]) -> None:
        """Hand back ``outputs``, of the shapes of ``handed_over``, in the next pass in the place of those."""
        ...


@dataclass(kw_only=True)
class Session:
    """One configuration's training, under way. Torch's generators must be borrowed for as long as it is used."""

    task: Task
    configuration: Configuration
    device_plan: DevicePlan
    root_seed: int
    model: nn.Module
    parameters: list[nn.Parameter]
    """The trained ones; the others are frozen."""
    optimizer: Optimizer
    learning_rates: list[float]
    """The optimizer's own, one for each of its groups, before the schedule's factor."""
    max_gradient_norm: float | None
    prefix: Prefix | None = None
    """What computes the frozen layers, if the model is not to do it itself."""
    shares_batches: bool = False
    """Whether others are given the same batches, so that what the model writes into one must not reach them."""
    samples_seen: int = 0
    curve: list[CurvePoint] = field(default_factory=list)
    """What it would have come to, had it ended after as many samples."""
    best: BestWeights | None = None
    """Those that it is judged by; None: by those that it has."""

    def __post_init__(self) -> None:
        self._unsaved = UnsavedState(self.model)
        self.measures_to_the_end = has_modes(self.optimizer) and bool(measured_normalisations(self.model))
        """Whether running statistics of batch normalisations are never those of the weights that the model is judged by."""
        self._is_in_evaluation = False

    def step(self, batch: Batch, *, rate_factor: float) -> tuple[Tensor, Tensor | None]:
        """Train on one CPU batch; return the loss, and the gradient's norm before clipping, if it is clipped."""
        self.optimizer.zero_grad()
        loss = self.loss(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach(), self.update(batch, rate_factor=rate_factor)

    def loss(self, batch: Batch) -> Tensor:
        """Return the training loss of a CPU batch, with gradient.

        Whatever the model draws (dropout) is named by the samples seen: it depends on nothing that ran before.
        """
        self.prepare_step(batch)
        with self.device_plan.autocast():
            return self.task.loss(self.model, move_batch(batch, self.device_plan.device, copy=self.shares_batches))

    def prepare_step(self, batch: Batch) -> None:
        """See to the frozen layers' outputs and to the generators for a CPU batch that is trained on next."""
        self._prepare(batch, self._step_seed)

    def seed_step(self) -> None:
        """Seed the generators that the next training step draws from."""
        seed_generators(self._step_seed, self.device_plan.device)

    @property
    def _step_seed(self) -> int:
        return derive_seed(self.root_seed, "dropout", self.samples_seen)

    def _prepare(self, batch: Batch, seed: int) -> None:
        if self.prefix is not None:
            # What is drawn between the frozen layers is the same for whoever computes them.
            seed_generators(seed, self.device_plan.device)
            self.prefix.prepare(batch)
        seed_generators(seed, self.device_plan.device)

    def update(self, batch: Batch, *, rate_factor: float) -> Tensor | None:
        """Apply the gradients of a batch's loss; return their norm before clipping, if they are clipped."""
        for group, learning_rate in zip(self.optimizer.param_groups, self.learning_rates, strict=True):
            group["lr"] = learning_rate * rate_factor
        norm = None
        if self.max_gradient_norm is not None:
            norm = nn.utils.clip_grad_norm_(self.parameters, self.max_gradient_norm)
        self.optimizer.step()
        self.samples_seen += self.task.num_samples(batch)
        return norm

    def score(self, batches: Iterable[Batch] | None = None) -> float:
        """Return the model's score on the validation set, or on CPU ``batches`` of it, in evaluation mode."""
        if batches is None:
            batches = self.task.validation_batches(self.configuration)
        with self.scored():
            return self._score(batches)

    def judged_score(self) -> float:
        """Return what the training comes to if it ends here, by ``score``: see ``judged``."""
        with self.scored():
            return self.judged(self._score(self.task.validation_batches(self.configuration)))

    def judged(self, score: float) -> float:
        """Return what the training comes to if it ends here, where the model has ``score`` as it stands, within ``scored``.

        That is its score, or of a task that keeps the best the best so far, whose weights are remembered.
        """
        if not math.isfinite(score):
            return score
        sign, remembers = loss_sign(self.task.direction), self.measures_to_the_end
        if keeps_best(self.task):
            remembers = self.best is None or sign * score < sign * self.best.score
        if remembers:
            self.best = BestWeights.of(
                self.model,
                score=score,
                changed=self._unsaved.changed_parameters(),
                attributes=self._unsaved.changed_attributes(),
            )
        return score if self.best is None else self.best.score

    @contextmanager
    def scored(self) -> Iterator[None]:
        """Put the model in evaluation mode for as long as it is scored."""
        self.model.eval()
        with self._in_evaluation():
            yield
        if self.prefix is not None:
            self.prefix.forget()
        self.model.train()

    def finish(self) -> None:
        """Leave the model, which is trained no more, with the weights that it is judged by."""
        set_optimizer_mode(self.optimizer, training=False)
        if self.best is not None:
            self.best.load(self.model)

    def score_batch(self, score: RunningScore, batch: Batch, *, place: int) -> None:
        """Have ``score`` take in the CPU batch at ``place`` of the validation set, within ``scored``."""
        with torch.no_grad(), self.device_plan.autocast():
            score.update(self._prepared(batch, place))

    def measuring_batches(self) -> list[Batch]:
        """Return the training batches on which ``measured`` statistics are to rest; none if the model has no such thing."""
        if not measured_normalisations(self.model):
            return []
        batches = self.task.training_batches(self.configuration, seed=self.root_seed, skip_samples=0)
        return measuring_batches(self.task, batches, samples_seen=self.samples_seen)

    @contextmanager
    def measured(self, batches: Sequence[Batch]) -> Iterator[None]:
        """Measure the statistics of batch normalisations on training batches, for as long as the context.

        Those of the trained layers are, at the present weights; a model without any stays as it is.
        """
        normalisations = measured_normalisations(self.model)
        if not normalisations:
            yield
            return
        with self._in_evaluation(), undisturbed(self.model):
            with torch.no_grad(), cumulative(normalisations):
                for batch in batches:
                    self.loss(batch)
            yield

    @contextmanager
    def _in_evaluation(self) -> Iterator[None]:
        """Have the optimizer show the weights that the model is judged by, for as long as the context."""
        if self._is_in_evaluation or not has_modes(self.optimizer):
            yield
            return
        # Going there and back is exact but for rounding, and how often a training is validated must not matter.
        trained = [parameter.detach().clone() for parameter in self.parameters]
        self._is_in_evaluation = True
        set_optimizer_mode(self.optimizer, training=False)
        yield
        set_optimizer_mode(self.optimizer, training=True)
        self._is_in_evaluation = False
        with torch.no_grad():
            for parameter, value in zip(self.parameters, trained, strict=True):
                parameter.copy_(value)

    def _score(self, batches: Iterable[Batch]) -> float:
        with torch.no_grad(), self.device_plan.autocast():
            given = (self._prepared(batch, place) for place, batch in enumerate(batches))
            return self.task.score(self.model, given)

    def _prepared(self, batch: Batch, place: int) -> Batch:
        """Return a batch of the validation set as the model is given it. What the model draws depends on its place."""
        self._prepare(batch, derive_seed(self.root_seed, "validation", place))
        return move_batch(batch, self.device_plan.device, copy=self.shares_batches)

    def checkpoint(self) -> Checkpoint:
        """Return what is needed to go on from here.

        Parameters that nobody trains are left out: the seed makes them again, unless the model changed them itself.
        """
        frozen = self._frozen_names() - self._unsaved.changed_parameters()
        return Checkpoint(
            samples_seen=self.samples_seen,
            curve=tuple(self.curve),
            model={name: _compact(value) for name, value in self.model.state_dict().items() if name not in frozen},
            optimizer=_compact_state(self.optimizer.state_dict()),
            unsaved=self._unsaved.changed(),
            best=self.best,
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from ``checkpoint``.

        Raises: RuntimeError, KeyError or ValueError if it is of another model or optimizer; the session is then
        lost.
        """
        keys = self.model.load_state_dict(checkpoint.model, strict=False)
        strange = [*keys.unexpected_keys, *(set(keys.missing_keys) - self._frozen_names())]
        if strange:
            raise ValueError(f"the checkpoint and the model differ in {', '.join(sorted(strange))}")
        self.optimizer.load_state_dict(dict(checkpoint.optimizer))
        self._unsaved.restore(checkpoint.unsaved)
        self.best = checkpoint.best
        self.samples_seen = checkpoint.samples_seen
        self.curve = list(checkpoint.curve)

    def _frozen_names(self) -> set[str]:
        named = self.model.named_parameters(remove_duplicate=False)
        return {name for name, parameter in named if not parameter.requires_grad}


def _compact(value: Any) -> Any:
    """Return a copy of a tensor that is a view of a larger one, which would be saved as a whole."""
    is_part = isinstance(value, Tensor) and value.untyped_storage().nbytes() > value.nbytes
    return value.clone() if is_part else value


def _compact_state(state: dict[str, Any]) -> dict[str, Any]:
    """Return the state of an optimizer, each tensor in memory of its own."""
    own = {
        key: {name: _compact(value) for name, value in each.items()} if isinstance(each, dict) else each
        for key, each in state["state"].items()
    }
    return {**state, "state": own}


def begin_session(
    task: Task, configuration: Configuration, *, trainable_layers: int, device_plan: DevicePlan, root_seed: int
) -> Session:
    """Return the training of ``configuration`` at its beginning: initialised, frozen, on its device.

    The initialisation depends on ``root_seed`` alone, so all configurations of a study start from the same
    weights.
    """
    device = device_plan.device
    seed_generators(derive_seed(root_seed, "initialisation"), device)
    model = move(task.build_model(configuration), device)
    task.freeze(model, trainable_layers=trainable_layers)
    return session_of(task, configuration, model, device_plan=device_plan, root_seed=root_seed)


def session_of(
    task: Task, configuration: Configuration, model: nn.Module, *, device_plan: DevicePlan, root_seed: int
) -> Session:
    """Return the training of ``configuration`` at its beginning, with a model that is initialised and frozen."""
    model.train()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = build_group_optimizer(task, model, parameters, configuration)
    set_optimizer_mode(optimizer, training=True)
    return Session(
        task=task,
        configuration=configuration,
        device_plan=device_plan,
        root_seed=root_seed,
        model=model,
        parameters=parameters,
        optimizer=optimizer,
        learning_rates=[group["lr"] for group in optimizer.param_groups],
        max_gradient_norm=task.max_gradient_norm(configuration),
    )
