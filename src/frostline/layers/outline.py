"""The walk through a model's modules, and the units it is cut into before ties and order are known."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A layer in the making: whole modules, and parameters that an opened container holds directly."""

    name: str
    modules: tuple[str, ...]
    parameters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Atom:
    """What the walk meets: a module that is not opened further, or a parameter held by one that is."""

    name: str
    is_module: bool


def joined(units: Sequence[Unit], *, name: str | None = None) -> Unit:
    """One unit of several; named after the first and the last unless a ``name`` is given."""
    first, last = units[0].name, units[-1].name
    return Unit(
        name=name or (first if len(units) == 1 else f"{first} ... {last}"),
        modules=tuple(module for unit in units for module in unit.modules),
        parameters=tuple(parameter for unit in units for parameter in unit.parameters),
    )


def unit_of(name: str, atoms: Iterable[Atom]) -> Unit:
    """The unit of these atoms."""
    atoms = list(atoms)
    return Unit(
        name=name,
        modules=tuple(atom.name for atom in atoms if atom.is_module),
        parameters=tuple(atom.name for atom in atoms if not atom.is_module),
    )


def has_parameters(module: nn.Module) -> bool:
    """Whether the module or anything in it holds a parameter."""
    return next(module.parameters(), None) is not None


def child_name(parent: str, child: str) -> str:
    """The dotted name of a child or a parameter."""
    return f"{parent}.{child}" if parent else child


def walk(root: nn.Module, *, name: str, opens: Callable[[str, nn.Module], bool]) -> Iterator[Atom]:
    """Yield the atoms below ``root``, depth first in the order of registration.

    A container's own parameters come before its children; what was met before under another name is left out, and so is
    what holds no parameter.
    """
    seen: set[int] = set()

    def visit(module: nn.Module, name: str) -> Iterator[Atom]:
        if id(module) in seen or not has_parameters(module):
            return
        seen.add(id(module))
        if not opens(name, module):
            yield Atom(name=name, is_module=True)
            return
        for own, parameter in module.named_parameters(recurse=False):
            if id(parameter) not in seen:
                seen.add(id(parameter))
                yield Atom(name=child_name(name, own), is_module=False)
        for own, child in module.named_children():
            yield from visit(child, child_name(name, own))

    yield from visit(root, name)


def units_of(atoms: Iterable[Atom]) -> list[Unit]:
    """One unit for every module, in order; a parameter held by a container joins the module that comes after it.

    Without a trace of the execution the best guess is that a container uses its own parameters before its children.
    The list is empty if there is no module at all.
    """
    units: list[Unit] = []
    waiting: list[str] = []
    for atom in atoms:
        if atom.is_module:
            units.append(Unit(name=atom.name, modules=(atom.name,), parameters=tuple(waiting)))
            waiting = []
        else:
            waiting.append(atom.name)
    if waiting and units:
        last = units[-1]
        units[-1] = Unit(name=last.name, modules=last.modules, parameters=(*last.parameters, *waiting))
    return units
