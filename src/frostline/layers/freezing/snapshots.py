"""A copy of a tied weight's initial value for the frozen prefix, so that it stays the same function."""

from __future__ import annotations

from torch import nn

from frostline.errors import ModelError
from frostline.layers.cutting.cut import Cut, module_names
from frostline.layers.stack import Tie


class Snapshot:
    """One frozen copy, in the place of a weight that a trained layer shares.

    It is an ordinary parameter of its module: it moves with ``.to``, is copied and saved with the model, and is filled
    by ``load_state_dict``. The tied weight itself is looked up where it is trained, so that it may have moved too.
    """

    def __init__(self, model: nn.Module, *, name: str, trained_name: str) -> None:
        self.name = name
        self.trained_name = trained_name
        shared = model.get_parameter(name)
        # A weight that only overlaps with the trained one in memory is kept: no other name leads to it.
        self.view = None if shared is model.get_parameter(trained_name) else shared
        self.copy = nn.Parameter(shared.detach().clone(), requires_grad=False)
        self.take_place(model)

    def take_place(self, model: nn.Module) -> None:
        """Put the copy where the tied weight was."""
        _replace(model, self.name, self.copy)

    def make_way(self, model: nn.Module) -> None:
        """Put the tied weight where the copy was."""
        if self.view is None:
            _replace(model, self.name, model.get_parameter(self.trained_name))
            return
        self.view.data = self.view.data.to(device=self.copy.device, dtype=self.copy.dtype)
        _replace(model, self.name, self.view)


def take_snapshots(cut: Cut) -> list[Snapshot]:
    """Put a copy wherever a frozen layer holds a weight that a trained layer holds too."""
    model = cut.model
    snapshots = []
    for tie in cut.crossing_ties:
        copies: dict[int, nn.Parameter] = {}
        for name in _frozen_names(cut, tie):
            shared = model.get_parameter(name)
            snapshot = Snapshot(model, name=name, trained_name=tie.names[-1])
            # Several frozen layers that share the weight share its copy.
            snapshot.copy = copies.setdefault(id(shared), snapshot.copy)
            snapshot.take_place(model)
            snapshots.append(snapshot)
    return snapshots


def check_snapshots(cut: Cut) -> None:
    """Raise ModelError if a weight cannot be copied, because a frozen and a trained layer use one and the same module."""
    name = without_snapshot(cut)
    if name is not None:
        raise ModelError(
            f"{name} cannot have a snapshot, because frozen and trained layers use the module that holds it: "
            f"give the trained layer a module of its own with the same weight, or freeze with tied='detach'."
        )


def without_snapshot(cut: Cut) -> str | None:
    """Return a weight that a frozen and a trained layer share by using one and the same module; None without any."""
    model = cut.model
    trained = {id(each) for module in cut.modules_of(cut.trained_layers) for each in module.modules()}
    for tie in cut.crossing_ties:
        for name in _frozen_names(cut, tie):
            if tie.kind == "use" or id(model.get_submodule(name.rpartition(".")[0])) in trained:
                return name
    return None


def _frozen_names(cut: Cut, tie: Tie) -> list[str]:
    """The names under which frozen layers hold the tied weight, one for every module that holds it."""
    model = cut.model
    frozen = {
        id(model.get_parameter(name))
        for name, layer in zip(tie.names, tie.layers, strict=True)
        if layer < cut.boundary
    }
    inside = tuple(f"{name}." for name in module_names(cut.trained_layers))
    owned = {name for layer in cut.trained_layers for name in layer.parameters if tie.kind != "use"}
    names: dict[tuple[int, str], str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if id(parameter) in frozen and name not in owned and not name.startswith(inside):
            holder, _, own = name.rpartition(".")
            names.setdefault((id(model.get_submodule(holder)), own), name)
    return list(names.values())


def _replace(model: nn.Module, name: str, parameter: nn.Parameter) -> None:
    owner, _, own = name.rpartition(".")
    model.get_submodule(owner)._parameters[own] = parameter
