"""Stacked steps whose members' weights are updated all at once, against one optimizer after the other.

    python benchmarks/joint_update.py [--steps 60] [--members 3,9,27] [--json FILE]

MLPs of several widths, of which the second half is trained with AdamW, each member with other numbers and its own bound on
the gradient's norm. Both ways take turns, step by step. Medians of a whole step: loss, gradients and update; ``faster`` is
the ratio of the two, in the median over the steps, with its quartiles. On the CPU it is the process's own seconds on one
core that are counted, which others on the machine hardly change.
"""

from __future__ import annotations

from frostline.process import prepare_process

prepare_process()  # as the frostline command does, before torch is loaded

import argparse
import json
import statistics
import time
from collections.abc import Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from population import Contestants, Ground, draw_inputs, task_of
from rich.console import Console
from rich.table import Table
from torch import nn

from frostline.populations.stacking.stacked import StackedStep
from frostline.training.machine.devices import resolve_device, synchronise

SHAPES = ((16, 3), (32, 3), (64, 4), (96, 4), (128, 4), (256, 4))
"""Width and depth."""
NUM_CLASSES, BATCH_SIZE, WARM_UP_STEPS = 10, 32, 5
WAYS = {"each": False, "joint": True}


def build_mlp(width: int, depth: int) -> nn.Module:
    hidden = [nn.Sequential(nn.Linear(width, width), nn.Tanh()) for _ in range(depth)]
    return nn.Sequential(*hidden, nn.Linear(width, NUM_CLASSES))


def measured(width: int, depth: int, members: int, steps: int, device: torch.device) -> Mapping[str, Any]:
    """Return a row: seconds of a step either way."""
    models = {"mlp": (partial(build_mlp, width, depth), partial(draw_inputs, (width,)), BATCH_SIZE)}
    task = task_of("mlp", num_batches=steps, models=models)
    ground = Ground.of(task, depth // 2 + 1, members, device)
    batches = ground.batches()
    first = next(batches)
    contestants: Contestants = {}
    for way, joint in WAYS.items():
        sessions, _ = ground.sharing()
        for number, session in enumerate(sessions):
            session.max_gradient_norm = 1.0 + number
        stacked = StackedStep(sessions, joint=joint)
        complaint = stacked.prove(first)
        assert complaint is None, complaint
        contestants[way] = partial(stacked.step, rate_factors=[1.0] * members)
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for batch in islice(batches, WARM_UP_STEPS + steps):
        for way, contestant in contestants.items():
            begin = clock()
            contestant(batch)
            synchronise(device)
            seconds[way].append(clock() - begin)
    seconds = {way: times[WARM_UP_STEPS:] for way, times in seconds.items()}
    ratios = [each / joint for each, joint in zip(seconds["each"], seconds["joint"], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {
        "width": width, "depth": depth, "numbers": sum(each.numel() for each in sessions[0].parameters),
        "members": members, "steps": steps, "seconds": {way: statistics.median(each) for way, each in seconds.items()},
        "faster": {"value": middle, "low": low, "high": high},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--members", default="3,9,27")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    table = Table("numbers trained", "members", "one by one, ms", "at once, ms", "faster")
    rows = []
    for width, depth in SHAPES:
        for members in map(int, arguments.members.split(",")):
            row = measured(width, depth, members, arguments.steps, resolve_device(arguments.device))
            rows.append(row)
            faster = "{value:.2f}× ({low:.2f} to {high:.2f})".format(**row["faster"])
            table.add_row(
                f"{row['numbers']:,}", f"{members}", *(f"{1e3 * row['seconds'][way]:.2f}" for way in WAYS), faster
            )
            if arguments.json:
                facts = {"threads": torch.get_num_threads(), "torch": torch.__version__, "rows": rows}
                arguments.json.write_text(json.dumps(facts, indent=1) + "\n")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
