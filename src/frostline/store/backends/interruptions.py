"""Ctrl-C and the order to end wait until what is read or written in a storage is over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from frostline.process import uninterrupted

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial, TrialState

    from frostline.store.backends.access import Access, Attribute, Claims


class UninterruptedAccess:
    """Reads and writes as ``within`` does, while signals wait: as ``store.backends.access.Access`` says.

    Raised within a transaction, KeyboardInterrupt would leave that open as long as somebody holds the traceback, and its
    lock keep everybody from writing: this process too, which has yet to say goodbye.
    """

    def __init__(self, within: Access) -> None:
        self.within = within

    def trials(self) -> list[FrozenTrial]:
        """See ``Access``."""
        with uninterrupted():
            return self.within.trials()

    def num_trials(self) -> int:
        """See ``Access``."""
        with uninterrupted():
            return self.within.num_trials()

    def attributes(self) -> dict[str, Any]:
        """See ``Access``."""
        with uninterrupted():
            return self.within.attributes()

    def set_attribute(self, attribute: Attribute) -> None:
        """See ``Access``."""
        with uninterrupted():
            self.within.set_attribute(attribute)

    def claim(self, claims: Claims, attribute: Attribute) -> list[int]:
        """See ``Access``."""
        with uninterrupted():
            return self.within.claim(claims, attribute)

    def record(self, trial_id: int, rung: int, score: float | None, attribute: Attribute) -> bool:
        """See ``Access``."""
        with uninterrupted():
            return self.within.record(trial_id, rung, score, attribute)

    def end(self, trial_id: int, state: TrialState, score: float | None, reason: str | None) -> bool:
        """See ``Access``."""
        with uninterrupted():
            return self.within.end(trial_id, state, score, reason)
