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

from frostline.atomic import write_whole
from frostline.cli.arguments import (
    DeviceOption,
    PrecisionOption,
    SetOption,
    TaskArgument,
    ladder_named,
    parse_configuration,
)
from frostline.costs.capacity import MARGIN, Capacity, Fit
from frostline.costs.cost_figures import cost_page
from frostline.costs.cost_monotonicity import cost_violations
from frostline.costs.cost_tables import (
    Circumstances,
    failure_lines,
    memory_table,
    progress_line,
    time_table,
    write_costs,
)
from frostline.costs.fit_figures import fit_page
from frostline.costs.fit_tables import (
    fit_heading,
    fit_line,
    rung_heading,
    rung_line,
    served_sentences,
    write_fits,
)
from frostline.costs.measurement import (
    FailedStep,
    checked_layers,
    measure_steps,
    num_layers_of,
)
from frostline.costs.prediction import predict_step
from frostline.costs.step_cost import StepCost
from frostline.errors import OptionError, PredictionError, TaskError
from frostline.sizes import parse_size
from frostline.tasks.loading import task_named
from frostline.training.devices import DevicePlan, device_plan_of
from frostline.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from frostline.costs.cost_tables import CostRow
    from frostline.protocols import Task
    from frostline.records import Value

_FOLDER = Path("frostline-costs")

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
    loaded = task_named(task, options)
    given = parse_configuration(configuration)
    plan = device_plan_of("cpu" if predict else device, precision)
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
    folder = out or _folder_of(loaded)
    circumstances = Circumstances.here(loaded.name, device=plan.device, precision=precision)
    typer.echo(f"{circumstances}")
    rows: list[CostRow] = []
    for row in costs:
        typer.echo(progress_line(row))
        rows.append(row)
        # After every step: whatever ends this process, what it found is there.
        write_costs(folder / "costs.csv", rows, circumstances)
    write_whole(folder / "costs.html", cost_page(rows, circumstances).encode())
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


def fit_command(
    task: TaskArgument,
    device_memory: Annotated[
        str, typer.Option("--device-memory", help="The memories of the devices, such as 8GiB,24GiB,80GiB.")
    ],
    options: SetOption = None,
    layers: Annotated[
        str | None,
        typer.Option("--layers", help="Numbers of trained layers, such as 1,2,5, or all. Default: up to 12."),
    ] = None,
    configuration: Annotated[
        str | None, typer.Option("--configuration", help="JSON; what it leaves out is the task's own.")
    ] = None,
    ladder: Annotated[
        str, typer.Option("--ladder", help="diagonal, layers-only, samples-only, or rungs as LAYERS:SAMPLES,...")
    ] = "diagonal",
    rungs: Annotated[int, typer.Option("--rungs", help="The number of rungs of a ladder not given by hand.")] = 3,
    margin: Annotated[
        str, typer.Option("--margin", help="The share of what is predicted that is to stay free besides.")
    ] = f"{MARGIN:.0%}",
    out: Annotated[
        Path | None, typer.Option("--out", help="The folder of fit.csv and fit.html. Default: one for the task.")
    ] = None,
) -> None:
    """Tell what fits into devices' memory at each number of trained layers, and which rungs they can serve."""
    memories, share = _memories(device_memory), _share(margin)
    loaded = task_named(task, options)
    given = parse_configuration(configuration)
    chosen = _layers(layers, _num_layers(loaded, given, predict=True))
    climbed = ladder_named(ladder, rungs, loaded)
    folder = out or _folder_of(loaded)
    circumstances = Circumstances.here(loaded.name, device=torch.device("cpu"), precision="float32")
    typer.echo(f"{circumstances}; {100 * share:g} % more than it takes is kept free")
    known = _Known(task=loaded, configuration=given, capacity=Capacity(loaded, margin=share, configuration=given))
    fits: list[Fit] = []
    for number in chosen:
        row = known.fits(number, memories)
        if not fits:
            for line in fit_heading(memories, row[0].batch_size):
                typer.echo(line)
        typer.echo(fit_line(row))
        fits += row
        # After every row: whatever ends this process, what it found is there.
        write_fits(folder / "fit.csv", fits, circumstances, margin=share)
    write_whole(folder / "fit.html", fit_page(fits, circumstances, margin=share).encode())
    typer.echo(f"\n{rung_heading(memories, loaded.sample_unit)}")
    served = []
    for number, fidelity in enumerate(climbed.rungs):
        known.fits(fidelity.trainable_layers, memories[:1])
        served += known.capacity.rungs([fidelity], memories)
        typer.echo(rung_line(number, served[-1]))
    for line in served_sentences(served, memories):
        typer.echo(line)
    typer.echo(f"\nin {folder}: fit.csv, fit.html")


