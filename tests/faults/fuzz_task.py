"""A task that trains in a moment, for inputs that turn out to be fine."""

import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution
from torch import nn
from torch.utils.data import TensorDataset

import frostline


def network(configuration):
    return nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 4), nn.Linear(4, 2))


def make(size: int = 16, width: int | None = None, kind: str = "plain"):
    if size > 1000:
        raise ValueError("a task of that size would fill the memory")
    generator = torch.Generator().manual_seed(0)
    data = TensorDataset(torch.randn(size, 2, generator=generator), torch.arange(size) % 2)
    return frostline.SupervisedTask(
        name="tiny",
        model=network,
        training_data=data,
        validation_data=data,
        loss_function=nn.functional.cross_entropy,
        space=frostline.SearchSpace(
            distributions={
                "learning_rate": FloatDistribution(1e-4, 1e-1, log=True),
                "optimizer": CategoricalDistribution(["Adam", "SGD"]),
            }
        ),
        defaults={"learning_rate": 1e-3, "optimizer": "Adam"},
        full_samples=32,
        batch_size=8,
        data_fingerprint=f"{size} {width} {kind}",
    )


def fields(fields: dict):
    """The task with some of its fields replaced."""
    import dataclasses

    return dataclasses.replace(task, **fields)


task = make()
not_a_task = 3
