"""What a training step costs, told without running it: the same session, on tensors that have shapes and no memory."""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode  # there is no public name for them

from frostline.costs.asked_batch import completed, first_batch
from frostline.costs.predicted.allocations import LiveBytes
from frostline.costs.predicted.caching_allocator import CachingAllocator
from frostline.costs.predicted.cuda_rules import CUBLAS_BYTES, CudaAttention, step_as_on_cuda
from frostline.costs.predicted.flops import count_flops
from frostline.costs.step_cost import Memory, StepCost
from frostline.errors import FrostlineError, OptionError, PredictionError
from frostline.layers.cutting.nesting import leaves, map_leaves, map_tensors, tensors
from frostline.layers.freezing.freezing import freezing_of
from frostline.layers.freezing.saved_tensors import SavedTensors
from frostline.layers.storages import model_bytes, storage_bytes
from frostline.layers.weights.deferred import DEFERRED_ATTRIBUTE, build_shapes, deferred_of
from frostline.layers.weights.recorder import LooksMeta, WeightsConverted
from frostline.records import Configuration
from frostline.training.machine.devices import DevicePlan
from frostline.training.machine.randomness import borrowed_generators, seed_generators
from frostline.training.session import Session, session_of
from frostline.training.supervised.data import Counted, examples_of
from frostline.training.supervised.task_layers import layers_of_frozen

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from frostline.protocols import Batch, Task
    from frostline.records import Value

# Shapes are all that counts, but the generators must be seeded with something.
_SEED = 0
_CPU = torch.device("cpu")

PREDICTED_DEVICES = ("cpu", "cuda")
"""The devices whose costs are told without running, and without the device."""


def predict_step(
    task: Task,
    *,
    trainable_layers: int,
    batch_size: int | None = None,
    configuration: Mapping[str, Value] | None = None,
    device: str = "cpu",
) -> StepCost:
    """Return what a step of ``task`` costs on ``device`` with its last ``trainable_layers`` trained; nothing is computed.

    The model is built, frozen and trained for two steps on fake tensors, of which the second is watched; what it draws is
    lost on nobody. One batch of the task is real. ``configuration`` overrides the task's defaults; ``batch_size``, in
    examples, is set as the hyperparameter of that name.

    Bytes are those of tensors, and of what kernels are known to hold inside themselves (``kernel_memory``).
    Frozen parameters that are streamed count in nothing but the peak, as long as they are read.

    For "cuda" no card is needed: bytes are those of the caching allocator's blocks, attention and optimizers are those that
    torch chooses there (``cuda_rules``). What cuDNN works in, and the context, come on top. None of it was
    measured.
    Raises: PredictionError if the model, its freezing or its optimizer need tensors' values, so that it must be measured;
        OptionError if ``device`` is neither "cpu" nor "cuda", if ``batch_size`` is below 1, or if the task's batches have
        another; FidelityError, ModelError.
    """
    return _Plan.of(task, batch_size, configuration, device).predicted(trainable_layers)


def weight_bytes(task: Task) -> int:
    """Return the bytes of the parameters and buffers of the task's model, which is built without memory.

    Raises: PredictionError if its code needs tensors' values.
    """
    plan = _Plan.of(task, None, None)
    with _explained(task):
        model = plan.built()
        return model_bytes(model)


def forward_flops(task: Task, configuration: Mapping[str, Value] | None = None) -> float:
    """Return the FLOPs that the task's model and its loss take forward for one example; nothing is computed.

    They are counted as those of a step (``flops``), in evaluation mode. ``configuration`` overrides the defaults.
    Raises: PredictionError if it does not run without tensors' values.
    """
    plan = _Plan.of(task, None, configuration)
    with _explained(task), borrowed_generators(_CPU):
        model = plan.built().eval()
        with plan.mode, torch.no_grad():
            batch = plan._fake(plan.batch)
            _, flops = count_flops(lambda: task.loss(model, batch))
    return flops / examples_of(plan.batch)


