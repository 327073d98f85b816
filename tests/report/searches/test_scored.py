"""The scores that hyperparameters are judged by, and what is to be kept in mind of them."""

from __future__ import annotations

from dataclasses import replace

from frostline.report.searches.scored import scored_at
from frostline.search.history import History
from tests.report.cases import evaluation, search_record


def test_only_those_that_a_lower_rung_chose_are_said_to_be_chosen() -> None:
    def caution(*, climbed: int, began: int) -> str:
        """Of some that climbed from rung 0, and others that began at rung 1; the first, alone at rung 0, was left there."""
        record = search_record(configurations=1 + climbed + began)
        history = History("minimize")
        for one in record.history.configurations:
            history.add_configuration(one)
            if one.number <= climbed:
                history.finish(evaluation(one.number, 0, 1.0 + one.number / 7))
            if one.number > 0:
                history.finish(evaluation(one.number, 1, 2.0 - one.number / 7))
        found = scored_at(replace(record, history=history))
        assert found is not None
        return found.caution

    assert caution(climbed=3, began=9).endswith(" otherwise. 3 of 12 were chosen by a lower rung.")
    assert caution(climbed=0, began=3).endswith(" otherwise.")
    record = search_record()
    history = History("minimize")
    for one in record.history.configurations[:4]:
        history.add_configuration(one)
        # Those at the lowest rung diverged, but for those that climbed.
        history.finish(evaluation(one.number, 0, 1.0 + one.number / 7))
        history.finish(evaluation(one.number, 1, 2.0 - one.number / 7))
    found = scored_at(replace(record, history=history))
    assert found is not None
    assert found.caution.endswith(" otherwise. These configurations were chosen by a lower rung.")
