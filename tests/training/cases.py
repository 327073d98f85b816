"""Small tasks that the tests of training share."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from optuna.distributions import FloatDistribution
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from frostline.folders.places import folder_at
from frostline.records import Configuration, Fidelity, Job
from frostline.search.spaces.space import SearchSpace
from frostline.training.course import TrainingSettings
from frostline.training.machine.devices import DevicePlan
from frostline.training.supervised.supervised_task import SupervisedTask

CPU = torch.device("cpu")
SPACE = SearchSpace(distributions={"learning_rate": FloatDistribution(1e-5, 1.0, log=True)})
NUM_EXAMPLES = 50


def regression_data(num_examples: int = NUM_EXAMPLES, *, seed: int = 0) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(num_examples, 5, generator=generator, dtype=torch.float64)
    return TensorDataset(inputs, inputs[:, :1] * inputs[:, 1:2] + 0.5)


class Drawing(Dataset[tuple[Tensor, Tensor]]):
    """The same examples, with what transforms of images draw: from the global generators of torch, NumPy and Python."""

    def __init__(self, rows: TensorDataset) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        inputs, targets = self._rows[index]
        noise = torch.rand(()).item() + np.random.rand() + random.random()  # noqa: NPY002 (as users do)
        return inputs + noise, targets


def perceptron(_configuration: Configuration) -> nn.Module:
    """Three layers, in float64."""
    return nn.Sequential(nn.Linear(5, 8), nn.Sequential(nn.Tanh(), nn.Linear(8, 8)), nn.Linear(8, 1)).double()


class Block(nn.Module):
    """One layer that holds several modules."""

    def __init__(self, num_inputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(num_inputs, 16)
        self.norm = nn.BatchNorm1d(16)
        self.dropout = nn.Dropout(0.3)

    def forward(self, inputs: Tensor) -> Tensor:
        result: Tensor = self.dropout(torch.tanh(self.norm(self.linear(inputs))))
        return result


def noisy_network(_configuration: Configuration) -> nn.Module:
    """Three layers, dropout and BatchNorm in the first two: whatever depends on more than it should shows here."""
    return nn.Sequential(Block(5), Block(16), nn.Linear(16, 1)).double()


def regression_task(**changes: Any) -> SupervisedTask:
    """The perceptron on 50 examples, 160 samples in batches of 8; ``changes`` are fields of the task."""
    fields: dict[str, Any] = {
        "name": "regression",
        "model": perceptron,
        "training_data": regression_data(),
        "validation_data": regression_data(20, seed=1),
        "loss_function": nn.functional.mse_loss,
        "space": SPACE,
        "full_samples": 160,
        "defaults": {"learning_rate": 0.01},
        "batch_size": 8,
        "validation_batch_size": 8,
    }
    return SupervisedTask(**{**fields, **changes})


def configured(number: int = 0, **hyperparameters: Any) -> Configuration:
    return Configuration(number=number, hyperparameters={"learning_rate": 0.01, **hyperparameters})


def job_of(
    configuration: Configuration, *, layers: int = 3, samples: int = 160, path: tuple[int, ...] = ()
) -> Job:
    """A job at ``samples``, which continues trainings at the samples in ``path``."""
    lower = tuple(Fidelity(trainable_layers=layers, samples=earlier) for earlier in path)
    return Job(
        configuration=configuration,
        rung=len(path),
        fidelity=Fidelity(trainable_layers=layers, samples=samples),
        continued_from=lower,
    )


def settings_of(
    device: torch.device = CPU, *, checkpoints: Path | str | None = None, **changes: Any
) -> TrainingSettings:
    plan = DevicePlan(device=device)
    settings = TrainingSettings(
        device_plan=plan, root_seed=7, folder=None if checkpoints is None else folder_at(checkpoints)
    )
    return dataclasses.replace(settings, **changes)


def same_weights(left: nn.Module, right: nn.Module) -> bool:
    """Whether two models hold the same bits."""
    ours, theirs = left.state_dict(), right.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
