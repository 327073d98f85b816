"""What a training step costs, measured: real steps of a real session."""

from __future__ import annotations

import functools
import gc
import itertools
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from frostline.costs.asked_batch import completed, first_batch
from frostline.costs.predicted.flops import count_flops
from frostline.costs.predicted.true_peak import PeakBytes
from frostline.costs.step_cost import Memory, Seconds, StepCost, StepSeconds
from frostline.errors import FidelityError, HyperparameterError, OptionError
from frostline.inputs.whole_numbers import check_whole
from frostline.layers import freezing_of
from frostline.layers.cutting.nesting import tensors
from frostline.layers.freezing.saved_tensors import SavedTensors
from frostline.layers.storages import storage_bytes
from frostline.training.machine.devices import DevicePlan, move_batch, synchronise
from frostline.training.machine.randomness import borrowed_generators
from frostline.training.session import Session, begin_session
from frostline.training.supervised.data import examples_of
from frostline.training.supervised.task_layers import layers_of_frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from frostline.protocols import Batch, Task
    from frostline.records import Value

_SEED = 0

# Their times agree long before.
_MOST_REPETITIONS = 10_000

# The weights stay as they are, however many steps are made: no measurement diverges.
_NO_LEARNING = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedStep:
    """A step that could not be made, and why: out of memory, as a rule."""

    trainable_layers: int
    num_layers: int
    batch_size: int
    reason: str


def measure_step(
    task: Task,
    *,
    trainable_layers: int,
    batch_size: int | None = None,
    configuration: Mapping[str, Value] | None = None,
    device: torch.device,
    compute_dtype: torch.dtype | None = None,
    warm_up: int = 3,
    repetitions: int = 10,
) -> StepCost:
    """Return what a step of ``task`` costs on ``device`` with its last ``trainable_layers`` trained.

    All steps are of one batch, at a learning rate of 0. Bytes, the peak and FLOPs are taken in steps of their own; then come
    ``warm_up`` steps, and ``repetitions`` that are timed. To the forward pass belongs moving the batch to the device, to the
    optimizer's part the clipping of gradients and setting them to None. ``configuration`` overrides the task's defaults;
    ``batch_size``, in examples, is set as the hyperparameter of that name. Frozen parameters that are streamed count in no
    bytes.
    Raises: OptionError if a number is too small, the device keeps no peak of memory, or the task's batches have another
        size; whatever the task raises; RuntimeError or MemoryError if memory is out.
    """
    _check_repetitions(warm_up, repetitions)
    peak = PeakBytes(device)
    complete = completed(task, configuration, batch_size)
    batch = first_batch(task, complete, batch_size)
    plan = DevicePlan(device=device, compute_dtype=compute_dtype)
    try:
        with borrowed_generators(device):
            begin = functools.partial(
                begin_session,
                task,
                complete,
                trainable_layers=trainable_layers,
                device_plan=plan,
                root_seed=_SEED,
            )
            return _measured(begin, batch, peak, trainable_layers, warm_up=warm_up, repetitions=repetitions)
    finally:
        _let_go(device)


def measure_steps(
    task: Task,
    *,
    layers: Sequence[int] | None = None,
    batch_sizes: Sequence[int] | None = None,
    configuration: Mapping[str, Value] | None = None,
    device: torch.device,
    compute_dtype: torch.dtype | None = None,
    warm_up: int = 3,
    repetitions: int = 10,
) -> Iterator[StepCost | FailedStep]:
    """Yield what ``measure_step`` returns for every batch size and number of layers, one after the other, as it is ready.

    None is all numbers of layers, and the task's own batch size. A step that fails yields why, and the rest goes on; the
    process itself may still be ended by a system that is out of memory, which is why the cheapest steps come first.
    Raises: at once: FidelityError if the model has no such number of layers; OptionError as ``measure_step``; later:
        OptionError and HyperparameterError for what would fail in every step.
    """
    _check_repetitions(warm_up, repetitions)
    PeakBytes(device)
    num_layers = num_layers_of(task, configuration)
    layers = checked_layers(layers, num_layers)
    sizes = (own_batch_size(task, configuration),) if batch_sizes is None else tuple(batch_sizes)
    for size in sizes:
        completed(task, configuration, size)
    measure = functools.partial(
        measure_step,
        task,
        configuration=configuration,
        device=device,
        compute_dtype=compute_dtype,
        warm_up=warm_up,
        repetitions=repetitions,
    )
    return _cells(measure, sizes, layers, is_own_size=batch_sizes is None, num_layers=num_layers, device=device)


def _cells(
    measure: Callable[..., StepCost],
    sizes: Sequence[int],
    layers: Sequence[int],
    *,
    is_own_size: bool,
    num_layers: int,
    device: torch.device,
) -> Iterator[StepCost | FailedStep]:
    """Yield the cost of every step, or why it has none; the task's own batch size is not set as a hyperparameter."""
    for size, trainable_layers in itertools.product(sizes, layers):
        try:
            cost: StepCost | FailedStep = measure(
                trainable_layers=trainable_layers, batch_size=None if is_own_size else size
            )
        except (OptionError, HyperparameterError):
            raise
        # A model may fail in as many ways as there are models; one step's end is no reason to lose the others.
        except Exception as error:
            cost = FailedStep(
                trainable_layers=trainable_layers, num_layers=num_layers, batch_size=size, reason=_reason(error)
            )
        if isinstance(cost, FailedStep):
            # Only now does nothing hold the frames, and with them the tensors, of the step that failed.
            _let_go(device)
        yield cost


