"""The page of a search: the answer first, then how it was found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.pages.drawing import better, shown
from frostline.pages.page import (
    Section,
    answer,
    bullets,
    command,
    folded,
    note,
    page,
    paragraph,
    table,
    warnings_box,
)
from frostline.report.courses import curves_section, spending_section
from frostline.report.hyperparameters import edge_warnings, importance_section, slices_section
from frostline.report.rungs import agreement_section, rungs_section, trouble_warnings
from frostline.report.scored import scored_at
from frostline.run.sentences import cost_lines, train_command
from frostline.run.summary import best_evaluation, summarise
from frostline.store.storage import without_password
from frostline.wording import counted, duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.records import Configuration, Evaluation
    from frostline.report.study_record import StudyRecord
    from frostline.run.summary import Summary


def search_page(record: StudyRecord, *, warnings: Sequence[str] = ()) -> str:
    """Return the HTML page of a search, ended or still running; ``warnings`` come before its own."""
    summary = summarise(record.history, record.terms.rungs, record.terms.expected)
    best = best_evaluation(record.history)
    scored = scored_at(record)
    agreement, poor_agreement = agreement_section(record)
    configuration = None if best is None else record.history.configurations[best.number]
    found = [
        *warnings,
        *_unfinished(record, summary, best),
        *trouble_warnings(record.history),
        *poor_agreement,
        *([] if configuration is None else edge_warnings(scored, configuration)),
    ]
    sections = [
        rungs_section(record, summary),
        agreement,
        *_readings(record),
        curves_section(record, best),
        importance_section(scored),
        slices_section(scored),
        spending_section(summary),
    ]
    opening = [_answer(record, summary, best), warnings_box(found), about(record)]
    return page(f"Search of {record.terms.task}", opening, sections, closing=closing(record))


def _readings(record: StudyRecord) -> list[Section]:
    if not record.readings:
        return []
    text = (
        "With few trained layers the best values lie elsewhere than with all. Where the configurations that two rungs share "
        "tell by how much, the lower rung is read through a surrogate as if it had trained those values; nothing is trained "
        "again. Shifts are in decades, 1 being ten times, with 95 % bootstrap intervals."
    )
    return [Section(heading="How rungs of few layers were read", parts=(note(text), bullets(record.readings)))]


def _answer(record: StudyRecord, summary: Summary, best: Evaluation | None) -> str:
    if best is None:
        return answer(
            "No configuration has a score yet.", [paragraph("Let the search run on, then make the page again.")]
        )
    terms = record.terms
    configuration = record.history.configurations[best.number]
    is_full = best.rung == len(terms.rungs) - 1
    where = (
        "trained in full" if is_full else f"at rung {best.rung} of {len(terms.rungs) - 1}, not yet trained in full"
    )
    headline = f"Best: configuration {best.number}, score {best.score:.5g} {where}"
    return answer(
        headline,
        [
            configuration_table(configuration),
            *(paragraph(line) for line in cost_lines(summary)),
            paragraph("Train it in full:"),
            command(train_command(terms, configuration)),
        ],
    )


def configuration_table(configuration: Configuration) -> str:
    """Return the hyperparameters of a configuration as an HTML table."""
    rows = [(name, shown(value)) for name, value in configuration.items()]
    return table(("hyperparameter", "value"), rows, words=(0, 1))


def about(record: StudyRecord) -> str:
    """Return, as HTML, what was tuned and how."""
    terms = record.terms
    rows = [
        ("task", "" if terms.reference is None else f"{terms.reference}"),
        ("score", better(terms.direction)),
        ("search", f"{terms.search}, sampler {terms.sampler}, seed {terms.seed}"),
        ("layers of the model", f"{terms.num_layers}"),
        (
            "rungs",
            ", ".join(f"{counted(rung.trainable_layers, 'layer')} × {rung.samples:,}" for rung in terms.rungs),
        ),
        ("settings", "" if terms.training is None else f"{terms.training}"),
        *((f"searched: {name}", text) for name, text in _space_lines(record)),
    ]
    return folded("What was tuned, and how", table(("", ""), rows, words=(0, 1)))


def closing(record: StudyRecord) -> str:
    """Return the last line of a page."""
    return f"Study {record.name!r} in {without_password(record.storage)}. Made by frostline; this page needs no network."


def _space_lines(record: StudyRecord) -> list[tuple[str, str]]:
    lines = f"{record.space}".splitlines()
    names = list(record.space.distributions)
    return [(name, line.removeprefix(f"{name}: ")) for name, line in zip(names, lines, strict=False)]


def _unfinished(record: StudyRecord, summary: Summary, best: Evaluation | None) -> list[str]:
    counts = [(rung.ended, rung.ended if rung.expected is None else rung.expected) for rung in summary.rungs]
    ended, expected = sum(min(of_rung) for of_rung in counts), sum(expected for _, expected in counts)
    sentences = []
    if ended < expected:
        left = summary.seconds_left
        time_left = f", about {duration(left)} of training" if left else ""
        sentences.append(
            f"The search has not come to its end: {ended} of {expected} expected trainings have ended{time_left} are left. "
            f"The same `frostline tune` command goes on with it; what stands here may change."
        )
    if best is not None and best.rung < len(record.terms.rungs) - 1:
        sentences.append(
            "No configuration has been trained in full yet: the best so far was the best of a lower rung, which may mislead."
        )
    if len(record.history.configurations) == 1:
        sentences.append("There is one configuration only, so nothing was compared.")
    return sentences
