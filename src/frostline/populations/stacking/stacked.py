"""Several configurations' training steps as one: their trained weights stacked, their losses computed by vmap.

Axes: K sessions. What ends in ``_K`` is stacked: its first axis is K.
"""

from __future__ import annotations

import warnings
from collections.abc import Container, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from frostline.errors import ModelError
from frostline.layers import Layer, freezing_of
from frostline.populations.stacking.folded_attention import batched_attention
from frostline.populations.stacking.joint_update import JointUpdate, cannot_join, is_worth_joining
from frostline.populations.stacking.stacked_losses import stacked_losses
from frostline.populations.stacking.stacked_outcome import Outcome, State, moved_apart, tolerance_of
from frostline.seeding import derive_seed
from frostline.training.devices import move_batch
from frostline.training.randomness import seed_generators

if TYPE_CHECKING:
    from frostline.protocols import Batch
    from frostline.training.session import Session


class StackedStep:
    """One training step of K sessions at once: to rounding the same as their steps one by one.

    The sessions must agree in everything but numbers: the task, the model's structure, what is trained, the samples
    seen. From here on their trained parameters, and the buffers that training may change, are views of stacked tensors:
    models, optimizers, checkpoints and validation go on working, on the same memory. ``release`` gives the sessions
    memory of their own again. Those that go on together may be stacked anew without that: the older step is then void,
    and who is not among them has what it needs to go on alone.

    The first session's model is the one that runs. Its frozen layers are not stacked: they run once for all. With
    ``compiled`` torch.compile makes the step, which takes its time at the first one. ``joint`` says whether the weights are
    updated all at once, where the optimizer allows it; None: where that is faster. Whether a model can be stacked at
    all, and gives the same numbers, only ``prove`` tells.
    Raises: ModelError if the sessions differ in structure or samples, or a trained weight shares memory with another.
    """

    def __init__(self, sessions: Sequence[Session], *, compiled: bool = False, joint: bool | None = None) -> None:
        assert sessions
        first = sessions[0]
        members = [_contents_of(session.model) for session in sessions]
        _check(sessions, members)
        self._sessions = tuple(sessions)
        self._members = members
        frozen, trained = _names_by_layer(first.model)
        # A prefix computes the frozen layers of all sessions: their buffers are its own affair.
        self._watched = [name for name in members[0].buffers if first.prefix is None or name not in frozen]
        shared = [
            name
            for name in self._watched
            if not (name in trained and members[0].may_change(name)) and _are_equal(_each(members, name))
        ]
        differing = [name for name in self._watched if name not in shared and name not in frozen]
        self._joint: JointUpdate | None = None
        if (is_worth_joining(first) if joint is None else joint) and cannot_join(sessions) is None:
            self._joint = JointUpdate(sessions, [member.parameters for member in members])
            self._trained_K = self._joint.stacks
        else:
            self._trained_K = {
                name: _stack(_each(members, name)).requires_grad_() for name in members[0].parameters
            }
        self._buffers_K = {name: _stack(_each(members, name)) for name in differing}
        for name in shared:
            _share(_each(members, name))
        self._moved = [*self._trained_K, *self._buffers_K, *shared]
        self._is_compiled = compiled
        self._losses = stacked_losses(first.task, first.model, members[0].names, frozen, compiled=compiled)

    def step(self, batch: Batch, rate_factors: Sequence[float]) -> list[tuple[Tensor, Tensor | None]]:
        """Train every session on one CPU batch; return its loss and its gradient's norm before clipping, if clipped."""
        self._prepare(batch)
        losses = self._loss(move_batch(batch, self._device))
        gradients = torch.autograd.grad(losses.sum(), list(self._trained_K.values()), allow_unused=True)
        losses_each = losses.detach().unbind()
        reached = [gradient for gradient in gradients if gradient is not None]
        if self._joint is not None and len(reached) < len(gradients):
            # Their own optimizers leave alone what has no gradient.
            self._joint.release()
            self._joint = None
        if self._joint is None:
            self._hand_out(gradients)
            triples = zip(self._sessions, losses_each, rate_factors, strict=True)
            return [(loss, session.update(batch, rate_factor=factor)) for session, loss, factor in triples]
        self._joint.set_rates(rate_factors)
        norms = self._joint.apply(reached)
        return list(zip(losses_each, self._joint.count(batch, norms), strict=True))

    def _hand_out(self, gradients: Sequence[Tensor | None]) -> None:
        """Give every session's parameters their gradients."""
        for name, gradient in zip(self._trained_K, gradients, strict=True):
            each = [None] * len(self._sessions) if gradient is None else gradient.unbind()
            for member, own in zip(self._members, each, strict=True):
                member.parameters[name].grad = own

    def prove(self, batch: Batch) -> str | None:
        """Return None if all sessions' losses, gradients and buffers come out as one by one on a CPU batch, or why not.

        They are compared at weights that are moved a little, each session's by itself: where all start from the same
        ones, a mix-up would not show. Nothing is changed: weights, buffers and modes are put back.
        Raises: what a session's own loss raises.
        """
        state = State(self._sessions)
        with moved_apart(self._trained_K.values()), state:
            try:
                outcomes = self._outcomes(batch)
            except Exception as error:
                return f"{type(error).__name__}: {_first_line(error)}"
            for session, member, outcome in zip(self._sessions, self._members, outcomes, strict=True):
                state.put_back()
                expected = self._outcome_alone(session, member, batch)
                complaint = outcome.complaint(expected, tolerance=tolerance_of(session))
                if complaint is not None:
                    return f"configuration {session.configuration.number}: {complaint}"
        return None

    def release(self) -> None:
        """Give the sessions' parameters and buffers memory of their own; the step is void from then on."""
        if self._joint is not None:
            self._joint.release()
        for member in self._members:
            for name in self._moved:
                tensor = member[name]
                tensor.data = tensor.data.clone()
                tensor.grad = None
        self._members, self._trained_K, self._buffers_K, self._moved = [], {}, {}, []

    @property
    def _device(self) -> torch.device:
        return self._sessions[0].device_plan.device

    def _prepare(self, batch: Batch) -> None:
        """See to the prefix and the generators for a CPU batch, as in ``Session.loss``."""
        session = self._sessions[0]
        if session.prefix is not None:
            session.prefix.prepare(batch)
        seed_generators(derive_seed(session.root_seed, "dropout", session.samples_seen), self._device)

    def _loss(self, batch: Batch) -> Tensor:
        """Return the losses of a batch on the device, of shape (K,), with gradient."""
        folding = nullcontext() if self._is_compiled else batched_attention(self._device)
        with self._sessions[0].device_plan.autocast(), folding:
            return self._losses({**self._trained_K, **self._buffers_K}, batch)

    def _outcomes(self, batch: Batch) -> list[Outcome]:
        with warnings.catch_warnings():
            # An operation that vmap can only loop over is slow and not wrong: the clock will tell.
            warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)
            self._prepare(batch)
            losses = self._loss(move_batch(batch, self._device))
            stacks = self._trained_K
            gradients = torch.autograd.grad(losses.sum(), list(stacks.values()), allow_unused=True)
        return [
            Outcome(
                loss=losses[index].detach(),
                gradients={
                    name: None if stack is None else stack[index]
                    for name, stack in zip(stacks, gradients, strict=True)
                },
                buffers={name: member[name].clone() for name in self._watched},
            )
            for index, member in enumerate(self._members)
        ]

    def _outcome_alone(self, session: Session, member: _Contents, batch: Batch) -> Outcome:
        loss = session.loss(batch)
        gradients = torch.autograd.grad(loss, list(member.parameters.values()), allow_unused=True)
        # By name and not by identity: a model may put another tensor in a buffer's place.
        now = dict(session.model.named_buffers(remove_duplicate=False))
        return Outcome(
            loss=loss.detach(),
            gradients=dict(zip(member.parameters, gradients, strict=True)),
            buffers={name: now[name] for name in self._watched},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Contents:
    """The trained parameters and all buffers of a model, each under one name; ``names`` leads there from all others."""

    parameters: dict[str, nn.Parameter]
    buffers: dict[str, Tensor]
    names: dict[str, str]
    persistent: frozenset[str]

    def __getitem__(self, name: str) -> Tensor:
        return self.parameters[name] if name in self.parameters else self.buffers[name]

    def may_change(self, name: str) -> bool:
        """Whether training may make a buffer another for every session.

        Statistics are no whole numbers, and kept in checkpoints. A table, a mask, a counter of batches is not both; were
        one changed by what differs between sessions after all, vmap would raise.
        """
        return name in self.persistent and self.buffers[name].is_floating_point()

    def structure(self) -> list[tuple[Any, ...]]:
        """Return what two models that are stacked must agree in."""
        return [
            (name, canonical, canonical in self.parameters, tensor.shape, tensor.dtype, tensor.device)
            for name, canonical in self.names.items()
            for tensor in (self[canonical],)
        ]


def _contents_of(model: nn.Module) -> _Contents:
    """Return the contents of ``model``: a module that has several names counts once."""
    parameters: dict[str, nn.Parameter] = {}
    buffers: dict[str, Tensor] = {}
    names: dict[str, str] = {}
    persistent: set[str] = set()
    canonical: dict[int, str] = {}
    for owner, module in model.named_modules():
        prefix = f"{owner}." if owner else ""
        for own, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            if parameter.requires_grad:
                name = names[prefix + own] = canonical.setdefault(id(parameter), prefix + own)
                parameters[name] = parameter
        for own, buffer in module.named_buffers(recurse=False, remove_duplicate=False):
            name = names[prefix + own] = canonical.setdefault(id(buffer), prefix + own)
            buffers[name] = buffer
            if own not in module._non_persistent_buffers_set:
                persistent.add(name)
    return _Contents(parameters=parameters, buffers=buffers, names=names, persistent=frozenset(persistent))


def _names_by_layer(model: nn.Module) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names of the parameters and buffers in modules of frozen layers alone, and of trained layers."""
    freezing = freezing_of(model)
    whole = {id(module) for module in model.modules()}
    trained = whole if freezing is None else _modules_of(model, freezing.trained_layers)
    frozen = set() if freezing is None else _modules_of(model, freezing.frozen_layers) - trained
    return _names_in(model, frozen), _names_in(model, trained)


def _modules_of(model: nn.Module, layers: Iterable[Layer]) -> set[int]:
    names = [name for layer in layers for name in layer.modules]
    return {id(module) for name in names for module in model.get_submodule(name).modules()}


def _names_in(model: nn.Module, modules: Container[int]) -> frozenset[str]:
    return frozenset(
        f"{name}.{own}".lstrip(".")
        for name, module in model.named_modules()
        if id(module) in modules
        for own in (*module._parameters, *module._buffers)
    )


def _check(sessions: Sequence[Session], members: Sequence[_Contents]) -> None:
    first, expected = sessions[0], members[0].structure()
    for session, member in zip(sessions, members, strict=True):
        structure = member.structure()
        if structure != expected:
            differing = [row[0] for row in set(structure) ^ set(expected)]
            raise ModelError(
                f"configurations {first.configuration.number} and {session.configuration.number} cannot be stacked: "
                f"their models differ in {min(differing, default='the order of their weights')}; train them apart."
            )
        if session.samples_seen != first.samples_seen:
            raise ModelError(
                f"configurations {first.configuration.number} and {session.configuration.number} cannot be stacked: "
                f"they have seen {first.samples_seen} and {session.samples_seen} samples; train them apart."
            )
    overlapping = _sharing_memory(first.model)
    if overlapping is not None:
        raise ModelError(
            f"configuration {first.configuration.number} cannot be stacked: {' and '.join(overlapping)} of its model share "
            f"memory without being one parameter; tie them by assigning the parameter itself, or train one by one."
        )


def _sharing_memory(model: nn.Module) -> tuple[str, str] | None:
    """Return a trained parameter and another tensor of ``model`` that reach into the same memory, or None."""
    seen: dict[int, tuple[str, Tensor]] = {}
    tensors = sorted((*model.named_parameters(), *model.named_buffers()), key=lambda pair: pair[1].data_ptr())
    for name, tensor in tensors:
        other, before = seen.get(tensor.untyped_storage()._cdata, (name, tensor))
        # Side by side is where an earlier stack has put them.
        overlaps = tensor.data_ptr() < _end_of(before)
        if other != name and tensor.numel() and overlaps and (before.requires_grad or tensor.requires_grad):
            return other, name
        if other == name or _end_of(tensor) > _end_of(before):
            seen[tensor.untyped_storage()._cdata] = name, tensor
    return None


def _end_of(tensor: Tensor) -> int:
    """Return the address behind the last element."""
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.data_ptr() + (last + 1) * tensor.element_size()


def _each(members: Sequence[_Contents], name: str) -> list[Tensor]:
    return [member[name] for member in members]


def _are_equal(tensors: Sequence[Tensor]) -> bool:
    return all(torch.equal(tensors[0], each) for each in tensors[1:])


def _stack(tensors: Sequence[Tensor]) -> Tensor:
    """Return a stack of ``tensors``, which become views of it."""
    stack = torch.stack([each.detach() for each in tensors])
    for tensor, part in zip(tensors, stack.unbind(), strict=True):
        tensor.data = part
    return stack


def _share(tensors: Sequence[Tensor]) -> None:
    """Let equal ``tensors`` lie in one place, which is no other's."""
    place = tensors[0].detach().clone()
    for tensor in tensors:
        tensor.data = place


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "without a message"
