"""What a population needs of memory: once for all of its members, and for every one of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from frostline.layers.cutting.execution import undisturbed
from frostline.layers.cutting.nesting import num_bytes
from frostline.layers.freezing.optimizer_state import optimizer_state_bytes
from frostline.layers.freezing.saved_tensors import SavedTensors
from frostline.protocols import keeps_best

if TYPE_CHECKING:
    from frostline.protocols import Batch
    from frostline.training.session import Session

# Memory that is neither saved for the backward pass nor a gradient of a weight: gradients of activations, kernels' own.
_TRANSIENT_SHARE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """Units: bytes, beyond the template that all members are copied from."""

    step: int
    """Of one member's step: members make theirs in turn."""
    member: int
    """Of every member: trained parameters, their gradients, the optimizer's state, buffers of trained layers."""

    def most(self, memory: int, *, stacked: bool = False) -> int:
        """Return how many members fit into ``memory``; a stack's members make their steps at once, and are moved into it."""
        if stacked:
            return memory // (self.step + 2 * self.member)
        return max(0, memory - self.step) // self.member


def footprint_of(session: Session, batch: Batch) -> Footprint:
    """Measure a session's footprint on a CPU batch, by the loss of one forward pass; the model stays as it is.

    Activations are counted exactly; the optimizer's state is that after its first step on parameters without memory.
    """
    model = session.model
    ignored = [*model.parameters(), *model.buffers()]
    with undisturbed(model), SavedTensors(ignored=ignored) as saved:
        loss = session.loss(batch)
        activations = saved.num_bytes()
    del loss
    trained = num_bytes(session.parameters)
    buffers = num_bytes(model.buffers())
    # The weights of a task that keeps the best lie in host memory a second time.
    is_kept_here = keeps_best(session.task) and session.device_plan.device.type == "cpu"
    return Footprint(
        step=round(activations * (1 + _TRANSIENT_SHARE)) + trained,
        member=max(1, (3 if is_kept_here else 2) * trained + _state_bytes(session) + buffers),
    )


def even_share(count: int, *, most: int) -> int:
    """Return how many of ``count`` to take, ``most`` at once: of 10 with room for 9 two times 5, and not 9 and 1."""
    num_populations = -(-count // max(1, most))
    return -(-count // num_populations)


def _state_bytes(session: Session) -> int:
    """Return the bytes of the optimizer's state; twice the parameters if they cannot be told without memory."""
    try:
        return optimizer_state_bytes(
            session.parameters,
            lambda shadows: session.task.build_optimizer(shadows, session.configuration),
            device="meta",
        )
    except (RuntimeError, NotImplementedError):
        return 2 * num_bytes(session.parameters)
