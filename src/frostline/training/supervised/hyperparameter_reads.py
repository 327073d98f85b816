"""Hyperparameters that remember who asked for them: what a program reads is found by running it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from frostline.records import Configuration, Value


@dataclass(slots=True, kw_only=True)
class Reads:
    """Which hyperparameters were asked for, whether they are there or not."""

    names: set[str] = field(default_factory=set)
    all_names: bool = False
    """Whether somebody went through all names, or counted them."""


class WatchedHyperparameters(Mapping[str, "Value"]):
    """A mapping that notes in ``reads`` which of its names were asked for.

    Asking whether a name is there counts as reading its value, because a ``Configuration`` finds out by reading. A copy
    is a plain dictionary that nobody watches, so whoever makes one (``copy``, ``pickle``) has read everything; so has
    whoever prints it.
    """

    def __init__(self, values: Mapping[str, Value], *, reads: Reads) -> None:
        self._values = values
        self._reads = reads

    def __getitem__(self, name: str) -> Value:
        self._reads.names.add(name)
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        self._reads.all_names = True
        return iter(self._values)

    def __len__(self) -> int:
        self._reads.all_names = True
        return len(self._values)

    def __repr__(self) -> str:
        return repr(dict(self))

    def __reduce__(self) -> tuple[type[dict[str, Value]], tuple[Any, ...]]:
        return dict, (dict(self),)


class CompletedHyperparameters(Mapping[str, "Value"]):
    """A view of hyperparameters, and of others beside them that hold where they have no such name.

    Unlike a copy it reads no more of them than it is asked for.
    """

    def __init__(self, values: Mapping[str, Value], *, others: Mapping[str, Value]) -> None:
        self._values = values
        self._others = others

    def __getitem__(self, name: str) -> Value:
        try:
            return self._values[name]
        except KeyError:
            return self._others[name]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*self._others, *self._values)))

    def __len__(self) -> int:
        return len(dict.fromkeys((*self._others, *self._values)))

    def __repr__(self) -> str:
        return repr(dict(self))


def unwatched(configuration: Configuration) -> Mapping[str, Value]:
    """Return the hyperparameters of ``configuration``, for a check that changes no result and so is no reading."""
    values = configuration.hyperparameters
    return values._values if isinstance(values, WatchedHyperparameters) else values
