"""Models that full training does not fit on this machine, trained on it at low fidelities: real steps, real memory.

    python benchmarks/weak_hardware.py [--models Pythia-1.4B,600M] [--every-layer] [--steps 2] [--json FILE]

Each row is a process of its own, whose peak resident memory is the kernel's (the interpreter and torch count too). Beside it
the prediction, which was made before. "full" trains all layers; where it is predicted not to fit it is refused, and the row
says so. Rows that FILE holds are not measured again without ``--again``.
"""

from __future__ import annotations

from frostline.process import prepare_process, return_freed_memory

prepare_process()  # as the frostline command does, before torch is loaded
return_freed_memory()

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from frostline.costs.capacity import Capacity
from frostline.errors import NotEnoughMemoryError
from frostline.records import Configuration, Fidelity
from frostline.run.single_training import train_task
from frostline.sizes import format_size
from frostline.tasks.loading import load_task
from frostline.training.machine.devices import DevicePlan
from frostline.training.machine.memory import available_bytes
from frostline.training.machine.randomness import borrowed_generators
from frostline.training.session import begin_session
from frostline.training.supervised.task_layers import layers_of

# How frozen weights and logits are kept, from plain freezing on.
WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "bfloat16, chunked logits": {"frozen_dtype": "bfloat16", "chunked_logits": True},
    "bfloat16, chunked logits, streamed": {
        "frozen_dtype": "bfloat16", "chunked_logits": True, "frozen_placement": "stream",
    },
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Cell:
    model: str
    layers: int
    way: str
    steps: int


def run_cell(cell: Cell) -> dict[str, Any]:
    """Train a few steps in this process; what it takes is the process's own peak."""
    task = load_task("random-tokens", {"model": cell.model, **WAYS[cell.way]})
    configuration = Configuration(number=0, hyperparameters=task.defaults)
    plan = DevicePlan(device=torch.device("cpu"))
    seconds = []
    begin = time.perf_counter()
    with borrowed_generators(plan.device):
        session = begin_session(task, configuration, trainable_layers=cell.layers, device_plan=plan, root_seed=0)
        built = time.perf_counter() - begin
        batches = task.training_batches(configuration, seed=0, skip_samples=0)
        losses = []
        for _, batch in zip(range(cell.steps), batches, strict=False):
            begin = time.perf_counter()
            loss, _ = session.step(batch, rate_factor=1.0)
            losses.append(float(loss))
            seconds.append(time.perf_counter() - begin)
    return {"resident": peak_resident(), "building": built, "seconds": seconds, "losses": losses}


def peak_resident() -> int:
    """Return the most that this process had in memory, in bytes."""
    # Linux's getrusage would count the parent's, which started this one, as well.
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def capacity_of(cell: Cell) -> Capacity:
    return Capacity(load_task("random-tokens", {"model": cell.model, **WAYS[cell.way]}))


def measured(cell: Cell) -> dict[str, Any]:
    """Run a cell in a process of its own."""
    command = [sys.executable, __file__, "--cell", json.dumps(asdict(cell))]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    if ended.returncode != 0:
        return {"refused": (ended.stderr.strip().splitlines() or [f"status {ended.returncode}"])[-1]}
    result: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return result


def refusal(cell: Cell) -> str:
    """Ask for the training as a user does, and return why it is refused."""
    task = load_task("random-tokens", {"model": cell.model, **WAYS[cell.way]})
    fidelity = Fidelity(trainable_layers=cell.layers, samples=task.full_samples)
    try:
        train_task(task, task.defaults, fidelity=fidelity)
    except NotEnoughMemoryError as error:
        return str(error)
    return "it was not refused"


def cells_of(model: str, steps: int, *, every_layer: bool) -> list[Cell]:
    """Return a model's cells: its lowest fidelity in every way, and full training or every number of layers, plainly."""
    num_layers = layers_of(load_task("random-tokens", {"model": model})).num_layers
    cells = [Cell(model=model, layers=1, way=way, steps=steps) for way in WAYS]
    more = range(2, num_layers + 1) if every_layer else [num_layers]
    return cells + [Cell(model=model, layers=layers, way="plain", steps=steps) for layers in more]


def table_of(rows: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table(title="one step: bytes of tensors as predicted, resident memory as it was")
    for heading in (
        "model",
        "layers trained",
        "frozen weights, logits",
        "predicted",
        "peak resident",
        "s a step",
    ):
        table.add_column(heading)
    for row in rows.values():
        cell = row["cell"]
        start = (cell["model"], str(cell["layers"]), cell["way"], format_size(row["predicted"]))
        if "refused" in row:
            table.add_row(*start, row["refused"], "")
        else:
            step = min(row["seconds"])
            table.add_row(*start, format_size(row["resident"]), f"{step:.1f}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="Pythia-1.4B,600M")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument(
        "--every-layer", action="store_true", help="every number of layers that fits, and not only full"
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.cell:
        print(json.dumps(run_cell(Cell(**json.loads(arguments.cell)))))
        return
    rows: dict[str, Any] = {}
    if arguments.json and arguments.json.exists() and not arguments.again:
        rows = json.loads(arguments.json.read_text())["rows"]
    available = available_bytes(torch.device("cpu"))
    console = Console(width=160)
    console.print(
        f"{format_size(available)} available, {torch.get_num_threads()} threads, torch {torch.__version__}; "
        f"streamed weights lie in {tempfile.gettempdir()}"
    )
    for model in arguments.models.split(","):
        for cell in cells_of(model, arguments.steps, every_layer=arguments.every_layer):
            key = f"{cell.model} {cell.layers} {cell.way}"
            if key in rows:
                continue
            capacity = capacity_of(cell)
            needed = capacity.cost(cell.layers).memory.peak
            row = {"cell": asdict(cell), "predicted": needed}
            row |= measured(cell) if capacity.required(cell.layers) <= available else {"refused": refusal(cell)}
            rows[key] = row
            console.print(key, format_size(needed), row.get("refused") or format_size(row["resident"]))
            if arguments.json:
                facts = {"available": available, "threads": torch.get_num_threads(), "torch": torch.__version__}
                arguments.json.write_text(json.dumps({**facts, "rows": rows}, indent=1))
    console.print(table_of(rows))


if __name__ == "__main__":
    main()
