"""What freezing saved, against what it should have saved, and what spoils it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from frostline.errors import ModelError
from frostline.layers.cutting.boundary import PrefixReached
from frostline.layers.cutting.cut import Cut
from frostline.layers.cutting.execution import preserved_random_state
from frostline.layers.cutting.nesting import num_bytes, tensors
from frostline.layers.discovery import split_layers
from frostline.layers.freezing.freezing import freezing_of
from frostline.layers.freezing.optimizer_state import optimizer_state_bytes
from frostline.layers.freezing.saved_tensors import SavedTensors
from frostline.layers.stack import LayerStack

Loss = Callable[[nn.Module, Any], Tensor]
"""Runs the model on a batch and returns the loss, a scalar."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Bytes: of training all layers, as measured now, and as they should be with the prefix frozen."""

    full: int
    measured: int
    expected: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FreezingReport:
    """What one training step keeps in memory. ``findings`` are sentences, one for each thing that is not as it should be."""

    trainable_layers: int
    num_layers: int
    activations: Comparison
    gradients: Comparison
    optimizer_state: Comparison
    findings: tuple[str, ...]

    @property
    def is_effective(self) -> bool:
        """Whether freezing saves what it should."""
        return not self.findings

    def __str__(self) -> str:
        lines = [f"{self.trainable_layers} of {self.num_layers} layers trained; bytes, in units of 1024 × 1024"]
        lines.append(f"{'':16}{'all layers':>12}{'now':>12}{'expected':>12}")
        for label, row in (
            ("activations", self.activations),
            ("gradients", self.gradients),
            ("optimizer state", self.optimizer_state),
        ):
            cells = (f"{value / 2**20:12.2f}" for value in (row.full, row.measured, row.expected))
            lines.append(f"{label:16}{''.join(cells)}")
        return "\n".join([*lines, *(f"! {finding}" for finding in self.findings)])


def inspect_freezing(
    model: nn.Module,
    batch: Any,
    loss: Loss,
    *,
    layers: LayerStack | None = None,
    optimizer: Callable[[list[nn.Parameter]], Optimizer] | None = None,
) -> FreezingReport:
    """Run one training step and say what freezing saved against what it should have, and what spoils it.

    The model may be frozen by ``freeze`` or by other means: then its ``layers`` are found by ``split_layers`` unless
    given, and the last ones that hold a parameter which requires a gradient count as trained. Everything runs on copies:
    the model, its gradients and torch's random states stay as they are, but memory must hold two models for a moment,
    and the forward pass with all layers trained.

    Activations are the distinct storages kept for the backward pass, without parameters, buffers and batch. Expected is
    what the step with all layers trained keeps from the first trained layer on. The optimizer's state is that of
    ``optimizer(parameters)`` after a step, or without it two moments for every element, as AdamW keeps.

    Raises: ModelError if the loss is no scalar with a gradient, or no parameter of the last layer requires one.
    """
    freezing = freezing_of(model)
    stack = layers or (freezing.stack if freezing is not None else split_layers(model))
    trainable_layers = freezing.trainable_layers if freezing is not None else _trained_by_flags(model, stack)
    with preserved_random_state(model):
        frozen = _Step(Cut(_copied(model), stack, trainable_layers), batch, loss)
        findings = frozen.findings()
        frozen.run(backward=True)
        findings += frozen.findings_of_run()
        reference = _copied(model)
        _thaw(reference)
        full = _Step(Cut(reference, stack, trainable_layers), batch, loss)
        full.run(backward=False)
    return _report(frozen, full, optimizer, findings)


def _copied(model: nn.Module) -> nn.Module:
    copied = copy.deepcopy(model)
    copied.zero_grad(set_to_none=True)
    copied.train()
    return copied


def _thaw(model: nn.Module) -> None:
    """Let a copy train all layers."""
    freezing = freezing_of(model)
    if freezing is not None:
        freezing.restore()
        return
    for parameter in model.parameters():
        if parameter.is_floating_point() or parameter.is_complex():
            parameter.requires_grad_(True)


