"""The command `frostline reproduce`: makes the method's figures again. Nothing of it is loaded before it is called."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from frostline.atomic import check_writable
from frostline.cli.options.arguments import DeviceOption
from frostline.cli.options.grouping import grouped
from frostline.errors import OptionError

if TYPE_CHECKING:
    from frostline.research.reproduction.reproduced import Reproduced
    from frostline.research.reproduction.scales import Scale

_FOLDER = Path("frostline-reproduction")

# What a table needs where nobody says how wide the page is.
_WIDTH = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureArguments:
    """Which figure, how large, from what, and where it goes."""

    figure: Annotated[
        str | None, typer.Argument(metavar="FIGURE", help="fig4, table3, ...; --list shows all of them.")
    ] = None
    scale: Annotated[
        str, typer.Option("--scale", help="tiny: minutes; small: up to an hour; paper: the original setting.")
    ] = "tiny"
    out: Annotated[
        Path, typer.Option("--out", help="The folder of all figures, and of the trainings they share.")
    ] = _FOLDER
    plan: Annotated[
        bool, typer.Option("--plan", help="Show what would be trained and what that costs, and train nothing.")
    ] = False
    show_list: Annotated[bool, typer.Option("--list", help="Show what can be made again.")] = False
    table: Annotated[
        list[str] | None,
        typer.Option(
            "--table",
            metavar="MODEL=FILE",
            help="Read the landscape of gpt, resnet, ... from a table that `frostline audit` wrote. Repeat for more.",
        ),
    ] = None
    text: Annotated[
        Path | None, typer.Option("--text", help="For --scale paper: the text or tokens for the GPT.")
    ] = None
    images: Annotated[
        Path | None, typer.Option("--images", help="For --scale paper: the folder that holds CIFAR-100.")
    ] = None
    device: DeviceOption = "auto"

    def __post_init__(self) -> None:
        if self.figure is None and not self.show_list:
            raise OptionError(
                "which figure? Name one, such as `frostline reproduce fig4`; --list shows all of them."
            )


@grouped
def reproduce_command(given: FigureArguments) -> None:
    """Make a figure of the Frozen Layers paper again. Stop at any time: the same command goes on where it was."""
    from frostline.cli.display import echo, waiting
    from frostline.research.reproduction.catalogue import FIGURES, figure_named
    from frostline.research.reproduction.scales import Data
    from frostline.research.reproduction.workbench import Workbench

    if given.show_list:
        width = max(len(figure.name) for figure in FIGURES)
        for figure in FIGURES:
            typer.echo(f"{figure.name:<{width}}  {figure.title}")
        return
    assert given.figure is not None
    chosen = figure_named(given.figure)
    if given.out.exists() and not given.out.is_dir():
        raise OptionError(f"--out {given.out}: this is a file; name a folder.")
    bench = Workbench(
        scale=_scale(given.scale),
        out=given.out,
        data=Data(text=given.text, images=given.images),
        tables=_tables(given.table or []),
        device=given.device,
        say=echo,
    )
    echo(f"{chosen.name}, scale {bench.scale}: {chosen.title}")
    with waiting(f"reproducing {chosen.name}"):
        if given.plan:
            for line in chosen.plan(bench):
                echo(line)
            return
        check_writable(bench.folder / f"{chosen.name}.csv")
        reproduced = chosen.run(bench)
        places = reproduced.write(bench.folder)
    _show(reproduced)
    typer.echo(f"\nin {bench.folder}: {', '.join(place.name for place in places)}")


def _scale(name: str) -> Scale:
    from frostline.research.reproduction.scales import Scale

    try:
        return Scale(name)
    except ValueError:
        raise OptionError(f"--scale is {name!r}, but must be one of {', '.join(Scale)}.") from None


def _tables(options: list[str]) -> dict[str, Path]:
    from frostline.research.reproduction.catalogue import FIGURES

    models = sorted({model for figure in FIGURES for model in figure.models})
    tables: dict[str, Path] = {}
    for option in options:
        model, separator, path = option.partition("=")
        if not separator or model not in models:
            raise OptionError(f"--table {option!r}: write MODEL=FILE, MODEL one of {', '.join(models)}.")
        tables[model] = Path(path)
    return tables


def _show(reproduced: Reproduced) -> None:
    """Print what was found beside what the paper found."""
    from rich.console import Console
    from rich.table import Table

    console = Console() if Console().is_terminal else Console(width=_WIDTH)
    typer.echo(f"\n{reproduced.title}\n{reproduced.circumstances}\n")
    table = Table(box=None, pad_edge=False)
    for heading in ("", "the paper", "here", ""):
        table.add_column(heading, overflow="fold")
    for finding in reproduced.findings:
        table.add_row(finding.what, finding.paper, finding.ours, f"{finding.verdict}")
    console.print(table, markup=False, highlight=False)
    for note in reproduced.notes:
        typer.echo(note)
