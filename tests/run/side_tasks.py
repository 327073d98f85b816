"""A task whose configurations may end the process that trains them, and a search over it."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution
from torch import nn

import frostline
from frostline.protocols import Schedule
from frostline.records import Evaluation, Progress
from frostline.run.plan import SearchPlan
from frostline.search.history import History
from tests.tiny_task import network, points


def fateful(configuration: frostline.Configuration) -> Schedule:
    """End the process in the middle of the training, if the configuration says so: "exit", "kill", "once FILE"."""
    fate = f"{configuration['fate']}"

    def rate(share: float) -> float:
        if share > 0.4:
            meet(fate)
        return 1.0 - 0.9 * share

    return rate


def meet(fate: str) -> None:
    if fate == "raise":
        raise ValueError("it was to raise")
    if fate == "exit":
        os._exit(3)
    if fate.startswith("once "):
        marker = Path(fate.removeprefix("once "))
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)


def make(size: int = 256, *, epochs: int = 4, model: object = network) -> frostline.SupervisedTask:
    return frostline.SupervisedTask(
        name="fateful",
        model=model,  # type: ignore[arg-type]
        training_data=points(size, seed=0),
        validation_data=points(128, seed=1),
        loss_function=nn.functional.cross_entropy,
        schedule=fateful,
        space=frostline.SearchSpace(
            distributions={
                "learning_rate": FloatDistribution(1e-4, 1e-1, log=True),
                "optimizer": CategoricalDistribution(["Adam", "SGD"]),
            }
        ),
        defaults={"learning_rate": 1e-3, "optimizer": "Adam", "fate": "none"},
        full_samples=epochs * size,
        batch_size=32,
    )


task = make()


def search(folder: Path, *, workers: int, storage: str = ":memory:") -> frostline.TuneResult:
    return frostline.tune_task(
        task,
        study="s",
        storage=storage,
        ladder=frostline.Ladder.explicit([(2, 256), (2, 512), (6, 1024)], num_layers=6, full_samples=1024),
        plan=SearchPlan(configurations=9),
        training=frostline.TrainingOptions(
            device="cpu", runs=folder / "runs", engine="shared", threads=1, workers=workers
        ),
        observer=Saying(),
    )


class Saying(frostline.Observer):
    """Prints who trains and what has ended, if it is to."""

    is_silent = True

    def progressed(self, progress: Progress) -> None:
        self._say(f"worker {progress.worker}")

    def ended(self, evaluation: Evaluation, history: History) -> None:
        self._say(f"ended {history.num_evaluations}")

    def _say(self, line: str) -> None:
        if not self.is_silent:
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()


def search_aloud(place: Path) -> None:
    """Search in a process of its own, with two workers, and print how far it is."""
    torch.set_num_threads(1)
    Saying.is_silent = False
    search(place, workers=2, storage=f"sqlite:///{place}/study.db")
