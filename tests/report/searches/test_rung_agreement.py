"""Whether neighbouring rungs agree, and that a few survivors are not said to disagree where that may be chance."""

from __future__ import annotations

from frostline.report.searches.rung_agreement import agreement_section
from frostline.report.study_record import StudyRecord
from frostline.search.history import History
from tests.report.cases import evaluation, search_record


def both_having(upper: list[int]) -> StudyRecord:
    """A search whose configurations have falling ranks at rung 0, and those of ``upper`` at rung 1."""
    record = search_record(configurations=len(upper))
    history = History("minimize")
    for one, rank in zip(record.history.configurations, upper, strict=True):
        history.add_configuration(one)
        history.finish(evaluation(one.number, 0, 1.0 + one.number))
        history.finish(evaluation(one.number, 1, 1.0 + rank))
    object.__setattr__(record, "history", history)
    return record


def test_an_order_that_may_be_chance_is_in_doubt_and_not_another_one() -> None:
    # The rank correlation of five is -0.1, and its interval has room for all from -1 to 1.
    warnings = " ".join(agreement_section(both_having([2, 4, 0, 3, 1]))[1])
    assert "quite differently" not in warnings
    assert "cannot be told here: rungs 0 and 1 share 5 configurations, whose orders agree at ρ = -0." in warnings


def test_an_order_that_is_surely_another_one_is_warned_of() -> None:
    warnings = " ".join(agreement_section(both_having(list(range(11, -1, -1))))[1])
    assert "Rungs 0 and 1 order the 12 configurations that both have quite differently" in warnings
