"""From the words of the command line to what they name: the only place where algorithms are chosen by name."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Protocol, TypeVar

import typer

from frostline.errors import OptionError, SearchSpaceError
from frostline.protocols import Task
from frostline.records import Value
from frostline.search.halving import AsynchronousHalving, SuccessiveHalving
from frostline.search.hyperband import Hyperband
from frostline.search.interface import Climb
from frostline.search.ladder import Ladder
from frostline.search.sampling import CMA_ES, GP, QMC, RANDOM, TPE, Sampling, grid
from frostline.search.space import SearchSpace
from frostline.search.sweep import FullFidelity, Sweep
from frostline.store.terms import TaskReference
from frostline.training.supervised import SupervisedTask
from frostline.training.task_layers import layers_of

Choice = TypeVar("Choice")

TaskArgument = Annotated[str, typer.Argument(metavar="TASK", help="A built-in task, or path/to/file.py:NAME.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="An option of the task. Repeat for more.")
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
PrecisionOption = Annotated[str, typer.Option("--precision", help="float32, or bfloat16 for autocast.")]
SpaceOption = Annotated[Path | None, typer.Option("--space", help="A TOML file with the search space.")]
LadderOption = Annotated[
    str,
    typer.Option(
        "--ladder",
        help="diagonal, layers-only, samples-only, rungs as LAYERS:SAMPLES,LAYERS:SAMPLES,..., audit:STUDY for what an "
        "audit recommends, or auto for a small audit first.",
    ),
]
RungsOption = Annotated[
    int, typer.Option("--rungs", help="The number of rungs of a ladder that is not given by hand.")
]
ConfigurationsOption = Annotated[
    int,
    typer.Option("--configurations", "-n", help="The total number of configurations, over all runs of the study."),
]
SearchOption = Annotated[str, typer.Option("--search", help="halving, hyperband, asynchronous, sweep or full.")]
FactorOption = Annotated[
    int, typer.Option("--reduction-factor", help="One in so many configurations is promoted.")
]
StorageOption = Annotated[
    str, typer.Option("--storage", help="A database URL, the path of a journal file, or :memory:.")
]
SeedOption = Annotated[int, typer.Option("--seed", help="The root of every random stream.")]
EngineOption = Annotated[
    str,
    typer.Option(
        "--engine", help="How a rung is trained together: auto, shared, stacked, compiled; serial: one by one."
    ),
]
MemoryOption = Annotated[
    str, typer.Option("--memory", help="What training may take, such as 8GiB. Default: what is free.")
]
CacheOption = Annotated[
    str,
    typer.Option(
        "--prefix-cache", help="What outputs of frozen layers that come again may take: auto, off or a size."
    ),
]
StudyArgument = Annotated[str, typer.Argument(metavar="STUDY", help="The name of a study.")]
SamplerOption = Annotated[str, typer.Option("--sampler", help="random, qmc, tpe, gp, cmaes or grid.")]
GridPointsOption = Annotated[int, typer.Option("--grid-points", help="Points per continuous dimension of a grid.")]
RunsOption = Annotated[Path, typer.Option("--runs", help="The folder of the checkpoints.")]
DefaultsOption = Annotated[bool, typer.Option(help="Let the task's own configuration take part.")]


def _choose(kind: str, name: str, choices: Mapping[str, Choice]) -> Choice:
    if name in choices:
        return choices[name]
    close = difflib.get_close_matches(name, choices, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise OptionError(f"there is no {kind} {name!r}: choose one of {', '.join(choices)}.{hint}")


class ClimbFactory(Protocol):
    """Makes a search over a number of configurations that is known."""

    def __call__(self, *, ladder: Ladder, configurations: int) -> Climb:
        """Return the search."""


def search_named(name: str, reduction_factor: int) -> ClimbFactory:
    """Return the search called ``name``."""
    halving = functools.partial(SuccessiveHalving, reduction_factor=reduction_factor)
    choices: dict[str, ClimbFactory] = {
        "halving": halving,
        "hyperband": functools.partial(Hyperband, reduction_factor=reduction_factor),
        "asynchronous": functools.partial(AsynchronousHalving, reduction_factor=reduction_factor),
        "sweep": Sweep,
        "full": FullFidelity,
    }
    return _choose("search", name, choices)


def sampling_named(name: str, space: SearchSpace, grid_points: int) -> Sampling:
    """Return the sampler called ``name``."""
    choices = {"random": RANDOM, "qmc": QMC, "tpe": TPE, "gp": GP, "cmaes": CMA_ES, "grid": RANDOM}
    chosen = _choose("sampler", name, choices)
    return grid(space, num_points=grid_points) if name == "grid" else chosen


def ladder_named(text: str, rungs: int, task: Task) -> Ladder:
    """Return the ladder called so, or the one whose rungs are written out."""
    num_layers = layers_of(task).num_layers
    if ":" in text:
        return Ladder.explicit(_parse_rungs(text), num_layers=num_layers, full_samples=task.full_samples)
    choices = {"diagonal": Ladder.diagonal, "layers-only": Ladder.layers_only, "samples-only": Ladder.samples_only}
    make = _choose("ladder", text, choices)
    return make(num_layers=num_layers, full_samples=task.full_samples, num_rungs=rungs)


def ladder_table(ladder: Ladder, plan: Climb, sample_unit: str) -> str:
    """Return the table of the rungs that ``plan`` climbs, and what each costs."""
    counts = plan.evaluations_per_rung()
    return ladder.table(counts, started_per_rung=plan.started_per_rung(), sample_unit=sample_unit)


def _parse_rungs(text: str) -> list[tuple[int, int]]:
    rungs: list[tuple[int, int]] = []
    for part in text.split(","):
        layers, _, samples = part.partition(":")
        try:
            rungs.append((int(layers), int(samples)))
        except ValueError:
            raise OptionError(f"--ladder: {part!r} is no rung: write LAYERS:SAMPLES, such as 2:100000.") from None
    return rungs


def parse_numbers(option: str, text: str | None) -> tuple[int, ...] | None:
    """Return the whole numbers in ``text``, which are separated by commas, or None if there is no text."""
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise OptionError(f"{option} {text!r}: write whole numbers, such as 1,2,4.") from None


def reference_of(task: str, options: list[str] | None, precision: str) -> TaskReference:
    """Return what names a task, with its options, on the command line."""
    return TaskReference(name=task, options=tuple(options or ()), precision=precision)


def parse_configuration(text: str | None) -> dict[str, Value]:
    """Return the hyperparameters that are given as JSON."""
    if text is None:
        return {}
    try:
        parsed = json.loads(text)
    except json.JSONDecodeError as error:
        raise OptionError(f"--configuration is no JSON ({error}): write '{{\"learning_rate\": 0.001}}'.") from None
    if not isinstance(parsed, dict):
        raise OptionError(f"--configuration is {text!r}: write an object, '{{\"learning_rate\": 0.001}}'.")
    return parsed


def with_space(task: Task, path: Path | None) -> Task:
    """Return the task with the search space of a TOML file, if one is given."""
    if path is None:
        return task
    if not path.is_file():
        raise OptionError(f"--space {path}: there is no such file.")
    space = SearchSpace.from_toml(path.read_text())
    if not isinstance(task, SupervisedTask):
        raise OptionError(
            f"--space: the task {task.name} is no frostline.SupervisedTask; set its space where it is made."
        )
    return dataclasses.replace(task, space=space)


def own_configuration(task: Task) -> tuple[dict[str, Value], ...]:
    """Return the task's own configuration, to be tried first; nothing if it lies outside the space that is searched."""
    own = {name: task.defaults[name] for name in task.space.distributions if name in task.defaults}
    try:
        task.space.validate(own)
    except SearchSpaceError as error:
        typer.echo(f"the task's own configuration takes no part: {error}")
        return ()
    return (own,)
