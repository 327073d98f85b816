"""Logits that are never held whole: a model's output stays a product not yet taken until something other than its loss asks.

Shapes: hidden (..., D), weight (V, D), bias (V,), logits (..., V).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from frostline.errors import TaskError
from frostline.layers import Layer
from frostline.layers.cutting.nesting import leaves, map_tensors
from frostline.training.losses.chunked_loss import chunked_cross_entropy

# What can be told of logits without their values.
_FACTS = frozenset(
    [
        *(
            getattr(Tensor, name).__get__
            for name in ("shape", "dtype", "device", "ndim", "requires_grad", "grad_fn")
        ),
        *(getattr(Tensor, name).__get__ for name in ("layout", "is_leaf", "is_cuda", "is_sparse", "is_nested")),
        *(getattr(Tensor, name) for name in ("size", "dim", "numel", "is_floating_point", "__len__")),
        *(torch.numel, torch.is_floating_point),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mode:
    """How autograd recorded where the projection was called: there its values belong, whenever they are asked for."""

    grad: bool
    inference: bool

    @staticmethod
    def now() -> _Mode:
        return _Mode(grad=torch.is_grad_enabled(), inference=torch.is_inference_mode_enabled())

    @contextmanager
    def restored(self, device: torch.device) -> Iterator[None]:
        with (
            torch.inference_mode(self.inference),
            torch.set_grad_enabled(self.grad),
            torch.autocast(device.type, enabled=False),
        ):
            yield


class LazyLogits(Tensor):
    """Stands for ``linear(hidden, weight, bias)``, which is computed when something asks for its values, and then once.

    A tensor without memory. Slices and reshapes of the leading dimensions stay lazy; ``cross_entropy`` with whole-number
    targets goes through the projection piece by piece (``chunked_loss``, whose gradient is computed in the forward pass and
    spent by one backward pass; gradients of gradients are refused). All else gets the logits
    themselves: right always, lean only there.
    """

    _hidden: Tensor
    _weight: Tensor
    _bias: Tensor | None
    _origin: tuple[LazyLogits, Callable[[Tensor], Tensor]] | None
    _mode: _Mode
    _whole: Tensor | None

    @property
    def is_computed(self) -> bool:
        """Whether the logits lie in memory, because something asked for them."""
        return self._whole is not None or (self._origin is not None and self._origin[0].is_computed)

    def computed(self) -> Tensor:
        """Return the logits as an ordinary tensor, with the graph that they would have had from the start."""
        if self._whole is None:
            with self._mode.restored(self._hidden.device):
                if self._origin is None:
                    self._whole = functional.linear(self._hidden, self._weight, self._bias)
                else:
                    source, view = self._origin
                    self._whole = view(source.computed())
        return self._whole

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Answer what needs no values, keep views lazy, chunk the loss, and compute the logits for anything else."""
        kwargs = kwargs or {}
        if func in _FACTS:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        logits = args[0] if args else kwargs.get("input")
        if isinstance(logits, LazyLogits) and not logits.is_computed:
            rule = _RULES.get(func)
            result = NotImplemented if rule is None else rule(*args, **kwargs)
            if result is not NotImplemented:
                return result
        return func(*_all_computed(tuple(args)), **_all_computed(dict(kwargs)))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch's own annotation lacks the function
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Serve what goes past ``__torch_function__``, such as a custom autograd function: by then autograd has recorded."""
        with torch.no_grad():
            return func(*_all_computed(tuple(args)), **_all_computed(dict(kwargs or {})))


class _Projection(torch.autograd.Function):
    """Puts lazy logits into autograd's graph, so that what takes them as they are still finds its way back."""

    @staticmethod
    def forward(ctx: Any, dtype: torch.dtype, hidden: Tensor, weight: Tensor, bias: Tensor | None) -> LazyLogits:
        ctx.save_for_backward(hidden, weight)
        ctx.has_bias = bias is not None
        # No public way leads to a tensor subclass without memory (torch 2.13).
        logits: LazyLogits = Tensor._make_wrapper_subclass(
            LazyLogits, (*hidden.shape[:-1], len(weight)), dtype=dtype, device=hidden.device
        )
        return logits

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight = ctx.saved_tensors
        _, needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad
        gradient = gradient.to(hidden.dtype)
        rows = gradient.reshape(-1, gradient.shape[-1])
        return (
            None,
            gradient @ weight if needs_hidden else None,
            rows.T @ hidden.reshape(-1, hidden.shape[-1]) if needs_weight else None,
            rows.sum(0) if needs_bias and ctx.has_bias else None,
        )


