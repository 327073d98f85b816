"""The layers of a model as steps of fidelity: there is something to train in each that may be the last one trained."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from frostline.layers.adapters import has_adapters
from frostline.layers.cutting.execution import Inputs
from frostline.layers.discovery import split_layers
from frostline.layers.freezing.freezing import own_gradient_flags
from frostline.layers.merging import joined_stack
from frostline.layers.stack import LayerStack


def split_into_steps(
    model: nn.Module, *, unwrap: Sequence[type[nn.Module]] = (), example_inputs: Inputs | None = None
) -> LayerStack:
    """Return what ``split_layers`` does, joined until every layer from the first trained one on has something to train.

    A layer of which nothing requires a gradient joins the one before it: the head of a language model that trains adapters
    alone. Those in front of the first that is trained stay by themselves, since a backbone that its user froze is cheaper
    frozen here, and what is trained is the same; but with PEFT's adapters these join the one behind them, an embedding most
    often, and every layer has an adapter. If nothing is trained at all, nothing is joined. In a frozen model what counts is
    what was trained before it was frozen.

    Raises: what ``split_layers`` raises.
    """
    stack = split_layers(model, unwrap=unwrap, example_inputs=example_inputs)
    flags = own_gradient_flags(model)
    are_trained = [any(flags[name] for name in layer.parameters) for layer in stack.layers]
    if all(are_trained) or not any(are_trained):
        return stack
    first = are_trained.index(True)
    groups = [[*range(first + 1)]] if has_adapters(model) else [[index] for index in range(first + 1)]
    for index in range(first + 1, stack.num_layers):
        if are_trained[index]:
            groups.append([])
        groups[-1].append(index)
    return joined_stack(stack, groups)
