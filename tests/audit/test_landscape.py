"""A landscape has one shape, and losses of which lower is better whatever the direction."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from frostline.errors import AuditError
from frostline.records import Fidelity
from tests.audit.landscapes import landscape

SCORES = np.arange(30.0).reshape(5, 2, 3)


def test_losses_are_better_when_lower_and_infinite_when_diverged() -> None:
    scores = SCORES.copy()
    scores[1, 1, 2] = np.nan
    repeats = np.array([[1.0, np.inf, np.nan, 2.0, -np.inf]])
    table = landscape(scores, repeats=repeats)
    assert table.full_losses.tolist() == [5, np.inf, 17, 23, 29]
    assert table.losses[2].tolist() == scores[2].tolist()
    upward = landscape(scores, repeats=-repeats, direction="maximize")
    assert upward.full_losses.tolist() == [-5, np.inf, -17, -23, -29]
    np.testing.assert_array_equal(upward.repeated_losses, repeats)


def test_cells_are_fidelities_and_the_last_is_full() -> None:
    table = landscape(SCORES)
    assert table.num_configurations == 5
    assert table.full == Fidelity(trainable_layers=2, samples=300) == table.fidelity((1, 2))
    assert table.fidelity((0, 1)) == Fidelity(trainable_layers=1, samples=200)


def test_a_part_keeps_each_configurations_own() -> None:
    table = landscape(SCORES, repeats=np.arange(10.0).reshape(2, 5), flops=SCORES + 1, peak_bytes=SCORES + 2)
    part = table.of(np.array([3, 0]))
    assert [configuration.number for configuration in part.configurations] == [3, 0]
    for name in ("scores", "seconds", "peak_bytes", "flops"):
        np.testing.assert_array_equal(getattr(part, name), getattr(table, name)[[3, 0]])
    assert part.repeats.tolist() == [[3, 0], [8, 5]]


def test_what_does_not_fit_is_refused() -> None:
    table = landscape(SCORES)
    with pytest.raises(
        AuditError, match=r"^seconds has shape \(5, 2\), but 5 configurations, 2 numbers of layers and 3"
    ):
        replace(table, seconds=np.ones((5, 2)))
    with pytest.raises(AuditError, match=r"^repeats has shape \(5,\), but must be \(repeats, 5\)"):
        replace(table, repeats=np.ones(5))
    for layers in ((2, 1), (1, 1), (0, 1)):
        with pytest.raises(AuditError, match="but must be rising numbers, at least one, all at least 1"):
            replace(table, layers=layers)


def test_a_landscape_prints_its_best_scores_as_a_table() -> None:
    scores = SCORES.copy()
    scores[:, 0, 0] = np.nan
    table = landscape(scores)
    title, header, *rows = repr(table).splitlines()
    assert title.endswith("the best score of 5 configurations in every cell")
    assert header.split()[:2] == ["trained", "layers"]
    assert [row.split() for row in rows] == [["1", "-", "1", "2"], ["2", "3", "4", "5"]]
    upward = landscape(scores, direction="maximize").rows()
    assert upward[1][1:] == ("-", "25", "26")
    assert table._repr_html_().count("<tr>") == 3
