"""Whether what is drawn between frozen layers decides anything."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import BartConfig, BartForSequenceClassification

from frostline.populations.engines import Engine
from frostline.populations.population import Population
from frostline.populations.prefix.draws import decide
from frostline.populations.prefix.prefix_store import PrefixStore
from frostline.populations.prefix.shared_prefix import SharedPrefix
from frostline.training.serial import train_serially
from frostline.training.session import begin_session
from tests.populations.cases import Case, configuration_of, jobs_of, tokens, vectors
from tests.populations.test_population import assert_same
from tests.training.cases import settings_of

Draw = Callable[[Tensor], Tensor]


class Drawing(nn.Module):
    """Between its layers it does to their outputs what it was told."""

    def __init__(self, between: Draw) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Sequential(nn.Linear(6, 6), nn.Tanh()) for _ in range(3)])
        self.head = nn.Linear(6, 3)
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = self.between(layer(x))
        return self.head(x)


def left_out(probability: float) -> Draw:
    return lambda x: torch.zeros_like(x) if torch.rand([]) < probability else x


DECIDES_NOTHING: dict[str, Draw] = {
    "a threshold of zero": left_out(0.0),
    "a threshold of one": lambda x: x if torch.rand(1).item() < 1.0 else 2 * x,
    "examples": lambda x: x * (torch.rand(len(x), 1, dtype=x.dtype) >= 0.0),
}
DECIDES: dict[str, Draw] = {
    "now and then": left_out(0.001),
    "nearly always": left_out(0.999),
    "noise": lambda x: x + 1e-6 * torch.rand_like(x),
    "another distribution": lambda x: x * torch.bernoulli(torch.full_like(x, 1 - 1e-9)),
    "dropout": lambda x: functional.dropout(x, 1e-9),
    "an order": lambda x: x[torch.randperm(len(x))],
    "Python": lambda x: x if random.random() < 1.0 else 2 * x,
    "NumPy": lambda x: x if np.random.rand() < 1.0 else 2 * x,  # noqa: NPY002 (what users draw from)
}


def case_of(between: Draw) -> Case:
    return Case("drawing", lambda: Drawing(between), vectors, functional.cross_entropy, layers=(1,))


@pytest.mark.parametrize(
    ("between", "expected"),
    [pytest.param(draw, False, id=name) for name, draw in DECIDES_NOTHING.items()]
    + [pytest.param(draw, True, id=name) for name, draw in DECIDES.items()],
)
def test_whether_it_decides(between: Draw, expected: bool) -> None:
    task, configuration = case_of(between).task(), configuration_of(0)
    session = begin_session(
        task, configuration, trainable_layers=1, device_plan=settings_of().device_plan, root_seed=0
    )
    [share] = SharedPrefix([session]).shares
    batch = next(task.training_batches(configuration, seed=0, skip_samples=0))
    assert decide(share, batch) is expected


@pytest.mark.parametrize("probability", [0.0, 0.3])
def test_outputs_are_kept_where_it_does_not(probability: float) -> None:
    task, store = case_of(left_out(probability)).task(), PrefixStore(training_bytes=2**20, validation_bytes=0)
    jobs = jobs_of([configuration_of(number) for number in range(2)], layers=1)
    for evaluation in Population(task, jobs, settings_of(), engine=Engine.SHARED, store=store).run():
        assert_same(evaluation, train_serially(task, jobs[evaluation.number], settings_of()))
    assert (store.held_bytes > 0) is (probability == 0.0)


def bart() -> nn.Module:
    config = BartConfig(
        vocab_size=32,
        d_model=8,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=8,
        decoder_ffn_dim=8,
        max_position_embeddings=16,
        num_labels=3,
        eos_token_id=2,
        dropout=0.0,
    )
    return BartForSequenceClassification(config)


def test_bart_draws_for_layers_that_are_never_left_out() -> None:
    def texts(seed: int) -> torch.utils.data.TensorDataset:
        words = tokens(seed).tensors[0].clamp_min(3)
        words[:, -1] = 2
        return torch.utils.data.TensorDataset(words, words[:, 0] % 3)

    case = Case("bart", bart, texts, functional.cross_entropy, (1,))
    task, store = case.task(), PrefixStore(training_bytes=2**22, validation_bytes=0)
    jobs = jobs_of([configuration_of(number) for number in range(2)], layers=1)
    for evaluation in Population(task, jobs, settings_of(), engine=Engine.SHARED, store=store).run():
        assert_same(evaluation, train_serially(task, jobs[evaluation.number], settings_of()))
    assert store.held_bytes > 0