def num_layers_of(task: Task, configuration: Mapping[str, Value] | None = None) -> int:
    """Return the number of layers of the task's model; the model is built for it."""
    with borrowed_generators(torch.device("cpu")):
        return task.split(task.build_model(completed(task, configuration, None))).num_layers


def own_batch_size(task: Task, configuration: Mapping[str, Value] | None = None) -> int:
    """Return how many examples the task's batches hold, if nothing is said of it.

    Raises: TaskError if a batch holds no tensor to tell it by.
    """
    return examples_of(first_batch(task, completed(task, configuration, None), None))


def checked_layers(layers: Sequence[int] | None, num_layers: int) -> tuple[int, ...]:
    """Return the numbers of trained layers in rising order, each once; all of them for None.

    Raises: FidelityError if there is none, or one is out of range.
    """
    if layers is None:
        return tuple(range(1, num_layers + 1))
    wrong = [number for number in layers if not 1 <= number <= num_layers]
    if wrong or not layers:
        came = f"{wrong[0]}" if wrong else "empty"
        raise FidelityError(
            f"the number of trained layers is {came}, but this model has {num_layers} layers, so it must be in "
            f"1..{num_layers}. Run `frostline layers TASK` to see them."
        )
    return tuple(sorted(set(layers)))


def _check_repetitions(warm_up: int, repetitions: int) -> None:
    check_whole("warm_up", warm_up, least=0, most=_MOST_REPETITIONS)
    check_whole("repetitions", repetitions, most=_MOST_REPETITIONS)


def _measured(
    begin: Callable[[], Session],
    batch: Batch,
    peak: PeakBytes,
    trainable_layers: int,
    *,
    warm_up: int,
    repetitions: int,
) -> StepCost:
    # Begun here, so that nothing holds the session when what it took is let go.
    session = begin()
    memory = _memory(session, batch, peak)
    forward_flops, backward_flops = _flops(session, batch)
    return StepCost(
        trainable_layers=trainable_layers,
        num_layers=layers_of_frozen(session.task, session.model).num_layers,
        batch_size=examples_of(batch),
        trainable_parameters=sum(parameter.numel() for parameter in session.parameters),
        memory=memory,
        forward_flops=forward_flops,
        backward_flops=backward_flops,
        seconds=_seconds(session, batch, warm_up, repetitions),
    )


def _memory(session: Session, batch: Batch, peak: PeakBytes) -> Memory:
    """Count the bytes of a first step, then read the peak of a second one."""
    device = session.device_plan.device
    held = [*session.model.parameters(), *session.model.buffers()]
    streamed: tuple[Tensor, ...] = getattr(freezing_of(session.model), "streamed", ())
    parameters = storage_bytes(held, ignored=streamed)
    moved = move_batch(batch, device)
    with SavedTensors(ignored=[*held, *tensors(moved)]) as saved:
        loss = session.loss(moved)
        activations = saved.num_bytes()
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = storage_bytes(parameter.grad for parameter in session.parameters if parameter.grad is not None)
    session.update(moved, rate_factor=_NO_LEARNING)
    # Counters of steps may lie on the CPU, whatever device trains.
    state = storage_bytes(value for value in tensors(session.optimizer.state) if value.device.type == device.type)
    # Elsewhere the batch comes to the device within the step. On the CPU it may be a view of all the data: count its own.
    on_cpu = sum(part.nbytes for part in tensors(batch)) if device.type == "cpu" else 0
    del loss, moved
    session.optimizer.zero_grad()
    assert all(parameter.grad is None for parameter in session.parameters)
    with peak:
        session.step(batch, rate_factor=_NO_LEARNING)
    return Memory(
        parameters=parameters,
        gradients=gradients,
        optimizer_state=state,
        activations=activations,
        peak=parameters + state + on_cpu + peak.bytes,
    )


def _flops(session: Session, batch: Batch) -> tuple[int, int]:
    """Return the FLOPs of a step, forward and backward."""
    session.optimizer.zero_grad()
    loss, forward = count_flops(lambda: session.loss(batch))
    _, backward = count_flops(loss.backward)
    return forward, backward


def _seconds(session: Session, batch: Batch, warm_up: int, repetitions: int) -> StepSeconds:
    steps = [_timed_step(session, batch) for _ in range(warm_up + repetitions)][warm_up:]
    forward, backward, optimizer, whole = (_summary(part) for part in zip(*steps, strict=True))
    return StepSeconds(forward=forward, backward=backward, optimizer=optimizer, whole=whole)


def _timed_step(session: Session, batch: Batch) -> tuple[float, float, float, float]:
    """Make a step, as ``Session.step`` does, and return the seconds of its parts and of the whole."""
    device = session.device_plan.device
    synchronise(device)
    begun = time.perf_counter()
    session.optimizer.zero_grad()
    cleared = time.perf_counter()
    loss = session.loss(batch)
    synchronise(device)
    forwarded = time.perf_counter()
    loss.backward()  # type: ignore[no-untyped-call]
    synchronise(device)
    backwarded = time.perf_counter()
    session.update(batch, rate_factor=_NO_LEARNING)
    synchronise(device)
    ended = time.perf_counter()
    return forwarded - cleared, backwarded - forwarded, ended - backwarded + cleared - begun, ended - begun


def _summary(seconds: Sequence[float]) -> Seconds:
    if len(seconds) == 1:
        return Seconds(seconds[0], 0.0)
    lower, _, upper = statistics.quantiles(seconds, n=4, method="inclusive")
    return Seconds(statistics.median(seconds), upper - lower)


def _reason(error: Exception) -> str:
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words[:200]}" if words else type(error).__name__


def _let_go(device: torch.device) -> None:
    """Free what the last step held: model and freezing hold each other, so that it takes the garbage collector."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