class StepPredictor:
    """Predicts steps of one task for many batch sizes, more quickly than ``predict_step`` does each.

    The model that was last asked for is kept, and trained further on batches of any size. Where the batches of 1 and of 2
    examples tell how a batch grows, none is fetched that is larger, so that the size may be beyond what this machine holds.
    Raises: as ``predict_step``.
    """

    def __init__(
        self, task: Task, *, configuration: Mapping[str, Value] | None = None, device: str = "cpu"
    ) -> None:
        self._task = task
        self._configuration = configuration
        self._plan = _Plan.of(task, None, configuration, device)
        self._begun: _Begun | None = None

    @property
    def batch_size(self) -> int:
        """The task's own number of examples in a batch."""
        return examples_of(self._plan.batch)

    def cost(self, trainable_layers: int, batch_size: int | None = None) -> StepCost:
        """Return what a step costs; without ``batch_size`` at the task's own."""
        if self._begun is None or self._begun.trainable_layers != trainable_layers:
            self._begun = self._plan.begun(trainable_layers)
        is_own = batch_size is None or batch_size == self.batch_size
        return self._plan.step_of(self._begun, None if is_own else self._batch(batch_size or 0))

    def _batch(self, batch_size: int) -> Batch:
        """Return a batch of fake tensors, or of real ones if its shapes cannot be told."""
        grown = self._grown(batch_size) if batch_size > 2 and self._is_own_grown else None
        return _Plan.of(self._task, batch_size, self._configuration).batch if grown is None else grown

    def _grown(self, batch_size: int) -> Batch | None:
        single, pair = self._examples  # fetched, so that they are real
        with self._plan.mode:
            return _grown(single, pair, batch_size)

    @cached_property
    def _examples(self) -> tuple[Batch, Batch]:
        single, pair = (_Plan.of(self._task, size, self._configuration).batch for size in (1, 2))
        return single, pair

    @cached_property
    def _is_own_grown(self) -> bool:
        """Whether the task's own batch is what one and two examples tell of it: one that is padded may be wider."""
        grown = self._grown(self.batch_size)
        return grown is not None and [each.shape for each in tensors(grown)] == [
            each.shape for each in tensors(self._plan.batch)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Begun:
    """A session on fake tensors that has made its first step."""

    session: Session
    trainable_layers: int
    num_layers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What is to be predicted, on tensors of one fake mode."""

    task: Task
    configuration: Configuration
    batch: Batch
    mode: FakeTensorMode
    device: str
    """Whose rules a step follows; its tensors are the CPU's."""

    @classmethod
    def of(
        cls, task: Task, batch_size: int | None, configuration: Mapping[str, Value] | None, device: str = "cpu"
    ) -> _Plan:
        _check_device(device)
        complete = completed(task, configuration, batch_size)
        batch = first_batch(task, complete, batch_size)
        # Data that calibrate frozen statistics stay real, and meet a fake model.
        mode = FakeTensorMode(allow_non_fake_inputs=True)
        return cls(task=task, configuration=complete, batch=batch, mode=mode, device=device)

    def predicted(self, trainable_layers: int) -> StepCost:
        return self.step_of(self.begun(trainable_layers))

    def begun(self, trainable_layers: int) -> _Begun:
        with _explained(self.task), borrowed_generators(_CPU):
            model = self.built()
            # Not in fake mode: the examples that freeze looks at are indexed by numbers, which fakes have not.
            self.task.freeze(model, trainable_layers=trainable_layers)
            num_layers = layers_of_frozen(self.task, model).num_layers
            self._refuse_streams(model)
            with self.mode, self._attention():
                plan = DevicePlan(device=_CPU)
                session = session_of(self.task, self.configuration, model, device_plan=plan, root_seed=_SEED)
                if self.device == "cuda":
                    step_as_on_cuda(session.optimizer)
                session.step(self._fake(self.batch), rate_factor=1.0)
            return _Begun(session=session, trainable_layers=trainable_layers, num_layers=num_layers)

    def step_of(self, begun: _Begun, batch: Batch | None = None) -> StepCost:
        """Make a step on a batch, or on the task's own, and return what it costs."""
        with _explained(self.task), borrowed_generators(_CPU), self.mode, self._attention():
            begun.session.optimizer.zero_grad()
            own = self._fake(self.batch if batch is None else batch)
            return self._watched(begun.session, own, begun.trainable_layers, begun.num_layers)

    def _attention(self) -> AbstractContextManager[Any]:
        return CudaAttention() if self.device == "cuda" else nullcontext()

    def _refuse_streams(self, model: nn.Module) -> None:
        freezing = freezing_of(model)
        if self.device == "cuda" and freezing is not None and freezing.streamed:
            raise PredictionError(
                f"the step of {self.task.name} cannot be predicted for cuda: how much of the streamed weights is on its way "
                f"there at once is not known; leave frozen_placement out, or measure it there."
            )

    def _refuse_sparse(self, gradients: list[Tensor]) -> None:
        if any(gradient.layout != torch.strided for gradient in gradients):
            raise PredictionError(
                f"the step of {self.task.name} cannot be predicted: how large its sparse gradients are depends on values; "
                f"measure it instead."
            )

    def _fake(self, batch: Batch) -> Batch:
        def fake(tensor: Tensor) -> Tensor:
            return tensor if isinstance(tensor, FakeTensor) else self.mode.from_tensor(tensor)

        return map_tensors(fake, batch)

    def built(self) -> nn.Module:
        with borrowed_generators(_CPU):
            seed_generators(_SEED, _CPU)
            try:
                with self.mode, LooksMeta():
                    return self.task.build_model(self.configuration)
            except WeightsConverted:
                seed_generators(_SEED, _CPU)
                # Adapters are converted as they are put in. Those are small, and made; the base is not.
                return self._without_memory(build_shapes(lambda: self.task.build_model(self.configuration)))

    def _without_memory(self, model: nn.Module) -> nn.Module:
        """Return a model of which some weights were made, with fake ones of one mode in the place of all."""
        if deferred_of(model) is not None:
            delattr(model, DEFERRED_ATTRIBUTE)
        # With what they stand for: an identity is that of one tensor only while this lives.
        fakes: dict[int, tuple[nn.Parameter, nn.Parameter]] = {}
        for module in model.modules():
            for own, parameter in module._parameters.items():
                if parameter is None:
                    continue
                if id(parameter) not in fakes:
                    fake = nn.Parameter(self._faked(parameter.detach()), requires_grad=parameter.requires_grad)
                    fakes[id(parameter)] = (parameter, fake)
                module._parameters[own] = fakes[id(parameter)][1]
            for own, buffer in module._buffers.items():
                module._buffers[own] = None if buffer is None else self._faked(buffer)
        return model

    def _faked(self, tensor: Tensor) -> Tensor:
        if not isinstance(tensor, FakeTensor):
            if tensor.numel() == 1:
                # A fake of a single number knows it if it is made so: batch normalisation divides by how many it has seen.
                with self.mode:
                    return torch.tensor(tensor.tolist(), dtype=tensor.dtype)
            return self.mode.from_tensor(tensor)
        with self.mode:  # of another mode, that of a model that was built deferred
            return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype)

    def _watched(self, session: Session, batch: Batch, trainable_layers: int, num_layers: int) -> StepCost:
        """Make a step, as ``Session.step`` does, in parts."""
        streamed: tuple[Tensor, ...] = getattr(freezing_of(session.model), "streamed", ())
        held = [*session.model.parameters(), *session.model.buffers()]
        state, parts = tensors(session.optimizer.state), tensors(batch)
        allocator = CachingAllocator() if self.device == "cuda" else None
        if allocator is not None:
            allocator.take(CUBLAS_BYTES)
        with LiveBytes(ignored=streamed, allocator=allocator) as live:
            live.watch([*held, *state, *parts])
            with SavedTensors(ignored=[*held, *parts]) as saved:
                loss, forward_flops = count_flops(lambda: session.loss(batch))
                activations = saved.num_bytes()
            _, backward_flops = count_flops(loss.backward)
            gradients = [parameter.grad for parameter in session.parameters if parameter.grad is not None]
            self._refuse_sparse(gradients)
            session.update(batch, rate_factor=1.0)
        return StepCost(
            trainable_layers=trainable_layers,
            num_layers=num_layers,
            batch_size=examples_of(batch),
            trainable_parameters=sum(parameter.numel() for parameter in session.parameters),
            memory=Memory(
                parameters=storage_bytes(held, ignored=streamed),
                gradients=storage_bytes(gradients),
                optimizer_state=storage_bytes(state),
                activations=activations,
                peak=live.peak if allocator is None else allocator.peak,
                reserved=None if allocator is None else allocator.reserved,
            ),
            forward_flops=forward_flops,
            backward_flops=backward_flops,
        )


