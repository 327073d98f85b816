"""Searches against the bytes of the model, beside searches by the score alone: their fronts, and their best scores.

    python benchmarks/model_costs.py [--seeds 5] [--configurations 54] [--threads 1] [--json FILE]

An MLP of five layers on scikit-learn's digits, its width from 4 to 256 beside the learning rate, the optimizer and the rest.
Both ways try the same configurations of a seed, on the same ladder, and train equally many at each rung; they differ in who
is promoted. The front of each is that of all it trained in full. Its area is the share that it dominates of what lies
between a loss of 0 and that of guessing, and between the bytes of the narrowest and of the widest model (on a logarithmic
scale).
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import platform
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from optuna.distributions import IntDistribution
from rich.console import Console
from rich.table import Table
from torch import nn

import frostline
from frostline.costs.model_cost import ModelMeter
from frostline.records import Configuration, Status
from frostline.run.outcome.result import TuneResult
from frostline.tasks.builtin.digits_mlp import digits_mlp
from frostline.tasks.models.mlp import MLPSettings, build_mlp
from frostline.training.machine.devices import DevicePlan

NARROWEST, WIDEST = 4, 256
NUM_HIDDEN = 4
FULL_IMAGES = 100 * 64
GUESSING = math.log(10)
WAYS = ("score", "bytes")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    promoted_by: str
    seed: int
    area: float
    best: float
    front: list[tuple[float, float]]
    full_trainings: int
    seconds: float


def model(configuration: Configuration) -> nn.Module:
    width = configuration["width"]
    assert isinstance(width, int)
    return build_mlp(MLPSettings(num_hidden_layers=NUM_HIDDEN, width=width))


def task_of_width() -> frostline.SupervisedTask:
    """The task digits-mlp with half as many layers, whose width is searched too."""
    own = digits_mlp(num_hidden_layers=NUM_HIDDEN, full_images=FULL_IMAGES)
    distributions = {**own.space.distributions, "width": IntDistribution(NARROWEST, WIDEST, log=True)}
    return replace(
        own,
        name="digits-mlp of any width",
        model=model,
        space=frostline.SearchSpace(distributions=distributions),
        defaults={**own.defaults, "width": 128},
    )


def search(
    task: frostline.SupervisedTask, way: str, seed: int, *, configurations: int, threads: int
) -> TuneResult:
    with tempfile.TemporaryDirectory() as folder:
        return frostline.tune_task(
            task,
            study=f"{way} {seed}",
            storage=":memory:",
            plan=frostline.SearchPlan(
                configurations=configurations, seed=seed, against=None if way == "score" else way
            ),
            training=frostline.TrainingOptions(device="cpu", threads=threads, runs=Path(folder)),
            observer=frostline.SILENT,
        )


def outcome_of(result: TuneResult, meter: ModelMeter, way: str, seed: int) -> Outcome:
    last = len(result.terms.rungs) - 1
    full = [one for one in result.history.evaluations() if one.rung == last and one.status is Status.FINISHED]
    # Numbers begin anew in each search: those of bytes are looked up by the width.
    points = [(one.score or 0.0, bytes_of(meter, result.history.configurations[one.number])) for one in full]
    front = [point for point in points if not any(beats(other, point) for other in points)]
    return Outcome(
        promoted_by=way,
        seed=seed,
        area=area(front, *(bytes_of(meter, of_width(width)) for width in (NARROWEST, WIDEST))),
        best=result.score,
        front=sorted(front),
        full_trainings=len(full),
        seconds=result.summary.seconds,
    )


def of_width(width: int) -> Configuration:
    return Configuration(number=width, hyperparameters={"width": width})


def bytes_of(meter: ModelMeter, configuration: Configuration) -> float:
    width = configuration["width"]
    assert isinstance(width, int)
    cost = meter(of_width(width))
    assert cost is not None
    return cost


def beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] <= other[0] and one[1] <= other[1] and one != other


def area(front: list[tuple[float, float]], least: float, most: float) -> float:
    """The share of the losses below guessing and the logarithms of bytes that a front dominates."""
    whole, total, before = math.log(most / least), 0.0, 1.0
    for loss, cost in sorted(front):
        place = math.log(cost / least) / whole
        if loss < GUESSING and place < before:
            total += (1 - loss / GUESSING) * (before - place)
            before = place
    return total


def spread(values: list[float]) -> dict[str, float]:
    """The mean over seeds, the least and the most: of so few an interval would say little."""
    return {"value": fmean(values), "low": min(values), "high": max(values)}


def summary_of(outcomes: list[Outcome]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for way in WAYS:
        mine = [one for one in outcomes if one.promoted_by == way]
        rows.append(
            {
                "promoted_by": way,
                "area": spread([one.area for one in mine]),
                "best": spread([one.best for one in mine]),
                "members": spread([float(len(one.front)) for one in mine]),
                "seconds": spread([one.seconds for one in mine]),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--configurations", type=int, default=54)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    logging.getLogger("frostline").setLevel(logging.ERROR)
    torch.set_num_threads(arguments.threads)
    task = task_of_width()
    meter = ModelMeter(task, "bytes", device_plan=DevicePlan(device=torch.device("cpu")))
    outcomes = []
    for seed in range(arguments.seeds):
        for way in WAYS:
            result = search(task, way, seed, configurations=arguments.configurations, threads=arguments.threads)
            outcomes.append(outcome_of(result, meter, way, seed))
            print(outcomes[-1], flush=True)
    found = found_of(outcomes)
    table = Table("promoted by", "area of the front", "its members", "best loss", "seconds", box=None)
    for row in found["ways"]:
        figures = (row[name] for name in ("area", "members", "best", "seconds"))
        cells = [f"{each['value']:.3f} ({each['low']:.3f} to {each['high']:.3f})" for each in figures]
        table.add_row(row["promoted_by"], *cells)
    Console(width=140).print(table)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


def found_of(outcomes: list[Outcome]) -> dict[str, Any]:
    """What is written of the outcomes, two of each seed."""
    areas = {(one.promoted_by, one.seed): one.area for one in outcomes}
    seeds = sorted({one.seed for one in outcomes})
    return {
        "seeds": len(seeds),
        "ways": summary_of(outcomes),
        "larger": sum(areas["bytes", seed] > areas["score", seed] for seed in seeds),
        "outcomes": [asdict(one) for one in outcomes],
        "machine": platform.machine(),
        "torch": torch.__version__,
    }


if __name__ == "__main__":
    main()
