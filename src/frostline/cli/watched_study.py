"""`frostline status STUDY --watch`: a study that others work on, looked at again and again until it is over, or Ctrl-C."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from rich.console import Console

from frostline.run.outcome.ending import climb_of
from frostline.run.view.study_board import StudyBoard
from frostline.run.view.surfaces import PlainSurface, surface_of
from frostline.store.reading import found_study
from frostline.store.watching import StudyWatch

if TYPE_CHECKING:
    from frostline.store.watching import Sight


def watch_study(storage: str, name: str, *, seconds: float) -> None:
    """Show the study ``name`` every so many ``seconds`` until its search is over, or somebody presses Ctrl-C.

    Raises: StudyError if the storage fails, or holds no such study.
    """
    console = Console()
    surface = surface_of(console)
    with found_study(storage, name) as (place, study_id), suppress(KeyboardInterrupt):
        watch = StudyWatch(place, study_id, name=name)
        sight = watch.look()
        board = StudyBoard(name, climb_of(sight.terms), now=time.monotonic())
        before: list[str] = []
        surface.open()
        try:
            while True:
                board.note(sight, now=time.monotonic())
                if isinstance(surface, PlainSurface):
                    before = _say_what_is_new(surface, board, sight, before)
                else:
                    surface.show(board.drawing(now=time.monotonic(), time_of_day=time.time()), "")
                if board.is_over:
                    break
                time.sleep(seconds)
                sight = watch.look()
        finally:
            surface.close()


def _say_what_is_new(surface: PlainSurface, board: StudyBoard, sight: Sight, before: list[str]) -> list[str]:
    """Write the board as lines, unless nothing has happened since; return what tells whether something has."""
    state = [f"{sight.history.num_evaluations}", *(f"{each.stations}" for each in sight.workers.values())]
    if state != before:
        surface.say([*board.lines(now=time.monotonic(), time_of_day=time.time())])
    return state
