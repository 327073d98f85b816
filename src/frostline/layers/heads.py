"""Heads side by side are one layer: trained alone, the last of them would leave the others at random."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from frostline.layers.outline import Unit, joined

# What is longer is a branch of the network, whose layers are worth freezing one by one.
_LONGEST_HEAD = 3


def heads_joined(units: Sequence[Unit], inputs: Mapping[str, int]) -> list[Unit]:
    """Return the units in the order of execution with the last ones joined, if they are heads side by side.

    Heads are modules that are called with the same tensor, together all that runs from some unit on that is not the first,
    and of a few units each. ``inputs`` are those of a ``Trace``.
    """
    called_with: dict[int, list[str]] = {}
    for name, number in inputs.items():
        called_with.setdefault(number, []).append(name)
    for names in called_with.values():
        heads = _outermost(names)
        if len(heads) < 2:
            continue
        parts = [[index for index, unit in enumerate(units) if _holds(head, unit)] for head in heads]
        parts = [part for part in parts if part]
        together = sorted(index for part in parts for index in part)
        are_last = together and together[0] > 0 and together == [*range(together[0], len(units))]
        if len(parts) > 1 and are_last and max(map(len, parts)) <= _LONGEST_HEAD:
            return [*units[: together[0]], joined(units[together[0] :])]
    return [*units]


def _outermost(names: Sequence[str]) -> list[str]:
    """Return the modules that none of the others holds."""
    return [name for name in names if not any(name.startswith(f"{other}.") for other in names)]


def _holds(head: str, unit: Unit) -> bool:
    return all(f"{module}.".startswith(f"{head}.") for module in unit.modules)