def _trained_by_flags(model: nn.Module, stack: LayerStack) -> int:
    trained = 0
    for layer in reversed(stack.layers):
        if not any(model.get_parameter(name).requires_grad for name in layer.parameters):
            break
        trained += 1
    if trained == 0:
        raise ModelError(
            f"no parameter of the last layer, {stack.layers[-1].name}, requires a gradient: freeze the first layers, "
            f"not the last."
        )
    return trained


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """Bytes kept for backward: all of them, and those of the trained layers."""

    total: int
    suffix: int


class _Step:
    """One training step of a copy, watched."""

    def __init__(self, cut: Cut, batch: Any, loss: Loss) -> None:
        self.cut, self.batch, self.loss = cut, batch, loss
        model = self.model = cut.model
        freezing = freezing_of(model)
        if freezing is not None:
            freezing.expect_any_order()
            if freezing.needs_calibration:
                freezing.calibrate([batch], forward=loss)
        self.in_suffix = False
        self.kept = _Kept(total=0, suffix=0)
        self.leaks: dict[str, set[str]] = {}
        self.late: dict[str, None] = {}
        self.names = {id(parameter): name for name, parameter in model.named_parameters()}
        for module in cut.modules_of(cut.trained_layers):
            module.register_forward_pre_hook(self._enter)
        for layer in cut.frozen_layers:
            for name in layer.modules:
                model.get_submodule(name).register_forward_hook(self._watch(layer.name))

    def _enter(self, _module: nn.Module, _args: Any) -> None:
        self.in_suffix = True

    def _watch(self, layer: str) -> Callable[[nn.Module, Any, Any], None]:
        def watch(_module: nn.Module, _args: Any, output: Any) -> None:
            outputs = [each for each in tensors(output) if each.requires_grad]
            if outputs and self.in_suffix:
                self.late[layer] = None
            elif outputs:
                self.leaks.setdefault(layer, set()).update(self._leaves_behind(outputs))

        return watch

    def _leaves_behind(self, outputs: Sequence[Tensor]) -> set[str]:
        """The names of the parameters that the tensors' gradients would reach; "" for a tensor that is none."""
        leaves = {self.names.get(id(each), "") for each in outputs if each.grad_fn is None}
        nodes = [each.grad_fn for each in outputs if each.grad_fn is not None]
        seen = set(nodes)
        while nodes:
            node = nodes.pop()
            if hasattr(node, "variable"):
                leaves.add(self.names.get(id(node.variable), ""))
            following = {each for each, _ in node.next_functions if each is not None} - seen
            seen |= following
            nodes += following
        return leaves

    def run(self, *, backward: bool) -> None:
        """Run the loss, and the backward pass if ``backward``; count what is kept for it."""
        ignored = (*self.model.parameters(), *self.model.buffers(), *tensors(self.batch))
        self.in_suffix = False
        with SavedTensors(ignored=ignored, group=lambda: "suffix" if self.in_suffix else "prefix") as saved:
            value = self.loss(self.model, self.batch)
        if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad:
            raise ModelError("the loss must be a tensor of one element that depends on a trained parameter.")
        self.kept = _Kept(total=saved.num_bytes(), suffix=saved.num_bytes("suffix"))
        if backward:
            value.backward()  # type: ignore[no-untyped-call]

    def parameters_of(self, *, suffix_only: bool) -> list[nn.Parameter]:
        """The parameters of the trained layers, or of all, that require a gradient."""
        layers = self.cut.trained_layers if suffix_only else self.cut.stack.layers
        parameters = [self.model.get_parameter(name) for layer in layers for name in layer.parameters]
        return [parameter for parameter in parameters if parameter.requires_grad]

    def findings(self) -> list[str]:
        """What is wrong before any step: flags, and a prefix that is not the same function twice."""
        findings = []
        for layer in self.cut.frozen_layers:
            for name in layer.parameters:
                if self.model.get_parameter(name).requires_grad:
                    holder, _, own = name.rpartition(".")
                    place = type(self.model.get_submodule(holder)).__name__
                    findings.append(
                        f"{own} of {place} ({name}, in the frozen layer {layer.name}) still requires a gradient."
                    )
        if self.cut.frozen_layers and not self._is_prefix_deterministic():
            findings.append(
                "The frozen layers give different outputs for the same batch in training mode: dropout or another "
                "random function in the code of the model itself, or normalisation that is not fixed, is in the prefix."
            )
        return findings

    def findings_of_run(self) -> list[str]:
        """What one step showed: gradients through frozen layers, and trained parameters without one."""
        findings = []
        own = {name for layer in self.cut.frozen_layers for name in layer.parameters}
        for leaf in dict.fromkeys(leaf for leaves in self.leaks.values() for leaf in sorted(leaves)):
            layers = [layer for layer, leaves in self.leaks.items() if leaf in leaves]
            if not leaf:
                findings.append(f"An input requires a gradient, which runs through the frozen layer {layers[-1]}.")
            elif leaf not in own:
                findings.append(
                    f"{leaf} is trained and used in the frozen layer {layers[0]}: its gradient runs through it."
                )
        findings += [
            f"The frozen layer {layer} runs after a trained one: freeze with example_inputs=...."
            for layer in self.late
        ]
        idle = [name for name, each in self.model.named_parameters() if each.requires_grad and each.grad is None]
        if idle:
            more = f" and {len(idle) - 1} more" if len(idle) > 1 else ""
            findings.append(f"{idle[0]}{more} should be trained but got no gradient.")
        return findings

    def _is_prefix_deterministic(self) -> bool:
        """Whether the first trained module gets the same input from the same batch twice."""
        inputs: list[list[Tensor]] = []

        def stop(_module: nn.Module, args: Any, kwargs: Any) -> None:
            inputs.append(tensors((args, kwargs)))
            raise PrefixReached

        handles = [
            module.register_forward_pre_hook(stop, with_kwargs=True, prepend=True)
            for module in self.cut.modules_of(self.cut.trained_layers)
        ]
        for _ in range(2):
            with suppress(PrefixReached), torch.no_grad():
                self.loss(self.model, self.batch)
        for handle in handles:
            handle.remove()
        return len(inputs) < 2 or all(torch.equal(*pair) for pair in zip(*inputs, strict=True))


