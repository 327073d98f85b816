"""What freezing saves at every number of trainable layers: measured, beside what it should save.

    python benchmarks/freezing.py [--tasks python-source-gpt,digits-resnet,digits-mlp] [--steps 20] [--json FILE]

Time: the median of whole training steps (forward, backward, optimizer) against those of the full model, beside the share
by exactly counted FLOPs and by the method's formula (n + 2z) / 3n, which takes all layers for equal. Memory: the bytes
kept for the backward pass, beside those that the trained layers alone keep in full training. The numbers of trainable
layers take turns, so that a busy machine slows all alike.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from frostline import Configuration, Task, inspect_freezing
from frostline.tasks.loading import load_task
from frostline.training.machine.devices import DevicePlan, move_batch, resolve_device
from frostline.training.session import Session, begin_session

WARM_UP_STEPS = 3


@dataclass(frozen=True)
class Row:
    task: str
    trainable_layers: int
    num_layers: int
    step_seconds: float
    step_seconds_quartiles: tuple[float, float]
    time_share: float
    flops_share: float
    formula_share: float
    kept_bytes: int
    expected_kept_bytes: int
    kept_share: float
    trainable_parameters: int


def measure(task: Task, device: torch.device, steps: int) -> list[Row]:
    configuration = Configuration(number=0, hyperparameters=task.defaults)
    num_layers = task.split(task.build_model(configuration)).num_layers
    plan = DevicePlan(device=device)
    levels = range(1, num_layers + 1)
    batch = next(task.training_batches(configuration, seed=0, skip_samples=0))
    sessions = {
        level: begin_session(task, configuration, trainable_layers=level, device_plan=plan, root_seed=0)
        for level in levels
    }
    flops = {level: step_flops(session, batch) for level, session in sessions.items()}
    seconds: dict[int, list[float]] = {level: [] for level in levels}
    for _ in range(WARM_UP_STEPS + steps):
        for level, session in sessions.items():
            synchronise(device)
            begin = time.perf_counter()
            session.step(batch, rate_factor=0.0)
            synchronise(device)
            seconds[level].append(time.perf_counter() - begin)
    medians = {level: statistics.median(times[WARM_UP_STEPS:]) for level, times in seconds.items()}
    rows = []
    for level, session in sessions.items():
        moved = move_batch(batch, device)
        report = inspect_freezing(session.model, moved, task.loss)
        quartiles = statistics.quantiles(seconds[level][WARM_UP_STEPS:], n=4)
        rows.append(
            Row(
                task=task.name,
                trainable_layers=level,
                num_layers=num_layers,
                step_seconds=medians[level],
                step_seconds_quartiles=(quartiles[0], quartiles[2]),
                time_share=medians[level] / medians[num_layers],
                flops_share=flops[level] / flops[num_layers],
                formula_share=(num_layers + 2 * level) / (3 * num_layers),
                kept_bytes=report.activations.measured,
                expected_kept_bytes=report.activations.expected,
                kept_share=report.activations.measured / report.activations.full,
                trainable_parameters=sum(parameter.numel() for parameter in session.parameters),
            )
        )
    return rows


def step_flops(session: Session, batch: object) -> int:
    # On the CPU fused attention is not counted (torch 2.13): the plain one is.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        session.step(batch, rate_factor=0.0)
    return int(counter.get_total_flops())


def synchronise(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", default="python-source-gpt,digits-resnet,digits-mlp")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    device = resolve_device(arguments.device)
    everything: list[Row] = []
    for name in arguments.tasks.split(","):
        rows = measure(load_task(name, {}), device, arguments.steps)
        everything += rows
        where = f"{device.type}, {torch.get_num_threads()} threads, torch {torch.__version__}"
        table = Table(
            "trained", "ms/step", "quartiles", "time", "by FLOPs", "by formula", "kept MiB", "expected", "of full",
            title=f"{name}: {where}",
        )  # fmt: skip
        for row in rows:
            low, high = row.step_seconds_quartiles
            table.add_row(
                f"{row.trainable_layers} of {row.num_layers}", f"{1e3 * row.step_seconds:.2f}",
                f"{1e3 * low:.2f} to {1e3 * high:.2f}", f"{row.time_share:.2f}", f"{row.flops_share:.2f}",
                f"{row.formula_share:.2f}", f"{row.kept_bytes / 2**20:.2f}", f"{row.expected_kept_bytes / 2**20:.2f}",
                f"{row.kept_share:.2f}",
            )  # fmt: skip
        Console(width=120).print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in everything], indent=1) + "\n")


if __name__ == "__main__":
    main()
