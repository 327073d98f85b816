"""Freeze the first layers of a model in place: one line in a user's script, undone by one more."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from frostline.errors import ModelError, OptionError
from frostline.layers.cutting.boundary import (
    FREEZING_ATTRIBUTE,
    PrefixState,
    StayInEvaluation,
    attach,
    require_calibration,
    stopping_at_suffix,
    suspended,
)
from frostline.layers.cutting.execution import Inputs
from frostline.layers.discovery import split_layers
from frostline.layers.freezing.frozen_statistics import Forward, measure, normalisations, put_back, statistics_of
from frostline.layers.freezing.snapshots import Snapshot, check_snapshots, take_snapshots
from frostline.layers.stack import Layer, LayerStack
from frostline.layers.weights.frozen_weight_plan import FrozenPlacement, Keeping, Kept, prepare
from frostline.layers.weights.frozen_weights import FrozenWeights, fill_keeping
from frostline.layers.weights.weight_file import WeightFile
from frostline.wording import counted

Tied = Literal["detach", "snapshot"]
FrozenStatistics = Literal["calibrated", "batch"]


def freeze(
    model: nn.Module,
    *,
    trainable_layers: int,
    layers: LayerStack | None = None,
    unwrap: Sequence[type[nn.Module]] = (),
    example_inputs: Inputs | None = None,
    tied: Tied = "detach",
    frozen_statistics: FrozenStatistics = "calibrated",
    frozen_dtype: torch.dtype | Literal["bfloat16"] | None = None,
    frozen_placement: FrozenPlacement = "device",
    frozen_file: WeightFile | str | os.PathLike[str] | None = None,
) -> Freezing:
    """Train only the last ``trainable_layers`` of ``model``: freeze the others in place, and say how to undo it.

    The forward signature, the keys of the state dict, copies, ``torch.save`` and ``torch.compile`` stay as they were.
    Frozen layers require no gradient, pass none on, lose the gradients they hold, and stay in evaluation mode whatever
    ``model.train()`` says, so that the prefix is the same function of its input at every step. Parameters that did not
    require a gradient before stay so in the trained layers too. A model that is frozen already is restored first.

    ``layers`` are the model's layers, if they are known or merged (``merge``); otherwise they are found with ``unwrap``
    and ``example_inputs`` as ``split_layers`` does.

    ``tied`` is for a weight that a frozen and a trained layer share. "detach": it is trained, the frozen layer sees its
    current value, and gradients reach it only through the trained layer. "snapshot": the frozen layer keeps a copy of
    its initial value, under its name in the state dict, and so stays the same function while the weight is trained;
    ``load_state_dict`` fills the copy like any parameter. With all layers trained nothing is cut, and with tied
    embeddings the layers n - 1 and n train the same embedding weight: in effect the same run.

    ``frozen_statistics`` is for batch normalisation in frozen layers. "calibrated": fixed statistics, in training and
    in evaluation; unless they have seen batches before, ``Freezing.calibrate`` must be called, and the forward pass
    raises ModelError until it was. "batch": those of each batch in training, running ones in evaluation.

    ``frozen_dtype`` "bfloat16" keeps the weights inside the frozen layers' modules rounded to it. The model computes in its
    own type: exactly as if they had been rounded beforehand and everything were frozen as ever. Each outermost frozen
    module is widened for its forward alone; embeddings never, only the rows looked up. Buffers, and parameters that no
    module of a frozen layer holds, stay as they are, as do types of 16 bits. The state dict shows the rounded values, and
    ``load_state_dict`` rounds.

    ``frozen_placement`` "stream" keeps these weights in a memory-mapped safetensors file, whence they are brought to the
    model's device for each module's forward, the next module's being read meanwhile. This changes no number. The file has
    no name, lies in the temporary folder (TMPDIR: on a real disk, for a file in memory saves none) and dies with the
    process, unless ``frozen_file`` is a path: then it is written there once, and later opened and read through to
    check that it holds this model's weights. Given an open ``WeightFile``, its weights are put in the place of the model's,
    of which only shape, type and device count. What is loaded over the weights of a named file stays in memory.

    A model from ``build_deferred`` gets its weights here, one at a time: with frozen weights rounded or in a file it is
    never in memory as a whole.

    Raises: FidelityError if ``trainable_layers`` is not a whole number in 1..n; ModelError if the model cannot be split,
        if ``layers`` are another model's, if nothing would be trained, if a weight that is to be kept small is used by
        another layer than holds it, or if the file cannot be written, is not whole or is another model's; OptionError
        for an unknown option. The model is unchanged then.
    Source: arXiv 2504.10735, section 3 and appendix F; tied weights: its figure 12.
    """
    check_options(
        tied=tied,
        frozen_statistics=frozen_statistics,
        frozen_dtype=frozen_dtype,
        frozen_placement=frozen_placement,
    )
    _check_together(layers, unwrap, example_inputs, frozen_placement, frozen_file)
    keeping = Keeping(
        dtype=None if frozen_dtype is None else torch.bfloat16, placement=frozen_placement, file=frozen_file
    )
    if layers is None:
        stack = split_layers(model, unwrap=unwrap, example_inputs=example_inputs)
    else:
        stack = layers
        with suspended(model):
            _check_fits(model, stack)
    stack.check(trainable_layers)
    previous = freezing_of(model)
    originals = previous.requires_gradient if previous is not None else _gradient_flags(model)
    with suspended(model):
        if not any(originals[name] for layer in stack.suffix(trainable_layers) for name in layer.parameters):
            raise ModelError(
                f"no parameter of the last {counted(trainable_layers, 'layer')} requires a gradient, so nothing would "
                f"be trained: call requires_grad_(True) on those to train, or train more layers."
            )
        if tied == "snapshot":
            check_snapshots(model, stack, trainable_layers)
        kept = prepare(
            model,
            stack,
            trainable_layers,
            keeping,
            has_snapshots=tied == "snapshot",
            own_dtypes={} if previous is None else previous.own_dtypes,
        )
    if previous is not None:
        previous.restore()
    fill_keeping(model, stack, trainable_layers, kept)
    return Freezing(
        model,
        stack=stack,
        trainable_layers=trainable_layers,
        tied=tied,
        frozen_statistics=frozen_statistics,
        kept=kept,
    )


def freezing_of(model: nn.Module) -> Freezing | None:
    """The freezing that is in force on ``model`` (a copy of a frozen model has its own), or None."""
    freezing = getattr(model, FREEZING_ATTRIBUTE, None)
    assert freezing is None or isinstance(freezing, Freezing)
    return freezing


class Freezing:
    """What ``freeze`` did to a model, until ``restore`` undoes it."""

    def __init__(
        self,
        model: nn.Module,
        *,
        stack: LayerStack,
        trainable_layers: int,
        tied: Tied,
        frozen_statistics: FrozenStatistics,
        kept: Kept | None = None,
    ) -> None:
        self.model = model
        self.stack = stack
        self.trainable_layers = trainable_layers
        self.tied = tied
        self.frozen_statistics = frozen_statistics
        self.requires_gradient = _gradient_flags(model)
        """Which parameters required a gradient before, under every name."""
        self._is_restored = False
        self._snapshots: list[Snapshot] = []
        self._modes: list[StayInEvaluation] = []
        self._encoders: list[nn.TransformerEncoder] = []
        self._statistics: list[list[Tensor]] | None = None
        self._state = PrefixState()
        self._handles: list[Any] = []
        self._weights: FrozenWeights | None = None
        frozen, trained = self._modules(self.frozen_layers), self._modules(self.trained_layers)
        self._frozen_normalisations = normalisations(frozen)
        if frozen:
            self._set_flags()
            if tied == "snapshot":
                self._snapshots = take_snapshots(model, stack, trainable_layers)
            self._set_modes(frozen)
            self._keep_padding(frozen)
            self._handles = attach(model, self._state, frozen=frozen, trained=trained)
            if frozen_statistics == "calibrated":
                self._handles += require_calibration(self._state, self._frozen_normalisations)
            if kept is not None:
                self._weights = FrozenWeights(model, stack, trainable_layers, kept, self._state)
        setattr(model, FREEZING_ATTRIBUTE, self)

    @property
    def frozen_layers(self) -> tuple[Layer, ...]:
        """The layers that keep their weights, input first."""
        return self.stack.prefix(self.trainable_layers)

    @property
    def trained_layers(self) -> tuple[Layer, ...]:
        """The layers that are trained, input first."""
        return self.stack.suffix(self.trainable_layers)

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
        """Whether the forward pass will raise until ``calibrate`` was called."""
        return bool(self._state.uncalibrated)

    def calibrate(self, batches: Iterable[Any], *, forward: Forward | None = None) -> None:
        """Measure the statistics of frozen batch normalisation on ``batches``, and keep them fixed from then on.

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
            self._statistics = [
                [each.clone() for each in statistics_of(one)] for one in self._frozen_normalisations
            ]
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

    def stopping_at_suffix(self) -> AbstractContextManager[None]:
        """While this lasts a forward pass raises ``PrefixReached`` at its first trained module."""
        return stopping_at_suffix(self._state)

    def _modules(self, layers: Iterable[Layer]) -> list[nn.Module]:
        return [self.model.get_submodule(name) for layer in layers for name in layer.modules]

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


