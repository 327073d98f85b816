"""One optimizer step for all members of a stack at once: their weights lie side by side, each with numbers of its own.

Axes: K sessions, P trained numbers of each. What ends in ``_KP`` has a row for every session.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from frostline.populations.stacking.update_rules import RULES, Rule
from frostline.training.steps.optimizers import has_only_own_hooks

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from frostline.protocols import Batch
    from frostline.training.session import Session

# A member by itself is updated in one pass over its memory, all together in a dozen: that pays while starting each
# member's update takes longer than a dozen passes. On the CPU it was measured (benchmarks/joint_update.py). On a card it
# was not: a dozen passes over a million numbers take some 0.1 ms of one, which is what the host needs to start an update.
MOST_NUMBERS = {"cpu": 50_000, "cuda": 1_000_000}

# As ``torch.nn.utils.clip_grad_norm_`` has it.
_NORM_EPSILON = 1e-6


def cannot_join(sessions: Sequence[Session]) -> str | None:
    """Return why the sessions' optimizers cannot make their steps at once, or None."""
    kinds = {type(session.optimizer) for session in sessions}
    name = next(iter(kinds)).__name__
    if len(kinds) > 1 or not kinds <= RULES.keys():
        return f"{name} steps each configuration by itself" if len(kinds) == 1 else "their optimizers differ"
    parameters = sessions[0].parameters
    first = parameters[0]
    if any((each.dtype, each.device) != (first.dtype, first.device) for each in parameters):
        return "trained weights are of several types or on several devices"
    if first.dtype not in (torch.float32, torch.float64):
        return f"trained weights are {str(first.dtype).removeprefix('torch.')}"
    for session in sessions:
        if not has_only_own_hooks(session.optimizer):
            return f"{name} has hooks of the user's"
        if len(session.optimizer.param_groups) != len(sessions[0].optimizer.param_groups):
            return f"the groups of {name} differ"
    rule = RULES[kinds.pop()]
    return rule.refuses([group for session in sessions for group in session.optimizer.param_groups]) or _bad_state(
        sessions, rule
    )


def _bad_state(sessions: Sequence[Session], rule: Rule) -> str | None:
    """Return what is unusual about the optimizers' states, or None: all or none of a session's weights have made steps."""
    for session in sessions:
        states = [session.optimizer.state.get(parameter, {}) for parameter in session.parameters]
        if any(states) and not all(set(state) >= set(rule.kept) for state in states):
            return "some weights have made steps that others have not"
        if len(_steps_of(states)) > 1:
            return "some weights have made more steps than others"
    return None


def _steps_of(states: Sequence[Mapping[str, Any]]) -> set[int]:
    """Return the numbers of steps in states of an optimizer; a device is waited for at most once."""
    counts = [state["step"] for state in states if "step" in state]
    return {int(count) for count in torch.stack(counts).tolist()} if counts else {0}


@dataclass(frozen=True, slots=True)
class _Block:
    """The parameters of one group of the optimizers, which lie side by side."""

    group: int
    columns: slice


