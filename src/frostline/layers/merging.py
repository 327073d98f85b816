"""Rule (iv) of arXiv 2504.10735, section 3.3: in a very deep network every step of fidelity should be felt."""

from __future__ import annotations

from collections.abc import Sequence

from frostline.errors import OptionError
from frostline.layers.stack import Layer, LayerStack, Tie


def merge(stack: LayerStack, *, minimum_share: float, costs: Sequence[float] | None = None) -> LayerStack:
    """Join neighbouring layers until every one has ``minimum_share`` of the parameters or of the cost.

    ``costs`` are the layers' own costs in any unit (seconds, FLOPs, bytes), input first; without them only parameters
    count. The layers are joined from the output on, which leaves as many as can be. What remains at the input joins its
    neighbour. With ``minimum_share=1`` one layer is left.

    Raises: OptionError if the share is not in (0, 1], or the costs are not one number >= 0 for every layer.
    """
    if not 0 < minimum_share <= 1:
        raise OptionError(f"minimum_share is {minimum_share}: it must be above 0 and at most 1.")
    if costs is not None and (len(costs) != stack.num_layers or not all(cost >= 0 for cost in costs)):
        raise OptionError(
            f"costs must be {stack.num_layers} numbers >= 0, one for every layer, but is {list(costs)}."
        )
    measures: list[Sequence[float]] = [[layer.num_parameters for layer in stack.layers]]
    if costs is not None:
        measures.append(costs)
    groups: list[list[int]] = [[]]
    for index in reversed(range(stack.num_layers)):
        if groups[-1] and _is_enough(groups[-1], measures, minimum_share):
            groups.append([])
        groups[-1].insert(0, index)
    if len(groups) > 1 and not _is_enough(groups[-1], measures, minimum_share):
        remainder = groups.pop()
        groups[-1] = remainder + groups[-1]
    return joined_stack(stack, groups[::-1])


def _is_enough(group: Sequence[int], measures: Sequence[Sequence[float]], share: float) -> bool:
    return any(sum(measure[index] for index in group) >= share * sum(measure) > 0 for measure in measures)


def joined_stack(stack: LayerStack, groups: Sequence[Sequence[int]]) -> LayerStack:
    """Return the stack whose layers are the ``groups`` of indices; a tie within one group is none any more."""
    group_of = {index: position for position, group in enumerate(groups) for index in group}
    ties = []
    for tie in stack.ties:
        places: dict[int, str] = {}
        for name, layer in zip(tie.names, tie.layers, strict=True):
            places.setdefault(group_of[layer], name)
        if len(places) > 1:
            ties.append(Tie(names=tuple(places.values()), layers=tuple(places), kind=tie.kind))
    return LayerStack(
        layers=tuple(_joined([stack.layers[i] for i in group]) for group in groups), ties=tuple(ties)
    )


def _joined(layers: Sequence[Layer]) -> Layer:
    if len(layers) == 1:
        return layers[0]
    return Layer(
        name=f"{layers[0].name} ... {layers[-1].name}",
        modules=tuple(module for layer in layers for module in layer.modules),
        parameters=tuple(parameter for layer in layers for parameter in layer.parameters),
        num_parameters=sum(layer.num_parameters for layer in layers),
    )
