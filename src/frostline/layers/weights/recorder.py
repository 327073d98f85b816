"""What is done to large tensors without memory, recorded, and done again to make the value of one of them."""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes  # no public name for either

from frostline.errors import ModelError
from frostline.layers.cutting.nesting import tensors
from frostline.layers.storages import identity_of

_IS_META = Tensor.is_meta.__get__  # type: ignore[attr-defined]  # a property: its getter is what a mode is given

# What the methods of a module that have these names call with each of its parameters.
_CONVERSIONS = frozenset(
    {Tensor.to, Tensor.double, Tensor.float, Tensor.half, Tensor.bfloat16, Tensor.cpu, Tensor.cuda}
)

_aten = torch.ops.aten
# These give every element of their first argument a new value, whatever it was.
_OVERWRITES = frozenset(
    {
        _aten.normal_.default,
        _aten.uniform_.default,
        _aten.zero_.default,
        _aten.fill_.Scalar,
        _aten.fill_.Tensor,
        _aten.copy_.default,
        _aten.bernoulli_.float,
        _aten.exponential_.default,
        _aten.random_.default,
        _aten.random_.to,
    }
)


@dataclass(frozen=True, slots=True)
class _Step:
    """One operation on fake tensors."""

    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: tuple[Tensor, ...]
    generator: torch.Generator | None
    """The generator that it draws from, if it draws."""
    state: Tensor | None
    reads: frozenset[int]
    """The storages whose contents it uses."""
    writes: frozenset[int]
    """The storages that it changes or makes."""
    overwritten: int | None
    """The storage that it gives altogether new contents."""
    versions: tuple[tuple[Tensor, int], ...]
    """The real tensors that it uses, and how often they had been written into."""


class WeightsConverted(BaseException):
    """A model converts its weights while it is built, and these are fake: a signal to ourselves, no error of the model's."""


class NoticesConversions(TorchFunctionMode):
    """Ends the building of a model that converts a fake parameter, before it does.

    Raises: WeightsConverted. ``Module.to`` exchanges a parameter with what comes of its conversion, which torch refuses of
    some fake ones and, worse, does of others: then the process dies of it later (torch 2.13).
    """

    def __torch_function__(
        self, function: Any, _types: Any, arguments: tuple[Any, ...] = (), keywords: dict[str, Any] | None = None
    ) -> Any:
        """Call every function as it is, but for conversions of fake parameters."""
        if (
            function in _CONVERSIONS
            and isinstance(arguments[0], FakeTensor)
            and isinstance(arguments[0], nn.Parameter)
        ):
            raise WeightsConverted("a weight is converted while it is built.")
        return function(*arguments, **(keywords or {}))


