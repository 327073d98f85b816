"""The seam between a study and the storage that it lies in: how its trials and attributes are read and written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial, TrialState

Attribute = tuple[str, Any]
"""A name, and a value that JSON knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a worker claims in one turn: trials that it makes, and attributes of trials that are there, by their ids."""

    new: Sequence[FrozenTrial] = ()
    known: Sequence[tuple[int, Attribute]] = ()


class Access(Protocol):
    """One study in an Optuna storage. What a method writes is there whole or not at all, where the storage can do that."""

    def trials(self) -> list[FrozenTrial]:
        """Return all trials, by number; their scores may be left out, for they stand in the attributes as well."""
        ...

    def num_trials(self) -> int:
        """Return how many trials there are."""
        ...

    def attributes(self) -> dict[str, Any]:
        """Return the study's system attributes."""
        ...

    def set_attribute(self, attribute: Attribute) -> None:
        """Write a system attribute of the study; of each there is one writer."""
        ...

    def claim(self, claims: Claims, attribute: Attribute) -> list[int]:
        """Write claims, and after them an attribute of the study; return the ids of the trials that were made."""
        ...

    def record(self, trial_id: int, rung: int, score: float | None, attribute: Attribute) -> bool:
        """Write what ended at a rung, the user attribute last, and return True.

        Where that attribute is there already, or the trial has ended, nothing is written: the first record counts.
        """
        ...

    def end(self, trial_id: int, state: TrialState, score: float | None, reason: str | None) -> bool:
        """Give a trial its final state and return True; False if it has ended already."""
        ...
