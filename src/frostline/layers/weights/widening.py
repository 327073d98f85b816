"""What stands in for methods of modules whose weights are kept small: they are whole while one computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from frostline.layers.cutting.boundary import PrefixState
from frostline.layers.weights.kept_parameter import KeptParameter, let_go
from frostline.layers.weights.prefetching import Ahead
from frostline.layers.weights.weight_file import WeightFile


@dataclass(slots=True, kw_only=True, eq=False)
class Place:
    """Where a module holds a kept weight, and the type and device in which the module computes."""

    module: nn.Module
    own: str
    dtype: torch.dtype
    device: torch.device

    @property
    def parameter(self) -> nn.Parameter:
        """The weight that is there now."""
        # Looked up at every use: models with one prefix are given each other's parameters.
        parameter = self.module._parameters[self.own]
        assert parameter is not None
        return parameter


@dataclass(slots=True)
class _Borrowed:
    """What has to be put back behind a forward pass."""

    data: list[tuple[nn.Parameter, Tensor]] = field(default_factory=list)
    places: list[tuple[Place, nn.Parameter]] = field(default_factory=list)

    def put_back(self) -> None:
        for parameter, stored in self.data:
            parameter.data = stored
        for place, parameter in self.places:
            setattr(place.module, place.own, parameter)


class Widened:
    """Stands in for ``forward`` of an outermost frozen module: its weights are whole while it lasts."""

    def __init__(
        self, module: nn.Module, places: list[Place], order: list[Widened], state: PrefixState, ahead: Ahead
    ) -> None:
        self.module = module
        self.places = places
        # The list, and not the next one: copying and pickling a long chain would end at the limit of recursion.
        self.order = order
        self.position = len(order)
        self.state = state
        self.ahead = ahead
        self.original = _stand_in(self, module, "forward")
        self.is_active = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Compute what the module's own method does."""
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
            let_go(place.parameter for place in self.places)

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
        """Give the module its own method back."""
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

    def _whole(self, stored: Tensor, place: Place) -> Tensor:
        # Within torch.func's transforms what is computed would be wrapped, and could not outlast them (torch 2.13 has no
        # public way around).
        with torch._C._DisableFuncTorch(), torch.no_grad():
            there = self.ahead.take(stored, place.device)
            # The copy stands in the card's queue behind what computes there: the host does not wait for that.
            return (stored.to(place.device, non_blocking=True) if there is None else there).to(place.dtype)


class Lookup:
    """Stands in for ``forward`` of an embedding: only the rows that are looked up are made whole."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.original = _stand_in(self, place.module, "forward")
        self.is_active = True

    def __call__(self, input: Tensor) -> Tensor:  # noqa: A002 (the name in nn.Embedding)
        """Return the rows that are looked up."""
        return cast("Tensor", _untraced(self._rows)(input))

    def _rows(self, input: Tensor) -> Tensor:  # noqa: A002
        embedding = cast("nn.Embedding", self.place.module)
        if not self.is_active:
            rows: Tensor = _own(self.original, embedding, "forward")(input)
            return rows
        weight = self.place.parameter
        # Where the weight is in a file, the host has to know which rows: a card is waited for, once a pass.
        rows = functional.embedding(input.to(weight.data.device), weight, embedding.padding_idx)
        rows = rows.to(self.place.device, non_blocking=True).to(self.place.dtype)
        let_go([weight])
        return rows

    def end(self) -> None:
        """Give the module its own method back."""
        self.is_active = False
        _give_way(self, self.original, self.place.module, "forward")


class Moved:
    """Stands in for ``_apply``, through which ``to``, ``cuda`` and ``half`` go.

    Streamed weights stay in their file and rounded ones rounded: only what the module computes in changes.
    """

    def __init__(self, module: nn.Module, places: list[Place]) -> None:
        self.module = module
        self.places = places
        self.original = _stand_in(self, module, "_apply")

    def __call__(self, function: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        """Apply ``function`` to all that the module holds but these weights."""
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
        """Give the module its own method back."""
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
