"""How many threads torch computes with on the CPU: lent to a training and put back, as asked for or as measured."""

from __future__ import annotations

import logging
import time
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from frostline.training.machine.thread_trial import ThreadTrial

logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Threads:
    """The number of threads of the trainings that it is handed to, one after the other.

    Where it ``is_measured``, up to ``most``, that is done for every kind of step by itself and kept for the next training.
    torch's own number is another one only within ``lent``.
    """

    most: int
    is_measured: bool
    allowed: int = field(default_factory=torch.get_num_threads)
    """How many torch was given."""
    _number: int = field(init=False)
    _trials: dict[Hashable, ThreadTrial] = field(default_factory=dict)
    _said: dict[Hashable, int] = field(default_factory=dict)
    _kind: Hashable = None

    def __post_init__(self) -> None:
        self._number = self.most

    @classmethod
    def of(cls, asked: int | str, device: torch.device) -> Threads:
        """Return those of ``asked``, a number or "auto": what is measured to be best, up to what torch has now.

        On an accelerator "auto" leaves the number as it is.
        """
        if isinstance(asked, int):
            return cls(most=asked, is_measured=False)
        most = torch.get_num_threads()
        return cls(most=most, is_measured=device.type == "cpu" and most > 1)

    @classmethod
    def as_they_are(cls) -> Threads:
        """Return those that torch has now."""
        return cls(most=torch.get_num_threads(), is_measured=False)

    @property
    def settled(self) -> int | None:
        """How many the latest kind of steps takes; None while that is measured, or nothing has been."""
        if not self.is_measured:
            return self.most
        trial = self._trials.get(self._kind)
        return trial.number if trial is not None and trial.is_settled else None

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Let torch compute with them, and with what it had before when the context ends."""
        before = torch.get_num_threads()
        _set(self._number)
        try:
            yield
        finally:
            _set(before)

    @contextmanager
    def step(self, kind: Hashable, *, work: float) -> Iterator[None]:
        """Let a step compute with what is best for its ``kind``, whose steps can be compared, and see how long it takes.

        ``work`` says how much it does, in any unit.
        """
        self._kind = kind
        if not self.is_measured:
            yield
            return
        trial = self._trials.setdefault(kind, ThreadTrial(self.most))
        self._number = trial.number
        _set(self._number)
        begin = time.perf_counter()
        yield
        trial.took(time.perf_counter() - begin, work=work)
        self._say(trial)

    def _say(self, trial: ThreadTrial) -> None:
        """Log the number as soon as it is settled."""
        if trial.is_settled and self._said.get(self._kind) != trial.number:
            self._said[self._kind] = trial.number
            logger.info("%s: threads %d, by %s", self._kind, trial.number, trial.why)


def _set(number: int) -> None:
    """Set torch's number, if it is another: that starts threads anew."""
    if torch.get_num_threads() != number:
        torch.set_num_threads(number)
