"""A task that trains in milliseconds, given to the command line as a file."""

import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution
from torch import nn
from torch.utils.data import TensorDataset

import frostline


def points(num_points: int, seed: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(num_points, 4, generator=generator)
    return TensorDataset(inputs, (inputs.prod(dim=1) > 0).long())


def network(configuration: frostline.Configuration) -> nn.Module:
    blocks = [nn.Sequential(nn.Linear(16, 16), nn.Tanh()) for _ in range(4)]
    return nn.Sequential(nn.Sequential(nn.Linear(4, 16), nn.Tanh()), *blocks, nn.Linear(16, 2))


def make(size: int = 256) -> frostline.SupervisedTask:
    return frostline.SupervisedTask(
        name="tiny",
        model=network,
        training_data=points(size, seed=0),
        validation_data=points(128, seed=1),
        loss_function=nn.functional.cross_entropy,
        space=frostline.SearchSpace(
            distributions={
                "learning_rate": FloatDistribution(1e-4, 1e-1, log=True),
                "optimizer": CategoricalDistribution(["Adam", "SGD"]),
            }
        ),
        defaults={"learning_rate": 1e-3, "optimizer": "Adam"},
        full_samples=4 * size,
        batch_size=32,
    )


task = make()
not_a_task = 3
