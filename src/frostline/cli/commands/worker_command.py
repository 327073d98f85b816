"""The command `frostline worker`: join the search of a study, on this machine, and work until it is over."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from frostline.cli.options.arguments import SetOption, StorageOption, StudyArgument
from frostline.cli.options.grouping import WHAT, WHERE, grouped
from frostline.cli.options.training_arguments import MachineArguments
from frostline.cli.recipe import Recipe
from frostline.errors import OptionError, StudyError
from frostline.inputs.whole_numbers import check_whole
from frostline.run.loop import Observer
from frostline.store.backends.storage import DEFAULT_STORAGE, MEMORY

if TYPE_CHECKING:
    from frostline.records import Evaluation, Job, Progress
    from frostline.search.history import History

# A day: whoever waits longer has mistyped the name.
_LONGEST_WAIT = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinArguments:
    """Which study is joined, and what of it may be elsewhere on this machine."""

    study: StudyArgument
    storage: StorageOption = DEFAULT_STORAGE
    wait: Annotated[
        int,
        typer.Option(
            "--wait", metavar="SECONDS", help="For a study that is not there yet.", rich_help_panel=WHERE
        ),
    ] = 0
    task: Annotated[
        str | None,
        typer.Option(
            "--task", metavar="TASK", help="Where the task's file lies on this machine.", rich_help_panel=WHAT
        ),
    ] = None
    options: SetOption = None

    def __post_init__(self) -> None:
        check_whole("--wait", self.wait, least=0, most=_LONGEST_WAIT)
        if self.storage == MEMORY:
            raise OptionError(f"the storage {MEMORY} ends with its process: no other can join a study in it.")


@grouped
def worker_command(join: JoinArguments, machine: MachineArguments) -> None:
    """Work on a study until its search is over. Stop at any time: nothing is lost."""
    with stopping_when_terminated() as stopping:
        recipe = _recipe_in(join)
        from frostline.cli.recipe_search import Circumstances, search_by

        search_by(
            recipe,
            Circumstances(
                study=join.study,
                storage=join.storage,
                options=machine.options(recipe.task.precision),
                set_options=[*recipe.task.options],
                observer=stopping,
                joins=True,
            ),
        )


def _recipe_in(join: JoinArguments) -> Recipe:
    """Return what the study says of its search, with what is said of it here; it is waited for."""
    from frostline.cli.display import echo, waiting

    with waiting(f"looking for {join.study}"):
        from frostline.store.awaiting import awaited_terms

        terms = awaited_terms(join.storage, join.study, seconds=join.wait, say=echo)
    if terms.recipe is None:
        raise StudyError(
            f"the study {join.study!r} does not say how its search is made, as one does that `frostline tune` began with "
            f"this version: run the program or the command that made it, which shares the study too."
        )
    recipe = Recipe.read(terms.recipe, study=join.study).naming(join.task, join.options)
    if join.task is None:
        recipe.check_file(study=join.study)
    return recipe


class Stopping(Observer):
    """Ends a search that was told to terminate, at the latest when something of it has come further.

    Python loses an exception in what its garbage collector calls back: what the signal raises may never be seen.
    """

    def __init__(self) -> None:
        self._is_told = False

    def terminate(self, _signal: int, _frame: FrameType | None) -> None:
        """Handle a signal. Raises: KeyboardInterrupt, as Ctrl-C does."""
        self._is_told = True
        raise KeyboardInterrupt

    def started(self, jobs: Sequence[Job]) -> None:  # noqa: ARG002
        """See ``Observer``."""
        self._stop()

    def ended(self, evaluation: Evaluation, history: History) -> None:  # noqa: ARG002
        """See ``Observer``."""
        self._stop()

    def progressed(self, progress: Progress) -> None:  # noqa: ARG002
        """See ``Observer``."""
        self._stop()

    def _stop(self) -> None:
        if self._is_told:
            raise KeyboardInterrupt


@contextmanager
def stopping_when_terminated() -> Iterator[Stopping]:
    """Return what ends a search, for as long as the context lasts, when this process is told to terminate."""
    stopping = Stopping()
    before = signal.signal(signal.SIGTERM, stopping.terminate)
    try:
        yield stopping
    finally:
        signal.signal(signal.SIGTERM, before)
