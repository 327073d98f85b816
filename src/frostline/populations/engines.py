"""How the members of a population make a step, and which way is faster here: measured on the first steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from frostline.errors import OptionError


class Engine(StrEnum):
    """How configurations are trained."""

    AUTO = "auto"
    """Shared or stacked, whichever a short measurement finds faster."""
    SERIAL = "serial"
    """One after the other, each by itself: no populations."""
    SHARED = "shared"
    """One pass through the frozen layers, then every member's trained layers in turn."""
    STACKED = "stacked"
    """As shared, and the members' trained layers as one batched computation (``torch.func.vmap``)."""
    COMPILED = "compiled"
    """As stacked, the step and each frozen module compiled by ``torch.compile``: the first step takes long."""
    CAPTURED = "captured"
    """As stacked, on CUDA alone: the step is captured as a CUDA graph and replayed."""

    @property
    def stacks(self) -> bool:
        """Whether this engine always stacks the trained layers."""
        return self in (Engine.STACKED, Engine.COMPILED, Engine.CAPTURED)

    @classmethod
    def parse(cls, name: str) -> Engine:
        """Return the engine called ``name``.

        Raises: OptionError if there is none.
        """
        try:
            return cls(name)
        except ValueError:
            raise OptionError(f"engine is {name!r}, but must be one of {', '.join(cls)}.") from None


# A step of this length is spent computing. Stacking saves what is spent between the kernels: it cannot win there, and
# trying it would cost as much as several steps.
_LONGEST_STEP_WORTH_A_TRIAL = 5e-3

_WARM_UP_STEPS = 1
_TIMED_STEPS = 3

# A difference below this is noise; sharing is the engine whose numbers are those of serial training bit by bit.
_NEEDED_GAIN = 1.1


@dataclass
class EngineTrial:
    """Chooses between the shared and the stacked engine, by the seconds of the first steps of each.

    The steps that are measured are steps of the training: nothing is computed twice.
    """

    engine: Engine
    why: str = ""
    """One phrase that says what the choice rests on."""
    _seconds: dict[Engine, list[float]] = field(default_factory=lambda: {Engine.SHARED: [], Engine.STACKED: []})

    def next(self) -> Engine:
        """Return the engine that makes the next step."""
        if self.engine is not Engine.AUTO:
            return self.engine
        is_shared_known = len(self._seconds[Engine.SHARED]) == _WARM_UP_STEPS + _TIMED_STEPS
        return Engine.STACKED if is_shared_known else Engine.SHARED

    def took(self, seconds: float, *, members: int) -> None:
        """Say how long the step took that ``next`` chose the engine for."""
        if self.engine is not Engine.AUTO:
            return
        engine = self.next()
        times = self._seconds[engine]
        times.append(seconds)
        if len(times) < _WARM_UP_STEPS + _TIMED_STEPS:
            return
        shared = min(self._seconds[Engine.SHARED][_WARM_UP_STEPS:])
        if engine is Engine.SHARED:
            if shared / members > _LONGEST_STEP_WORTH_A_TRIAL:
                self.settle(Engine.SHARED, f"{1e3 * shared / members:.1f} ms a member and step are no overhead")
            return
        stacked = min(times[_WARM_UP_STEPS:])
        faster = Engine.STACKED if shared > _NEEDED_GAIN * stacked else Engine.SHARED
        self.settle(faster, f"{1e3 * shared:.1f} ms a step shared, {1e3 * stacked:.1f} ms stacked")

    def settle(self, engine: Engine, why: str) -> None:
        """Choose ``engine``, because of ``why``."""
        self.engine = engine
        self.why = why