@contextmanager
def lazy_output(projection: nn.Linear) -> Iterator[None]:
    """Let ``projection`` return lazy logits while this context lasts; under torch.func and torch.compile, real ones."""

    def forward(hidden: Tensor) -> Tensor:
        if is_transformed():
            return functional.linear(hidden, projection.weight, projection.bias)
        return _lazy_linear(hidden, projection.weight, projection.bias)

    assert "forward" not in vars(projection)
    projection.forward = forward  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        del projection.forward


def output_projection(model: nn.Module, last_layer: Layer) -> nn.Linear:
    """Return the last ``nn.Linear`` of the last layer.

    Raises: TaskError if there is none whose ``forward`` is its class's own.
    """
    modules = [module for name in last_layer.modules for module in model.get_submodule(name).modules()]
    linear = [module for module in modules if isinstance(module, nn.Linear)]
    # Of a subclass or a replaced forward (adapters, quantisation) nothing is known.
    if not linear or type(linear[-1]).forward is not nn.Linear.forward or "forward" in vars(linear[-1]):
        output = type(linear[-1]).__name__ + " with a forward of its own" if linear else "no nn.Linear"
        raise TaskError(
            f"chunked_logits needs a plain nn.Linear as the model's output, but the last layer, {last_layer.name}, has "
            f"{output}: leave chunked_logits out."
        )
    return linear[-1]


def require_lazy(outputs: Any, *, task: str) -> None:
    """Raise TaskError unless lazy logits are among a model's ``outputs``, and nobody asked for their values yet."""
    if not any(isinstance(leaf, LazyLogits) and not leaf.is_computed for leaf in leaves(outputs)):
        raise TaskError(
            f"chunked_logits has no effect on the model of {task}: it computes with what its last nn.Linear returns "
            f"before the loss function gets it, so the logits are held whole; leave chunked_logits out."
        )


def is_transformed() -> bool:
    """Return whether this runs under a torch.func transform or a compiler, neither of which the chunked loss can bear."""
    # There is no public question for torch.func's transforms (torch 2.13).
    return torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()


def _lazy_linear(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> LazyLogits:
    kind = hidden.device.type
    # As linear itself is cast by autocast, which leaves float64 alone.
    if torch.is_autocast_enabled(kind) and hidden.dtype != torch.float64:
        dtype = torch.get_autocast_dtype(kind)
        hidden, weight = hidden.to(dtype), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    return _lazy(hidden, weight, bias, dtype=hidden.dtype, mode=_Mode.now())


def _lazy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    dtype: torch.dtype,
    mode: _Mode,
    origin: tuple[LazyLogits, Callable[[Tensor], Tensor]] | None = None,
) -> LazyLogits:
    logits: LazyLogits = _Projection.apply(dtype, hidden, weight, bias)  # type: ignore[no-untyped-call]
    logits._hidden, logits._weight, logits._bias = hidden, weight, bias
    logits._origin, logits._mode, logits._whole = origin, mode, None
    return logits


def _view(
    logits: LazyLogits, view: Callable[[Tensor], Tensor], hidden: Tensor, *, dtype: torch.dtype | None = None
) -> LazyLogits:
    """Return what ``view`` makes of ``logits``, lazily; ``hidden`` is what it makes of the hidden states."""
    mode = _Mode(grad=logits._mode.grad and torch.is_grad_enabled(), inference=torch.is_inference_mode_enabled())
    return _lazy(
        hidden, logits._weight, logits._bias, dtype=dtype or logits.dtype, mode=mode, origin=(logits, view)
    )


