"""The command `frostline train`: one configuration, outside a search."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from frostline.atomic import check_writable, write_whole
from frostline.cli.options.arguments import (
    DeviceOption,
    HyperparametersOption,
    MemoryOption,
    PrecisionOption,
    SeedOption,
    TaskArguments,
    ThreadsOption,
)
from frostline.cli.options.grouping import grouped
from frostline.cli.options.naming import parse_configuration
from frostline.errors import OptionError, TaskError
from frostline.inputs.whole_numbers import check_seed, check_whole
from frostline.records import Fidelity
from frostline.run.execution.options import TrainingOptions, parse_count
from frostline.wording import duration

if TYPE_CHECKING:
    from torch import nn

    from frostline.protocols import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainArguments:
    """What is trained, how, and where its weights go."""

    configuration: HyperparametersOption = None
    trainable_layers: Annotated[
        int | None, typer.Option("--layers", help="Train only so many of the last layers.")
    ] = None
    samples: Annotated[int | None, typer.Option("--samples", help="Train on so many samples.")] = None
    save: Annotated[
        Path | None,
        typer.Option("--save", help="Write the trained weights to this file: *.safetensors, or torch's *.pt."),
    ] = None
    seed: SeedOption = 0
    device: DeviceOption = "auto"
    precision: PrecisionOption = "float32"
    memory: MemoryOption = "auto"
    threads: ThreadsOption = "auto"

    def __post_init__(self) -> None:
        check_seed("--seed", self.seed)
        for option, number in (("--layers", self.trainable_layers), ("--samples", self.samples)):
            if number is not None:
                check_whole(option, number)
        # For the checks alone.
        self.options()
        parse_configuration(self.configuration)
        if self.save is not None:
            if self.save.is_dir() or not self.save.parent.is_dir():
                raise OptionError(f"--save {self.save}: name a file in a folder that exists.")
            check_writable(self.save)

    def options(self) -> TrainingOptions:
        """Return them as a training takes them."""
        return TrainingOptions(
            device=self.device,
            precision=self.precision,
            memory=self.memory,
            threads=parse_count("--threads", self.threads),
        )

    def fidelity(self, task: Task) -> Fidelity:
        """Return the number of layers and samples to train, all where nothing is said."""
        from frostline.training.supervised.task_layers import layers_of

        num_layers = layers_of(task).num_layers
        return Fidelity(
            trainable_layers=num_layers if self.trainable_layers is None else self.trainable_layers,
            samples=task.full_samples if self.samples is None else self.samples,
        )


@grouped
def train_command(task: TaskArguments, given: TrainArguments) -> None:
    """Train one configuration, in full if nothing else is said."""
    from rich.console import Console

    from frostline.cli.display import command_view

    with command_view(Console(), f"loading {task.task}") as view:
        loaded = task.load()
        from frostline.protocols import metric_of
        from frostline.run.outcome.sentences import score_name
        from frostline.run.single_training import train_task

        configuration = {**loaded.defaults, **parse_configuration(given.configuration)}
        fidelity = given.fidelity(loaded)
        view.prepare("training: measuring what a step takes", sample_unit=loaded.sample_unit)
        evaluation, model = train_task(
            loaded,
            configuration,
            fidelity=fidelity,
            seed=given.seed,
            options=given.options(),
            observe=view.progressed,
        )
    score = score_name(metric_of(loaded))
    for point in evaluation.curve:
        typer.echo(f"{point.samples:>14,} {loaded.sample_unit}  {score} {point.score:.5g}")
    if evaluation.score is None:
        raise TaskError(f"the training {evaluation.status}: {evaluation.reason}")
    typer.echo(f"{score} {evaluation.score:.5g} after {duration(evaluation.cost.seconds)}")
    if given.save is not None:
        _save(given.save, model)


def _save(path: Path, model: nn.Module) -> None:
    """Write the weights of ``model`` as safetensors or, under any other name, as torch's own."""
    import torch

    from frostline.layers import freezing_of
    from frostline.training.files.model_files import SUFFIX, write_model

    if path.suffix == SUFFIX:
        write_model(path, model)
    else:
        write_whole(path, functools.partial(torch.save, model.state_dict()))
    freezing = freezing_of(model)
    rounded = (
        ""
        if freezing is None or not freezing.own_dtypes
        else " (the frozen ones as they were trained with: rounded)"
    )
    typer.echo(f"weights in {path}{rounded}")
    if freezing is not None and freezing.tied == "snapshot":
        typer.echo(
            "weights that are tied in the model are two there, as frozen and as trained: a tied model loads one of them for "
            "both. --set tied=detach trains a model that stays tied."
        )
