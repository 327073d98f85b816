"""Reads back the file of costs that ``frostline cost`` writes."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from frostline.costs.measurement import FailedStep
from frostline.costs.shown.cost_tables import Circumstances, CostRow
from frostline.costs.step_cost import Memory, Seconds, StepCost, StepSeconds

KINDS = ("parameters", "gradients", "optimizer_state", "activations", "peak")
PARTS = ("forward", "backward", "optimizer", "whole")


def read_costs(path: Path) -> tuple[tuple[CostRow, ...], Circumstances]:
    """The steps in the file, and their circumstances."""
    with path.open(encoding="utf-8", newline="") as file:
        records = list(csv.DictReader(file, strict=True))
    first = records[0]
    return tuple(row_of(record) for record in records), Circumstances(
        task=first["task"],
        device=first["device"],
        precision=first["precision"],
        torch_version=first["torch_version"],
        threads=int(first["threads"]),
    )


def row_of(record: Mapping[str, str]) -> CostRow:
    layers, num_layers = int(record["trainable_layers"]), int(record["num_layers"])
    batch_size = int(record["batch_size_examples"])
    if record["origin"] == "failed":
        return FailedStep(
            trainable_layers=layers, num_layers=num_layers, batch_size=batch_size, reason=record["failure"]
        )
    seconds = None
    if record["origin"] == "measured":
        parts = {
            part: Seconds(float(record[f"{part}_seconds_median"]), float(record[f"{part}_seconds_spread"]))
            for part in PARTS
        }
        seconds = StepSeconds(**parts)
    return StepCost(
        trainable_layers=layers,
        num_layers=num_layers,
        batch_size=batch_size,
        trainable_parameters=int(record["trainable_parameters"]),
        memory=Memory(
            **{kind: int(record[f"{kind}_bytes"]) for kind in KINDS},
            reserved=int(record["reserved_bytes"]) if record["reserved_bytes"] else None,
        ),
        forward_flops=int(record["forward_flops"]),
        backward_flops=int(record["backward_flops"]),
        seconds=seconds,
    )
