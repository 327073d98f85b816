"""What every page says of the study it is about: what was tuned and how, a configuration, and where it all lies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.inputs.credentials import without_password
from frostline.pages.drawing import better, shown
from frostline.pages.page import CLOSING
from frostline.pages.parts import Command, Folded, Paragraph, Table
from frostline.report.conditions import nums_having
from frostline.run.outcome.sentences import train_command
from frostline.wording import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from frostline.records import Configuration
    from frostline.report.study_record import StudyRecord


def configuration_table(configuration: Configuration) -> Table:
    """Return the hyperparameters of a configuration."""
    rows = [(name, shown(value)) for name, value in configuration.items()]
    return Table(("hyperparameter", "value"), rows, words=(0, 1))


def how_to_train(record: StudyRecord, configuration: Configuration) -> list[Paragraph | Command]:
    """Return how to train a configuration in full: the command, or where no command knows what is trained, the program."""
    command = train_command(record.terms, configuration)
    if command is None:
        return [Paragraph("Train it in full with the program that made the study.")]
    return [Paragraph("Train it in full:"), Command(command)]


def about(record: StudyRecord) -> Folded:
    """Return what was tuned and how."""
    terms = record.terms
    rows = [
        ("task", terms.task if terms.reference is None else f"{terms.reference}"),
        ("score", better(terms.direction)),
        *([] if terms.against is None else [("against", f"{terms.against} of the model")]),
        ("search", f"{terms.search}, sampler {terms.sampler}, seed {terms.seed}"),
        ("layers of the model", f"{terms.num_layers}"),
        (
            "rungs",
            ", ".join(f"{counted(rung.trainable_layers, 'layer')} × {rung.samples:,}" for rung in terms.rungs),
        ),
        *([] if terms.training is None else [("settings", f"{terms.training}")]),
        *((f"searched: {name}", text) for name, text in _space_lines(record)),
    ]
    return Folded("What was tuned, and how", Table(("", ""), rows, words=(0, 1)))


def closing(record: StudyRecord) -> str:
    """Return the last line of a page."""
    return f"Study {record.name!r} in {without_password(record.storage)}. {CLOSING}"


def _space_lines(record: StudyRecord) -> list[tuple[str, str]]:
    lines = f"{record.space}".splitlines()
    names = list(record.space.distributions)
    history = record.history
    evaluated = [
        history.configuration_of(last)
        for drawn in history.configurations
        if (last := history.last_evaluation(drawn.number)) is not None
    ]
    partial = nums_having(record.space, evaluated)
    return [
        (name, f"{line.removeprefix(f'{name}: ')}{_having(partial, name, len(evaluated))}")
        for name, line in zip(names, lines, strict=False)
    ]


def _having(partial: Mapping[str, int], name: str, total: int) -> str:
    return f"; {partial[name]} of {counted(total, 'configuration')} have it" if name in partial else ""
