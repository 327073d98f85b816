"""Merged layers: every step of fidelity is felt, and there are as many as can be."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from frostline.errors import ModelError, OptionError
from frostline.layers import Layer, LayerStack, Tie, freeze, merge, split_layers
from tests.layers.models import gpt2, tokens


def stack_of(counts: Sequence[int]) -> LayerStack:
    return LayerStack(
        layers=tuple(
            Layer(name=f"{index}", modules=(f"{index}",), parameters=(f"{index}.weight",), num_parameters=count)
            for index, count in enumerate(counts)
        )
    )


def most_groups(counts: Sequence[int], costs: Sequence[int] | None, share: float) -> int:
    """By trying all ways to cut the stack."""
    measures = [measure for measure in (counts, costs) if measure is not None]
    best = 1
    for number in range(1, len(counts)):
        for cuts in itertools.combinations(range(1, len(counts)), number):
            edges = list(itertools.pairwise((0, *cuts, len(counts))))
            if all(
                any(sum(measure[begin:end]) >= share * sum(measure) > 0 for measure in measures)
                for begin, end in edges
            ):
                best = max(best, number + 1)
    return best


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=8),
    st.sampled_from([0.01, 0.1, 0.25, 0.4, 0.5, 1.0]),
    st.booleans(),
)
def test_merging_keeps_everything_and_as_many_layers_as_can_be(
    sizes: list[tuple[int, int]], share: float, with_costs: bool
) -> None:
    counts, costs = [count for count, _ in sizes], [cost for _, cost in sizes] if with_costs else None
    merged = merge(stack_of(counts), minimum_share=share, costs=costs)
    assert [name for layer in merged.layers for name in layer.modules] == [
        str(index) for index in range(len(sizes))
    ]
    assert merged.num_parameters == sum(counts)
    assert merged.num_layers == most_groups(counts, costs, share)
    assert merge(merged, minimum_share=share).num_parameters == sum(counts)


def test_a_network_of_101_layers() -> None:
    model = nn.Sequential(*(layer for _ in range(100) for layer in (nn.Linear(4, 4), nn.ReLU())), nn.Linear(4, 2))
    stack = split_layers(model)
    assert stack.num_layers == 101
    merged = merge(stack, minimum_share=0.1)
    assert merged.num_layers == 9
    assert merged.names[-1] == "180 ... 200"
    for previous, following in itertools.pairwise(
        [0, *(merged.num_trainable_parameters(z) for z in range(1, 10))]
    ):
        assert following - previous >= 0.1 * stack.num_parameters
    freezing = freeze(model, trainable_layers=1, layers=merged)
    assert sum(each.numel() for each in freezing.trainable_parameters) == merged.layers[-1].num_parameters
    model(torch.ones(1, 4)).sum().backward()
    assert [
        index
        for index, layer in enumerate(model)
        if isinstance(layer, nn.Linear) and layer.weight.grad is not None
    ] == [*range(180, 202, 2)]


def test_ties_follow_their_layers() -> None:
    stack = split_layers(gpt2(num_blocks=4))
    merged = merge(stack, minimum_share=0.3)
    assert merged.ties == (
        Tie(
            names=("transformer.wte.weight", "lm_head.weight"), layers=(0, merged.num_layers - 1), kind="parameter"
        ),
    )
    assert merge(stack, minimum_share=1).ties == ()
    model = gpt2(num_blocks=4, dropout=0.0)
    freeze(model, trainable_layers=1, layers=merged)
    model(tokens()).logits.sum().backward()


def test_costs_decide_where_parameters_do_not() -> None:
    # The head of a convolutional network holds the parameters, its first layers take the time.
    stack = stack_of([1, 1, 1, 97])
    assert merge(stack, minimum_share=0.2).num_layers == 1
    assert merge(stack, minimum_share=0.2, costs=[30, 30, 30, 10]).num_layers == 4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"minimum_share": 0.0}, "must be above 0 and at most 1"),
        ({"minimum_share": 1.5}, "must be above 0 and at most 1"),
        ({"minimum_share": 0.5, "costs": [1.0]}, "costs must be 2 numbers >= 0"),
        ({"minimum_share": 0.5, "costs": [1.0, -1.0]}, "costs must be 2 numbers >= 0"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        merge(stack_of([1, 1]), **options)


def test_layers_of_another_model_are_refused() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    with pytest.raises(ModelError, match=r"has no '2\.weight'"):
        freeze(model, trainable_layers=1, layers=split_layers(nn.Sequential(*(nn.Linear(2, 2) for _ in range(3)))))
    with pytest.raises(ModelError, match=r"own no '1\.weight'"):
        freeze(model, trainable_layers=1, layers=split_layers(nn.Sequential(nn.Linear(2, 2))))
    untied = split_layers(gpt2(num_blocks=1, tied=False))
    with pytest.raises(ModelError, match="count a weight twice that is tied here"):
        freeze(gpt2(num_blocks=1), trainable_layers=1, layers=untied)
