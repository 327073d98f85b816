"""A training of the user's own as it lies on disk: what the objective handed over, and where in the data it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from frostline.objectives.batches import Place
from frostline.objectives.keepable import check_keepable, with_plain_numbers
from frostline.records import CurvePoint


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptTraining:
    """What a training goes on from."""

    state: Mapping[str, Any]
    """The objective's own: state dicts, tensors, plain values."""
    samples_seen: int
    curve: tuple[CurvePoint, ...] = field(default=())
    place: Place | None = None
    """Where in the data it was, if they came from ``Trial.batches``."""

    def contents(self) -> dict[str, Any]:
        """Return it as tensors and plain values. Raises: ObjectiveError if the objective's own state is none of these."""
        state = with_plain_numbers(self.state)
        check_keepable(state)
        return {
            "state": dict(state),
            "samples_seen": self.samples_seen,
            "curve": [(point.samples, point.score) for point in self.curve],
            "place": None if self.place is None else self.place.contents(),
        }

    @classmethod
    def of(cls, contents: Mapping[str, Any]) -> KeptTraining:
        """Return the training whose ``contents`` these are."""
        place = contents["place"]
        return cls(
            state=contents["state"],
            samples_seen=contents["samples_seen"],
            curve=tuple(CurvePoint(samples, score) for samples, score in contents["curve"]),
            place=None if place is None else Place(**place),
        )
