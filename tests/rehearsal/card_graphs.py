"""Graphs of the card: kernels that were captured, and run again on the very memory that they had then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tests.rehearsal.card_facts import Facts, argument_at, mapped
from tests.rehearsal.card_state import GENERATORS, WAITS
from tests.rehearsal.host_card import is_on_card, on_host


class Graphs:
    """What is being captured: operations in turn, to be run again on the same memory.

    As on a card nothing is computed while it is captured: what was written is put back in the end, and results hold nothing.
    """

    def __init__(self) -> None:
        self._tape: list[Callable[[], None]] = []
        self._before: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
        self._new: list[Tensor] = []
        self._seed = 0
        self._drawn = torch.empty(0)

    def begin(self) -> None:
        """Begin to capture."""
        assert not WAITS.is_capturing, "one capture within another"
        WAITS.is_capturing, self._tape, self._before, self._new = True, [], {}, []
        self._seed, self._drawn = GENERATORS.default.initial_seed(), GENERATORS.default.get_state()

    def end(self) -> list[Callable[[], None]]:
        """Return what was captured."""
        WAITS.is_capturing = False
        for tensor in self._new:
            if tensor.is_floating_point():
                on_host(tensor).fill_(float("nan"))
        for tensor, value in self._before.values():
            on_host(tensor).copy_(value)
        if GENERATORS.default.initial_seed() != self._seed:
            raise RuntimeError("CUDA generator's seed was set during a stream capture")
        GENERATORS.default.set_state(self._drawn)
        return self._tape

    def before(self, facts: Facts, args: Any, kwargs: Any) -> tuple[Any, Any]:
        """Return the arguments as a graph keeps them: a number in a CPU tensor is one from now on."""
        # What a batch normalisation writes into, its schema does not say (torch 2.13).
        unsaid = [index for index, name in enumerate(facts.arguments) if name in ("running_mean", "running_var")]
        for index in (*facts.written, *unsaid):
            written = argument_at(facts, index, args, kwargs)
            for tensor in written if isinstance(written, list | tuple) else [written]:
                self.keep(tensor)

        def kept(value: Any) -> Any:
            is_number = isinstance(value, Tensor) and value.dim() == 0 and not is_on_card(value)
            return value.clone() if is_number else value

        return mapped(kept, args), {name: mapped(kept, each) for name, each in kwargs.items()}

    def keep(self, tensor: Any) -> None:
        """Have what is written into put back in the end."""
        if is_on_card(tensor) and tensor.numel():
            place = (tensor.data_ptr(), tensor.nbytes)
            with torch._C.DisableTorchFunction(), torch._C._AutoDispatchBelowAutograd(), torch.no_grad():
                self._before.setdefault(place, (tensor.detach(), on_host(tensor).clone()))

    def add(self, compute: Callable[[], Any], facts: Facts, returned: Any) -> None:
        """Note an operation that made new tensors, or wrote into given ones."""
        made = returned if isinstance(returned, list | tuple) else [returned]
        described = facts.returns if len(facts.returns) == len(made) else facts.returns * len(made)
        new = [each if described[index] is None else None for index, each in enumerate(made)]
        is_view = not facts.written and not any(isinstance(each, Tensor) for each in new)
        if is_view or facts.name.startswith("empty"):
            return  # nothing is computed
        self._new += [each.detach() for each in new if isinstance(each, Tensor)]

        def again() -> None:
            results = compute()
            values = results if isinstance(results, list | tuple) else [results]
            for place, value in zip(new, values, strict=True):
                if isinstance(place, Tensor):
                    on_host(place).copy_(value)

        self._tape.append(again)

    def note(self, run: Callable[[], None]) -> None:
        """Note what is no operation of a fallback."""
        self._tape.append(run)


GRAPHS = Graphs()
