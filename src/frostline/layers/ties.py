"""Weights that several layers share: found by identity and by memory, never by name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from frostline.layers.outline import Unit, child_name
from frostline.layers.stack import Tie

Aliases = dict[int, list[tuple[int, str]]]
"""Parameter identity -> the (index of a unit, name of the parameter in it), rising."""


def aliases_of(model: nn.Module, units: Sequence[Unit]) -> Aliases:
    """Where every parameter of the units is held; one name for each unit that holds it."""
    aliases: Aliases = defaultdict(list)
    for index, unit in enumerate(units):
        held: dict[int, str] = {}
        for name in unit.parameters:
            held.setdefault(id(model.get_parameter(name)), name)
        for name in unit.modules:
            for own, parameter in model.get_submodule(name).named_parameters():
                held.setdefault(id(parameter), child_name(name, own))
        for identity, name in held.items():
            aliases[identity].append((index, name))
    return aliases


def find_ties(model: nn.Module, aliases: Aliases, uses: Mapping[int, set[int]]) -> list[Tie]:
    """The weights shared between units; ``uses`` are further units that take a parameter without holding it."""
    ties = []
    for identity, held in aliases.items():
        taken = uses.get(identity, set()) - {index for index, _ in held}
        if len(held) + len(taken) > 1:
            places = sorted([*held, *((index, held[0][1]) for index in taken)])
            names, layers = tuple(name for _, name in places), tuple(index for index, _ in places)
            ties.append(Tie(names=names, layers=layers, kind="use" if taken else "parameter"))
    return ties + _ties_by_memory(model, aliases)


def _ties_by_memory(model: nn.Module, aliases: Aliases) -> list[Tie]:
    """Distinct parameters of different units that overlap in memory: one is a view of the other."""
    parameters = {id(parameter): parameter for parameter in model.parameters()}
    storages: dict[int, list[int]] = defaultdict(list)
    for identity in aliases:
        parameter = parameters[identity]
        if parameter.numel():
            # The identity of the storage itself: its address is zero for every tensor on the meta device.
            storages[parameter.untyped_storage()._cdata].append(identity)
    ties = []
    for identities in storages.values():
        for position, first in enumerate(identities):
            for second in identities[position + 1 :]:
                places = sorted([aliases[first][-1], aliases[second][-1]])
                # Disjoint slices of one flat buffer are no tie.
                if places[0][0] != places[1][0] and _overlap(parameters[first], parameters[second]):
                    layers = (places[0][0], places[1][0])
                    ties.append(Tie(names=(places[0][1], places[1][1]), layers=layers, kind="storage"))
    return ties


def _overlap(first: Tensor, second: Tensor) -> bool:
    (begin, end), (other_begin, other_end) = _extent(first), _extent(second)
    return begin < other_end and other_begin < end


def _extent(tensor: Tensor) -> tuple[int, int]:
    """The bytes of the storage that a tensor spans: its first and one past its last."""
    reach = sum((int(size) - 1) * int(stride) for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    begin = int(tensor.storage_offset()) * tensor.element_size()
    return begin, begin + (reach + 1) * tensor.element_size()
