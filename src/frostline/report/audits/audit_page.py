"""The page of an audit: is freezing a valid fidelity here, what does it save, and which ladder follows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from frostline.audit.shifts import shift_sentences
from frostline.pages.page import CLOSING, page
from frostline.pages.parts import Answer, Bullets, Command, Note, Paragraph, Part, Section, Table, Warnings
from frostline.report.audits.cells import (
    agreement_section,
    cost_section,
    optima_section,
    other_measures_section,
    thresholds_section,
)
from frostline.report.audits.levels import curves_section, layers_section, pairs_section
from frostline.report.audits.maps import ladders_of
from frostline.report.audits.shift_maps import shifts_section
from frostline.report.audits.verdict import headline, ladders_section, recommendation_warnings, recommended_lines
from frostline.report.searches.hyperparameters import edge_warnings, slices_section
from frostline.report.searches.importance import importance_section
from frostline.report.searches.rungs import trouble_warnings
from frostline.report.searches.scored import Scored
from frostline.report.study_parts import about, closing, configuration_table, how_to_train
from frostline.run.outcome.sentences import score_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.audit.audit import Audit
    from frostline.audit.landscape import Landscape
    from frostline.audit.recommendation import Recommendation
    from frostline.audit.shifts import CellShift
    from frostline.records import Configuration
    from frostline.report.study_record import StudyRecord


def audit_page(
    landscape: Landscape,
    audit: Audit | None,
    *,
    recommendation: Recommendation | None = None,
    shifts: Sequence[CellShift] | None = None,
    record: StudyRecord | None = None,
    source: str = "",
    warnings: Sequence[str] = (),
) -> str:
    """Return the HTML page of an audit.

    ``audit`` is None where there are too few configurations to tell how anything ranks, ``shifts`` where none were sought.
    ``record`` is the study the landscape was read from; without it, ``source`` says where it came from. ``warnings`` come
    before those found here.
    """
    ladders = ladders_of(landscape, recommendation)
    scored, best = _scored(landscape), _best(landscape)
    sections: list[Section] = []
    if audit is not None:
        sections.append(agreement_section(landscape, audit.agreement, audit.noise, ladders))
        sections.append(thresholds_section(landscape, audit.agreement, ladders))
    sections.append(cost_section(landscape, ladders))
    if recommendation is not None:
        sections.append(ladders_section(recommendation, landscape))
    if audit is not None:
        sections += [_findings(audit), other_measures_section(landscape, audit.agreement)]
    sections.append(pairs_section(landscape, None if audit is None else audit.agreement))
    sections += [curves_section(landscape), layers_section(landscape)]
    if audit is not None:
        sections.append(optima_section(landscape, audit.optima))
    if shifts is not None:
        sections.append(shifts_section(landscape, shifts, shift_sentences(shifts, landscape)))
    sections += [importance_section(scored, _ranked(landscape), space=landscape.space), slices_section(scored)]
    warnings = [
        *warnings,
        *_incomplete(landscape, record),
        *(() if audit is None else audit.warnings),
        *recommendation_warnings(recommendation),
        *(() if record is None else trouble_warnings(record.history)),
        *([] if best is None else edge_warnings(scored, best)),
    ]
    opening: list[Part] = [
        _answer(landscape, audit, recommendation, record),
        Warnings(list(dict.fromkeys(warnings))),
        *([] if record is None else [about(record)]),
    ]
    last = closing(record) if record is not None else f"{source}. {CLOSING}"
    return page(f"Audit of {landscape.task}", opening, sections, closing=last)


def _answer(
    landscape: Landscape, audit: Audit | None, recommendation: Recommendation | None, record: StudyRecord | None
) -> Answer:
    first, second = headline(landscape, None if audit is None else audit.agreement, recommendation)
    parts: list[Paragraph | Table | Command] = [Paragraph(second)] if second else []
    if recommendation is not None:
        parts += recommended_lines(recommendation, landscape, record)
    best = _best(landscape)
    if best is not None:
        score = float(landscape.scores[_index(landscape), -1, -1])
        text = (
            f"The best of {landscape.num_configurations} configurations trained in full: configuration {best.number}, "
            f"{score_words(score, landscape.direction, landscape.metric)}."
        )
        parts += [Paragraph(text), configuration_table(best)]
        if record is not None:
            parts += how_to_train(record, best)
    return Answer(first, parts)


def _findings(audit: Audit) -> Section:
    text = (
        "Three things are expected of a fidelity: more of it ranks better, does better, and costs more. Each is tested over "
        "the configurations."
    )
    sentences = [f"{'✓ holds' if finding.holds else '✗ fails'}: {finding.sentence}" for finding in audit.findings]
    return Section("Does more fidelity tell more?", [Note(text), Bullets(sentences)])


def _incomplete(landscape: Landscape, record: StudyRecord | None) -> list[str]:
    if record is None:
        return []
    expected = max(max(record.terms.expected), len(record.history.configurations))
    if landscape.num_configurations >= expected:
        return []
    return [
        f"The audit has not come to its end, or some trainings failed: {landscape.num_configurations} of {expected} "
        f"configurations have been trained at all cells, and only these are counted here."
    ]


def _index(landscape: Landscape) -> int:
    return int(np.argmin(landscape.full_losses))


def _best(landscape: Landscape) -> Configuration | None:
    index = _index(landscape)
    return landscape.configurations[index] if np.isfinite(landscape.full_losses[index]) else None


def _ranked(landscape: Landscape) -> list[tuple[Configuration, float]]:
    """Return the configurations, each with its loss in full training; one that diverged ranks last."""
    losses = np.where(np.isfinite(landscape.full_losses), landscape.full_losses, np.inf)
    return list(zip(landscape.configurations, losses.tolist(), strict=True))


def _scored(landscape: Landscape) -> Scored | None:
    full = landscape.scores[:, -1, -1]
    finite = np.flatnonzero(np.isfinite(full)).tolist()
    if not finite:
        return None
    return Scored(
        space=landscape.space,
        direction=landscape.direction,
        configurations=tuple(landscape.configurations[index] for index in finite),
        scores=tuple(float(full[index]) for index in finite),
        num_diverged=len(full) - len(finite),
        where="full fidelity",
        num_selected=0,
    )
