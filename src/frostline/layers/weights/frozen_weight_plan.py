"""Which frozen weights are kept small, in which type, and in which file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from frostline.errors import ModelError
from frostline.layers.cutting.cut import Cut, module_names
from frostline.layers.stack import LayerStack
from frostline.layers.weights.deferred import Deferred, deferred_of
from frostline.layers.weights.weight_file import DTYPES, Plan, WeightFile, WeightFileWriter, content_hash

FrozenPlacement = Literal["device", "stream"]
"""In memory, or in a file without a name from which they are read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """How frozen weights are kept: in which type (None: as they are), where, and in which file."""

    dtype: torch.dtype | None
    placement: FrozenPlacement
    file: WeightFile | str | os.PathLike[str] | None

    @property
    def changes_nothing(self) -> bool:
        """Whether frozen weights are kept as all weights are."""
        return self.dtype is None and self.placement == "device"

    def stored(self, dtype: torch.dtype) -> torch.dtype:
        """Return the type in which a weight of type ``dtype`` is kept: none gets wider."""
        return self.dtype if self.dtype is not None and self.dtype.itemsize < dtype.itemsize else dtype


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The names of the weights to keep small, and the file that holds them, if one does."""

    names: tuple[str, ...]
    keeping: Keeping
    file: WeightFile | None


def prepare(
    cut: Cut,
    keeping: Keeping,
    *,
    has_snapshots: bool,
    own_dtypes: Mapping[int, torch.dtype],
) -> Kept | None:
    """Return what is to be kept small, written into a file or checked against one; None if there is nothing.

    The model is not changed. ``own_dtypes`` are the types, by identity, of parameters that are kept rounded at present.
    With weights on fake tensors nothing is written; those of a model that was built deferred are made one at a time.
    Raises: ModelError if a weight is used where it would not be whole, or the file is of another model or not whole.
    """
    if keeping.changes_nothing:
        return None
    weights = _frozen_weights(cut, has_snapshots=has_snapshots)
    if not weights:
        return None
    _refuse_uses(cut)
    plan = {
        name: (tuple(each.shape), keeping.stored(own_dtypes.get(id(each), each.dtype)))
        for name, each in weights.items()
    }
    deferred = deferred_of(cut.model)
    file = None
    if keeping.placement == "stream":
        if deferred is not None:
            file = _opened(keeping.file, _MadeWhenRead(deferred, weights), plan, cut.stack)
        elif not any(map(_has_no_values, weights.values())):
            file = _opened(keeping.file, weights, plan, cut.stack)
    return Kept(names=tuple(weights), keeping=keeping, file=file)


def _frozen_weights(cut: Cut, *, has_snapshots: bool) -> dict[str, Tensor]:
    """Return the frozen floating-point parameters that only modules of frozen layers hold, each under its first name."""
    model, trained = cut.model, cut.trained_ids
    inside = {id(module) for outermost in cut.modules_of(cut.frozen_layers) for module in outermost.modules()}
    outside = {
        id(each) for module in model.modules() if id(module) not in inside for each in module._parameters.values()
    }
    weights: dict[int, tuple[str, Tensor]] = {}
    for name in module_names(cut.frozen_layers):
        named = model.get_submodule(name).named_parameters(prefix=name, remove_duplicate=False)
        for own, parameter in named:
            # A tied weight that is trained is not frozen; its snapshot is, which will stand under the same name.
            is_frozen = has_snapshots if id(parameter) in trained else id(parameter) not in outside
            if is_frozen and parameter.dtype in DTYPES.values():
                weights.setdefault(id(parameter), (own, parameter.detach()))
    return dict(weights.values())


def _refuse_uses(cut: Cut) -> None:
    for tie in cut.stack.ties:
        if tie.kind != "parameter" and tie.layers[-1] < cut.boundary:
            how = (
                "uses without holding it"
                if tie.kind == "use"
                else "holds as another parameter with the same memory"
            )
            raise ModelError(
                f"{tie.names[0]} is frozen, and {cut.stack[tie.layers[-1]].name} {how}, so it cannot be kept small: "
                f"freeze without frozen_dtype and frozen_placement, or fewer layers."
            )


class _MadeWhenRead(Mapping[str, Tensor]):
    """The weights of a model that was built deferred, each made when it is asked for and then forgotten."""

    def __init__(self, deferred: Deferred, weights: Mapping[str, Tensor]) -> None:
        self._deferred = deferred
        self._weights = weights

    def __getitem__(self, name: str) -> Tensor:
        return self._deferred.value(self._weights[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)


def _has_no_values(tensor: Tensor) -> bool:
    return isinstance(tensor, FakeTensor) or tensor.is_meta


def _opened(
    file: WeightFile | str | os.PathLike[str] | None, weights: Mapping[str, Tensor], plan: Plan, stack: LayerStack
) -> WeightFile:
    """Return the file with the weights; one that is open already is taken at its word."""
    if isinstance(file, WeightFile):
        _refuse_other_plan(file, plan, stack)
        return file
    if file is None or not Path(file).exists():
        with WeightFileWriter(file, plan, {"stack": stack.fingerprint}) as writer:
            for name, weight in weights.items():
                writer.write(name, weight)
            return writer.finish()
    opened = WeightFile.open(file)
    _refuse_other_plan(opened, plan, stack)
    own = content_hash(weights, plan)
    if opened.content_hash != own:
        raise ModelError(
            f"{file} holds the weights of another model: their hash is {opened.content_hash[:16]}, and this model's "
            f"{own[:16]}. Give another frozen_file, or delete it to have it written anew."
        )
    return opened


def _refuse_other_plan(file: WeightFile, plan: Plan, stack: LayerStack) -> None:
    fingerprint = file.metadata.get("stack", stack.fingerprint)
    if file.plan == plan and fingerprint == stack.fingerprint:
        return
    reason = f"its layers have the fingerprint {fingerprint}, and this model's {stack.fingerprint}"
    for name in {**plan, **file.plan}:
        here, there = plan.get(name), file.plan.get(name)
        if here != there:
            reason = f"{name} is {_described(there)} in the file, and {_described(here)} in this freezing"
            break
    raise ModelError(
        f"{file.path or 'the open file'} is of another model or another number of frozen layers: {reason}. Give another "
        f"frozen_file for each."
    )


def _described(planned: tuple[tuple[int, ...], torch.dtype] | None) -> str:
    return "missing" if planned is None else f"{planned[1]} {planned[0]}".removeprefix("torch.")
