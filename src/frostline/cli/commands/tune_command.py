"""The command `frostline tune`: search for the best configuration, on a ladder by name, by hand or by an audit."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from frostline.cli.options.arguments import LadderArguments, PlaceArguments, SamplingArguments, TaskArguments
from frostline.cli.options.executor_arguments import ExecutorArguments
from frostline.cli.options.grouping import WHERE, grouped
from frostline.cli.options.naming import AUTO
from frostline.cli.options.search_arguments import SearchArguments
from frostline.cli.options.training_arguments import TrainingArguments
from frostline.cli.recipe import Recipe
from frostline.errors import OptionError
from frostline.store.backends.storage import MEMORY


@grouped
def tune_command(
    task: TaskArguments,
    search: SearchArguments,
    ladder: LadderArguments,
    sampling: SamplingArguments,
    training: TrainingArguments,
    executor: ExecutorArguments,
    where: PlaceArguments,
    for_workers: Annotated[
        bool,
        typer.Option(
            "--for-workers",
            help="Train nothing: only write the study down, for `frostline worker`.",
            rich_help_panel=WHERE,
            hidden=True,
        ),
    ] = False,
) -> None:
    """Search for the best configuration. Stop at any time: the same command goes on."""
    if for_workers:
        _check_for_workers(ladder.ladder, where.storage)
    recipe = Recipe(
        task=task.reference(training.precision),
        seed=where.seed,
        space=sampling.space_text,
        search=search,
        ladder=ladder,
        sampling=replace(sampling, space=None),
    )
    from frostline.cli.recipe_search import Circumstances, search_by

    search_by(
        recipe,
        Circumstances(
            study=where.study,
            storage=where.storage,
            options=training.options(training.precision),
            executor=executor,
            set_options=task.options,
            begins_only=for_workers,
        ),
    )


def _check_for_workers(ladder: str | None, storage: str) -> None:
    """Raise OptionError if no worker could reach the study, or writing it down trains an audit."""
    if storage == MEMORY:
        raise OptionError(
            f"--for-workers writes a study down for other processes: give another --storage than {MEMORY}."
        )
    if ladder == AUTO:
        raise OptionError(
            f"--for-workers trains nothing, and --ladder {AUTO} makes an audit first: run `frostline audit TASK`, and then "
            f"give --ladder audit:STUDY."
        )
