"""Frozen weights kept small: rounded, or in a file, and made whole for one module's forward at a time.

What is kept is the data of the model's own parameters, so that names, state dicts, copies and optimizers see what they
always saw. Each outermost frozen module is given a ``forward`` that brings its weights to the model's device and type,
computes, and lets them go. Bringing is done for the whole outermost module, because modules read their children's weights
(``nn.MultiheadAttention``, ``nn.TransformerEncoderLayer``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from frostline.layers.cutting.boundary import PrefixState
from frostline.layers.cutting.cut import Cut
from frostline.layers.weights.deferred import deferred_of, fill
from frostline.layers.weights.frozen_weight_plan import Kept
from frostline.layers.weights.kept_parameter import KeptParameter, kept_parameter
from frostline.layers.weights.prefetching import Ahead
from frostline.layers.weights.widening import Lookup, Moved, Place, Widened


def fill_keeping(cut: Cut, kept: Kept | None) -> None:
    """Give a model that was built deferred its weights, those that are kept small as they are kept."""
    model = cut.model
    deferred = deferred_of(model)
    if deferred is None:
        return
    device = deferred.device
    small: dict[str, torch.dtype] = {}
    if kept is not None:
        # Of a tied weight that is trained it is the snapshot that is kept small, which is taken of the whole one.
        wanted = {id(model.get_parameter(name)) for name in kept.names} - cut.trained_ids
        small = {name: each.dtype for name, each in model.named_parameters() if id(each) in wanted}

    def place(name: str, value: Tensor) -> Tensor:
        dtype = kept.keeping.stored(value.dtype) if kept is not None and name in small else value.dtype
        return value.to(device, dtype)

    is_in_file = kept is not None and kept.file is not None
    fill(model, place, without=small if is_in_file else ())
    if not is_in_file:
        for name, dtype in small.items():
            kept_parameter(model.get_parameter(name), None, dtype, device)


class FrozenWeights:
    """The kept weights of one freezing, until ``remove`` makes them whole again."""

    def __init__(self, cut: Cut, kept: Kept, state: PrefixState) -> None:
        model = self._model = cut.model
        self._names = kept.names if kept.keeping.placement == "stream" else ()
        self._stand_ins: list[Widened | Lookup | Moved] = []
        parameters = {id(model.get_parameter(name)) for name in kept.names}
        outermost = {id(module): module for module in cut.modules_of(cut.frozen_layers)}
        self._places: list[Place] = []
        order: list[Widened] = []
        ahead = Ahead()
        for module in outermost.values():
            places = list(_places(module, parameters))
            looked_up = _looked_up(places)
            self._places += places
            self._stand_ins += [Lookup(place) for place in looked_up]
            if len(looked_up) < len(places):
                widened = [place for place in places if place not in looked_up]
                order.append(Widened(module, widened, order, state, ahead))
        self._stand_ins += order
        for holder, held in _by_module(self._places).items():
            self._stand_ins.append(Moved(holder, held))
        for name in kept.names:
            _store(model.get_parameter(name), name, kept)

    @property
    def streamed(self) -> tuple[Tensor, ...]:
        """The parameters that take no memory on the model's device."""
        return tuple(self._model.get_parameter(name) for name in self._names)

    @property
    def own_dtypes(self) -> dict[int, torch.dtype]:
        """The type in which the model computes with each kept parameter, by the parameter's identity."""
        return {id(place.parameter): place.dtype for place in self._places}

    def remove(self) -> None:
        """Make all weights whole in the device's memory, and take the stand-ins away."""
        for stand_in in self._stand_ins:
            stand_in.end()
        for place in self._places:
            parameter = place.parameter
            is_streamed = isinstance(parameter, KeptParameter) and parameter.file is not None
            parameter.data = parameter.data.to(device=place.device, dtype=place.dtype, copy=is_streamed)
            if isinstance(parameter, KeptParameter):
                del parameter.file, parameter.own_dtype, parameter.own_device, parameter.version
                parameter.__class__ = nn.Parameter  # type: ignore[assignment]


def _places(outermost: nn.Module, parameters: set[int]) -> Iterator[Place]:
    for module in outermost.modules():
        for own, parameter in module._parameters.items():
            if parameter is not None and id(parameter) in parameters:
                yield Place(module=module, own=own, dtype=parameter.dtype, device=parameter.device)


def _looked_up(places: Sequence[Place]) -> list[Place]:
    """Return the places of weights that are only ever looked up, row by row."""
    whole = {id(place.parameter) for place in places if not _is_lookup(place.module)}
    return [place for place in places if id(place.parameter) not in whole]


def _is_lookup(module: nn.Module) -> bool:
    is_plain = type(module).forward is nn.Embedding.forward and "forward" not in module.__dict__
    return is_plain and module.max_norm is None


def _by_module(places: Iterable[Place]) -> dict[nn.Module, list[Place]]:
    held: dict[nn.Module, list[Place]] = {}
    for place in places:
        same = held.setdefault(place.module, [])
        if all(each.own != place.own for each in same):
            same.append(place)
    return held


def _store(parameter: nn.Parameter, name: str, kept: Kept) -> None:
    dtype, device = parameter.dtype, parameter.device
    if kept.file is not None:
        parameter.data = kept.file.tensor(name)
    else:
        to = torch.device("cpu") if kept.keeping.placement == "stream" else device
        parameter.data = parameter.data.to(device=to, dtype=kept.keeping.stored(dtype))
    # A fake tensor's own class answers the operations on it, by its true type and device.
    if not isinstance(parameter, FakeTensor):
        kept_parameter(parameter, kept.file, dtype, device)
