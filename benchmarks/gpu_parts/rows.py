"""How a part of ``benchmarks/gpu.py`` runs in its process: measurement by measurement, each of which may fail."""

from __future__ import annotations

from frostline.process import prepare_process

prepare_process()  # as the frostline command does, before torch is loaded

import gc
import importlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from frostline.training.machine.devices import resolve_device

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Where is measured; ``tiny`` is for seeing whether everything runs."""

    device: torch.device
    tiny: bool

    @property
    def is_card(self) -> bool:
        return self.device.type == "cuda"


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """``measure`` returns rows; ``labels`` say in each of them what they are of."""

    labels: Row
    measure: Callable[[], Iterable[Row]]


def write_rows(part: str, file: Path, *, device: str, tiny: bool) -> None:
    """Make a part's measurements, and write each row as a line of JSON as soon as it is there; it is printed, too."""
    setting = Setting(device=resolve_device(device), tiny=tiny)
    with file.open("a") as lines:
        for measurement in importlib.import_module(f"gpu_parts.{part}").measurements(setting):
            for row in rows_of(measurement):
                print("  " + " | ".join(f"{name} {shown(value)}" for name, value in row.items()), flush=True)
                lines.write(json.dumps(row) + "\n")
                lines.flush()
            # Models and their freezings hold each other; the next measurement has the card for itself.
            gc.collect()
            if setting.is_card:
                torch.cuda.empty_cache()


def rows_of(measurement: Measurement) -> Iterable[Row]:
    """Yield the rows of a measurement, and of one that fails why."""
    try:
        for row in measurement.measure():
            yield {**measurement.labels, **row}
    # Out of memory, a kernel that is missing: no reason to lose the others.
    except Exception as error:
        yield {**measurement.labels, "failed": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}


def shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return "(" + ", ".join(f"{name} {shown(each)}" for name, each in value.items()) + ")"
    return f"{value}"
