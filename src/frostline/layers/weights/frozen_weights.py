"""Frozen weights kept small: rounded, or in a file, and made whole for one module's forward at a time.

What is kept is the data of the model's own parameters, so that names, state dicts, copies and optimizers see what they
always saw. Each outermost frozen module is given a ``forward`` that brings its weights to the model's device and type,
computes, and lets them go. Bringing is done for the whole outermost module, because modules read their children's weights
(``nn.MultiheadAttention``, ``nn.TransformerEncoderLayer``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import functional

from frostline.layers.cutting.boundary import PrefixState
from frostline.layers.stack import LayerStack
from frostline.layers.weights.deferred import deferred_of, fill
from frostline.layers.weights.frozen_weight_plan import Kept
from frostline.layers.weights.prefetching import Ahead
from frostline.layers.weights.weight_file import WeightFile


class KeptParameter(nn.Parameter):
    """A parameter whose data are rounded or in a file, and which names the type and device its module computes in.

    The code of models looks there for the type of masks and inputs. ``data`` says what is kept. Copies of a model share what
    is in a file; ``torch.save`` takes the values.
    """

    file: WeightFile | None
    own_dtype: torch.dtype
    own_device: torch.device
    version: int
    """How often it had been written into when it was put over the file."""

    @property
    def dtype(self) -> torch.dtype:  # type: ignore[override]
        """The type in which the module computes."""
        return self.own_dtype

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """The device on which the module computes."""
        return self.own_device

    def __deepcopy__(self, memo: dict[int, Any]) -> nn.Parameter:
        data = self.data.clone() if self.file is None else self.data
        copied = _kept(nn.Parameter(data, requires_grad=False), self.file, self.own_dtype, self.own_device)
        memo[id(self)] = copied
        return copied

    def __reduce_ex__(self, protocol: Any) -> Any:
        state = (self.data, self.own_dtype, self.own_device)
        return _unpickled, state


def _kept(
    parameter: nn.Parameter, file: WeightFile | None, dtype: torch.dtype, device: torch.device
) -> KeptParameter:
    # The class, and not another object: ties, snapshots and the user's own references lead to this very parameter.
    parameter.__class__ = KeptParameter
    kept = cast("KeptParameter", parameter)
    kept.file, kept.own_dtype, kept.own_device, kept.version = file, dtype, device, parameter._version
    return kept


def _unpickled(data: Tensor, dtype: torch.dtype, device: torch.device) -> KeptParameter:
    return _kept(nn.Parameter(data, requires_grad=False), None, dtype, device)


@dataclass(slots=True, kw_only=True, eq=False)
class _Place:
    """Where a module holds a kept weight, and the type and device in which the module computes."""

    module: nn.Module
    own: str
    dtype: torch.dtype
    device: torch.device

    @property
    def parameter(self) -> nn.Parameter:
        # Looked up at every use: models with one prefix are given each other's parameters.
        parameter = self.module._parameters[self.own]
        assert parameter is not None
        return parameter


def fill_keeping(model: nn.Module, stack: LayerStack, trainable_layers: int, kept: Kept | None) -> None:
    """Give a model that was built deferred its weights, those that are kept small as they are kept."""
    deferred = deferred_of(model)
    if deferred is None:
        return
    device = deferred.device
    small: dict[str, torch.dtype] = {}
    if kept is not None:
        # Of a tied weight that is trained it is the snapshot that is kept small, which is taken of the whole one.
        trained = {name for layer in stack.suffix(trainable_layers) for name in layer.parameters}
        ids = {id(model.get_parameter(name)) for name in trained}
        wanted = {id(model.get_parameter(name)) for name in kept.names} - ids
        small = {name: each.dtype for name, each in model.named_parameters() if id(each) in wanted}

    def place(name: str, value: Tensor) -> Tensor:
        dtype = kept.keeping.stored(value.dtype) if kept is not None and name in small else value.dtype
        return value.to(device, dtype)

    is_in_file = kept is not None and kept.file is not None
    fill(model, place, without=small if is_in_file else ())
    if not is_in_file:
        for name, dtype in small.items():
            _kept(model.get_parameter(name), None, dtype, device)


class FrozenWeights:
    """The kept weights of one freezing, until ``remove`` makes them whole again."""

    def __init__(
        self, model: nn.Module, stack: LayerStack, trainable_layers: int, kept: Kept, state: PrefixState
    ) -> None:
        self._model = model
        self._names = kept.names if kept.keeping.placement == "stream" else ()
        self._stand_ins: list[_Widened | _Lookup | _Moved] = []
        parameters = {id(model.get_parameter(name)) for name in kept.names}
        outermost = {
            id(module): module
            for layer in stack.prefix(trainable_layers)
            for module in map(model.get_submodule, layer.modules)
        }
        self._places: list[_Place] = []
        order: list[_Widened] = []
        for module in outermost.values():
            places = list(_places(module, parameters))
            looked_up = _looked_up(places)
            self._places += places
            self._stand_ins += [_Lookup(place) for place in looked_up]
            if len(looked_up) < len(places):
                widened = [place for place in places if place not in looked_up]
                order.append(_Widened(module, widened, order, state))
        self._stand_ins += order
        for holder, held in _by_module(self._places).items():
            self._stand_ins.append(_Moved(holder, held))
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


def _places(outermost: nn.Module, parameters: set[int]) -> Iterator[_Place]:
    for module in outermost.modules():
        for own, parameter in module._parameters.items():
            if parameter is not None and id(parameter) in parameters:
                yield _Place(module=module, own=own, dtype=parameter.dtype, device=parameter.device)


def _looked_up(places: Sequence[_Place]) -> list[_Place]:
    """Return the places of weights that are only ever looked up, row by row."""
    whole = {id(place.parameter) for place in places if not _is_lookup(place.module)}
    return [place for place in places if id(place.parameter) not in whole]


def _is_lookup(module: nn.Module) -> bool:
    is_plain = type(module).forward is nn.Embedding.forward and "forward" not in module.__dict__
    return is_plain and module.max_norm is None


def _by_module(places: Iterable[_Place]) -> dict[nn.Module, list[_Place]]:
    held: dict[nn.Module, list[_Place]] = {}
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
        _kept(parameter, kept.file, dtype, device)


def _let_go(parameters: Iterable[nn.Parameter]) -> None:
    """Let streamed weights leave the process's memory."""
    by_file: dict[WeightFile, list[Tensor]] = {}
    for parameter in parameters:
        # What was written into a parameter over a named file is nowhere but in memory.
        if not isinstance(parameter, KeptParameter) or parameter.file is None:
            continue
        if parameter.file.path is None or parameter._version == parameter.version:
            by_file.setdefault(parameter.file, []).append(parameter)
    for file, tensors in by_file.items():
        file.let_go(tensors)


