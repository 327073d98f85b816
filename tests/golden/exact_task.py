"""Tasks that train in milliseconds on data that are the same bits everywhere: whole numbers over a power of two.

``torch.randn`` gives other last bits on another kind of processor, so that a study of its data is refused there.
"""

from __future__ import annotations

import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution
from torch import nn
from torch.utils.data import TensorDataset

import frostline
from frostline.tasks.builtin.language_modelling import LanguageModelBudget, language_model_task
from frostline.tasks.models.gpt import GPTSettings


def points(num_points: int, seed: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randint(-16, 17, (num_points, 4), generator=generator) / 8
    return TensorDataset(inputs, (inputs[:, 0] + inputs[:, 1] * inputs[:, 2] / 4 > 0).long())


def network(configuration: frostline.Configuration) -> nn.Module:
    blocks = [nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Dropout(0.1)) for _ in range(4)]
    return nn.Sequential(nn.Sequential(nn.Linear(4, 16), nn.Tanh()), *blocks, nn.Linear(16, 2))


def make(size: int = 256) -> frostline.SupervisedTask:
    return frostline.SupervisedTask(
        name="exact",
        model=network,
        training_data=points(size, seed=0),
        validation_data=points(128, seed=1),
        loss_function=nn.functional.cross_entropy,
        space=frostline.SearchSpace(
            distributions={
                "learning_rate": FloatDistribution(1e-3, 1e-1, log=True),
                "optimizer": CategoricalDistribution(["Adam", "SGD"]),
            }
        ),
        defaults={"learning_rate": 1e-3, "optimizer": "Adam"},
        full_samples=4 * size,
        batch_size=32,
    )


def small_gpt() -> frostline.SupervisedTask:
    """A GPT of three blocks on tokens that follow from one another, with a little chance."""
    generator = torch.Generator().manual_seed(0)
    steps = torch.randint(1, 4, (4000,), generator=generator)
    settings = GPTSettings(
        num_blocks=3,
        num_heads=2,
        width=16,
        context_length=8,
        vocabulary_size=32,
        vocabulary_multiple=1,
        dropout=0.1,
    )
    return language_model_task(
        "small-gpt",
        tokens=(steps.cumsum(0) % 32).numpy().astype("uint16"),
        settings=settings,
        budget=LanguageModelBudget(full_tokens=8 * 4 * 40, validation_tokens=256, batch_size=4),
    )


task = make()
