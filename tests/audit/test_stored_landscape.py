"""From an audit's study to its landscape: nested budgets, budgets of their own, what is left out and what is refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from optuna.distributions import FloatDistribution

from frostline.audit.landscape import LayerCost
from frostline.audit.stored_landscape import landscape_of, repeated_scores
from frostline.errors import AuditError
from frostline.records import Configuration, Cost, CurvePoint, Direction, Evaluation, Fidelity, Status
from frostline.search.history import History
from frostline.search.spaces.space import SearchSpace
from frostline.store.terms import TaskReference, Terms, TrainingTerms

SPACE = SearchSpace(distributions={"rate": FloatDistribution(0.0, 1.0)})


def terms(rungs: tuple[tuple[int, int], ...], **changed: Any) -> Terms:
    settings: dict[str, Any] = {
        "task": "quick",
        "reference": TaskReference(name="quick.py:task"),
        "data": "",
        "space": SPACE.fingerprint,
        "num_layers": 2,
        "search": "sweep",
        "is_sweep": True,
        "sampler": "random",
        "seed": 3,
        "direction": "minimize",
        "sample_unit": "tokens",
        "expected": (),
        "training": TrainingTerms(horizon="full", precision="float32", num_validations=2),
    }
    return Terms(
        rungs=tuple(Fidelity(trainable_layers=layers, samples=samples) for layers, samples in rungs),
        **{**settings, **changed},
    )


def evaluation(
    number: int, rung: int, fidelity: tuple[int, int], points: list[tuple[int, float]], *, own: int | None = None,
    seconds: float = 1.0, status: Status = Status.FINISHED, peak_bytes: int | None = None,
) -> Evaluation:  # fmt: skip
    return Evaluation(
        number=number,
        rung=rung,
        fidelity=Fidelity(trainable_layers=fidelity[0], samples=fidelity[1]),
        status=status,
        score=points[-1][1] if status is Status.FINISHED else None,
        cost=Cost(seconds=seconds, samples=points[-1][0] if own is None else own, peak_bytes=peak_bytes),
        curve=tuple(CurvePoint(samples, score) for samples, score in points),
        reason=None if status is Status.FINISHED else "as the test wants it",
    )


def history(*evaluations: Evaluation, number: int = 2, direction: Direction = "minimize") -> History:
    found = History(direction)
    for index in range(number):
        found.add_configuration(Configuration(number=index, hyperparameters={"rate": index / 10}))
    for each in evaluations:
        found.finish(each)
    return found


NESTED = terms(((1, 100), (2, 100)), metric="accuracy")


def test_a_training_on_the_full_horizon_passes_through_every_budget() -> None:
    found = landscape_of(
        NESTED,
        history(
            evaluation(0, 0, (1, 100), [(50, 4.0), (100, 3.0)], seconds=2, peak_bytes=7),
            evaluation(0, 1, (2, 100), [(50, 2.0), (100, 1.0)], seconds=4),
            evaluation(1, 0, (1, 100), [(50, 5.0), (100, 4.0)]),
        ),
        SPACE,
        layer_costs={z: LayerCost(flops_per_sample=10.0 * z, peak_bytes=5.0) for z in (1, 2)},
        repeats={2: {0: 1.5, 1: 9.0}},
    )
    assert (found.layers, found.samples, found.seed, found.horizon) == ((1, 2), (50, 100), 3, "full")
    assert found.metric == "accuracy"
    # The second configuration is not done yet.
    assert [each.number for each in found.configurations] == [0]
    assert found.scores.tolist() == [[[4, 3], [2, 1]]]
    assert found.seconds.tolist() == [[[1, 2], [2, 4]]]
    np.testing.assert_array_equal(found.peak_bytes, [[[7, 7], [5, 5]]])
    np.testing.assert_array_equal(found.flops, [[[500, 1000], [1000, 2000]]])
    np.testing.assert_array_equal(found.repeats, [[np.nan], [1.5]])


def test_what_diverges_on_its_way_has_the_scores_before() -> None:
    found = landscape_of(
        NESTED,
        history(
            evaluation(0, 0, (1, 100), [(50, 4.0), (70, 9.0)], seconds=2, status=Status.DIVERGED),
            evaluation(0, 1, (2, 100), [(50, 2.0), (100, 1.0)], seconds=4),
            number=1,
        ),
        SPACE,
    )
    np.testing.assert_array_equal(found.scores, [[[4, np.nan], [2, 1]]])
    assert found.losses[0, 0].tolist() == [4, np.inf]
    assert found.seconds[0, 0] == pytest.approx([2 * 50 / 70, 2])


def test_budgets_of_their_own_are_trainings_of_their_own() -> None:
    grid = terms(
        ((1, 50), (1, 100), (2, 50), (2, 100)),
        training=TrainingTerms(horizon="rung", precision="float32", num_validations=4),
    )
    cells = [(1, 50), (1, 100), (2, 50), (2, 100)]
    swept = [
        evaluation(0, rung, cell, [(cell[1], 10.0 - rung)], seconds=rung + 1) for rung, cell in enumerate(cells)
    ]
    found = landscape_of(grid, history(*swept, number=1), SPACE)
    assert found.scores.tolist() == [[[10, 9], [8, 7]]]
    assert found.seconds.tolist() == [[[1, 2], [3, 4]]]
    cut_short = dataclasses.replace(
        grid, training=TrainingTerms(horizon="full", precision="float32", num_validations=4)
    )
    assert landscape_of(cut_short, history(*swept, number=1), SPACE).scores.tolist() == found.scores.tolist()


def test_a_training_that_continued_another_costs_what_it_would_from_scratch() -> None:
    samples_only = terms(((2, 50), (2, 100)), training=None)
    first = evaluation(0, 0, (2, 50), [(50, 2.0)], seconds=3)
    second = evaluation(0, 1, (2, 100), [(50, 2.0), (100, 1.0)], own=50, seconds=4)
    assert landscape_of(samples_only, history(first, second, number=1), SPACE).seconds.tolist() == [[[3, 8]]]


def test_what_failed_or_is_not_done_is_left_out_and_nothing_at_all_refused() -> None:
    failed = evaluation(0, 0, (1, 100), [(50, 4.0)], status=Status.FAILED)
    with pytest.raises(AuditError, match=r"^no configuration has been trained at all cells of the grid yet"):
        landscape_of(NESTED, history(failed, evaluation(0, 1, (2, 100), [(100, 1.0)])), SPACE)


def test_survivors_and_rungs_that_are_no_grid_are_refused() -> None:
    with pytest.raises(AuditError, match=r"^the study is a search by halving, .* `frostline audit quick.py:task`"):
        landscape_of(dataclasses.replace(NESTED, search="halving", is_sweep=False), history(), SPACE)
    with pytest.raises(
        AuditError, match=r"^the study swept 2 rungs of 2 numbers of layers and 2 of samples, which are no"
    ):
        landscape_of(terms(((1, 50), (2, 100))), history(), SPACE)


@pytest.mark.parametrize(("direction", "worst"), [("minimize", np.inf), ("maximize", -np.inf)])
def test_repeats_are_matched_by_their_hyperparameters(direction: Direction, worst: float) -> None:
    repeated = History(direction)
    for index, rate in enumerate((0.1, 0.7, 0.0)):
        repeated.add_configuration(Configuration(number=index, hyperparameters={"rate": rate}))
    repeated.finish(evaluation(0, 0, (2, 100), [(100, 5.0)]))
    repeated.finish(evaluation(1, 0, (2, 100), [(100, 6.0)]))
    repeated.finish(evaluation(2, 0, (2, 100), [(50, 7.0)], status=Status.DIVERGED))
    assert repeated_scores(history(direction=direction), repeated) == {1: 5.0, 0: worst}
