"""A task of milliseconds whose models are as wide as a hyperparameter says, given to the command line as a file."""

from __future__ import annotations

from optuna.distributions import FloatDistribution, IntDistribution
from torch import nn

import frostline
from tests.tiny_task import points

NUM_LAYERS, INPUTS, CLASSES = 4, 4, 2


def network(configuration: frostline.Configuration) -> nn.Module:
    width = configuration["width"]
    assert isinstance(width, int)
    blocks = [nn.Sequential(nn.Linear(width, width), nn.Tanh()) for _ in range(NUM_LAYERS - 2)]
    return nn.Sequential(nn.Sequential(nn.Linear(INPUTS, width), nn.Tanh()), *blocks, nn.Linear(width, CLASSES))


def num_weights(width: int) -> int:
    """How many weights matrices hold, without biases."""
    return INPUTS * width + (NUM_LAYERS - 2) * width**2 + CLASSES * width


def num_biases(width: int) -> int:
    return (NUM_LAYERS - 1) * width + CLASSES


def make(size: int = 128) -> frostline.SupervisedTask:
    return frostline.SupervisedTask(
        name="wide",
        model=network,
        training_data=points(size, seed=0),
        validation_data=points(64, seed=1),
        loss_function=nn.functional.cross_entropy,
        space=frostline.SearchSpace(
            distributions={
                "learning_rate": FloatDistribution(1e-3, 1e-1, log=True),
                "width": IntDistribution(2, 64, log=True),
            }
        ),
        defaults={"learning_rate": 1e-2, "width": 16},
        full_samples=2 * size,
        batch_size=32,
    )


task = make()
