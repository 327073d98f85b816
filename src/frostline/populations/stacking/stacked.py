"""Several configurations' training steps as one: their trained weights stacked, their losses computed by vmap.

Axes: K sessions. What ends in ``_K`` is stacked: its first axis is K.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from frostline.inputs.printable import first_line
from frostline.layers.cutting.plain_attributes import changed_attributes, plain_attributes
from frostline.populations.stacking.captured import CapturedStep, NoLongerTheSameError
from frostline.populations.stacking.contents import Contents, check_alike, contents_of, names_by_layer
from frostline.populations.stacking.folded_attention import batched_attention
from frostline.populations.stacking.joint_update import JointUpdate, cannot_join, is_worth_joining
from frostline.populations.stacking.stacked_losses import stacked_losses
from frostline.populations.stacking.stacked_outcome import Outcome, State, moved_apart, tolerance_of
from frostline.training.machine.devices import move_batch

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
    updated all at once, where the optimizer allows it; None: where that is faster. ``captured`` has
    the step captured as a CUDA graph, as far as that is possible (``why_not_captured``). Whether a model can be stacked at
    all, and gives the same numbers, only ``prove`` tells.
    Raises: ModelError if the sessions differ in structure or samples, or a trained weight shares memory with another.
    """

    def __init__(
        self,
        sessions: Sequence[Session],
        *,
        compiled: bool = False,
        joint: bool | None = None,
        captured: bool = False,
    ) -> None:
        assert sessions
        first = sessions[0]
        members = [contents_of(session.model) for session in sessions]
        check_alike(sessions, members)
        self._sessions = tuple(sessions)
        self._members = members
        frozen, trained = names_by_layer(first.model)
        # A prefix computes the frozen layers of all sessions: their buffers are its own affair.
        self._watched = [name for name in members[0].buffers if first.prefix is None or name not in frozen]
        shared = self._shared = [
            name
            for name in self._watched
            if not (name in trained and members[0].may_change(name)) and _are_equal(_each(members, name))
        ]
        differing = [name for name in self._watched if name not in shared and name not in frozen]
        self._joint: JointUpdate | None = None
        cannot = cannot_join(sessions)
        self._is_captured = captured
        self._captured: CapturedStep | None = None
        self._why_not = _cannot_capture(self._device.type, cannot) if captured else None
        if (captured or (is_worth_joining(first) if joint is None else joint)) and cannot is None:
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

    def step(
        self, batch: Batch, rate_factors: Sequence[float], *, compare: bool = False
    ) -> list[tuple[Tensor, Tensor | None]]:
        """Train every session on one CPU batch; return its loss and its gradient's norm before clipping, if clipped.

        A step that is replayed is compared with the step itself, if so asked.
        """
        self._sessions[0].prepare_step(batch)
        if self._joint is not None and self._captured is not None:
            self._joint.set_rates(rate_factors)
            losses, norms = self._captured(batch, compare=compare)
        else:
            losses, gradients = self._losses_and_gradients(move_batch(batch, self._device, copy=True))
            reached = [gradient for gradient in gradients if gradient is not None]
            if self._joint is not None and len(reached) < len(gradients):
                # Their own optimizers leave alone what has no gradient.
                self._joint.release()
                self._joint, self._why_not = None, "some trained weights get no gradient"
            if self._joint is None:
                self._hand_out(gradients)
                triples = zip(self._sessions, losses.unbind(), rate_factors, strict=True)
                return [(loss, session.update(batch, rate_factor=factor)) for session, loss, factor in triples]
            self._joint.set_rates(rate_factors)
            norms = self._joint.apply(reached)
            self._captured = self._to_be_captured() if self._is_captured and self._why_not is None else None
        return list(zip(losses.unbind(), self._joint.count(batch, norms), strict=True))

    def _losses_and_gradients(self, batch: Batch) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        """Return the losses of a batch on the device, and their gradients by the stacked weights."""
        losses = self._loss(batch)
        gradients = torch.autograd.grad(losses.sum(), list(self._trained_K.values()), allow_unused=True)
        return losses.detach(), gradients

    def _to_be_captured(self) -> CapturedStep:
        """Return the step as one that captures itself."""
        joint, first = self._joint, self._sessions[0]
        assert joint is not None

        def compute(batch: Batch) -> tuple[Tensor, ...]:
            losses, gradients = self._losses_and_gradients(batch)
            reached = [gradient for gradient in gradients if gradient is not None]
            if len(reached) < len(gradients):
                raise NoLongerTheSameError("some trained weights get a gradient in some steps only.")
            return losses, joint.apply(reached)

        changing = [self._members[0].buffers[name] for name in self._shared]
        return CapturedStep(
            compute,
            written=[*joint.written, *self._buffers_K.values(), *changing],
            prefix=first.prefix,
            seed=self._sessions[0].seed_step,
            device=self._device,
            tolerance=tolerance_of(first),
        )

    def _hand_out(self, gradients: Sequence[Tensor | None]) -> None:
        """Give every session's parameters their gradients."""
        for name, gradient in zip(self._trained_K, gradients, strict=True):
            # A matrix' gradient may come transposed: an optimizer that walks it beside its weights takes twice as long.
            each = [None] * len(self._sessions) if gradient is None else gradient.contiguous().unbind()
            for member, own in zip(self._members, each, strict=True):
                member.parameters[name].grad = own

    def prove(self, batch: Batch) -> str | None:
        """Return None if all sessions' losses, gradients and buffers come out as one by one on a CPU batch, or why not.

        They are compared at weights that are moved a little, each session's by itself: where all start from the same
        ones, a mix-up would not show. Nothing is changed: weights, buffers and modes are put back.
        Raises: what a session's own loss raises.
        """
        kept: dict[int, Tensor] = {}
        states, first = [State(session.model, kept) for session in self._sessions], self._sessions[0]
        before = plain_attributes(first.model)
        with moved_apart(self._trained_K.values()), ExitStack() as stack:
            for state in states:
                stack.callback(state.put_back)
            try:
                outcomes = self._outcomes(batch)
            except Exception as error:
                return f"{type(error).__name__}: {first_line(error)}"
            changed = changed_attributes(before, plain_attributes(first.model))
            if changed:
                name, own = next((name, own) for name, attributes in changed.items() for own in attributes)
                return (
                    f"the model changes {f'{name}.{own}'.lstrip('.')} as it runs, and runs for one of them alone"
                )
            each = zip(self._sessions, states, self._members, outcomes, strict=True)
            for session, state, member, outcome in each:
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
        if self._captured is not None:
            self._captured.release()
            self._captured = None
        for member in self._members:
            for name in self._moved:
                tensor = member[name]
                tensor.data = tensor.data.clone()
                tensor.grad = None
        self._members, self._trained_K, self._buffers_K, self._moved = [], {}, {}, []

    @property
    def why_not_captured(self) -> str | None:
        """Why a step that was to be captured is not; None as long as nothing speaks against it."""
        return self._captured.why_not if self._captured is not None else self._why_not

    @property
    def _device(self) -> torch.device:
        return self._sessions[0].device_plan.device

    def _loss(self, batch: Batch) -> Tensor:
        """Return the losses of a batch on the device, of shape (K,), with gradient."""
        folding = nullcontext() if self._is_compiled else batched_attention(self._device)
        with self._sessions[0].device_plan.autocast(), folding:
            return self._losses({**self._trained_K, **self._buffers_K}, batch)

    def _outcomes(self, batch: Batch) -> list[Outcome]:
        with warnings.catch_warnings():
            # An operation that vmap can only loop over is slow and not wrong: the clock will tell.
            warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)
            self._sessions[0].prepare_step(batch)
            losses = self._loss(move_batch(batch, self._device, copy=True))
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

    def _outcome_alone(self, session: Session, member: Contents, batch: Batch) -> Outcome:
        loss = session.loss(batch)
        gradients = torch.autograd.grad(loss, list(member.parameters.values()), allow_unused=True)
        # By name and not by identity: a model may put another tensor in a buffer's place.
        now = dict(session.model.named_buffers(remove_duplicate=False))
        return Outcome(
            loss=loss.detach(),
            gradients=dict(zip(member.parameters, gradients, strict=True)),
            buffers={name: now[name] for name in self._watched},
        )


def _cannot_capture(kind: str, cannot_join: str | None) -> str | None:
    """Return what speaks against capturing a step, as far as is known before it."""
    if kind != "cuda":
        return f"a step is captured on CUDA, not on {kind}"
    return cannot_join


def _each(members: Sequence[Contents], name: str) -> list[Tensor]:
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
