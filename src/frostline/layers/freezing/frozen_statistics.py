"""Batch normalisation in a frozen prefix: statistics measured once on a few batches, or taken from every batch.

A new BatchNorm has mean 0 and variance 1, which say nothing about a randomly initialised network. Frozen in evaluation
mode as it is, it would not normalise at all; so its statistics are calibrated first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from frostline.errors import ModelError
from frostline.layers.cutting.boundary import PrefixReached, PrefixState, stopping_at_suffix
from frostline.layers.cutting.calibration import averaging
from frostline.layers.cutting.cut import Cut
from frostline.layers.cutting.execution import call, set_mode, undisturbed

Forward = Callable[[nn.Module, Any], Any]
"""Runs the model on a batch; what it returns is not used."""


def normalisations(modules: Iterable[nn.Module]) -> tuple[nn.Module, ...]:
    """The modules among ``modules`` and their descendants that keep running statistics."""
    by_identity: dict[int, nn.Module] = {}
    for outermost in modules:
        for module in outermost.modules():
            if _keeps_statistics(module):
                by_identity[id(module)] = module
    return tuple(by_identity.values())


def _keeps_statistics(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._NormBase) and module.running_mean is not None


def normalisations_between(cut: Cut) -> tuple[dict[str, nn.Module], dict[str, nn.Module]]:
    """The normalisations that no layer holds, since they have no parameters: those of the prefix by name, and the others.

    Each goes with the layer that is registered before it, whose output it is likely to normalise.
    """
    layers = {name: index for index, layer in enumerate(cut.stack.layers) for name in layer.modules}
    inside = {id(each) for outermost in cut.modules_of(cut.stack.layers) for each in outermost.modules()}
    frozen: dict[str, nn.Module] = {}
    trained: dict[str, nn.Module] = {}
    before = 0
    for name, module in cut.model.named_modules(remove_duplicate=False):
        before = layers.get(name, before)
        if id(module) not in inside and _keeps_statistics(module):
            inside.add(id(module))
            (frozen if before < cut.boundary else trained)[name] = module
    return frozen, trained


def statistics_of(module: nn.Module) -> list[Tensor]:
    """The running statistics of a normalisation: mean, variance, number of batches."""
    return [module.get_buffer(name) for name in ("running_mean", "running_var", "num_batches_tracked")]


def measure(
    model: nn.Module,
    measured: Sequence[nn.Module],
    state: PrefixState,
    batches: Iterable[Any],
    forward: Forward | None,
) -> None:
    """Set the running statistics of ``measured`` to the averages of their statistics over ``batches``.

    Every batch counts the same, whatever the order. Each forward pass ends at the first trained module. Everything but
    these statistics is left as it was: modes, other buffers, random states.
    Raises: ModelError if there is no batch, or a normalisation did not see one.
    """
    kept = [[tensor.clone() for tensor in statistics_of(module)] for module in measured]
    is_done = False
    try:
        with undisturbed(model), torch.no_grad():
            _accumulate(model, measured, state, batches, forward)
            results = [[tensor.clone() for tensor in statistics_of(module)] for module in measured]
        is_done = True
    finally:
        put_back(measured, results if is_done else kept)


def put_back(modules: Sequence[nn.Module], statistics: Sequence[Sequence[Tensor]]) -> None:
    """Write running statistics back in place."""
    with torch.no_grad():
        for module, values in zip(modules, statistics, strict=True):
            for tensor, value in zip(statistics_of(module), values, strict=True):
                tensor.copy_(value)


def _accumulate(
    model: nn.Module,
    measured: Sequence[nn.Module],
    state: PrefixState,
    batches: Iterable[Any],
    forward: Forward | None,
) -> None:
    set_mode(model, training=False)
    num_batches = 0
    with cumulative(measured), stopping_at_suffix(state):
        for batch in batches:
            with suppress(PrefixReached):
                (forward or _call)(model, batch)
            num_batches += 1
    if num_batches == 0:
        raise ModelError("calibrate got no batch: give at least one.")
    unseen = sum(int(module.get_buffer("num_batches_tracked")) == 0 for module in measured)
    if unseen:
        raise ModelError(
            f"{unseen} of {len(measured)} frozen normalisation layers did not run before the first trained layer: "
            f"freeze with example_inputs=..., and they stand in the order of execution; one without parameters goes with "
            f"the layer that is registered before it."
        )


@contextmanager
def cumulative(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Let normalisations take the plain average over the batches to come, from nothing; they stay in training mode."""
    momenta = [module.momentum for module in modules]
    handles: list[RemovableHandle] = []
    for module in modules:
        module.reset_running_stats()  # type: ignore[operator]
        module.training = True
        handles += averaging(module)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for module, momentum in zip(modules, momenta, strict=True):
            module.momentum = momentum


def _call(model: nn.Module, batch: Any) -> Any:
    return call(model, batch)
