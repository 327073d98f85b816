"""Run by ``tests.other_libraries``: trains two configurations of each model together and alone."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from frostline.populations.engines import Engine
from frostline.populations.population import Population
from frostline.training.serial import train_serially
from frostline.training.supervised.supervised_task import SupervisedTask
from tests.layers.split_families import cases
from tests.training.cases import SPACE, configured, job_of, settings_of


def outcome(model: nn.Module, inputs: Tensor) -> str:
    """ "same", or what is different."""
    if inputs.is_floating_point():
        generator = torch.Generator().manual_seed(0)
        inputs = torch.randn(4, *inputs.shape[1:], generator=generator, dtype=torch.float64)
    data = TensorDataset(inputs, torch.zeros(len(inputs)))

    def loss(outputs: Any, _targets: Tensor) -> Tensor:
        return outputs.square().mean()

    task = SupervisedTask(
        name="family",
        model=lambda _configuration: copy.deepcopy(model).double(),
        training_data=data,
        validation_data=data,
        loss_function=loss,
        space=SPACE,
        full_samples=4,
        defaults={"learning_rate": 1e-3},
        batch_size=2,
        num_calibration_batches=2,
        data_fingerprint="family",
    )
    jobs = [
        job_of(configured(number, learning_rate=1e-3 * (number + 1)), layers=2, samples=4) for number in range(2)
    ]
    evaluations = {each.number: each for each in Population(task, jobs, settings_of(), engine=Engine.SHARED).run()}
    for job in jobs:
        together, alone = evaluations[job.configuration.number], train_serially(task, job, settings_of())
        pairs = zip(together.curve, alone.curve, strict=True)
        if together.reason or not all(math.isclose(one.score, two.score, rel_tol=1e-9) for one, two in pairs):
            return f"{together} is not {alone}"
    return "same"


def found() -> dict[str, str]:
    """Return how each model's trainings compare, by its name."""
    return {name: outcome(model, inputs) for name, model, inputs in cases() if name != "torchvision resnet50"}
