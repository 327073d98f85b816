"""What is drawn on the way through frozen layers, and whether any of it matters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from frostline.layers.cutting.nesting import leaves
from frostline.layers.cutting.plain_attributes import are_equal
from frostline.training.machine.randomness import generator_states, library_states

if TYPE_CHECKING:
    from frostline.populations.prefix.recorded_outputs import Recording
    from frostline.populations.prefix.share import Share
    from frostline.protocols import Batch

_aten = torch.ops.aten
_UNIFORM = (_aten.rand.default, _aten.rand.generator, _aten.rand_like.default)


def watched(share: Share, batch: Batch) -> tuple[Recording, bool]:
    """Record a batch; return also whether anything was drawn on the way through the frozen layers."""
    device = share.session.device_plan.device
    before = generator_states(device)
    recording = share.record(batch)
    return recording, not all(map(torch.equal, before, generator_states(device)))


def decide(share: Share, batch: Batch) -> bool:
    """Return whether what is drawn on the way through the frozen layers of a training batch decides what they give.

    Models that leave layers out with a probability that is zero draw all the same: a number between zero and one, which is
    held against the probability. So their layers give the same where all such numbers are the least, and the greatest, that
    can be drawn. Whatever else is drawn is taken to decide.
    """
    share.session.seed_step()
    before = library_states()
    first = share.record(batch)
    if not all(map(torch.equal, before, library_states())):
        return True
    for greatest in (False, True):
        share.session.seed_step()
        with _Filled(greatest=greatest) as filled:
            other = share.record(batch)
        if filled.draws_others or not _are_equal(first, other):
            return True
    return False


class _Filled(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While this lasts numbers between zero and one are all the least that can be drawn, or the greatest."""

    def __init__(self, *, greatest: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._greatest = greatest
        self.draws_others = False
        """Whether anything else was drawn."""

    def __torch_dispatch__(
        self, func: Any, _types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in _UNIFORM:
            return result.fill_(1 - torch.finfo(result.dtype).eps / 2 if self._greatest else 0)
        self.draws_others |= torch.Tag.nondeterministic_seeded in func.tags
        return result


def _are_equal(one: Recording, other: Recording) -> bool:
    return one.path == other.path and are_equal([*leaves(one.outputs)], [*leaves(other.outputs)])
