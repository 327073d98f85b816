"""What `frostline tune` takes about where configurations are trained, and to what they are logged."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from frostline.cli.options.grouping import HOW
from frostline.errors import OptionError
from frostline.inputs.whole_numbers import shown
from frostline.run.execution.options import AUTO

if TYPE_CHECKING:
    from frostline.run.execution.workload import ExecutorFactory
    from frostline.run.loop import Observer

LOCAL, RAY = "local", "ray"
"""The executors by name."""

TRACKERS = ("mlflow", "tensorboard", "trackio", "wandb")
"""What evaluations are logged to, by name: see ``integrations.trackers``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorArguments:
    """Where configurations are trained, and logged."""

    executor: Annotated[
        str,
        typer.Option(
            "--executor", help="local: on this machine; ray: on a cluster.", rich_help_panel=HOW, hidden=True
        ),
    ] = LOCAL
    address: Annotated[
        str,
        typer.Option(
            "--address",
            help="Of the cluster: HOST:PORT; auto: the one that this machine is in; local: one started here.",
            rich_help_panel=HOW,
            hidden=True,
        ),
    ] = AUTO
    log: Annotated[
        str | None,
        typer.Option(
            "--log",
            help="Every evaluation as a run of: mlflow; tensorboard; trackio; wandb.",
            rich_help_panel=HOW,
            hidden=True,
        ),
    ] = None

    def __post_init__(self) -> None:
        if self.executor not in (LOCAL, RAY):
            raise OptionError(f"--executor is {shown(self.executor)}, but must be {LOCAL} or {RAY}.")
        if self.log not in (None, *TRACKERS):
            raise OptionError(f"--log is {shown(self.log)}, but must be one of {', '.join(TRACKERS)}.")
        if self.address != AUTO and self.executor != RAY:
            raise OptionError(f"--address {self.address} is that of a cluster: add --executor {RAY}.")

    def tracker(self, study: str, runs: Path) -> Observer:
        """Return what logs the evaluations of ``study``."""
        if self.log is None:
            from frostline.run.loop import SILENT

            return SILENT
        from frostline.integrations.trackers import tracker_named

        return tracker_named(self.log, study, runs=runs)

    def factory(self, workers: int | Literal["auto"]) -> ExecutorFactory:
        """Return what makes the executor, with at most so many ``workers`` on a node of a cluster."""
        if self.executor == LOCAL:
            from frostline.run.execution.local import local_executor

            return local_executor
        from frostline.integrations import RayExecutor

        return RayExecutor(address=self.address, workers_per_node=workers)
