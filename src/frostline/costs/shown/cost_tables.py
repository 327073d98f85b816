"""Costs as a table for people, and as a tidy file that gives them back."""

from __future__ import annotations

import csv
import io
import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from rich.table import Table

from frostline.atomic import write_whole
from frostline.costs.measurement import FailedStep
from frostline.costs.step_cost import Seconds, StepCost

if TYPE_CHECKING:
    from collections.abc import Iterable

CostRow = StepCost | FailedStep

_KINDS = ("parameters", "gradients", "optimizer_state", "activations", "peak")
_PARTS = ("forward", "backward", "optimizer", "whole")
_COLUMNS = (
    "task", "device", "precision", "torch_version", "threads",
    "origin", "trainable_layers", "num_layers", "batch_size_examples", "trainable_parameters",
    *(f"{kind}_bytes" for kind in _KINDS), "reserved_bytes", "rest_bytes", "forward_flops", "backward_flops",
    *(f"{part}_seconds_{figure}" for part in _PARTS for figure in ("median", "spread")),
    "failure",
)  # fmt: skip
_MIB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What was measured, and where: figures of different circumstances are not to be compared."""

    task: str
    device: str
    precision: str
    torch_version: str
    threads: int

    @classmethod
    def here(cls, task: str, *, device: torch.device, precision: str) -> Circumstances:
        """Return those of this process."""
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu {platform.machine()}"
        return cls(
            task=task,
            device=name,
            precision=precision,
            torch_version=str(torch.__version__),
            threads=torch.get_num_threads(),
        )

    @classmethod
    def of(
        cls, task: str, *, device: torch.device, precision: str, predicted_device: str = "cpu"
    ) -> Circumstances:
        """Return those of this process, or of predictions for a device that need not be here."""
        here = cls.here(task, device=device, precision=precision)
        return replace(here, device="predicted for CUDA, not measured") if predicted_device == "cuda" else here

    def __str__(self) -> str:
        return f"{self.task}: {self.device}, {self.threads} threads, torch {self.torch_version}, {self.precision}"


def full_costs(rows: Iterable[CostRow]) -> dict[tuple[int, bool], StepCost]:
    """Return the costs of full training, by batch size and whether they were predicted."""
    return {
        (row.batch_size, row.seconds is None): row
        for row in rows
        if isinstance(row, StepCost) and row.trainable_layers == row.num_layers
    }


def memory_table(rows: Sequence[CostRow]) -> Table:
    """Return the table of memory by kind in MiB, and of the peak's share of full training's at the same batch size.

    Where it is known it also holds what an allocator takes for it: what the device must have.
    """
    headings = ("MiB\nparameters", "\ngradients", "\noptimizer", "\nactivations", "\npeak")
    reserved = [row.memory.reserved for row in rows if isinstance(row, StepCost)]
    held = () if all(each is None for each in reserved) else ("held by the\nallocator",)
    table = _table("trained", "batch", "parameters\ntrained", *headings, *held, "peak\nof full")
    full = full_costs(rows)
    for row in _in_order(rows):
        peak = row.memory.peak
        whole = full.get((row.batch_size, row.seconds is None))
        sizes = (_mebibytes(getattr(row.memory, kind)) for kind in _KINDS)
        table.add_row(
            *_place(row),
            f"{row.trainable_parameters:,}",
            *sizes,
            *(_mebibytes(row.memory.reserved) for _ in held),
            _share(peak, None if whole is None else whole.memory.peak),
        )
    return table


def _mebibytes(num_bytes: int | None) -> str:
    return "" if num_bytes is None else f"{num_bytes / _MIB:,.2f}"


def time_table(rows: Sequence[CostRow]) -> Table:
    """Return the table of milliseconds, GFLOP, and their shares of full training's at the same batch size.

    A time stands with half the distance between its quartiles. The share of FLOPs is the limit to that of time.
    """
    headings = ("ms\nforward", "\nbackward", "\noptimizer", "\nwhole")
    table = _table(
        "trained", "batch", *headings, "time\nof full", "limit by\nFLOPs", "GFLOP\nforward", "\nbackward"
    )
    full = full_costs(rows)
    for row in _in_order(rows):
        seconds, whole = row.seconds, full.get((row.batch_size, row.seconds is None))
        parts = ["" if seconds is None else _milliseconds(getattr(seconds, part)) for part in _PARTS]
        share = ""
        if seconds is not None and whole is not None and whole.seconds is not None:
            share = _share(seconds.whole.median, whole.seconds.whole.median)
        flops = (f"{number / 1e9:,.3f}" for number in (row.forward_flops, row.backward_flops))
        table.add_row(
            *_place(row), *parts, share, _share(row.flops, None if whole is None else whole.flops), *flops
        )
    return table


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _in_order(rows: Sequence[CostRow]) -> list[StepCost]:
    costs = [row for row in rows if isinstance(row, StepCost)]
    return sorted(costs, key=lambda cost: (cost.batch_size, cost.trainable_layers))


def _place(cost: StepCost) -> tuple[str, str]:
    return f"{cost.trainable_layers} of {cost.num_layers}", f"{cost.batch_size}"


def _share(part: float, whole: float | None) -> str:
    return f"{part / whole:.2f}" if whole else ""


def failure_lines(rows: Iterable[CostRow]) -> list[str]:
    """Return a line for every step that failed: which, and why."""
    return [
        f"{row.trainable_layers} of {row.num_layers} layers, batch {row.batch_size}: {row.reason}"
        for row in rows
        if isinstance(row, FailedStep)
    ]


def progress_line(row: CostRow) -> str:
    """Return one line about a step, as soon as its cost is known."""
    where = f"{row.trainable_layers:>3} of {row.num_layers} layers, batch {row.batch_size}"
    if isinstance(row, FailedStep):
        return f"{where}: failed: {row.reason}"
    peak, gflop = f"{row.memory.peak / _MIB:,.1f} MiB at the peak", f"{row.flops / 1e9:,.3f} GFLOP"
    if row.memory.reserved is not None:
        return f"{where}: {peak}, {row.memory.reserved / _MIB:,.1f} held by the allocator, {gflop}, predicted for CUDA"
    if row.seconds is None:
        return f"{where}: {peak}, {gflop}, predicted"
    return f"{where}: {peak}, {gflop}, {_milliseconds(row.seconds.whole)} ms"


def _milliseconds(seconds: Seconds) -> str:
    decimals = 2 if seconds.median < 0.1 else 0
    return f"{1e3 * seconds.median:,.{decimals}f} ±{1e3 * seconds.spread / 2:.{decimals}f}"


def write_costs(path: Path, rows: Sequence[CostRow], circumstances: Circumstances) -> None:
    """Write one line for every step, in plain units, to a file that is there whole or not at all.

    Raises: OptionError if it cannot be written.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_record(row, circumstances) for row in rows)
    write_whole(path, text.getvalue().encode())


def _record(row: CostRow, circumstances: Circumstances) -> dict[str, object]:
    record: dict[str, object] = {
        "task": circumstances.task,
        "device": circumstances.device,
        "precision": circumstances.precision,
        "torch_version": circumstances.torch_version,
        "threads": circumstances.threads,
        "trainable_layers": row.trainable_layers,
        "num_layers": row.num_layers,
        "batch_size_examples": row.batch_size,
    }
    if isinstance(row, FailedStep):
        return {**record, "origin": "failed", "failure": row.reason}
    record |= {
        "origin": "predicted" if row.seconds is None else "measured",
        "trainable_parameters": row.trainable_parameters,
        "reserved_bytes": row.memory.reserved,
        "rest_bytes": row.memory.rest,
        "forward_flops": row.forward_flops,
        "backward_flops": row.backward_flops,
    }
    record |= {f"{kind}_bytes": getattr(row.memory, kind) for kind in _KINDS}
    if row.seconds is not None:
        for part in _PARTS:
            figures: Seconds = getattr(row.seconds, part)
            record |= {f"{part}_seconds_median": figures.median, f"{part}_seconds_spread": figures.spread}
    return record
