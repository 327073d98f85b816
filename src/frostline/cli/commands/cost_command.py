"""The command `frostline cost`: what a training step takes, before a search pays for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from frostline.atomic import check_writable
from frostline.cli.options.arguments import DeviceOption, PrecisionOption, TaskArguments
from frostline.cli.options.grouping import grouped
from frostline.cli.options.step_arguments import StepArguments, folder_for, predicted_device, whole_numbers
from frostline.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from frostline.costs.shown.cost_tables import CostRow
    from frostline.costs.step_cells import StepCells
    from frostline.protocols import Task

_REPETITIONS = 10

# What a table needs where nobody says how wide the page is.
_WIDTH = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class CostArguments:
    """How costs are found, and what becomes of them."""

    batch_sizes: Annotated[
        str | None, typer.Option("--batch-sizes", help="In examples, such as 1,8,32. Default: the task's own.")
    ] = None
    predict: Annotated[
        bool, typer.Option("--predict/--measure", help="Tell bytes and FLOPs without running, or run real steps.")
    ] = False
    check: Annotated[
        bool,
        typer.Option("--check", help="Say where training more layers does not cost more, and end with status 1."),
    ] = False
    device: DeviceOption = "auto"
    precision: PrecisionOption = "float32"
    repetitions: Annotated[
        int | None, typer.Option("--repetitions", help=f"Timed steps of each kind. Default: {_REPETITIONS}.")
    ] = None
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The folder of costs.csv and costs.html. Default: one for the task."),
    ] = None

    def __post_init__(self) -> None:
        if self.predict:
            predicted_device(self.device)
            if self.repetitions is not None:
                raise OptionError(
                    f"--repetitions is {self.repetitions}, but with --predict no step is run: leave one of them out."
                )
        if self.batch_sizes is not None:
            whole_numbers("--batch-sizes", self.batch_sizes)
        if self.out is not None:
            check_writable(self.out / "costs.csv")

    def cells(self, task: Task, steps: StepArguments, *, say: Callable[[str], None]) -> StepCells:
        """Return the steps of ``task`` whose costs are asked for; ``say`` is told what goes on."""
        from frostline.costs.step_cells import StepCells
        from frostline.training.machine.devices import device_plan_of

        plan = device_plan_of("cpu" if self.predict else self.device, self.precision)
        if self.predict and plan.compute_dtype is not None:
            raise OptionError(
                f"precision is {self.precision!r}, but costs are predicted for float32: leave out --predict."
            )
        return StepCells(
            task=task,
            layers=steps.trained_layers(task, predict=self.predict),
            batch_sizes=None if self.batch_sizes is None else whole_numbers("--batch-sizes", self.batch_sizes),
            configuration=steps.hyperparameters,
            device_plan=plan,
            repetitions=_REPETITIONS if self.repetitions is None else self.repetitions,
            say=say,
            predicted_device=predicted_device(self.device) if self.predict else "cpu",
        )


@grouped
def cost_command(task: TaskArguments, steps: StepArguments, given: CostArguments) -> None:
    """Show what a training step costs at each number of trained layers: memory, time, FLOPs."""
    from frostline.cli.display import echo, waiting

    rows: list[CostRow] = []
    with waiting(f"costs of {task.task}"):
        loaded = task.load()
        from frostline.atomic import write_whole
        from frostline.costs.shown.cost_figures import cost_page
        from frostline.costs.shown.cost_tables import Circumstances, failure_lines, progress_line, write_costs

        folder = folder_for(loaded, given.out, "costs.csv")
        cells = given.cells(loaded, steps, say=echo)
        costs = cells.predicted() if given.predict else cells.measured()
        circumstances = Circumstances.of(
            loaded.name,
            device=cells.device_plan.device,
            precision=given.precision,
            predicted_device=cells.predicted_device,
        )
        echo(f"{circumstances}")
        for row in costs:
            echo(progress_line(row))
            rows.append(row)
            # After every step: whatever ends this process, what it found is there.
            write_costs(folder / "costs.csv", rows, circumstances)
        write_whole(folder / "costs.html", cost_page(rows, circumstances).encode())
    _show_tables(rows)
    failures = failure_lines(rows)
    for line in ["\nfailed:", *failures] if failures else []:
        typer.echo(line)
    typer.echo(f"\nin {folder}: costs.csv, costs.html")
    rises = not given.check or _report_check(rows)
    if len(failures) == len(rows) or not rises:
        raise typer.Exit(1)


def _show_tables(rows: Sequence[CostRow]) -> None:
    from rich.console import Console

    from frostline.costs.shown.cost_tables import memory_table, time_table

    console = Console() if Console().is_terminal else Console(width=_WIDTH)
    for table in (memory_table(rows), time_table(rows)):
        typer.echo("")
        console.print(table)


def _report_check(rows: Sequence[CostRow]) -> bool:
    """Print where costs do not rise with the layers, and return whether they do everywhere."""
    from frostline.costs.cost_monotonicity import cost_violations, rise_words
    from frostline.costs.step_cost import StepCost

    costs = [row for row in rows if isinstance(row, StepCost)]
    sentences = list(cost_violations(costs))
    if len(costs) < len(rows):
        sentences.append("Steps that failed cannot be checked.")
    for sentence in sentences or [rise_words(costs)]:
        typer.echo(sentence)
    return not sentences
