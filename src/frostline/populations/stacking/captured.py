"""A step that always does the same, captured as a CUDA graph and replayed: the host starts one thing in place of hundreds.

What runs in the step is seen once. From then on only tensors at fixed places differ: the batch, the frozen layers' outputs,
the optimizers' numbers. Whatever Python computes anew in every step stays as it was then, so that replays are compared with
the step itself: the first one, and whichever a score comes after.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from frostline.inputs.printable import first_line
from frostline.layers.cutting.nesting import map_tensors, tensors
from frostline.populations.prefix.cannot_share import CannotShareError
from frostline.training.machine.devices import move_batch

if TYPE_CHECKING:
    from frostline.protocols import Batch
    from frostline.training.session import Prefix

logger = logging.getLogger(__name__)

# Libraries make what they work with in their first calls, which is not allowed while a step is captured.
WARM_UP_STEPS = 3

Outputs = tuple[Tensor, ...]


class NoLongerTheSameError(CannotShareError):
    """A step that was captured does something else by now: what it made since it was last compared is not to be used."""


class CapturedStep:
    """Runs ``compute``, which maps a batch on the device to tensors and writes into ``written``, and soon replays it.

    The first calls run as they are, on a stream of its own; then the step is captured. Where that is not possible, or the
    first replay gives something else, the step goes on as it is, and ``why_not`` says why. What is returned stays as it is.
    ``seed`` sets the generators to where they stand before the step. ``tolerance`` is relative.
    """

    def __init__(
        self,
        compute: Callable[[Batch], Outputs],
        *,
        written: Sequence[Tensor],
        prefix: Prefix | None,
        seed: Callable[[], None],
        device: torch.device,
        tolerance: float,
    ) -> None:
        self.why_not: str | None = None
        self.num_replays = 0
        self._compute = compute
        self._written = list(written)
        self._prefix = prefix
        self._seed = seed
        self._device = device
        self._tolerance = tolerance
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._num_steps = 0
        self._graph: Any = None
        self._batch: Batch = None
        self._frozen: list[Tensor] = []
        self._outputs: Outputs = ()

    def __call__(self, batch: Batch, *, compare: bool) -> Outputs:
        """Make a step on a CPU batch, whose frozen layers' outputs are prepared; ``compare`` a replay with the step itself.

        Raises: NoLongerTheSameError if replays have come to differ from the step.
        """
        self._num_steps += 1
        if self.why_not is None and self._graph is None and self._may_be_captured():
            self.why_not = self._capture(batch)
            # Whatever capturing did to the generators.
            self._seed()
        if self._graph is None or not self._takes(batch):
            return self._as_it_is(move_batch(batch, self._device, copy=True))
        self._put_in_place(batch)
        self.num_replays += 1
        if compare or self.num_replays == 1:
            return self._compared(batch)
        self._graph.replay()
        return tuple(output.clone() for output in self._outputs)

    def release(self) -> None:
        """Let go of the graph and its memory."""
        self._graph, self._batch, self._frozen, self._outputs, self._written = None, None, [], (), []

    def _may_be_captured(self) -> bool:
        """Return whether libraries are ready, and the frozen layers' outputs are handed back if ever they are."""
        return self._num_steps > WARM_UP_STEPS and (self._prefix is None or bool(self._handed_over()))

    def _as_it_is(self, batch: Batch) -> Outputs:
        """Run the step on a batch on the device."""
        current = torch.cuda.current_stream(self._device)
        # As it will be captured: what autograd and libraries keep belongs to the stream that they were called on. Each
        # stream waits for the other before it works with what that one wrote.
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            outputs = self._compute(batch)
        current.wait_stream(self._stream)
        for output in outputs:
            output.record_stream(current)
        return outputs

    def _capture(self, batch: Batch) -> str | None:
        """Capture the step on tensors like those of a batch; return why that is not possible, or None."""
        graph, failure = torch.cuda.CUDAGraph(), None
        try:
            self._batch = map_tensors(lambda tensor: torch.empty_like(tensor, device=self._device), batch)
            self._frozen = [each.clone() for each in self._handed_over()]
            self._put_in_place(batch)
            torch.cuda.synchronize(self._device)
            with torch.cuda.stream(self._stream):
                graph.capture_begin()
                try:
                    self._outputs = self._compute(self._batch)
                except Exception as error:
                    failure = error
                graph.capture_end()
        except Exception as error:
            # Of a capture that failed within, the end says nothing new.
            failure = failure or error
        if failure is None:
            self._graph = graph
            return None
        if self._prefix is not None:
            self._prefix.prepare(batch)
        return f"{type(failure).__name__}: {first_line(failure)}"

    def _takes(self, batch: Batch) -> bool:
        """Return whether a batch is like the one that was captured, and as much is handed back for it."""
        new, old = [*tensors(batch), *self._handed_over()], [*tensors(self._batch), *self._frozen]
        return [(each.shape, each.dtype) for each in new] == [(each.shape, each.dtype) for each in old]

    def _put_in_place(self, batch: Batch) -> None:
        """Put a batch and the frozen layers' outputs for it where the captured step looks for them."""
        for place, tensor in zip(tensors(self._batch), tensors(batch), strict=True):
            place.copy_(tensor, non_blocking=True)
        for place, output in zip(self._frozen, self._handed_over(), strict=True):
            place.copy_(output)
        if self._prefix is not None:
            self._prefix.hand_over(self._frozen)

    def _handed_over(self) -> list[Tensor]:
        """Return what is handed back of the frozen layers for the batch that was prepared last."""
        return [] if self._prefix is None else self._prefix.handed_over()

    def _compared(self, batch: Batch) -> Outputs:
        """Replay the step, make it once more as it is, and compare what both have written; return the latter's outputs.

        The host waits for the device.
        """
        before = [tensor.clone() for tensor in self._written]
        self._graph.replay()
        replayed = [*(output.clone() for output in self._outputs), *(each.clone() for each in self._written)]
        for tensor, value in zip(self._written, before, strict=True):
            tensor.copy_(value)
        self._seed()
        if self._prefix is not None:
            self._prefix.hand_over(self._frozen)
        # The replay may have written into the batch that it was given.
        outputs = self._as_it_is(move_batch(batch, self._device, copy=True))
        for replay, step in zip(replayed, [*outputs, *self._written], strict=True):
            distance = torch.linalg.vector_norm(replay.double() - step.double())
            scale = torch.linalg.vector_norm(step.double())
            # What is not finite in both is the same: a member that diverges.
            if not bool(distance <= self._tolerance * (1 + scale)) and bool(scale.isfinite()):
                self._differ()
                break
        return outputs

    def _differ(self) -> None:
        self._graph = None
        self.why_not = f"replay {self.num_replays} gives something else than the step itself"
        if self.num_replays > 1:
            raise NoLongerTheSameError(
                f"{self.why_not}: the model, its loss or its data do in Python what changes from step to step."
            )