def _gradient_flags(model: nn.Module) -> dict[str, bool]:
    return {name: each.requires_grad for name, each in model.named_parameters(remove_duplicate=False)}


def check_options(
    *, tied: str, frozen_statistics: str, frozen_dtype: torch.dtype | str | None, frozen_placement: str
) -> None:
    """Raise OptionError unless these are options of ``freeze``."""
    for name, value, allowed in (
        ("tied", tied, get_args(Tied)),
        ("frozen_statistics", frozen_statistics, get_args(FrozenStatistics)),
        ("frozen_placement", frozen_placement, get_args(FrozenPlacement)),
        ("frozen_dtype", None if frozen_dtype is torch.bfloat16 else frozen_dtype, (None, "bfloat16")),
    ):
        if value not in allowed:
            raise OptionError(f"{name} is {value!r}: it must be {' or '.join(map(repr, allowed))}.")


def _check_together(
    layers: LayerStack | None,
    unwrap: Sequence[type[nn.Module]],
    example_inputs: Inputs | None,
    frozen_placement: FrozenPlacement,
    frozen_file: WeightFile | str | os.PathLike[str] | None,
) -> None:
    """Raise OptionError for options that have no effect beside others."""
    if layers is not None and (unwrap or example_inputs is not None):
        raise OptionError("layers are given, so unwrap and example_inputs have no effect: leave them out.")
    if frozen_file is not None and frozen_placement != "stream":
        raise OptionError(
            "frozen_file has no effect on weights in memory: leave it out, or use frozen_placement='stream'."
        )


def _check_fits(model: nn.Module, stack: LayerStack) -> None:
    """Raise ModelError unless the stack's layers own exactly the model's parameters."""
    present = {name: id(each) for name, each in model.named_parameters(remove_duplicate=False)}
    owned = [name for layer in stack.layers for name in layer.parameters]
    modules = {name for name, _ in model.named_modules(remove_duplicate=False)}
    lacking = [name for name in owned if name not in present]
    lacking += [name for layer in stack.layers for name in layer.modules if name not in modules]
    if lacking:
        raise ModelError(
            f"these layers are of another model: {type(model).__name__} has no {lacking[0]!r}. Split it again."
        )
    identities = {present[name] for name in owned}
    left = [name for name, identity in present.items() if identity not in identities]
    if left or len(identities) < len(owned):
        reason = f"own no {left[0]!r}" if left else "count a weight twice that is tied here"
        raise ModelError(f"these layers are of another model: they {reason}. Split {type(model).__name__} again.")