class JointUpdate:
    """Updates K sessions' trained weights at once, to rounding as their optimizers do one by one.

    The weights become views of one tensor, and the optimizers' states of others: models, optimizers and checkpoints go on
    working, on the same memory. ``names`` lead to the parameters of every session.
    """

    def __init__(self, sessions: Sequence[Session], parameters: Sequence[Mapping[str, nn.Parameter]]) -> None:
        assert cannot_join(sessions) is None
        self._sessions = tuple(sessions)
        self._optimizers: list[Optimizer] = [session.optimizer for session in sessions]
        self._rule = RULES[type(self._optimizers[0])]
        self._order, self._blocks = _side_by_side(sessions[0], parameters[0])
        self._members = [[each[name] for name in self._order] for each in parameters]
        first = self._members[0][0]
        sizes = [parameter.numel() for parameter in self._members[0]]
        self._weights_KP = torch.empty(len(sessions), sum(sizes), dtype=first.dtype, device=first.device)
        for row, member in zip(self._weights_KP, self._members, strict=True):
            for part, parameter in zip(torch.split(row, sizes), member, strict=True):
                part.copy_(parameter.detach().flatten())
                parameter.data, parameter.grad = part.view(parameter.shape), None
        shapes = (parameter.shape for parameter in self._members[0])
        parts = torch.split(self._weights_KP, sizes, dim=1)
        self.stacks = {
            name: part.view(len(sessions), *shape).detach().requires_grad_()
            for name, part, shape in zip(self._order, parts, shapes, strict=True)
        }
        self._moments = {name: torch.zeros_like(self._weights_KP) for name in self._rule.moments}
        is_fused = bool(self._optimizers[0].param_groups[0].get("fused"))
        # A column for every weight, though all of a session's are the same: none shares its memory with another. A fused
        # optimizer has them beside the weights.
        self._steps = torch.zeros(len(sessions), len(sizes), device=first.device if is_fused else "cpu")
        self._num_steps = [self._steps_before(k) for k in range(len(sessions))]
        self._begun = [bool(optimizer.state.get(member[0])) for optimizer, member in self._pairs()]
        self._known: list[Any] = [None] * len(sessions)
        self._numbers: Tensor | None = None

    def _pairs(self) -> list[tuple[Optimizer, list[nn.Parameter]]]:
        return list(zip(self._optimizers, self._members, strict=True))

    def _steps_before(self, k: int) -> int:
        states = [self._optimizers[k].state.get(parameter, {}) for parameter in self._members[k]]
        return max(_steps_of(states))

    def _adopt(self, k: int) -> None:
        """Let the state of one session's optimizer be views of what is stacked, with the values it has."""
        state = self._optimizers[k].state
        if self._known[k] is not None:  # a checkpoint was read
            self._num_steps[k], self._begun[k] = self._steps_before(k), True
        self._steps[k] = self._num_steps[k]
        sizes = [parameter.numel() for parameter in self._members[k]]
        parts = {name: torch.split(moment[k], sizes) for name, moment in self._moments.items()}
        for index, parameter in enumerate(self._members[k]):
            before, views = state.get(parameter) or {}, {}
            for name, part in parts.items():
                if name in before:
                    part[index].copy_(before[name].flatten())
                views[name] = part[index].view(parameter.shape)
            if "step" in self._rule.kept:
                views["step"] = self._steps[k, index]
            state[parameter] = {**before, **views}
        self._known[k] = state

    def set_rates(self, rate_factors: Sequence[float]) -> None:
        """Say what the next step's numbers are. The host waits for no device."""
        rows = []
        for k, (session, factor) in enumerate(zip(self._sessions, rate_factors, strict=True)):
            if session.optimizer.state is not self._known[k]:
                self._adopt(k)
            groups = session.optimizer.param_groups
            for group, rate in zip(groups, session.learning_rates, strict=True):
                group["lr"] = rate * factor
            norm = session.max_gradient_norm
            numbers = [1.0 if norm is None else norm, float(norm is not None)]
            for block in self._blocks:
                numbers += self._rule.numbers(groups[block.group], self._num_steps[k] + 1, self._begun[k])
            rows.append(numbers)
        # In double precision until here, as the optimizers' own numbers are.
        host = torch.tensor(rows, dtype=torch.float64, device="cpu").T.to(self._weights_KP.dtype).contiguous()
        if self._numbers is None:
            self._numbers = torch.empty_like(host, device=self._weights_KP.device)
        if self._numbers.is_cuda:
            host = host.pin_memory()
        self._numbers.copy_(host, non_blocking=True)

    def apply(self, gradients: Sequence[Tensor]) -> Tensor:
        """Update the weights by their gradients, in the order of ``stacks``; return the gradients' norms, of shape (K,).

        The norms are those before clipping, and every session's, whether it is clipped or not. Only tensors on the device
        are read, at the same places in every step: what ``set_rates`` said is among them.
        """
        assert self._numbers is not None
        whole = torch.cat([gradient.flatten(1) for gradient in gradients], dim=1)
        norms: Tensor = torch.linalg.vector_norm(whole, dim=1)
        bounds, is_clipped, *rest = self._numbers.unsqueeze(-1).unbind()
        if any(session.max_gradient_norm is not None for session in self._sessions):
            factors = (bounds / (norms.unsqueeze(-1) + _NORM_EPSILON)).clamp(max=1.0)
            whole.mul_(torch.where(is_clipped > 0, factors, 1.0))
        num_each = len(rest) // len(self._blocks)
        for index, block in enumerate(self._blocks):
            numbers = rest[index * num_each : (index + 1) * num_each]
            moments = [state[:, block.columns] for state in self._moments.values()]
            weights = self._weights_KP[:, block.columns]
            self._rule.apply(weights, whole[:, block.columns], moments, numbers)
        return norms

    @property
    def written(self) -> list[Tensor]:
        """The tensors that ``apply`` writes into: at the same places in every step."""
        return [self._weights_KP, *self._moments.values()]

    def count(self, batch: Batch, norms: Tensor) -> list[Tensor | None]:
        """Take note that a step was made on a batch; return the norms of those that are clipped."""
        self._steps += 1
        self._num_steps = [number + 1 for number in self._num_steps]
        self._begun = [True] * len(self._begun)
        for session in self._sessions:
            session.samples_seen += session.task.num_samples(batch)
        pairs = zip(self._sessions, norms.unbind(), strict=True)
        return [None if session.max_gradient_norm is None else norm for session, norm in pairs]

    def release(self) -> None:
        """Give the optimizers' states memory of their own; the weights are the caller's to see to."""
        for k, (optimizer, member) in enumerate(self._pairs()):
            for parameter in member if self._known[k] is not None else ():
                state = optimizer.state.get(parameter, {})
                optimizer.state[parameter] = {
                    name: value.clone() if isinstance(value, Tensor) else value for name, value in state.items()
                }


def _side_by_side(session: Session, parameters: Mapping[str, nn.Parameter]) -> tuple[list[str], list[_Block]]:
    """Return the parameters' names by groups of the optimizer, and where each group lies."""
    names = {id(parameter): name for name, parameter in parameters.items()}
    order: list[str] = []
    blocks, begin = [], 0
    for index, group in enumerate(session.optimizer.param_groups):
        own = [parameter for parameter in group["params"] if id(parameter) in names]
        order += [names[id(parameter)] for parameter in own]
        end = begin + sum(parameter.numel() for parameter in own)
        blocks.append(_Block(index, slice(begin, end)))
        begin = end
    return order, blocks


def is_worth_joining(session: Session) -> bool:
    """Return whether a member trains few enough numbers for a joint update to be the faster one."""
    most = MOST_NUMBERS.get(session.device_plan.device.type, 0)
    return sum(parameter.numel() for parameter in session.parameters) <= most