def _check_device(device: str) -> None:
    """Raise OptionError unless steps can be predicted for ``device``."""
    if device not in PREDICTED_DEVICES:
        raise OptionError(
            f"device is {device!r}, for which no cost is predicted: it must be one of {', '.join(PREDICTED_DEVICES)}."
        )


def _grown(single: Batch, pair: Batch, batch_size: int) -> Batch | None:
    """Return a batch of ``batch_size`` examples without values, or None unless sizes double from ``single`` to ``pair``."""
    parts, doubled = list(leaves(single)), list(leaves(pair))
    if len(parts) != len(doubled):
        return None
    grown: list[Any] = []
    for small, large in zip(parts, doubled, strict=True):
        if not isinstance(small, Tensor):
            grown.append(small)
            continue
        if not isinstance(large, Tensor) or small.dim() != large.dim():
            return None
        pairs = list(zip(small.shape, large.shape, strict=True))
        if any(length not in (first, 2 * first) for first, length in pairs):
            return None
        shape = [first if length == first else batch_size * first for first, length in pairs]
        grown.append(torch.empty(shape, dtype=small.dtype))
    following = iter(grown)
    batch = map_leaves(lambda _leaf: next(following), single)
    if isinstance(batch, Counted):
        batch.num_examples = batch_size
    return batch


@contextmanager
def _explained(task: Task) -> Iterator[None]:
    """Turn what fake tensors refuse into one line; errors of frostline's own pass, unless such a refusal caused them."""
    try:
        yield
    # What a model does that needs values fails in it as whatever comes of that: NumPy's errors, torch's, its own.
    except Exception as error:
        cause = error.__cause__ if isinstance(error, FrostlineError) else error
        if cause is None or isinstance(cause, FrostlineError):
            raise
        reason = " ".join(str(cause).split())[:200] or "no reason given"
        raise PredictionError(
            f"the step of {task.name} cannot be predicted: it does not run on tensors without values "
            f"({type(cause).__name__}: {reason}); measure it instead."
        ) from error
