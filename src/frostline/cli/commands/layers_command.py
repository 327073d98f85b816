"""The command `frostline layers`: what a task's model consists of."""

from __future__ import annotations

import typer

from frostline.cli.options.arguments import TaskArguments
from frostline.cli.options.grouping import grouped


@grouped
def layers_command(task: TaskArguments) -> None:
    """Show the layers of a task's model, in the order of execution."""
    from frostline.cli.display import waiting

    with waiting(f"loading {task.task}"):
        loaded = task.load()
        from frostline.training.supervised.task_layers import layers_of

        layers = layers_of(loaded)
    typer.echo(f"{layers}")
