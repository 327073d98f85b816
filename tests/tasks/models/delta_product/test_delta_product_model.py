from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from frostline.errors import OptionError
from frostline.layers import split_layers
from frostline.tasks.models.delta_product import DeltaProduct, DeltaProductModel, DeltaProductSettings

SETTINGS = DeltaProductSettings(num_blocks=2, num_heads=2, width=16, vocabulary_size=11, gated=True)


def build(settings: DeltaProductSettings = SETTINGS) -> DeltaProductModel:
    torch.manual_seed(0)
    return DeltaProductModel(settings).double()


def some_tokens(length: int = 23) -> torch.Tensor:
    return torch.randint(11, (3, length), generator=torch.Generator().manual_seed(1))


def layer(**changes: Any) -> DeltaProduct:
    torch.manual_seed(0)
    return DeltaProduct(**{"width": 16, "num_heads": 2, **changes}).double()


@pytest.mark.parametrize("changed", [1, 15, 16, 22])
def test_a_later_token_never_changes_earlier_logits(changed: int) -> None:
    model, tokens = build(), some_tokens()
    other = tokens.clone()
    other[:, changed] = (other[:, changed] + 1) % 11
    before, after = model(tokens), model(other)
    torch.testing.assert_close(before[:, :changed], after[:, :changed])
    assert (before[:, changed:] - after[:, changed:]).abs().amax(dim=-1).min() > 1e-9


def test_a_sequence_knows_nothing_of_the_others_in_its_batch() -> None:
    model, tokens = build(), some_tokens()
    torch.testing.assert_close(model(tokens)[1:2], model(tokens[1:2]), rtol=1e-9, atol=1e-11)


def test_padding_is_read_by_no_token() -> None:
    model, tokens = build(), some_tokens()
    mask = torch.ones_like(tokens, dtype=torch.bool)
    mask[:, :5] = False
    torch.testing.assert_close(model(tokens, mask)[:, 5:], model(tokens[:, 5:]), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("gated", [False, True])
def test_a_sequence_may_be_run_in_pieces_and_in_any_form(gated: bool) -> None:
    chunked, recurrent = (layer(gated=gated, form=form) for form in ("automatic", "recurrent"))
    x = torch.randn(2, 19, 16, dtype=torch.float64)
    whole, state = chunked.continued(x)
    first, between = chunked.continued(x[:, :7])
    second, last = recurrent.continued(x[:, 7:], state=between)
    torch.testing.assert_close(torch.cat((first, second), dim=1), whole, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(last, state, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("largest", "least"), [(1.0, 0.0), (2.0, -1.0)])
def test_the_largest_beta_bounds_the_eigenvalues(largest: float, least: float) -> None:
    mixing = layer(largest_beta=largest)
    nn.init.constant_(mixing.beta.bias, 30.0)
    operands = mixing.operands(torch.randn(1, 1, 16, dtype=torch.float64))
    key, beta = operands.key[0, 0, 0, 0], operands.beta[0, 0, 0, 0]
    turn = torch.eye(8, dtype=torch.float64) - beta * torch.outer(key, key)
    assert torch.linalg.eigvalsh(turn)[0].item() == pytest.approx(least, abs=1e-6)


def test_its_layers_are_embedding_blocks_and_head_in_either_order() -> None:
    model = build()
    stack = split_layers(model)
    assert stack.names == ("embedding", "blocks.0", "blocks.1", "head")
    assert {"norm.weight", "head.weight"} <= set(stack.layers[-1].parameters)
    assert split_layers(model, example_inputs=(some_tokens(),)) == stack


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_heads": 3}, "width 16 cannot be split over 3 heads: give a width that is a multiple of num_heads"),
        ({"num_householders": 0}, "num_householders is 0, but must be a whole number of at least 1"),
        ({"largest_beta": 2.5}, "largest_beta is 2.5, but must be above 0 and at most 2"),
        ({"largest_beta": "two"}, "largest_beta is 'two', but must be above 0 and at most 2"),
        ({"gated": 1}, "gated is 1, but must be true or false"),
        ({"form": "parallel"}, "form is 'parallel', but must be 'automatic', 'chunked', 'recurrent' or 'fused'"),
    ],
)
def test_numbers_that_make_no_layer(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        layer(**changes)
