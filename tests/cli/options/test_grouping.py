"""Options that travel together, as typer sees them and as a command gets them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer

from frostline.cli.options.grouping import grouped
from frostline.errors import OptionError


@dataclass(frozen=True, kw_only=True)
class Box:
    """A group with an argument that must be given, and two options."""

    name: Annotated[str, typer.Argument(metavar="NAME")]
    size: Annotated[int, typer.Option("--size", "-s", help="How large.")] = 3
    labels: Annotated[list[str] | None, typer.Option("--label")] = None

    def __post_init__(self) -> None:
        if self.size < 1:
            raise OptionError("--size: too small.")


@dataclass(frozen=True, kw_only=True)
class Journey:
    """A second group."""

    fast: Annotated[bool, typer.Option(help="Hurry.")] = True


def received(*words: str) -> tuple[Box, bool, Journey]:
    """What a command with these groups is called with."""
    calls: list[tuple[Box, bool, Journey]] = []

    @grouped
    def send(box: Box, journey: Journey, dry: Annotated[bool, typer.Option("--dry")] = False) -> None:
        """Send a box."""
        calls.append((box, dry, journey))

    application = typer.Typer(add_completion=False)
    application.command()(send)
    application(list(words), standalone_mode=False)
    (call,) = calls
    return call


def test_a_command_gets_its_groups() -> None:
    assert received("hat") == (Box(name="hat"), False, Journey())
    words = ("hat", "-s", "5", "--label", "a", "--label", "b", "--no-fast", "--dry")
    assert received(*words) == (Box(name="hat", size=5, labels=["a", "b"]), True, Journey(fast=False))


def test_a_group_refuses_values_and_typer_missing_ones() -> None:
    with pytest.raises(OptionError, match="too small"):
        received("hat", "--size", "0")
    with pytest.raises(typer.TyperException, match="Missing"):
        received()