class LooksMeta(NoticesConversions):
    """Has fake tensors say that they are meta tensors, of which torch's initialisers and others expect no values.

    ``nn.init.trunc_normal_`` would draw until all values lie within its bounds, and asks whether they do; a layer that is
    copied, as by ``nn.TransformerEncoder``, asks where its weights lie, which torch calls a bug of the user's (torch 2.13).
    Raises: WeightsConverted where a parameter is converted.
    """

    def __torch_function__(
        self, function: Any, types: Any, arguments: tuple[Any, ...] = (), keywords: dict[str, Any] | None = None
    ) -> Any:
        """Answer for fake tensors, and call every other function as it is."""
        if function == _IS_META and isinstance(arguments[0], FakeTensor):
            return True
        if function == Tensor.__deepcopy__ and isinstance(arguments[0], FakeTensor):
            fake, memo = arguments
            # Else the mode is copied too, and to this one the copy is no fake: it is converted wherever it is used.
            memo[id(fake.fake_mode)] = fake.fake_mode
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor", UserWarning)
                return function(*arguments, **(keywords or {}))
        return super().__torch_function__(function, types, arguments, keywords)


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Makes large tensors fake, and records what is done to them."""

    def __init__(self, larger_than: int, *, makes_values: bool = True) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.makes_values = makes_values
        self.larger_than = larger_than
        self.steps: list[_Step] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Else torch (2.13) loads all of torch.compile to keep it away from here, though nothing is compiled within a mode.
        return False

    @functools.cached_property
    def fake(self) -> FakeTensorMode:
        """What makes fake tensors; made for the first large one, as it loads all of torch.compile (torch 2.13)."""
        return FakeTensorMode(allow_non_fake_inputs=True)

    @functools.cached_property
    def attributes_of_fakes(self) -> frozenset[str]:
        """The attributes that every fake tensor has of itself."""
        with self.fake:
            return frozenset(vars(torch.empty(0))) | {"_is_param"}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        given = tensors((args, kwargs))
        has_fake = any(isinstance(tensor, FakeTensor) for tensor in given)
        if not has_fake and (given or not self._makes_large(func, args, kwargs)):
            return func(*args, **kwargs)
        if not self.makes_values:
            with self.fake:
                return func(*args, **kwargs)
        if any(not isinstance(tensor, FakeTensor) for tensor in _written(func, args, kwargs)):
            return func(*self._valued(args), **self._valued(kwargs))
        return self._on_fake(func, args, kwargs)

    def _makes_large(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        device = kwargs.get("device")
        if device is not None and torch.device(device).type != "cpu":
            return False
        try:
            results = tensors(func(*args, **{**kwargs, "device": "meta"}))
        except (RuntimeError, NotImplementedError):  # it takes no device, or has no meta kernel
            with self.fake:
                results = tensors(func(*args, **kwargs))
        return any(tensor.numel() * tensor.element_size() > self.larger_than for tensor in results)

    def _on_fake(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        generator = state = None
        if torch.Tag.nondeterministic_seeded in func.tags:
            generator = kwargs.get("generator") or torch.default_generator
            state = generator.get_state()
        try:
            with self.fake:
                result = func(*args, **kwargs)
        except (DataDependentOutputException, DynamicOutputShapeException):
            # Its result is a constant from here on: what it is made from is made, now.
            return func(*self._valued(args), **self._valued(kwargs))
        if state is not None:
            # The generator goes on as if the numbers had been drawn in earnest: they are, and forgotten.
            if func in _OVERWRITES:
                scratch = torch.empty_strided(args[0].shape, args[0].stride(), dtype=args[0].dtype)
                func(scratch, *args[1:], **kwargs)
            else:
                func(*self._valued(args), **self._valued(kwargs))
        outputs = tuple(tensors(result))
        if not any(isinstance(tensor, FakeTensor) for tensor in outputs) and not _written(func, args, kwargs):
            return result
        self._record(func, args, kwargs, outputs, generator, state)
        return result

    def _record(
        self,
        func: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        outputs: tuple[Tensor, ...],
        generator: torch.Generator | None,
        state: Tensor | None,
    ) -> None:
        given = tensors((args, kwargs))
        known = {identity_of(tensor) for tensor in given if isinstance(tensor, FakeTensor)}
        changed = {identity_of(tensor) for tensor in _written(func, args, kwargs)}
        fresh = {identity_of(tensor) for tensor in outputs} - known
        writes = frozenset(changed | fresh)
        if not writes:
            return  # a view: storages are what is made again, and views are found in them
        overwritten = None
        if func in _OVERWRITES and _covers(args[0]):
            overwritten = identity_of(args[0])
            given = given[1:]
        self.steps.append(
            _Step(
                function=func,
                args=args,
                kwargs=kwargs,
                outputs=outputs,
                generator=generator,
                state=state,
                reads=frozenset(identity_of(tensor) for tensor in given if isinstance(tensor, FakeTensor)),
                writes=writes,
                overwritten=overwritten,
                versions=tuple(
                    (tensor, tensor._version) for tensor in given if not isinstance(tensor, FakeTensor)
                ),
            )
        )

    def check(self) -> None:
        """Raise ModelError if a tensor that went into a large one was changed since: it could not be made again."""
        for step in self.steps:
            for tensor, version in step.versions:
                if tensor._version != version:
                    shape = tuple(tensor.shape)
                    raise ModelError(f"a tensor of shape {shape} was changed after it went into a large one.")

    def value(self, tensor: Tensor) -> Tensor:
        """Return the contents that ``tensor`` would have now."""
        storages: dict[int, Tensor] = {}
        default = torch.default_generator.get_state()
        try:
            with torch.no_grad(), _disable_current_modes():
                for step in self._leading_to(identity_of(tensor)):
                    _repeat(step, storages)
                return _view(tensor, storages)
        finally:
            torch.default_generator.set_state(default)

    def _leading_to(self, target: int) -> list[_Step]:
        """Return the steps that the contents of a storage depend on, in order."""
        needed = {target}
        steps = []
        for step in reversed(self.steps):
            if step.writes & needed:
                steps.append(step)
                if step.overwritten is not None:
                    needed.discard(step.overwritten)
                needed |= step.reads
        return steps[::-1]

    def _valued(self, value: Any) -> Any:
        return pytree.tree_map_only(FakeTensor, self.value, value)


def _repeat(step: _Step, storages: dict[int, Tensor]) -> None:
    """Run a step for real, on the storages made so far."""
    if step.generator is not None and step.state is not None:
        step.generator.set_state(step.state)

    def real(tensor: Tensor) -> Tensor:
        return _view(tensor, storages)

    result = step.function(
        *pytree.tree_map_only(FakeTensor, real, step.args), **pytree.tree_map_only(FakeTensor, real, step.kwargs)
    )
    for fake, output in zip(step.outputs, tensors(result), strict=True):
        if isinstance(fake, FakeTensor) and identity_of(fake) not in storages:
            if output.stride() != fake.stride():
                output = torch.empty_strided(fake.shape, fake.stride(), dtype=fake.dtype).copy_(output)
            storages[identity_of(fake)] = output


def _view(fake: Tensor, storages: dict[int, Tensor]) -> Tensor:
    """Return the real tensor that lies in its storage as ``fake`` does in its own, which is made if it is not there."""
    key = identity_of(fake)
    if key not in storages:
        # All that was written into it before is overwritten: any contents will do.
        storages[key] = torch.empty(fake.untyped_storage().nbytes(), dtype=torch.uint8)
    view = torch.empty(0, dtype=fake.dtype)
    return view.set_(storages[key].untyped_storage(), fake.storage_offset(), fake.shape, fake.stride())


def _covers(tensor: Tensor) -> bool:
    """Whether a tensor is all of its storage."""
    return tensor.numel() * tensor.element_size() == tensor.untyped_storage().nbytes()


def _written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """Return the tensors among the arguments that an operation changes, by its schema."""
    written: list[Tensor] = []
    for index, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[index] if index < len(args) else kwargs.get(argument.name)
            written += tensors(value)
    return written