def _reshape(logits: LazyLogits, *shape: Any, **named: Any) -> Any:
    sizes = shape[0] if len(shape) == 1 and isinstance(shape[0], Sequence) else shape
    if named or not sizes or not all(type(size) is int for size in sizes) or logits.numel() == 0:
        return NotImplemented
    known = math.prod(size for size in sizes if size != -1)
    resolved = [logits.numel() // known if size == -1 else size for size in sizes] if known > 0 else []
    if not resolved or math.prod(resolved) != logits.numel() or resolved[-1] != logits.shape[-1]:
        return NotImplemented
    hidden = logits._hidden.reshape(*resolved[:-1], logits._hidden.shape[-1])
    return _view(logits, lambda values: values.reshape(resolved), hidden)


def _flatten(logits: LazyLogits, start_dim: Any = 0, end_dim: Any = -1) -> Any:
    if type(start_dim) is not int or type(end_dim) is not int or logits.dim() < 2:
        return NotImplemented
    if end_dim % logits.dim() == logits.dim() - 1:
        return NotImplemented
    return _view(
        logits, lambda values: values.flatten(start_dim, end_dim), logits._hidden.flatten(start_dim, end_dim)
    )


def _index(logits: LazyLogits, index: Any) -> Any:
    items = index if isinstance(index, tuple) else (index,)
    if not _leaves_classes(items, logits.dim()):
        return NotImplemented
    return _view(logits, lambda values: values[index], logits._hidden[index])


def _leaves_classes(items: tuple[Any, ...], num_dims: int) -> bool:
    """Return whether an index takes the last dimension as it is, and is certain to."""
    num_taken = 0
    for item in items:
        if isinstance(item, Tensor) and item.dtype in (torch.bool, torch.int64):
            num_taken += item.dim() if item.dtype == torch.bool else 1
        elif isinstance(item, slice) or type(item) is int:
            num_taken += 1
        elif item is not None and item is not Ellipsis:
            return False
    ends_whole = isinstance(items[-1], slice) and items[-1] == slice(None) if items else False
    reaches_end = num_taken >= num_dims or any(item is Ellipsis for item in items[:-1])
    return num_taken <= num_dims and (ends_whole if reaches_end else True)


def _contiguous(logits: LazyLogits, **named: Any) -> Any:
    return NotImplemented if named else logits


def _to(logits: LazyLogits, *args: Any, **named: Any) -> Any:
    if named.get("copy") or any(isinstance(each, LazyLogits) for each in (*args, *named.values())):
        return NotImplemented
    target = torch.empty(0, dtype=logits.dtype, device=logits.device).to(*args, **named)
    if target.device != logits.device:
        return NotImplemented
    if target.dtype == logits.dtype:
        return logits
    if target.dtype == torch.float32:
        return _view(logits, lambda values: values.float(), logits._hidden, dtype=torch.float32)
    return NotImplemented


def _float(logits: LazyLogits, **named: Any) -> Any:
    return NotImplemented if named else _to(logits, torch.float32)


# The parameters are torch's own.
def _cross_entropy(
    input: LazyLogits,  # noqa: A002
    target: Any,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    """Return the loss piece by piece, or NotImplemented where only whole logits will do."""
    is_plain = weight is None and size_average is None and reduce is None and label_smoothing == 0.0
    is_known = reduction in ("mean", "sum")
    if not (is_plain and is_known and isinstance(target, Tensor) and target.dtype == torch.int64):
        return NotImplemented
    fits = input.dim() == 2 and target.shape == input.shape[:1] and target.device == input.device
    if not fits or len(target) == 0 or is_transformed():
        return NotImplemented
    loss = chunked_cross_entropy(
        input._hidden, input._weight, input._bias, target, ignore_index=ignore_index, is_mean=reduction == "mean"
    )
    # Autocast computes the plain loss in single precision.
    return loss if torch.is_autocast_enabled(input.device.type) else loss.to(input.dtype)


def _all_computed(values: Any) -> Any:
    return map_tensors(lambda each: each.computed() if isinstance(each, LazyLogits) else each, values)


_RULES: Mapping[Callable[..., Any], Callable[..., Any]] = {
    Tensor.view: _reshape,
    Tensor.reshape: _reshape,
    torch.reshape: _reshape,
    Tensor.flatten: _flatten,
    torch.flatten: _flatten,
    Tensor.__getitem__: _index,
    Tensor.contiguous: _contiguous,
    Tensor.float: _float,
    Tensor.to: _to,
    functional.cross_entropy: _cross_entropy,
}