@dataclass(slots=True)
class _Borrowed:
    """What has to be put back behind a forward pass."""

    data: list[tuple[nn.Parameter, Tensor]] = field(default_factory=list)
    places: list[tuple[_Place, nn.Parameter]] = field(default_factory=list)

    def put_back(self) -> None:
        for parameter, stored in self.data:
            parameter.data = stored
        for place, parameter in self.places:
            setattr(place.module, place.own, parameter)


class _Widened:
    """Stands in for ``forward`` of an outermost frozen module: its weights are whole while it lasts."""

    def __init__(self, module: nn.Module, places: list[_Place], order: list[_Widened], state: PrefixState) -> None:
        self.module = module
        self.places = places
        # The list, and not the next one: copying and pickling a long chain would end at the limit of recursion.
        self.order = order
        self.position = len(order)
        self.state = state
        self.ahead = Ahead()
        self.original = _stand_in(self, module, "forward")
        self.is_active = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _untraced(self._computed)(*args, **kwargs)

    def _computed(self, *args: Any, **kwargs: Any) -> Any:
        forward = _own(self.original, self.module, "forward")
        if not self.is_active:
            return forward(*args, **kwargs)
        borrowed = _Borrowed()
        try:
            self._bring(borrowed)
            for following in self.order[self.position + 1 : self.position + 2]:
                following.expect()
            return forward(*args, **kwargs)
        finally:
            borrowed.put_back()
            _let_go(place.parameter for place in self.places)

    def expect(self) -> None:
        """Have the weights on their way while the module before computes."""
        by_file: dict[WeightFile, list[Tensor]] = {}
        for place in self.places:
            parameter = place.parameter
            if isinstance(parameter, KeptParameter) and parameter.file is not None:
                by_file.setdefault(parameter.file, []).append(parameter)
                if place.device.type == "cuda":
                    self.ahead.begin(parameter.data, place.device)
        for file, parameters in by_file.items():
            file.will_need(parameters)

    def end(self) -> None:
        self.is_active = False
        _give_way(self, self.original, self.module, "forward")

    def _bring(self, borrowed: _Borrowed) -> None:
        # A graph that is kept for backward holds the parameter itself, whose data would be the stored ones by then.
        is_kept_for_backward = self.state.in_suffix and torch.is_grad_enabled()
        brought: dict[int, nn.Parameter] = {}
        for place in self.places:
            stored = place.parameter
            data = stored.data
            if data.dtype == place.dtype and data.device == place.device:
                continue
            if id(stored) not in brought:
                whole = self._whole(data, place)
                if not is_kept_for_backward:
                    borrowed.data.append((stored, data))
                    stored.data = whole
                    continue
                brought[id(stored)] = nn.Parameter(whole, requires_grad=False)
            borrowed.places.append((place, stored))
            # Not into the dictionary: recurrent layers hold their weights in a list of their own as well.
            setattr(place.module, place.own, brought[id(stored)])

    def _whole(self, stored: Tensor, place: _Place) -> Tensor:
        # Within torch.func's transforms what is computed would be wrapped, and could not outlast them (torch 2.13 has no
        # public way around).
        with torch._C._DisableFuncTorch(), torch.no_grad():
            there = self.ahead.take(stored, place.device)
            return (stored.to(place.device) if there is None else there).to(place.dtype)


