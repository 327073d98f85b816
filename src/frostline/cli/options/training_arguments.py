"""How and where trainings run, as several commands take it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from frostline.cli.options.arguments import DeviceOption, MemoryOption, PrecisionOption, ThreadsOption
from frostline.cli.options.grouping import HOW, WHERE
from frostline.populations.engines import Engine
from frostline.run.execution.options import AUTO, DEFAULT_RUNS, OFF, TrainingOptions, parse_count
from frostline.sizes import parse_size


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineArguments:
    """How trainings run on this machine: the numbers are the same, but for rounding."""

    device: DeviceOption = "auto"
    engine: Annotated[
        str,
        typer.Option(
            "--engine",
            help="How a rung is trained together: auto, shared, stacked, compiled, captured; serial: one by one.",
            rich_help_panel=HOW,
            hidden=True,
        ),
    ] = "auto"
    memory: MemoryOption = "auto"
    prefix_cache: Annotated[
        str,
        typer.Option(
            "--prefix-cache",
            help="What outputs of frozen layers that come again may take: auto, off or a size.",
            rich_help_panel=HOW,
            hidden=True,
        ),
    ] = "auto"
    threads: ThreadsOption = AUTO
    workers: Annotated[
        str,
        typer.Option(
            "--workers",
            help="How many processes train side by side; auto: several on the CPU where a training cannot use its cores.",
            rich_help_panel=HOW,
            hidden=True,
        ),
    ] = AUTO
    runs: Annotated[
        str,
        typer.Option(
            "--runs",
            help="The folder of the checkpoints, or its URL: s3://bucket/folder.",
            rich_help_panel=WHERE,
            hidden=True,
        ),
    ] = f"{DEFAULT_RUNS}"

    def __post_init__(self) -> None:
        Engine.parse(self.engine)
        if self.memory != AUTO:
            parse_size(self.memory)
        if self.prefix_cache not in (AUTO, OFF):
            parse_size(self.prefix_cache)
        # For the checks alone.
        self.options("float32")

    def options(self, precision: str) -> TrainingOptions:
        """Return them, with a precision, as a search and an audit take them."""
        return TrainingOptions(
            device=self.device,
            precision=precision,
            engine=self.engine,
            memory=self.memory,
            prefix_cache=self.prefix_cache,
            threads=parse_count("--threads", self.threads),
            workers=parse_count("--workers", self.workers),
            runs=self.runs,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingArguments(MachineArguments):
    """How trainings run, the precision that they are computed in with it."""

    precision: PrecisionOption = "float32"

    def __post_init__(self) -> None:
        MachineArguments.__post_init__(self)
        self.options(self.precision)
