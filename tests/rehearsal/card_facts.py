"""What torch says of an operation: what it reads, writes and returns."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True, slots=True)
class Facts:
    """What an operation's schema says. Arguments that it writes into or shows parts of are known by their labels."""

    name: str
    arguments: tuple[str, ...]
    is_seeded: bool
    outputs: tuple[str, ...]
    """The arguments that are places for results."""
    written: tuple[int, ...]
    labelled: dict[str, int]
    returns: tuple[tuple[str, bool] | None, ...]
    """For each result the label of what it is of, and whether it is that itself; None: it is new."""

    @staticmethod
    @functools.cache
    def of(operation: Any) -> Facts:
        schema = operation._schema
        aliased = {index: each.alias_info for index, each in enumerate(schema.arguments) if each.alias_info}
        return Facts(
            name=operation.__name__.partition(".")[0],
            arguments=tuple(each.name for each in schema.arguments),
            is_seeded=torch.Tag.nondeterministic_seeded in operation.tags,
            outputs=tuple(each.name for each in schema.arguments if each.is_out),
            written=tuple(index for index, alias in aliased.items() if alias.is_write),
            labelled={label: index for index, alias in aliased.items() for label in alias.before_set},
            returns=tuple(
                None if each.alias_info is None else (min(each.alias_info.before_set), each.alias_info.is_write)
                for each in schema.returns
            ),
        )


def mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """Return a value, or lists and tuples of values, each by ``function``."""
    if isinstance(value, list | tuple):
        return type(value)(mapped(function, each) for each in value)
    return function(value)


def argument_at(facts: Facts, index: int, args: Any, kwargs: Any) -> Any:
    """Return an operation's argument at ``index``, however it was given."""
    return args[index] if index < len(args) else kwargs.get(facts.arguments[index])


def leaves_of(values: Iterable[Any]) -> Iterator[Any]:
    """Yield values, and those in lists and tuples among them."""
    for value in values:
        if isinstance(value, list | tuple):
            yield from leaves_of(value)
        else:
            yield value
