from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from frostline.errors import OptionError
from frostline.layers import split_layers
from frostline.tasks.models.gpt import (
    GPT,
    GPT_14M,
    GPT_600M,
    PYTHIA_1_4B,
    GPTSettings,
    count_parameters,
    next_token_loss,
)

LITGPT_STYLE = GPTSettings(num_blocks=2, num_heads=2, width=32, context_length=16, vocabulary_size=40)
GPT2_STYLE = replace(LITGPT_STYLE, positions="learned", parallel_residual=False)
STYLES = pytest.mark.parametrize("settings", [LITGPT_STYLE, GPT2_STYLE], ids=["litgpt", "gpt2"])


def build(settings: GPTSettings) -> GPT:
    torch.manual_seed(0)
    return GPT(settings).eval()


def some_tokens(settings: GPTSettings, batch: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(settings.vocabulary_size, (batch, settings.context_length), generator=generator)


@STYLES
def test_logits_have_the_padded_vocabulary(settings: GPTSettings) -> None:
    assert build(settings)(some_tokens(settings)).shape == (3, 16, 512)
    assert build(replace(settings, vocabulary_multiple=1))(some_tokens(settings)).shape == (3, 16, 40)


@STYLES
@pytest.mark.parametrize("changed", [1, 7, 15])
def test_a_later_token_never_changes_earlier_logits(settings: GPTSettings, changed: int) -> None:
    model, tokens = build(settings), some_tokens(settings)
    other = tokens.clone()
    other[:, changed] = (other[:, changed] + 1) % settings.vocabulary_size
    before, after = model(tokens), model(other)
    torch.testing.assert_close(before[:, :changed], after[:, :changed], rtol=0, atol=0)
    assert (before[:, changed:] != after[:, changed:]).any(dim=-1).all()


@STYLES
def test_attention_knows_the_order_of_the_tokens(settings: GPTSettings) -> None:
    model, tokens = build(settings), some_tokens(settings)
    swapped = tokens.clone()
    swapped[:, [0, 1]] = swapped[:, [1, 0]]
    assert (swapped != tokens).any(dim=-1).all()
    assert (model(tokens)[:, -1] - model(swapped)[:, -1]).abs().amax(dim=-1).min() > 1e-6


def test_rotary_attention_depends_on_distance_alone() -> None:
    settings = replace(LITGPT_STYLE, rotary_share=1.0)
    model = build(settings)
    rotary = model.blocks[0].attention.rotary
    assert rotary is not None
    query, key = torch.randn(2, 1, 1, 1, 16).expand(2, 1, 1, 16, 16)
    scores = (rotary(query) @ rotary(key).transpose(-1, -2)).squeeze()
    for distance in (0, 3, 9):
        diagonal = scores.diagonal(-distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=1e-4, atol=1e-5)
    assert scores[3, 0] != pytest.approx(scores[9, 0].item(), abs=1e-3)


def test_rotary_turns_only_its_share_of_a_head() -> None:
    model = build(LITGPT_STYLE)  # heads of 16 channels, a quarter of them turned
    rotary = model.blocks[0].attention.rotary
    heads = torch.randn(1, 2, 16, 16)
    turned = rotary(heads)
    torch.testing.assert_close(turned[..., 4:], heads[..., 4:], rtol=0, atol=0)
    assert (turned[..., 1:, :4] != heads[..., 1:, :4]).any()
    torch.testing.assert_close(turned.norm(dim=-1), heads.norm(dim=-1))


def test_the_first_logits_are_nearly_uniform() -> None:
    settings = replace(GPT2_STYLE, vocabulary_multiple=1)
    tokens = some_tokens(settings, batch=64)
    loss = next_token_loss(build(settings)(tokens), tokens.roll(-1))
    assert loss.item() == pytest.approx(torch.tensor(40.0).log().item(), abs=0.3)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        # 2 x 50,688 x 128 embeddings, 8 blocks, the final norm: 14.6 million, the method's "14M"
        (GPT_14M, 14_562_560),
        (replace(GPT_14M, tied=True), 14_562_560 - 50_688 * 128),
        (GPT_600M, 602_022_400),
        # the number of Pythia 1.4B itself
        (PYTHIA_1_4B, 1_414_647_808),
    ],
    ids=["14M", "14M tied", "600M", "Pythia-1.4B"],
)
def test_the_sizes_are_the_methods(settings: GPTSettings, expected: int) -> None:
    assert count_parameters(settings) == expected


def test_tied_embeddings_are_one_weight() -> None:
    tied = build(replace(GPT2_STYLE, tied=True))
    assert tied.head.projection.weight is tied.embedding.tokens.weight
    tied(some_tokens(GPT2_STYLE)).sum().backward()
    assert tied.embedding.tokens.weight.grad is not None
    untied = build(GPT2_STYLE)
    assert not torch.equal(untied.head.projection.weight, untied.embedding.tokens.weight)


def test_dropout_acts_in_training_only() -> None:
    model = build(replace(GPT2_STYLE, dropout=0.5))
    tokens = some_tokens(GPT2_STYLE)
    torch.testing.assert_close(model(tokens), model(tokens), rtol=0, atol=0)
    model.train()
    assert not torch.equal(model(tokens), model(tokens))


@STYLES
def test_the_initialisation_is_torchs_generator_alone(settings: GPTSettings) -> None:
    first, second = build(settings).state_dict(), build(settings).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not any("rotary" in name for name in first)  # positions are computed, never stored


@STYLES
def test_layers_are_embedding_blocks_and_head(settings: GPTSettings) -> None:
    stack = split_layers(build(settings), example_inputs=(some_tokens(settings),))
    assert stack.num_layers == 4
    assert split_layers(build(replace(settings, tied=True, num_blocks=8))).num_layers == 10


def test_the_model_runs_in_bfloat16() -> None:
    model = build(LITGPT_STYLE).to(torch.bfloat16)
    assert model(some_tokens(LITGPT_STYLE)).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"width": 33}, "width 33 cannot be split over 2 heads: give a width that is a multiple of num_heads"),
        ({"num_blocks": 0}, "num_blocks is 0, but must be a whole number of at least 1"),
        ({"width": 32.0}, "width is 32.0, but must be a whole number"),
        ({"num_blocks": True}, "num_blocks is True, but must be a whole number"),
        ({"positions": "none"}, "positions is 'none', but must be 'rotary' or 'learned'"),
        ({"rotary_share": 2.0}, r"rotary_share is 2.0, but it is a share: give a number in \[0, 1\]"),
        ({"dropout": 1.0}, r"dropout is 1.0, but it is a probability: give a number in \[0, 1\)"),
        ({"tied": "yes"}, "tied is 'yes', but must be true or false"),
    ],
)
def test_settings_that_make_no_model(change: dict[str, object], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        replace(LITGPT_STYLE, **change)


def test_a_sequence_longer_than_the_context_is_refused() -> None:
    with pytest.raises(OptionError, match="a sequence of 17 tokens does not fit a context of 16: cut it"):
        build(GPT2_STYLE)(torch.zeros(1, 17, dtype=torch.long))


def test_it_trains_on_the_device(device: torch.device) -> None:
    model, tokens = build(GPT2_STYLE).train().to(device), some_tokens(GPT2_STYLE).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(20):
        loss = next_token_loss(model(tokens[:, :-1]), tokens[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
