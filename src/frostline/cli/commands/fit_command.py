"""The command `frostline fit`: what fits into devices' memory, and which rungs they can serve."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from frostline.atomic import check_writable
from frostline.cli.options.arguments import TaskArguments
from frostline.cli.options.grouping import grouped
from frostline.cli.options.naming import check_known_ladder, check_rungs, ladder_named
from frostline.cli.options.step_arguments import StepArguments, folder_for, predicted_device
from frostline.costs.capacity import LARGEST_MARGIN, MARGIN
from frostline.errors import OptionError
from frostline.inputs.whole_numbers import shown
from frostline.search.algorithms.search_names import DIAGONAL, SIEVE
from frostline.sizes import parse_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.costs.capacity import Fit
    from frostline.costs.known_fits import KnownFits
    from frostline.protocols import Task
    from frostline.search.ladder import Ladder


_ANY_CLUSTER = "auto"
_MARGIN = f"{MARGIN:.0%}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FitArguments:
    """Which devices, how much of them is kept free, and whose rungs they are to serve."""

    device_memory: Annotated[
        str | None, typer.Option("--device-memory", help="The memories of the devices, such as 8GiB,24GiB,80GiB.")
    ] = None
    cluster: Annotated[bool, typer.Option("--cluster", help="Plan for the nodes of a Ray cluster instead.")] = (
        False
    )
    address: Annotated[
        str, typer.Option("--address", help="Of the cluster: HOST:PORT; auto: the one that this machine is in.")
    ] = _ANY_CLUSTER
    device: Annotated[
        str, typer.Option("--device", help="Whose rules: cpu, or cuda, predicted without a card. Default: cpu.")
    ] = "cpu"
    ladder: Annotated[
        str | None,
        typer.Option(
            "--ladder",
            help="sieve, diagonal, layers-only, samples-only, or rungs as LAYERS:SAMPLES,... Default: sieve, as of a search "
            "within a budget.",
        ),
    ] = None
    rungs: Annotated[
        int | None,
        typer.Option("--rungs", help="How many diagonal, the default with it, and the like have. Default: 3."),
    ] = None
    margin: Annotated[
        str, typer.Option("--margin", help="The share of what is predicted that is to stay free besides.")
    ] = _MARGIN
    out: Annotated[
        Path | None, typer.Option("--out", help="The folder of fit.csv and fit.html. Default: one for the task.")
    ] = None

    def __post_init__(self) -> None:
        predicted_device(self.device)
        check_known_ladder(self.ladder_name)
        check_rungs(self.ladder_name, self.rungs)
        if self.cluster == (self.device_memory is not None):
            raise OptionError(
                "what devices there are says either --device-memory, such as 8GiB,24GiB, or --cluster."
            )
        if not self.cluster:
            _memories(f"{self.device_memory}")
            if self.address != _ANY_CLUSTER:
                raise OptionError(f"--address {self.address} is that of a cluster: add --cluster.")
        _share(self.margin)
        if self.out is not None:
            check_writable(self.out / "fit.csv")

    @property
    def ladder_name(self) -> str:
        """What is said of the ladder; if nothing is, the one of a search within a budget, or one that has so many rungs."""
        return self.ladder or (SIEVE if self.rungs is None else DIAGONAL)

    @property
    def memories(self) -> tuple[int, ...]:
        """The bytes of the devices, in rising order, each once."""
        return _memories(f"{self.device_memory}")

    @property
    def share(self) -> float:
        """The share that is to stay free."""
        return _share(self.margin)

    def climbed(self, task: Task) -> Ladder:
        """Return the ladder whose rungs the devices are to serve."""
        from frostline.training.supervised.task_layers import layers_of

        num_layers = layers_of(task).num_layers
        return ladder_named(self.ladder_name, self.rungs, num_layers=num_layers, full_samples=task.full_samples)


@grouped
def fit_command(task: TaskArguments, steps: StepArguments, given: FitArguments) -> None:
    """Tell what fits into devices' memory at each number of trained layers, and which rungs they can serve."""
    from frostline.cli.display import echo, waiting

    if given.cluster:
        _check_for_cluster(steps, given)
        with waiting(f"the plan of {task.task}"):
            _show_plan(task, given)
        return
    with waiting(f"what fits of {task.task}"):
        loaded = task.load()
        import torch

        from frostline.atomic import write_whole
        from frostline.costs.capacity import Capacity
        from frostline.costs.known_fits import KnownFits
        from frostline.costs.shown.cost_tables import Circumstances
        from frostline.costs.shown.fit_figures import fit_page
        from frostline.costs.shown.fit_tables import fit_heading, fit_line, write_fits

        memories, share, configuration = given.memories, given.share, steps.hyperparameters
        chosen = steps.trained_layers(loaded, predict=True)
        climbed = given.climbed(loaded)
        folder = folder_for(loaded, given.out, "fit.csv")
        rules = predicted_device(given.device)
        circumstances = Circumstances.of(
            loaded.name, device=torch.device("cpu"), precision="float32", predicted_device=rules
        )
        echo(f"{circumstances}; {100 * share:g} % more than it takes is kept free")
        if rules == "cuda":
            echo(
                "what cuDNN works in and the context, some hundred MiB, come on top of what is predicted for CUDA"
            )
        capacity = Capacity(loaded, margin=share, configuration=configuration, device=rules)
        known = KnownFits(task=loaded, configuration=configuration, capacity=capacity, say=echo)
        fits: list[Fit] = []
        for number in chosen:
            row = known.fits(number, memories)
            if not fits:
                for line in fit_heading(memories, row[0].batch_size):
                    echo(line)
            echo(fit_line(row))
            fits += row
            # After every row: whatever ends this process, what it found is there.
            write_fits(folder / "fit.csv", fits, circumstances, margin=share)
        write_whole(folder / "fit.html", fit_page(fits, circumstances, margin=share).encode())
        _show_rungs(known, climbed, memories, loaded.sample_unit)
    typer.echo(f"\nin {folder}: fit.csv, fit.html")


