"""The commands about costs: what a training step takes, before a search pays for it."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import torch
import typer
from rich.console import Console

from frostline.cli_arguments import (
    DeviceOption,
    PrecisionOption,
    SetOption,
    TaskArgument,
    parse_configuration,
    parse_options,
)
from frostline.costs.figures import cost_page
from frostline.costs.measurement import (
    checked_layers,
    measure_steps,
    num_layers_of,
)
from frostline.costs.monotonicity import cost_violations
from frostline.costs.prediction import predict_step
from frostline.costs.step_cost import StepCost
from frostline.costs.tables import (
    Circumstances,
    failure_lines,
    memory_table,
    progress_line,
    time_table,
    write_costs,
    write_whole,
)
from frostline.errors import OptionError, PredictionError
from frostline.task_loading import load_task
from frostline.training.devices import DevicePlan, resolve_device

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from frostline.costs.tables import CostRow
    from frostline.protocols import Task
    from frostline.records import Value

_FOLDER = Path("frostline-costs")
_COMPUTE_DTYPES = {"float32": None, "bfloat16": torch.bfloat16}

# Up to so many numbers of layers are all shown; of more, about as many.
_MOST_LAYERS = 12
_SPREAD_LAYERS = 10

# What a table needs where nobody says how wide the page is.
_WIDTH = 120


def cost_command(
    task: TaskArgument,
    options: SetOption = None,
    layers: Annotated[
        str | None,
        typer.Option("--layers", help="Numbers of trained layers, such as 1,2,5, or all. Default: up to 12."),
    ] = None,
    batch_sizes: Annotated[
        str | None, typer.Option("--batch-sizes", help="In examples, such as 1,8,32. Default: the task's own.")
    ] = None,
    configuration: Annotated[
        str | None, typer.Option("--configuration", help="JSON; what it leaves out is the task's own.")
    ] = None,
    predict: Annotated[
        bool, typer.Option("--predict/--measure", help="Tell bytes and FLOPs without running, or run real steps.")
    ] = False,
    check: Annotated[
        bool,
        typer.Option("--check", help="Say where training more layers does not cost more, and end with status 1."),
    ] = False,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "float32",
    repetitions: Annotated[int, typer.Option("--repetitions", help="Timed steps of each kind.")] = 10,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The folder of costs.csv and costs.html. Default: one for the task."),
    ] = None,
) -> None:
    """Show what a training step costs at each number of trained layers: memory, time, FLOPs."""
    loaded = load_task(task, parse_options(options))
    given = parse_configuration(configuration)
    plan = _device_plan("cpu" if predict else device, precision)
    if predict and plan.compute_dtype is not None:
        raise OptionError(f"precision is {precision!r}, but costs are predicted for float32: leave out --predict.")
    cells = _Cells(
        task=loaded,
        layers=_layers(layers, _num_layers(loaded, given, predict=predict)),
        batch_sizes=None if batch_sizes is None else _numbers("--batch-sizes", batch_sizes),
        configuration=given,
        device_plan=plan,
        repetitions=repetitions,
    )
    costs = cells.predicted() if predict else cells.measured()
    folder = out or _FOLDER / (re.sub(r"[^\w.-]+", "-", loaded.name) or "task")
    circumstances = Circumstances.here(loaded.name, device=plan.device, precision=precision)
    typer.echo(f"{circumstances}")
    rows: list[CostRow] = []
    for row in costs:
        typer.echo(progress_line(row))
        rows.append(row)
        # After every step: whatever ends this process, what it found is there.
        write_costs(folder / "costs.csv", rows, circumstances)
    write_whole(folder / "costs.html", cost_page(rows, circumstances))
    console = Console() if Console().is_terminal else Console(width=_WIDTH)
    for table in (memory_table(rows), time_table(rows)):
        typer.echo("")
        console.print(table)
    failures = failure_lines(rows)
    for line in ["\nfailed:", *failures] if failures else []:
        typer.echo(line)
    typer.echo(f"\nin {folder}: costs.csv, costs.html")
    rises = not check or _report_check(rows)
    if len(failures) == len(rows) or not rises:
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cells:
    """The steps whose costs are asked for; a batch size of None is the task's own."""

    task: Task
    layers: tuple[int, ...]
    batch_sizes: tuple[int, ...] | None
    configuration: Mapping[str, Value]
    device_plan: DevicePlan
    repetitions: int

    def measured(self) -> Iterator[CostRow]:
        return measure_steps(
            self.task,
            layers=self.layers,
            batch_sizes=self.batch_sizes,
            configuration=self.configuration,
            device=self.device_plan.device,
            compute_dtype=self.device_plan.compute_dtype,
            repetitions=self.repetitions,
        )

    def predicted(self) -> Iterator[CostRow]:
        """Yield predictions; from the first step on that cannot be predicted, say so and measure the rest."""
        cells = [(size, layers) for size in self.batch_sizes or (None,) for layers in self.layers]
        measuring = False
        for size, layers in cells:
            if not measuring:
                try:
                    yield predict_step(
                        self.task, trainable_layers=layers, batch_size=size, configuration=self.configuration
                    )
                    continue
                except PredictionError as error:
                    measuring = True
                    typer.echo(f"{error} Measuring.")
            yield from replace(self, layers=(layers,), batch_sizes=None if size is None else (size,)).measured()


def _num_layers(task: Task, configuration: Mapping[str, Value], *, predict: bool) -> int:
    """Return the number of layers of the task's model; where costs are predicted it may be too large to be built."""
    if predict:
        with suppress(PredictionError):
            return predict_step(task, trainable_layers=1, configuration=configuration).num_layers
    return num_layers_of(task, configuration)


def _layers(text: str | None, num_layers: int) -> tuple[int, ...]:
    """Return the numbers of trained layers that ``--layers`` says."""
    if text == "all":
        return checked_layers(None, num_layers)
    return _spread(num_layers) if text is None else checked_layers(_numbers("--layers", text), num_layers)


def _spread(num_layers: int) -> tuple[int, ...]:
    """Return all numbers of layers if they are few, else about ten: the two at either end, and others evenly between."""
    if num_layers <= _MOST_LAYERS:
        return tuple(range(1, num_layers + 1))
    gaps = _SPREAD_LAYERS - 1
    evenly = {1 + (num_layers - 1) * step // gaps for step in range(_SPREAD_LAYERS)}
    return tuple(sorted(evenly | {2, num_layers - 1}))


def _numbers(option: str, text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdecimal() and int(part) > 0 for part in parts):
        raise OptionError(f"{option} is {text!r}, but must be whole numbers of at least 1, such as 1,8,32.")
    return tuple(dict.fromkeys(int(part) for part in parts))


def _device_plan(device: str, precision: str) -> DevicePlan:
    if precision not in _COMPUTE_DTYPES:
        raise OptionError(f"precision is {precision!r}, but must be one of {', '.join(_COMPUTE_DTYPES)}.")
    return DevicePlan(device=resolve_device(device), compute_dtype=_COMPUTE_DTYPES[precision])


def _report_check(rows: Sequence[CostRow]) -> bool:
    """Print where costs do not rise with the layers, and return whether they do everywhere."""
    costs = [row for row in rows if isinstance(row, StepCost)]
    sentences = list(cost_violations(costs))
    if len(costs) < len(rows):
        sentences.append("Steps that failed cannot be checked.")
    for sentence in sentences or ["Every cost rises with the number of trained layers."]:
        typer.echo(sentence)
    return not sentences