def _report(
    frozen: _Step,
    full: _Step,
    optimizer: Callable[[list[nn.Parameter]], Optimizer] | None,
    findings: list[str],
) -> FreezingReport:
    cut = frozen.cut
    trained = [each for each in frozen.model.parameters() if each.grad is not None]
    everything = full.parameters_of(suffix_only=False)
    expected = full.parameters_of(suffix_only=True)
    activations = Comparison(
        full=full.kept.total,
        measured=frozen.kept.total,
        expected=full.kept.total if cut.boundary == 0 else full.kept.suffix,
    )
    # A hundredth of tolerance: kernels differ a little in what they save when an input requires no gradient.
    if activations.measured > 1.01 * activations.expected + 1024 and not findings:
        findings.append(
            "More activations are kept than the trained layers need, and no frozen module is to blame."
        )
    return FreezingReport(
        trainable_layers=cut.trainable_layers,
        num_layers=cut.stack.num_layers,
        activations=activations,
        gradients=Comparison(
            full=num_bytes(everything), measured=num_bytes(trained), expected=num_bytes(expected)
        ),
        optimizer_state=Comparison(
            full=_state_bytes(everything, optimizer),
            measured=_state_bytes(trained, optimizer),
            expected=_state_bytes(expected, optimizer),
        ),
        findings=tuple(findings),
    )


def _state_bytes(
    parameters: Sequence[nn.Parameter], build: Callable[[list[nn.Parameter]], Optimizer] | None
) -> int:
    """The bytes of the optimizer's state after a step; without an optimizer those of one with two numbers each."""
    if build is None:
        return 2 * num_bytes(parameters)
    return optimizer_state_bytes(parameters, build) if parameters else 0
