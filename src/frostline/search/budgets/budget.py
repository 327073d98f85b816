"""What a search may cost: a number of full trainings, or a time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from numbers import Real

from frostline.errors import OptionError
from frostline.inputs.whole_numbers import MOST_CONFIGURATIONS, shown

_SECONDS: dict[str, Fraction | int] = {
    "ms": Fraction(1, 1000),
    "s": 1,
    "sec": 1,
    "min": 60,
    "h": 3600,
    "d": 86_400,
}
# Of nothing that a person waits for: a thousand years, and as many trainings as configurations are tried.
_MOST_SECONDS = 1000 * 365.25 * 86_400
_MOST_FULL_TRAININGS = float(MOST_CONFIGURATIONS)

_AMOUNT = re.compile(r"(\d{1,20}(?:\.\d{1,20})?|\.\d{1,20})\s*([a-z]*)", re.ASCII | re.IGNORECASE)

DEFAULT_FULL_TRAININGS = 6.0
"""What a search may cost if nobody says."""

FEWEST_FULL_TRAININGS = 2.5
"""With less there is nothing to search: one's own configuration is trained, and no second one to compare it with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What a search may cost in all, over all of its runs: so many full trainings, or so many seconds.

    Seconds are those of training and validation that evaluations report; of evaluations side by side, their sum.
    Raises: OptionError unless exactly one of the two is given, above 0 and within reason; below one full training nothing
    can be answered.
    """

    full_trainings: float | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if (self.full_trainings is None) == (self.seconds is None):
            raise OptionError("a budget is a number of full trainings or of seconds: give one of the two.")
        if self.seconds is not None and not 0 < self.seconds <= _MOST_SECONDS:
            raise OptionError(
                f"a budget of {self.seconds:g} seconds is no time: it must be above 0 and at most a thousand years."
            )
        if self.full_trainings is not None and not 1 <= self.full_trainings <= _MOST_FULL_TRAININGS:
            raise OptionError(
                f"a budget of {self.full_trainings:g} full trainings answers nothing: it must be at least 1, "
                f"{FEWEST_FULL_TRAININGS:g} to search, and at most {_MOST_FULL_TRAININGS:,.0f}."
            )

    @classmethod
    def of(cls, said: str | float | None) -> Budget:
        """Return the budget that ``said`` is: text as in ``parse``, a number of full trainings, or None for the usual one.

        Raises: OptionError if it is no budget.
        """
        if isinstance(said, str):
            return cls.parse(said)
        if isinstance(said, bool) or not isinstance(said, Real | None):
            raise OptionError(
                f"budget is {shown(said)}, but must be a number of full trainings, such as 6, or a time, such as '2h'."
            )
        return cls(full_trainings=DEFAULT_FULL_TRAININGS if said is None else said)

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Return the budget that ``text`` says: "6" full trainings; "90s", "30min", "2h" or "1.5d" of time.

        Raises: OptionError if it is no budget.
        """
        match = _AMOUNT.fullmatch(text.strip())
        if match is None or match[2].lower() not in {"", *_SECONDS}:
            raise OptionError(
                f"{shown(text)} is no budget: write a number of full trainings, such as 6, or a time, such as 90s, 30min or "
                f"2h."
            )
        amount, unit = Fraction(match[1]), match[2].lower()
        return cls(seconds=float(amount * _SECONDS[unit])) if unit else cls(full_trainings=float(amount))

    def in_seconds(self, full_training_seconds: float) -> float:
        """Return the seconds that it is where a full training takes ``full_training_seconds``."""
        if self.seconds is not None:
            return self.seconds
        assert self.full_trainings is not None
        return self.full_trainings * full_training_seconds

    def __str__(self) -> str:
        if self.full_trainings is not None:
            return f"{self.full_trainings:g} full training{'s' * (self.full_trainings != 1)}"
        assert self.seconds is not None
        for unit, size in (("h", 3600), ("min", 60)):
            if self.seconds >= size:
                return f"{self.seconds / size:g} {unit}"
        return f"{self.seconds:g} s"
