"""The ladder that a user asks for: one that is made, its name, or what makes one for a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from frostline.errors import LadderError, OptionError
from frostline.inputs.whole_numbers import shown
from frostline.search.algorithms.search_names import LADDERS, choose
from frostline.search.ladder import Ladder

if TYPE_CHECKING:
    from typing import TypeAlias


class LadderFactory(Protocol):
    """Makes a ladder for a model: ``Ladder.sieve``, ``Ladder.diagonal``, or a function of one's own."""

    def __call__(self, *, num_layers: int, full_samples: int) -> Ladder:
        """Return the ladder, whose last rung trains ``num_layers`` on ``full_samples``."""
        ...


GivenLadder: TypeAlias = "Ladder | LadderFactory | str"


def checked_ladder(given: GivenLadder | None) -> Ladder | LadderFactory | None:
    """Return the ladder that is ``given``, or what makes it. Raises: OptionError if it is neither, nor the name of one."""
    if isinstance(given, str):
        return choose("ladder", given, LADDERS)
    if given is not None and not isinstance(given, Ladder) and (not callable(given) or isinstance(given, type)):
        raise OptionError(
            f"ladder is {shown(given)}, but must be a ladder, what makes one, such as frostline.Ladder.diagonal, or a name: "
            f"{', '.join(LADDERS)}."
        )
    return given


def ladder_by(given: Ladder | LadderFactory, *, num_layers: int, full_samples: int, unit: str) -> Ladder:
    """Return the ladder for a model of so many layers and a full training of so many samples, the ``unit`` of which is told.

    Raises: LadderError if it ends with another training.
    """
    ladder = given if isinstance(given, Ladder) else given(num_layers=num_layers, full_samples=full_samples)
    if (ladder.num_layers, ladder.full_samples) != (num_layers, full_samples):
        raise LadderError(
            f"the ladder ends at {ladder.num_layers} layers and {ladder.full_samples} {unit}, but the full training is "
            f"{num_layers} layers and {full_samples} {unit}: make it for those."
        )
    return ladder
