"""The page of a search: the answer first, then how it was found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.pages.page import page
from frostline.pages.parts import Answer, Bullets, Note, Paragraph, Part, Section, Warnings
from frostline.report.searches.all_configurations import lines_section, table_section
from frostline.report.searches.courses import curves_section, spending_section
from frostline.report.searches.front_section import front_section
from frostline.report.searches.hyperparameters import edge_warnings, slices_section
from frostline.report.searches.importance import importance_section
from frostline.report.searches.rung_agreement import agreement_section
from frostline.report.searches.rungs import rungs_section, trouble_warnings
from frostline.report.searches.scored import scored_at
from frostline.report.searches.standings import standings
from frostline.report.study_parts import about, closing, configuration_table, how_to_train
from frostline.run.outcome.ending import climb_of, has_ended, no_score_words, spent_words, summary_of
from frostline.run.outcome.own_words import left_behind_line, own_lines
from frostline.run.outcome.sentences import cost_lines, score_words
from frostline.run.outcome.summary import best_evaluation
from frostline.wording import duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.records import Evaluation
    from frostline.report.study_record import StudyRecord
    from frostline.run.outcome.summary import Summary


def search_page(record: StudyRecord, *, warnings: Sequence[str] = ()) -> str:
    """Return the HTML page of a search, ended or still running; ``warnings`` come before its own."""
    summary = summary_of(record.history, record.terms)
    best = best_evaluation(record.history)
    scored = scored_at(record)
    ranked = standings(record)
    agreement, poor_agreement = agreement_section(record)
    configuration = None if best is None else record.history.configuration_of(best)
    warnings = [
        *warnings,
        *_unfinished(record, summary, best),
        *trouble_warnings(record.history),
        *poor_agreement,
        *([] if configuration is None else edge_warnings(scored, configuration)),
    ]
    sections = [
        *front_section(record),
        rungs_section(record, summary),
        agreement,
        *_readings(record),
        curves_section(record, best),
        importance_section(scored, [(one.configuration, one.share) for one in ranked], space=record.space),
        slices_section(scored),
        lines_section(record, ranked),
        table_section(record, ranked),
        spending_section(summary),
    ]
    opening: list[Part] = [_answer(record, summary, best), Warnings(warnings), about(record)]
    # What a program of one's own calls its function says less than what the study is called.
    searched = record.name if record.terms.reference is None else record.terms.task
    return page(f"Search of {searched}", opening, sections, closing=closing(record))


def _readings(record: StudyRecord) -> list[Section]:
    if not record.readings:
        return []
    text = (
        "With few trained layers the best values lie elsewhere than with all. Where the configurations that two rungs share "
        "tell by how much, the lower rung is read through a surrogate as if it had trained those values; nothing is trained "
        "again. Shifts are in decades, 1 being ten times, with 95 % bootstrap intervals."
    )
    return [Section("How rungs of few layers were read", [Note(text), Bullets(record.readings)])]


def _answer(record: StudyRecord, summary: Summary, best: Evaluation | None) -> Answer:
    if best is None:
        return Answer(
            "No configuration has a score.",
            [Paragraph(f"The study {no_score_words(record.history, record.terms)}")],
        )
    configuration = record.history.configuration_of(best)
    last = len(record.terms.rungs) - 1
    where = "trained in full" if best.rung == last else f"at rung {best.rung} of {last}, not yet trained in full"
    assert best.score is not None
    words = score_words(best.score, record.terms.direction, record.terms.metric)
    return Answer(
        f"Best: configuration {best.number}, {words}, {where}",
        [
            *(Paragraph(line) for line in _own_lines(record, best)),
            configuration_table(configuration),
            *(Paragraph(line) for line in cost_lines(summary)),
            *how_to_train(record, configuration),
        ],
    )


def _own_lines(record: StudyRecord, best: Evaluation) -> list[str]:
    """Return how the best compares with one's own configuration, as far as that was trained."""
    history, last = record.history, len(record.terms.rungs) - 1
    own = history.last_evaluation(0) if record.terms.has_own and history.configurations else None
    if own is None:
        return []
    if own.rung == last and own.score is not None and best.rung == last:
        is_over = has_ended(history, record.terms) is not False
        return own_lines(history, record.terms, best, own, is_over=is_over)
    ranking = history.rung(own.rung).ranking
    return [
        left_behind_line(own, history.evaluation(ranking[0], own.rung) if ranking else None, record.terms.metric)
    ]


def _unfinished(record: StudyRecord, summary: Summary, best: Evaluation | None) -> list[str]:
    again = "The program that made it" if record.terms.reference is None else "The same `frostline tune` command"
    sentences = []
    if has_ended(record.history, record.terms) is False:
        sentences.append(
            f"The search has not come to its end: {_done_words(record, summary)}. {again} goes on with it; what stands here "
            f"may change."
        )
    if not record.history.num_evaluations:
        sentences.append("No training has ended yet, so there is nothing to be read here.")
    if best is not None and best.rung < len(record.terms.rungs) - 1:
        sentences.append(
            "No configuration has been trained in full yet: the best so far was the best of a lower rung, which may mislead."
        )
    if len(record.history.configurations) == 1:
        sentences.append("There is one configuration only, so nothing was compared.")
    return sentences


def _done_words(record: StudyRecord, summary: Summary) -> str:
    """Return how far a search is that has not ended: by its budget, or by how many trainings it expects."""
    climb = climb_of(record.terms)
    if climb is not None:
        return spent_words(climb, record.history)
    counts = [(rung.ended, rung.expected or 0) for rung in summary.rungs]
    ended, expected = sum(min(of_rung) for of_rung in counts), sum(expected for _, expected in counts)
    left = summary.seconds_left
    time_left = f", about {duration(left)} of training are left" if left else ""
    return f"{ended} of {expected} expected trainings have ended{time_left}"
