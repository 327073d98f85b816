"""A task whose every training step waits, as for a device of its own: many workers of it run on few cores."""

from __future__ import annotations

import os
import time

import torch
from optuna.distributions import FloatDistribution
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import frostline

SECONDS_PER_STEP = float(os.environ.get("SECONDS_PER_STEP", "0.05"))


def points(num_points: int, seed: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(num_points, 4, generator=generator)
    return TensorDataset(inputs, (inputs.prod(dim=1) > 0).long())


def network(_configuration: frostline.Configuration) -> nn.Module:
    blocks = [nn.Sequential(nn.Linear(16, 16), nn.Tanh()) for _ in range(4)]
    return nn.Sequential(nn.Sequential(nn.Linear(4, 16), nn.Tanh()), *blocks, nn.Linear(16, 2))


def waiting_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    if outputs.requires_grad:
        time.sleep(SECONDS_PER_STEP)
    return nn.functional.cross_entropy(outputs, targets)


task = frostline.SupervisedTask(
    name="waiting",
    model=network,
    training_data=points(256, seed=0),
    validation_data=points(64, seed=1),
    loss_function=waiting_loss,
    space=frostline.SearchSpace(distributions={"learning_rate": FloatDistribution(1e-4, 1e-1, log=True)}),
    defaults={"learning_rate": 1e-3},
    full_samples=1024,
    batch_size=32,
)
