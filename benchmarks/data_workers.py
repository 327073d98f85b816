"""What data that are slow to fetch cost, and what saves some of it: images that are decompressed and cropped on the way.

    python benchmarks/data_workers.py [--repetitions 5] [--sides 40,80,160] [--members 1,4,16] [--json FILE]

A convolutional network is trained on 8,000 images of 32 x 32, cut at random out of larger ones that lie compressed in
memory: the larger these are, the longer an example takes. Torch has one thread, so that a machine with two cores has one
for a process that fetches. Fetching alone and training alone (the same images, in memory) are measured in the same turns;
*limit* is the longer of the two, as a share of the training that fetches by itself: what one process could come to.
Printed are medians of ratios, each within one turn.

Then a rung: configurations that train the last layer of all on 1,000 such images (80 x 80) and are validated on all 500 of
them, fetched once for all members, beside the same where each member reads its validation set for itself.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from frostline.process import prepare_process

prepare_process()

import numpy as np
import torch
from optuna.distributions import FloatDistribution
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

import frostline
from frostline.populations.engines import Engine
from frostline.populations.population import Population
from frostline.records import Configuration, Fidelity, Job
from frostline.run.execution.options import TrainingOptions
from frostline.text_tables import text_table
from frostline.training.course import TrainingSettings
from frostline.training.serial import train_serially

SIDE = 32
BATCH = 50
SAMPLES = 8_000
NUM_IMAGES = 500
WORKERS = (1, 2)
RUNG_SIDE, RUNG_SAMPLES = 80, 1_000
CONFIGURATION = Configuration(number=0, hyperparameters={"learning_rate": 0.1})


class Compressed(Dataset[tuple[Tensor, int]]):
    """Images of ``side`` x ``side`` under zlib, of which a random part is taken."""

    def __init__(self, side: int) -> None:
        self._side = side
        drawn = np.random.default_rng(0)
        self._images = [
            zlib.compress(drawn.integers(0, 64, (3, side, side), dtype=np.uint8).tobytes())
            for _ in range(NUM_IMAGES)
        ]

    def __len__(self) -> int:
        return NUM_IMAGES

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        pixels = np.frombuffer(zlib.decompress(self._images[index]), np.uint8).reshape(3, self._side, self._side)
        top, left = (random.randrange(self._side - SIDE + 1) for _ in range(2))
        part = pixels[:, top : top + SIDE, left : left + SIDE]
        return torch.from_numpy(part.astype(np.float32) / 64), index % 10


def block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.ReLU())


def task_of(data: Dataset[Any], *, num_workers: int = 0) -> frostline.SupervisedTask:
    pooling = (nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return frostline.SupervisedTask(
        name="images",
        model=lambda _: nn.Sequential(block(3, 16), block(16, 32), block(32, 64), *pooling, nn.Linear(64, 10)),
        training_data=data,
        validation_data=TensorDataset(torch.zeros(2, 3, SIDE, SIDE), torch.tensor([0, 1])),
        loss_function=nn.functional.cross_entropy,
        space=frostline.SearchSpace(distributions={"learning_rate": FloatDistribution(1e-3, 1.0, log=True)}),
        defaults={"learning_rate": 0.1},
        full_samples=SAMPLES,
        batch_size=BATCH,
        data_fingerprint="compressed images",
        num_workers=num_workers,
    )


class EachByItself(frostline.SupervisedTask):
    """A task with a score of its own, which is asked for one model after the other."""

    def score(self, model: nn.Module, batches: Iterable[Any]) -> float:
        return super().score(model, batches)


def seconds_of(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def settings_of_runs() -> TrainingSettings:
    options = TrainingOptions(device="cpu", num_validations=1)
    return options.settings(folder=options.folder, seed=0)


def train(task: frostline.SupervisedTask) -> None:
    layers = len(task.split(task.build_model(CONFIGURATION)).layers)
    job = Job(configuration=CONFIGURATION, rung=0, fidelity=Fidelity(trainable_layers=layers, samples=SAMPLES))
    settings = settings_of_runs()
    assert train_serially(task, job, settings).score is not None


def fetch(task: frostline.SupervisedTask) -> None:
    for _ in islice(task.training_batches(CONFIGURATION, seed=0, skip_samples=0), SAMPLES // BATCH):
        pass


def turn_of(side: int) -> dict[str, float]:
    """Return the seconds of one turn."""
    data = Compressed(side)
    here = task_of(data)
    in_memory = TensorDataset(torch.rand(NUM_IMAGES, 3, SIDE, SIDE), torch.arange(NUM_IMAGES) % 10)
    return {
        "fetching alone": seconds_of(lambda: fetch(here)),
        "training alone": seconds_of(lambda: train(task_of(in_memory))),
        "0": seconds_of(lambda: train(here)),
        **{f"{n}": seconds_of(lambda n=n: train(task_of(data, num_workers=n))) for n in WORKERS},
    }


def row_of(side: int, turns: list[dict[str, float]]) -> dict[str, float]:
    def ratio(seconds: Callable[[dict[str, float]], float]) -> float:
        return statistics.median(seconds(turn) / turn["0"] for turn in turns)

    return {
        "side": side,
        "milliseconds_per_example": statistics.median(turn["fetching alone"] for turn in turns) / SAMPLES * 1e3,
        "seconds": statistics.median(turn["0"] for turn in turns),
        **{f"{n} workers": ratio(lambda turn, n=n: turn[f"{n}"]) for n in WORKERS},
        "limit": ratio(lambda turn: max(turn["fetching alone"], turn["training alone"])),
    }


def rung_of(task: frostline.SupervisedTask, members: int) -> float:
    """Return the seconds of a rung of so many members, which all train the last layer."""
    fidelity = Fidelity(trainable_layers=1, samples=RUNG_SAMPLES)
    jobs = [
        Job(configuration=replace(CONFIGURATION, number=number), rung=0, fidelity=fidelity)
        for number in range(members)
    ]
    settings = settings_of_runs()

    def train_all() -> None:
        ended = list(Population(task, jobs, settings, engine=Engine.SHARED).run())
        assert all(evaluation.score is not None for evaluation in ended)

    return seconds_of(train_all)


def rungs_of(members: Sequence[int], repetitions: int) -> list[dict[str, float]]:
    """Return what rungs take whose members are validated together, and as a share of what they take otherwise."""
    data = Compressed(RUNG_SIDE)
    together = replace(task_of(data), validation_data=data)
    fields = {field: getattr(together, field) for field in together.__dataclass_fields__}
    apart = EachByItself(**fields)
    rows = []
    for number in members:
        turns = [(rung_of(together, number), rung_of(apart, number)) for _ in range(repetitions + 1)][1:]
        rows.append(
            {
                "members": number,
                "seconds": statistics.median(own for own, _ in turns),
                "share": statistics.median(own / others for own, others in turns),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--sides", default="40,80,160")
    parser.add_argument("--members", default="1,4,16")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    sides = [int(side) for side in options.sides.split(",")]
    turn_of(sides[0])
    turns: dict[int, list[dict[str, float]]] = {side: [] for side in sides}
    for _ in range(options.repetitions):
        for side in sides:
            turns[side].append(turn_of(side))
    rows = [row_of(side, turns[side]) for side in sides]
    columns = ["images", "an example, ms", "seconds", *(f"{n} workers" for n in WORKERS), "limit"]
    print(
        text_table(
            [
                tuple(columns),
                *(
                    (
                        f"{row['side']} x {row['side']}",
                        f"{row['milliseconds_per_example']:.2f}",
                        f"{row['seconds']:.2f}",
                        *(f"{row[f'{n} workers']:.2f}" for n in WORKERS),
                        f"{row['limit']:.2f}",
                    )
                    for row in rows
                ),
            ]
        )
    )
    rungs = rungs_of([int(number) for number in options.members.split(",")], options.repetitions)
    told = [(f"{row['members']}", f"{row['seconds']:.2f}", f"{row['share']:.2f}") for row in rungs]
    print(text_table([("members", "seconds, validated together", "of each by itself"), *told]))
    if options.json is not None:
        machine = {"torch": torch.__version__, "cores": os.cpu_count(), "processor": platform.processor()}
        record = {"machine": machine, "repetitions": options.repetitions, "rows": rows, "rungs": rungs}
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
