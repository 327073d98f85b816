"""From a model to its layers: Algorithm 1 of arXiv 2504.10735, and what it leaves open.

Algorithm 1 walks the modules depth first, opens ``nn.Sequential`` and the classes it is told to open, and takes every
other module that holds parameters as a layer. Left open are: which classes to open (known families and a rule for the
others, below), the order (that of execution, if there are example inputs), parameters that an opened container holds
itself, and weights shared by several layers.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from frostline.errors import ModelError
from frostline.layers.cutting.boundary import suspended
from frostline.layers.cutting.execution import Inputs, Trace, trace
from frostline.layers.families import known_units
from frostline.layers.heads import heads_joined
from frostline.layers.outline import Unit, child_name, has_parameters, joined, units_of, walk
from frostline.layers.stack import Layer, LayerStack
from frostline.layers.ties import aliases_of, find_ties
from frostline.layers.weights.deferred import deferred_of, fill

logger = logging.getLogger(__name__)

_LISTS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)
_PARAMETER_LISTS = (nn.ParameterList, nn.ParameterDict)


def split_layers(
    model: nn.Module, *, unwrap: Sequence[type[nn.Module]] = (), example_inputs: Inputs | None = None
) -> LayerStack:
    """Return the layers of ``model``, input first.

    Without ``unwrap``, models of known families are grouped as in the literature. In others the model itself, lists of
    modules, and every container around a list of repeated blocks are opened; the blocks are layers; embeddings side by
    side are one layer, and so are, with example inputs, heads side by side; a norm behind the last block joins the layer
    after it. With ``unwrap`` it is Algorithm 1 to the
    letter: ``nn.Sequential`` and these classes are opened, and nothing else.

    With ``example_inputs`` (a tensor, a tuple of positional or a mapping of keyword arguments) the model runs once, in
    evaluation mode, and the layers stand in the order of their first run; what does not run joins the layer registered
    before it, and what runs last and leads to no output the layer that runs before it (a pooler that nobody reads).
    Without, they stand in the order of registration. The model is left as it was.

    A module registered twice is one layer, at its first place. A parameter that an opened container holds belongs to
    the first layer that runs after it is used (without example inputs: to the container's first layer). A tied
    parameter belongs to the last layer that uses it.

    Raises: ModelError if the model has no parameters, has lazy ones that are not initialised, is compiled or scripted,
        cannot run on the example inputs, or if ``unwrap`` holds something else than classes or opens nothing.
    Source: arXiv 2504.10735, Algorithm 1 and appendix F.
    """
    _check(model, unwrap)
    with suspended(model):
        units, blocks, is_known = _registered_units(model, tuple(unwrap))
        recorded = None
        if example_inputs is not None:
            watched = [name for unit in units for name in unit.modules]
            recorded = _traced(model, example_inputs, watched)
            units = _in_execution_order(model, units, recorded, moves_parameters=not is_known)
            units = _without_dead_end(model, units, recorded.reached)
        if not unwrap and not is_known:
            units = units if recorded is None else heads_joined(units, recorded.inputs)
            units = _tidied(model, units, blocks)
        return _stack(model, units, {} if recorded is None else _uses(model, units, recorded, is_known=is_known))


def _check(model: nn.Module, unwrap: Sequence[type[nn.Module]]) -> None:
    if not isinstance(model, nn.Module):
        raise ModelError(f"the model is a {type(model).__name__}: give a torch.nn.Module.")
    if type(model).__name__ == "OptimizedModule":
        raise ModelError("the model is compiled: give the model itself, and compile it after freezing.")
    wrapped = next((module for module in model.modules() if isinstance(module, _PARALLEL)), None)
    if wrapped is not None:
        raise ModelError(
            f"the model is a {type(wrapped).__name__}, which copies it to several devices: give the model itself, and wrap "
            f"it after freezing."
        )
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise ModelError(
            f"{type(model).__name__} holds scripted modules, which keep to themselves what runs in them: give the model as "
            f"it was before torch.jit.script."
        )
    if inspect.isclass(unwrap) or not all(
        inspect.isclass(each) and issubclass(each, nn.Module) for each in unwrap
    ):
        raise ModelError(f"unwrap is {unwrap!r}: give a list or tuple of subclasses of torch.nn.Module.")
    if any(
        isinstance(tensor, UninitializedParameter | UninitializedBuffer)
        for tensor in (*model.parameters(), *model.buffers())
    ):
        raise ModelError(
            f"{type(model).__name__} has lazy parameters that are not initialised: run it once on a batch, then split it."
        )
    if not has_parameters(model):
        raise ModelError(f"{type(model).__name__} has no parameters, so it has no layers to train.")


def _registered_units(model: nn.Module, unwrap: tuple[type[nn.Module], ...]) -> tuple[list[Unit], set[str], bool]:
    """The units in the order of registration, the names of repeated blocks, and whether a family gave them."""
    if unwrap:
        if not any(isinstance(module, unwrap) for module in model.modules()):
            names = ", ".join(each.__name__ for each in unwrap)
            raise ModelError(f"unwrap opens nothing: {type(model).__name__} holds no {names}.")
        opened: tuple[type[nn.Module], ...] = (nn.Sequential, *_PARAMETER_LISTS, *unwrap)
        units = units_of(walk(model, name="", opens=lambda _, module: isinstance(module, opened)))
        return units or [Unit(name="", modules=("",))], set(), False
    name, core = "", model
    while True:
        known = known_units(core, name)
        if known is not None:
            return known, set(), True
        children = [(own, child) for own, child in core.named_children() if has_parameters(child)]
        if len(children) != 1 or next(core.parameters(recurse=False), None) is not None:
            break
        # A wrapper around a single module is no layer, and may wrap a model of a known family.
        name, core = child_name(name, children[0][0]), children[0][1]
    opened_names: set[str] = set()
    blocks: set[str] = set()
    _open(core, name, opened=opened_names, blocks=blocks, is_root=True, is_in_block_list=False)
    units = units_of(walk(core, name=name, opens=lambda name, _: name in opened_names))
    return units or [Unit(name=name, modules=(name,))], blocks, False


def _open(
    module: nn.Module, name: str, *, opened: set[str], blocks: set[str], is_root: bool, is_in_block_list: bool
) -> None:
    """The rule for models of no known family: collect what is opened, and the repeated blocks, which are not."""
    is_list = isinstance(module, (*_LISTS, *_PARAMETER_LISTS))
    is_path = not is_in_block_list and any(_is_block_list(each) for each in module.modules())
    is_open_root = is_root and not type(module).__module__.startswith("torch.nn.modules")
    if not (is_list or is_path or is_open_root):
        return
    if next((child for child in module.children() if has_parameters(child)), None) is None and not is_list:
        return
    opened.add(name)
    holds_blocks = _is_block_list(module)
    for own, child in module.named_children():
        child_full_name = child_name(name, own)
        if holds_blocks and next(child.children(), None) is not None:
            blocks.add(child_full_name)
        _open(
            child,
            child_full_name,
            opened=opened,
            blocks=blocks,
            is_root=False,
            is_in_block_list=is_in_block_list or holds_blocks,
        )


def _is_block_list(module: nn.Module) -> bool:
    """Whether the module is a list that repeats a class.

    In a Sequential the class must itself be made of modules: two Linear layers with an activation between them are the
    inside of a block, not two blocks.
    """
    if not isinstance(module, nn.Sequential | nn.ModuleList):
        return False
    classes = [
        type(child)
        for child in module.children()
        if has_parameters(child)
        and (isinstance(module, nn.ModuleList) or next(child.children(), None) is not None)
    ]
    return len(set(classes)) < len(classes)


def _traced(model: nn.Module, example_inputs: Inputs, watched: Sequence[str]) -> Trace:
    try:
        return trace(model, example_inputs, watched=watched)
    except ModelError as error:
        if deferred_of(model) is None:
            raise
        # A forward pass may need values, which a model that was built deferred does not have.
        logger.warning("the model is held in memory as a whole to find its layers: %s", error)
        fill(model)
        return trace(model, example_inputs, watched=watched)


def _in_execution_order(
    model: nn.Module, units: list[Unit], recorded: Trace, *, moves_parameters: bool
) -> list[Unit]:
    """Sort the units by their first run; what never runs joins the unit registered before it."""
    first_runs: dict[str, int] = {}
    for step, name in enumerate(recorded.runs):
        first_runs.setdefault(name, step)
    first_uses: dict[int, int] = {}
    for identity, step, _ in recorded.uses:
        first_uses.setdefault(identity, step)

    placed: list[tuple[float, Unit]] = []
    idle: list[Unit] = []
    for unit in units:
        moment = _moment(model, unit, first_runs, first_uses)
        if moment is not None:
            placed.append((moment, joined([*idle, unit], name=unit.name)))
            idle = []
        elif placed:
            placed[-1] = (placed[-1][0], joined([placed[-1][1], unit], name=placed[-1][1].name))
        else:
            idle.append(unit)
    if not placed:
        return units
    ordered = [unit for _, unit in sorted(placed, key=lambda pair: pair[0])]
    return _with_parameters_moved(model, ordered, recorded) if moves_parameters else ordered


def _without_dead_end(model: nn.Module, units: list[Unit], reached: frozenset[int] | None) -> list[Unit]:
    """Join the last units to the one before them if no output rests on them: alone they could not be trained."""
    if reached is None:
        return units
    lead = []
    for unit in units:
        parameters = [*_parameters_within(model, unit), *map(model.get_parameter, unit.parameters)]
        lead.append(not reached.isdisjoint(map(id, parameters)))
    if not any(lead):
        return units
    last = len(units) - 1 - lead[::-1].index(True)
    return [*units[:last], joined(units[last:], name=units[last].name)]


def _parameters_within(model: nn.Module, unit: Unit) -> list[nn.Parameter]:
    """Return those of the unit's modules, without those that a container of them holds itself."""
    return [parameter for name in unit.modules for parameter in model.get_submodule(name).parameters()]


def _moment(model: nn.Module, unit: Unit, first_runs: dict[str, int], first_uses: dict[int, int]) -> float | None:
    """When the unit first runs; a module whose parameters are only used by others' code counts from that use."""
    runs = [first_runs[name] for name in unit.modules if name in first_runs]
    if runs:
        return min(runs)
    identities = [id(parameter) for parameter in _parameters_within(model, unit)]
    uses = [first_uses[identity] for identity in identities if identity in first_uses]
    return min(uses) - 0.5 if uses else None


def _with_parameters_moved(model: nn.Module, units: list[Unit], recorded: Trace) -> list[Unit]:
    """Every parameter of an opened container goes to the first unit that runs after its first use."""
    own: list[list[str]] = [[] for _ in units]
    for index, unit in enumerate(units):
        for name in unit.parameters:
            identity = id(model.get_parameter(name))
            places = [place for used, place in _places(units, recorded) if used == identity]
            own[places[0] if places else index].append(name)
    return [replace(unit, parameters=tuple(names)) for unit, names in zip(units, own, strict=True)]


def _places(units: Sequence[Unit], recorded: Trace) -> list[tuple[int, int]]:
    """The uses of parameters as (identity, index of the unit it is used in, or else of the next one to run)."""
    index_of = {name: index for index, unit in enumerate(units) for name in unit.modules}
    places = []
    for identity, step, running in recorded.uses:
        if running is None:
            running = recorded.runs[step] if step < len(recorded.runs) else None
        places.append((identity, len(units) - 1 if running is None else index_of[running]))
    return places


def _tidied(model: nn.Module, units: list[Unit], blocks: set[str]) -> list[Unit]:
    """Join embeddings side by side, whose outputs are summed, and norms behind the last of several blocks.

    Such a norm joins the projection behind it if that ends the model, and the block otherwise.
    """
    tidied: list[Unit] = []
    for unit in units:
        previous = tidied[-1] if tidied else None
        if previous is not None and _is_embedding(model, previous) and _is_embedding(model, unit):
            tidied[-1] = joined([previous, unit], name="embedding" if len(tidied) == 1 else None)
        elif previous is not None and _is_block(previous, blocks) and _is_norm(model, unit):
            ends_the_blocks = not _is_block(unit, blocks)  # a norm inside the last block is that block's own
            is_before_projection = len(units) > 1 and units[-2] is unit and not _is_block(units[-1], blocks)
            if ends_the_blocks and is_before_projection:
                return [*tidied, joined([unit, units[-1]], name="head")]
            tidied[-1] = joined([previous, unit])
        else:
            tidied.append(unit)
    return tidied


def _is_block(unit: Unit, blocks: set[str]) -> bool:
    return any(f"{name}.".startswith(f"{block}.") for name in unit.modules for block in blocks)


def _is_norm(model: nn.Module, unit: Unit) -> bool:
    modules = [model.get_submodule(name) for name in unit.modules]
    return all("norm" in type(each).__name__.lower() and next(each.children(), None) is None for each in modules)


def _is_embedding(model: nn.Module, unit: Unit) -> bool:
    return all(isinstance(model.get_submodule(name), nn.Embedding) for name in unit.modules)


def _uses(model: nn.Module, units: list[Unit], recorded: Trace, *, is_known: bool) -> dict[int, set[int]]:
    """Which units use a parameter in the code of the model, without holding it in a module that runs."""
    uses: dict[int, set[int]] = {}
    for identity, place in _places(units, recorded):
        uses.setdefault(identity, set()).add(place)
    if is_known:
        # A family has said where a container's own parameters belong: to the unit that runs before their use.
        for index, unit in enumerate(units):
            for name in unit.parameters:
                uses.get(id(model.get_parameter(name)), set()).discard(index + 1)
    return uses


def _stack(model: nn.Module, units: list[Unit], uses: dict[int, set[int]]) -> LayerStack:
    aliases = aliases_of(model, units)
    missing = [name for name, parameter in model.named_parameters() if id(parameter) not in aliases]
    assert not missing, f"parameters in no layer: {missing}"

    sizes = {id(parameter): parameter.numel() for parameter in model.parameters()}
    owned: list[list[tuple[str, int]]] = [[] for _ in units]
    for identity, held in aliases.items():
        owner = max([held[-1][0], *uses.get(identity, ())])
        owned[owner].append((held[-1][1], sizes[identity]))
    layers = tuple(
        Layer(
            name=unit.name or type(model).__name__,
            modules=unit.modules,
            parameters=tuple(name for name, _ in parameters),
            num_parameters=sum(size for _, size in parameters),
        )
        for unit, parameters in zip(units, owned, strict=True)
    )
    return LayerStack(layers=layers, ties=tuple(find_ties(model, aliases, uses)))
