"""From the name of a study, or of an audit's table, to the page about it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from frostline.atomic import write_whole
from frostline.audit.audit import audit_of
from frostline.audit.csv_table import read_table
from frostline.audit.recommendation import recommend
from frostline.audit.shifts import shifts, some_budgets
from frostline.audit.stored_landscape import read_aligned, read_landscape
from frostline.errors import AuditError, StudyError
from frostline.report.audits.audit_page import audit_page
from frostline.report.searches.search_page import search_page
from frostline.report.study_record import read_record
from frostline.store.begun import terms_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.audit.audit import Audit
    from frostline.audit.landscape import Landscape
    from frostline.audit.recommendation import Recommendation
    from frostline.audit.shifts import CellShift
    from frostline.report.study_record import StudyRecord
    from frostline.run.outcome.result import TuneResult
    from frostline.store.backends.storage import Storage

_TABLES = (".csv", ".csv.gz")


def write_report(result: TuneResult, path: str | Path) -> None:
    """Write the page about a search to ``path``: one HTML file, which needs no network.

    Raises: OptionError if the file cannot be written; StudyError if the study is not there any more.
    """
    write_whole(Path(path), study_page(result.study_name, storage=result.place).encode())


def study_page(study: str, *, storage: str | Storage) -> str:
    """Return the HTML page about a study in ``storage``, or about the table of an audit.

    Raises: StudyError if there is no such study, or nothing in it; AuditError if the table is none.
    """
    if study.endswith(_TABLES) and (Path(study).exists() or not _is_study(study, storage)):
        return _page_of(read_table(Path(study)), source=f"Table {study}")
    record = read_record(storage, study)
    if not record.terms.is_sweep:
        return search_page(record)
    try:
        landscape = read_landscape(storage, study)
    except AuditError as error:
        return search_page(record, warnings=[f"Shown as a search, not as an audit: {error}"])
    aligned = read_aligned(storage, study) if landscape.alignment.is_identity else ()
    return _page_of(landscape, aligned, record=record)


def _is_study(name: str, storage: str | Storage) -> bool:
    """Return whether there is a study called so. A storage that cannot be read holds none."""
    with suppress(StudyError):
        return terms_in(storage, name) is not None
    return False


def _page_of(
    landscape: Landscape, aligned: Sequence[Landscape] = (), *, record: StudyRecord | None = None, source: str = ""
) -> str:
    audit: Audit | None = None
    recommendation: Recommendation | None = None
    cell_shifts: Sequence[CellShift] | None = None
    warnings = []
    try:
        audit = audit_of(landscape)
        recommendation = recommend(landscape)
        if landscape.alignment.is_identity:
            cell_shifts = shifts(landscape, aligned, samples=some_budgets(landscape))
    except AuditError as error:
        warnings.append(f"Not everything can be told: {error}")
    return audit_page(
        landscape,
        audit,
        recommendation=recommendation,
        shifts=cell_shifts,
        record=record,
        source=source,
        warnings=warnings,
    )
