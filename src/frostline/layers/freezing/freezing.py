"""A freezing in force: what was done to a model, and how it is undone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from frostline.errors import ModelError
from frostline.layers.cutting.boundary import (
    FREEZING_ATTRIBUTE,
    PrefixState,
    StayInEvaluation,
    attach,
    stopping_at_suffix,
)
from frostline.layers.cutting.calibration import calibrate_on_first_passes, refuse_in_prefix
from frostline.layers.cutting.cut import Cut
from frostline.layers.freezing.frozen_statistics import (
    Forward,
    measure,
    normalisations,
    normalisations_between,
    put_back,
    statistics_of,
)
from frostline.layers.freezing.snapshots import Snapshot, take_snapshots
from frostline.layers.stack import Layer, LayerStack
from frostline.layers.weights.frozen_weight_plan import Kept
from frostline.layers.weights.frozen_weights import FrozenWeights
from frostline.wording import counted

Tied = Literal["auto", "detach", "snapshot"]
FrozenStatistics = Literal["calibrated", "batch"]


def freezing_of(model: nn.Module) -> Freezing | None:
    """The freezing that is in force on ``model`` (a copy of a frozen model has its own), or None."""
    freezing = getattr(model, FREEZING_ATTRIBUTE, None)
    assert freezing is None or isinstance(freezing, Freezing)
    return freezing


class Freezing:
    """What ``freeze`` did to a model, until ``restore`` undoes it."""

    def __init__(
        self,
        cut: Cut,
        *,
        tied: Tied,
        frozen_statistics: FrozenStatistics,
        kept: Kept | None = None,
        is_order_guessed: bool = False,
    ) -> None:
        self.cut = cut
        model = cut.model
        self.tied = tied
        """What is in force: "detach" or "snapshot"."""
        self.frozen_statistics = frozen_statistics
        self.requires_gradient = _gradient_flags(model)
        """Which parameters required a gradient before, under every name."""
        self._is_restored = False
        self._snapshots: list[Snapshot] = []
        self._modes: list[StayInEvaluation] = []
        self._encoders: list[nn.TransformerEncoder] = []
        self._statistics: list[list[Tensor]] | None = None
        self._state = PrefixState(model, is_order_guessed=is_order_guessed)
        self._handles: list[Any] = []
        self._weights: FrozenWeights | None = None
        frozen, trained = cut.modules_of(self.frozen_layers), cut.modules_of(self.trained_layers)
        self._between, others = normalisations_between(cut)
        outermost = [*frozen, *self._between.values()]
        self._frozen_normalisations = normalisations(outermost)
        if frozen:
            self._set_flags()
            if tied == "snapshot":
                self._snapshots = take_snapshots(cut)
            self._set_modes(outermost)
            self._keep_padding(frozen)
            self._handles = attach(
                model, self._state, frozen=cut.named_modules_of(self.frozen_layers), trained=trained
            )
            if frozen_statistics == "calibrated":
                self._handles += refuse_in_prefix(self._state, others)
                self._handles += calibrate_on_first_passes(self._state, self._frozen_normalisations)
                if self._state.uncalibrated:
                    self._keep_statistics()
            if kept is not None:
                self._weights = FrozenWeights(cut, kept, self._state)
        setattr(model, FREEZING_ATTRIBUTE, self)

    def __repr__(self) -> str:
        stack, trained = self.stack, self.trainable_layers
        return (
            f"<{type(self).__name__} of {type(self.model).__name__}: {trained} of {counted(len(stack), 'layer')} trained, "
            f"{stack.num_trainable_parameters(trained):,} of {stack.num_parameters:,} parameters>"
        )

    @property
    def model(self) -> nn.Module:
        """The model that is frozen."""
        return self.cut.model

    @property
    def stack(self) -> LayerStack:
        """The model's layers."""
        return self.cut.stack

    @property
    def trainable_layers(self) -> int:
        """The number of layers that are trained."""
        return self.cut.trainable_layers

    @property
    def frozen_layers(self) -> tuple[Layer, ...]:
        """The layers that keep their weights, input first."""
        return self.cut.frozen_layers

    @property
    def frozen_modules(self) -> dict[str, nn.Module]:
        """All modules in the frozen layers and the normalisations between these, by their names in the model."""
        modules = dict(self._between)
        for layer in self.frozen_layers:
            for outermost in layer.modules:
                for name, module in self.model.get_submodule(outermost).named_modules():
                    modules[f"{outermost}.{name}".rstrip(".")] = module
        return modules

    @property
    def trained_layers(self) -> tuple[Layer, ...]:
        """The layers that are trained, input first."""
        return self.cut.trained_layers

    @property
    def trainable_parameters(self) -> list[nn.Parameter]:
        """The parameters to hand to the optimizer."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    @property
    def streamed(self) -> tuple[Tensor, ...]:
        """The frozen parameters that are kept in a file, and take no memory on the model's device."""
        return () if self._weights is None else self._weights.streamed

    @property
    def own_dtypes(self) -> dict[int, torch.dtype]:
        """The type that each rounded or streamed parameter had before, by the parameter's identity."""
        return {} if self._weights is None else self._weights.own_dtypes

    @property
    def needs_calibration(self) -> bool:
        """Whether frozen normalisations still measure their statistics, in the next passes in training mode."""
        return bool(self._state.uncalibrated)

    def calibrate(self, batches: Iterable[Any], *, forward: Forward | None = None) -> None:
        """Measure the statistics of frozen batch normalisation on ``batches`` now, and keep them fixed from then on.

        Without this they are measured in the first passes in training mode.
        They are averages over the batches, each counting the same. Every forward pass ends at the first trained layer;
        nothing but the frozen statistics changes. Without frozen normalisation layers, and with
        ``frozen_statistics="batch"``, nothing is done. ``forward(model, batch)`` runs the model; without it a batch is
        a tensor, a tuple of positional or a mapping of keyword arguments.

        Raises: ModelError if there is no batch, or this freezing was restored.
        """
        if self._is_restored:
            raise ModelError("this freezing was restored: freeze the model again, then calibrate it.")
        if self.frozen_statistics == "batch" or not self._frozen_normalisations:
            return
        if self._statistics is None:
            self._keep_statistics()
        uncalibrated, self._state.uncalibrated = self._state.uncalibrated, ()
        try:
            measure(self.model, self._frozen_normalisations, self._state, batches, forward)
        except BaseException:
            self._state.uncalibrated = uncalibrated
            raise

    def restore(self) -> None:
        """Put the model back: gradient flags, modes, ties, and the statistics that were calibrated.

        A weight keeps what training made of it. Frozen weights are whole again, in memory and in the model's type; those
        that were rounded stay rounded. A mode that the user set in the meantime stays. Restoring twice does nothing more.
        """
        if self._is_restored:
            return
        if self._weights is not None:
            self._weights.remove()
        for handle in self._handles:
            handle.remove()
        for mode in self._modes:
            mode.end()
        for encoder in self._encoders:
            encoder.use_nested_tensor = True
        for snapshot in self._snapshots:
            snapshot.make_way(self.model)
        for name, parameter in self.model.named_parameters(remove_duplicate=False):
            parameter.requires_grad_(self.requires_gradient.get(name, parameter.requires_grad))
        if self._statistics is not None:
            put_back(self._frozen_normalisations, self._statistics)
        self._is_restored = True
        delattr(self.model, FREEZING_ATTRIBUTE)

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """While this lasts, hooks do nothing and snapshots make way for the tied weights."""
        self._state.active = False
        for snapshot in self._snapshots:
            snapshot.make_way(self.model)
        try:
            yield
        finally:
            for snapshot in self._snapshots:
                snapshot.take_place(self.model)
            self._state.active = True

    def begin_pass(self) -> None:
        """Say that a forward pass begins, where the code around runs parts of the model and never calls the model itself."""
        self._state.in_suffix = False

    def stopping_at_suffix(self) -> AbstractContextManager[None]:
        """While this lasts a forward pass raises ``PrefixReached`` at its first trained module."""
        return stopping_at_suffix(self._state)

    def call_at_suffix(self, function: Callable[[], object] | None) -> None:
        """Have ``function`` called whenever a trained module is about to run, or nothing any more."""
        self._state.at_suffix = function

    def expect_any_order(self) -> None:
        """Let layers run in another order than they stand in, which otherwise is refused where it was guessed."""
        self._state.is_order_guessed = False

    def _keep_statistics(self) -> None:
        self._statistics = [
            [each.clone() for each in statistics_of(module)] for module in self._frozen_normalisations
        ]

    def _set_flags(self) -> None:
        for layer in self.frozen_layers:
            for name in layer.parameters:
                parameter = self.model.get_parameter(name)
                parameter.requires_grad_(False)
                # An optimizer that holds the parameter would go on applying a gradient that is left over.
                parameter.grad = None

    def _set_modes(self, frozen: Sequence[nn.Module]) -> None:
        for module in frozen:
            following = normalisations([module]) if self.frozen_statistics == "batch" else ()
            self._modes.append(StayInEvaluation(module, following=following))
        for mode in self._modes:
            mode.begin()

    def _keep_padding(self, frozen: Sequence[nn.Module]) -> None:
        # TransformerEncoder looks at its first layer alone: finding it in evaluation mode it drops the padding and hands
        # nested tensors to all layers, which those in training mode cannot take (torch 2.13).
        inside = {id(module) for outermost in frozen for module in outermost.modules()}
        for module in self.model.modules():
            if isinstance(module, nn.TransformerEncoder) and id(module) not in inside and module.use_nested_tensor:
                module.use_nested_tensor = False
                self._encoders.append(module)


def own_gradient_flags(model: nn.Module) -> dict[str, bool]:
    """Return which parameters require a gradient, under every name; in a frozen model, which did before."""
    freezing = freezing_of(model)
    return _gradient_flags(model) if freezing is None else freezing.requires_gradient


def _gradient_flags(model: nn.Module) -> dict[str, bool]:
    return {name: each.requires_grad for name, each in model.named_parameters(remove_duplicate=False)}