class _Lookup:
    """Stands in for ``forward`` of an embedding: only the rows that are looked up are made whole."""

    def __init__(self, place: _Place) -> None:
        self.place = place
        self.original = _stand_in(self, place.module, "forward")
        self.is_active = True

    def __call__(self, input: Tensor) -> Tensor:  # noqa: A002 (the name in nn.Embedding)
        return cast("Tensor", _untraced(self._rows)(input))

    def _rows(self, input: Tensor) -> Tensor:  # noqa: A002
        embedding = cast("nn.Embedding", self.place.module)
        if not self.is_active:
            rows: Tensor = _own(self.original, embedding, "forward")(input)
            return rows
        weight = self.place.parameter
        rows = functional.embedding(input.to(weight.data.device), weight, embedding.padding_idx)
        rows = rows.to(self.place.device).to(self.place.dtype)
        _let_go([weight])
        return rows

    def end(self) -> None:
        self.is_active = False
        _give_way(self, self.original, self.place.module, "forward")


class _Moved:
    """Stands in for ``_apply``, through which ``to``, ``cuda`` and ``half`` go.

    Streamed weights stay in their file and rounded ones rounded: only what the module computes in changes.
    """

    def __init__(self, module: nn.Module, places: list[_Place]) -> None:
        self.module = module
        self.places = places
        self.original = _stand_in(self, module, "_apply")

    def __call__(self, function: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        parameters = [(place, place.parameter) for place in self.places]
        for place, parameter in parameters:
            example = function(torch.empty(0, dtype=place.dtype, device=place.device))
            place.dtype, place.device = example.dtype, example.device
            if isinstance(parameter, KeptParameter):
                parameter.own_dtype, parameter.own_device = place.dtype, place.device
                if parameter.file is None:
                    parameter.data = parameter.data.to(place.device)
            setattr(self.module, place.own, nn.Parameter(example, requires_grad=False))
        try:
            _own(self.original, self.module, "_apply")(function, recurse)
        finally:
            for place, parameter in parameters:
                setattr(self.module, place.own, parameter)
        return self.module

    def end(self) -> None:
        _give_way(self, self.original, self.module, "_apply")


def _untraced(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``function`` for torch.compile to leave alone.

    A compiled graph would take the parameters as they are before and after the call, and not as they are within.
    """
    # Not as a decorator, which imports the whole compiler: some 70 MiB that most processes have no use for (torch 2.13).
    return torch.compiler.disable(function) if torch.compiler.is_compiling() else function  # type: ignore[no-untyped-call]


def _stand_in(stand_in: object, module: nn.Module, method: str) -> Any:
    """Put ``stand_in`` in the place of a method of one module; return what the module itself had there."""
    original = module.__dict__.get(method)
    module.__dict__[method] = stand_in
    return original


def _give_way(stand_in: object, original: Any, module: nn.Module, method: str) -> None:
    # Somebody else may have taken the place since, and still call us.
    if module.__dict__.get(method) is stand_in:
        del module.__dict__[method]
        if original is not None:
            module.__dict__[method] = original


def _own(original: Any, module: nn.Module, method: str) -> Callable[..., Any]:
    if original is not None:
        return cast("Callable[..., Any]", original)
    return cast("Callable[..., Any]", getattr(type(module), method).__get__(module))