def _check_for_cluster(steps: StepArguments, given: FitArguments) -> None:
    """Raise OptionError if something is said that a cluster's plan, of whole searches as they are made, does not ask for."""
    for option, is_said in (
        ("--layers", steps.layers is not None),
        ("--configuration", steps.configuration is not None),
        ("--device", given.device != "cpu"),
        ("--margin", given.margin != _MARGIN),
        ("--out", given.out is not None),
    ):
        if is_said:
            raise OptionError(
                f"{option} goes with --device-memory: with --cluster the rungs of a search are planned for the nodes, and "
                f"nothing is written. Leave it out."
            )


def _show_plan(task: TaskArguments, given: FitArguments) -> None:
    """Say which nodes of a cluster hold which rungs. Raises: NotEnoughMemoryError if one fits nowhere."""
    from frostline.cli.display import echo

    loaded = task.load()
    from frostline.integrations.ray.cluster_plan import plan_on_cluster

    plan = plan_on_cluster(loaded, given.climbed(loaded), address=given.address)
    for line in plan.lines(loaded.sample_unit):
        echo(line)
    plan.check()


def _show_rungs(known: KnownFits, climbed: Ladder, memories: Sequence[int], sample_unit: str) -> None:
    from frostline.cli.display import echo
    from frostline.costs.shown.fit_tables import rung_heading, rung_line, served_sentences

    echo(f"\n{rung_heading(memories, sample_unit)}")
    served = []
    for number, fidelity in enumerate(climbed.rungs):
        known.fits(fidelity.trainable_layers, memories[:1])
        served += known.capacity.rungs([fidelity], memories)
        echo(rung_line(number, served[-1]))
    for line in served_sentences(served, memories):
        echo(line)


def _memories(text: str) -> tuple[int, ...]:
    """Return the bytes that ``--device-memory`` says, in rising order, each once."""
    sizes = {parse_size(part) for part in text.split(",")}
    if 0 in sizes:
        raise OptionError(
            f"--device-memory is {text!r}, but a device has some memory: write sizes such as 8GiB,24GiB."
        )
    return tuple(sorted(sizes))


def _share(text: str) -> float:
    match = re.fullmatch(r"(\d{1,20}(?:\.\d{1,20})?)\s*(%?)", text.strip(), re.ASCII)
    share = None if match is None else float(match[1]) / (100 if match[2] else 1)
    if share is None or share > LARGEST_MARGIN:
        allowed = f"a share of at least 0, and at most {LARGEST_MARGIN:.0%}"
        raise OptionError(f"--margin is {shown(text)}, but must be {allowed}, such as 10% or 0.1.")
    return share