@dataclass(kw_only=True)
class _Known:
    """What is known of a task's needs: predicted, or from the first step on that cannot be predicted, measured."""

    task: Task
    configuration: Mapping[str, Value]
    capacity: Capacity
    is_measured: bool = False
    has_one_size: bool | None = None
    """Whether no other batch size than the task's own is to be tried; None as long as nobody has asked."""

    def fits(self, trainable_layers: int, memories: Sequence[int]) -> list[Fit]:
        """Return what fits into each memory; say what is not known, and why, as soon as it shows."""
        try:
            return self._fits(trainable_layers, memories)
        except PredictionError as error:
            typer.echo(f"{error} Measuring, at the task's own batch size alone: the largest batch is not known.")
        self.is_measured = self.has_one_size = True
        self.capacity = Capacity(self.task, margin=self.capacity.margin, predict=self._measured)
        return self._fits(trainable_layers, memories)

    def _fits(self, trainable_layers: int, memories: Sequence[int]) -> list[Fit]:
        if self.has_one_size is None:
            reason = self.capacity.fixed_batch(trainable_layers)
            self.has_one_size = reason is not None
            if reason is not None:
                typer.echo(f"the largest batch is not known: {reason}")
        return [self.capacity.fit(trainable_layers, memory, is_own_batch=self.has_one_size) for memory in memories]

    def _measured(self, trainable_layers: int, _batch_size: int | None) -> StepCost:
        (row,) = measure_steps(
            self.task,
            layers=(trainable_layers,),
            configuration=self.configuration,
            device=torch.device("cpu"),
            warm_up=0,
            repetitions=1,
        )
        if isinstance(row, FailedStep):
            raise TaskError(
                f"the step of {self.task.name} with {counted(trainable_layers, 'layer')} trained can neither be "
                f"predicted nor measured here: {row.reason}."
            )
        return row


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


def _memories(text: str) -> tuple[int, ...]:
    """Return the bytes that ``--device-memory`` says, in rising order, each once."""
    sizes = {parse_size(part) for part in text.split(",")}
    if 0 in sizes:
        raise OptionError(
            f"--device-memory is {text!r}, but a device has some memory: write sizes such as 8GiB,24GiB."
        )
    return tuple(sorted(sizes))


def _share(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(%?)", text.strip(), re.ASCII)
    if match is None:
        raise OptionError(f"--margin is {text!r}, but must be a share of at least 0, such as 10% or 0.1.")
    return float(match[1]) / (100 if match[2] else 1)


def _folder_of(task: Task) -> Path:
    return _FOLDER / (re.sub(r"[^\w.-]+", "-", task.name) or "task")


def _report_check(rows: Sequence[CostRow]) -> bool:
    """Print where costs do not rise with the layers, and return whether they do everywhere."""
    costs = [row for row in rows if isinstance(row, StepCost)]
    sentences = list(cost_violations(costs))
    if len(costs) < len(rows):
        sentences.append("Steps that failed cannot be checked.")
    for sentence in sentences or ["Every cost rises with the number of trained layers."]:
        typer.echo(sentence)
    return not sentences
