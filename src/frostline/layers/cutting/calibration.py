"""Frozen normalisations: what measures their statistics in the first passes, and how batches are averaged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from frostline.errors import ModelError
from frostline.layers.cutting.boundary import PrefixState

# As many as a task measures: more move the averages by less than the choice of the batches does.
_CALIBRATION_PASSES = 8


def calibrate_on_first_passes(state: PrefixState, modules: Iterable[nn.Module]) -> list[RemovableHandle]:
    """Let those of the ``modules`` that are new measure their statistics while the model is trained.

    In its first passes in training mode such a normalisation takes the statistics of the batch, and keeps their average
    over these passes from then on. In evaluation before any of these it takes the batch's, and keeps nothing. Statistics
    that are loaded count as measured.
    """
    new = [module for module in modules if _is_new(module)]
    state.uncalibrated = tuple(new)
    handles: list[RemovableHandle] = []
    for module in new:
        handles.append(module.register_load_state_dict_post_hook(_Loaded(state)))  # type: ignore[no-untyped-call]
        measuring = _Measuring(state)
        handles.append(module.register_forward_pre_hook(measuring.begin))
        handles.append(module.register_forward_hook(measuring.end, always_call=True))
    return handles


def refuse_in_prefix(state: PrefixState, modules: Mapping[str, nn.Module]) -> list[RemovableHandle]:
    """Have these normalisations, which go with trained layers, raise ModelError where they are trained in the prefix."""
    return [module.register_forward_pre_hook(_RefuseInPrefix(state, name)) for name, module in modules.items()]


class _RefuseInPrefix:
    def __init__(self, state: PrefixState, name: str) -> None:
        self.state = state
        self.name = name

    def __call__(self, module: nn.Module, _args: Any) -> None:
        if self.state.active and module.training and not self.state.in_suffix:
            raise ModelError(
                f"the normalisation {self.name} has no parameters and runs among the frozen layers, but is registered "
                f"behind a trained one: register it behind the layer whose output it normalises, or give it affine=True."
            )


class _Measuring:
    """Lets a normalisation that is frozen see a batch."""

    def __init__(self, state: PrefixState) -> None:
        self.state = state
        self.is_under_way = False
        self.momentum: float | None = None

    def begin(self, module: Any, _args: Any) -> None:
        """Normalise by the batch; in training mode average over the batches."""
        # A look at a tuple and then at a tensor, at no counter: torch.compile would compile anew for each value of it.
        if not self.state.uncalibrated or not self.state.active:
            return
        in_training = self.state.model.training
        if not any(module is each for each in self.state.uncalibrated) or not (in_training or _is_new(module)):
            return
        self.is_under_way = True
        self.momentum = module.momentum
        if in_training:
            _take_average(module)
        else:
            # InstanceNorm averages even where it does not track.
            module.momentum = 0.0
        module.training, module.track_running_stats = True, in_training

    def end(self, module: Any, _args: Any, _output: Any) -> None:
        """Put things back, and fix the statistics once enough batches were seen."""
        if not self.is_under_way:
            return
        self.is_under_way = False
        if module.track_running_stats:
            _count_batch(module)
        module.training, module.track_running_stats = False, True
        module.momentum = self.momentum
        if int(module.num_batches_tracked) >= _CALIBRATION_PASSES:
            self.state.uncalibrated = tuple(each for each in self.state.uncalibrated if each is not module)


class _Loaded:
    def __init__(self, state: PrefixState) -> None:
        self.state = state

    def __call__(self, module: nn.Module, _incompatible: Any) -> None:
        if not _is_new(module):
            self.state.uncalibrated = tuple(each for each in self.state.uncalibrated if each is not module)


def averaging(normalisation: Any) -> list[RemovableHandle]:
    """Let every batch to come count the same in running statistics, once they are reset."""
    normalisation.momentum = None
    if not _is_uncounted(normalisation):
        return []
    return [
        normalisation.register_forward_pre_hook(_take_average),
        normalisation.register_forward_hook(_count_batch),
    ]


def _take_average(normalisation: Any, *_: Any) -> None:
    """Let the next batch count as much as each before it."""
    normalisation.momentum = None
    if _is_uncounted(normalisation):
        normalisation.momentum = 1 / (int(normalisation.num_batches_tracked) + 1)


def _count_batch(normalisation: Any, *_: Any) -> None:
    if _is_uncounted(normalisation):
        normalisation.num_batches_tracked.add_(1)


def _is_uncounted(normalisation: nn.Module) -> bool:
    # InstanceNorm has a counter and never counts; no momentum is one of 0 to it (torch 2.13).
    return isinstance(normalisation, nn.modules.instancenorm._InstanceNorm)


def _is_new(normalisation: nn.Module) -> bool:
    """Whether a normalisation has never seen a batch; unknown, and so taken as calibrated, where there are no values."""
    count = normalisation.get_buffer("num_batches_tracked")
    is_without_values = count.is_meta or type(count) is not Tensor
    if is_without_values or int(count) > 0:
        return False
    if not _is_uncounted(normalisation):
        return True
    mean, variance = (normalisation.get_buffer(name) for name in ("running_mean", "running_var"))
    return not mean.any() and bool((variance == 1).all())
