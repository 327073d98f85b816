"""What is said of neighbouring rungs of a search while it runs, and what an audit leads to expect of them."""

from __future__ import annotations

import numpy as np
import pytest

from frostline.audit.expectation import least_agreements
from frostline.audit.recommendation import recommend
from frostline.audit.rung_watch import AgreementWatch, agreement_of_rungs
from frostline.records import Configuration, Cost, Evaluation, Fidelity, Status
from frostline.search.history import History
from tests.audit.landscapes import landscape as landscape_of_losses


def history_of(*rungs: dict[int, float | Status], direction="minimize") -> History:
    history = History(direction)
    for number in range(1 + max(max(rung) for rung in rungs)):
        history.add_configuration(Configuration(number=number, hyperparameters={"x": number}))
    for index, scores in enumerate(rungs):
        for number, outcome in scores.items():
            finished = not isinstance(outcome, Status)
            history.finish(
                Evaluation(
                    number=number,
                    rung=index,
                    fidelity=Fidelity(trainable_layers=index + 1, samples=index + 1),
                    status=Status.FINISHED if finished else outcome,
                    score=outcome if finished else None,
                    cost=Cost(seconds=1.0, samples=1),
                )
            )
    return history


LOWER = {number: float(number) for number in range(12)}


def test_rungs_that_agree_are_no_news_and_are_kept() -> None:
    watch = AgreementWatch(expected=lambda _: (12, 6))
    history = history_of(LOWER, {number: float(number) for number in range(6)})
    assert watch.news(history) == []
    assert watch.agreements[0].value == pytest.approx(1.0)
    assert watch.agreements[0].num_configurations == 6


def test_a_reversed_order_is_told_once_and_called_one_among_survivors() -> None:
    watch = AgreementWatch(expected=lambda _: (12, 6))
    history = history_of(LOWER, {number: -float(number) for number in range(6)})
    (sentence,) = watch.news(history)
    assert "rungs 0 and 1 rank their 6 common configurations differently: Spearman -1.00" in sentence
    assert "among survivors" in sentence
    assert "`frostline audit`" in sentence
    assert watch.news(history) == []


def test_an_order_that_may_be_chance_is_no_news() -> None:
    upper = {0: 3.0, 1: 5.0, 2: 1.0, 3: 6.0, 4: 2.0, 5: 4.0}
    history = history_of(LOWER, {number: -score for number, score in upper.items()})
    watch = AgreementWatch(expected=lambda _: (12, 6))
    assert watch.news(history) == []
    assert watch.agreements[0].value < 0 < watch.agreements[0].high


def test_what_an_audit_led_to_expect_is_the_measure_where_there_is_one() -> None:
    upper = {0: 3.0, 1: 1.0, 2: 4.0, 3: 2.0, 4: 5.0, 5: 6.0}
    history = history_of(LOWER, upper)
    assert AgreementWatch(expected=lambda _: (12, 6), least=(0.2,)).news(history) == []
    (sentence,) = AgreementWatch(expected=lambda _: (12, 6), least=(0.9,)).news(history)
    assert "where the audit led to expect at least 0.90" in sentence


def test_nothing_is_said_before_a_rung_has_closed_or_of_fewer_than_five() -> None:
    reverse = {number: -float(number) for number in range(6)}
    assert AgreementWatch(expected=lambda _: (12, 7)).news(history_of(LOWER, reverse)) == []
    few = {number: -float(number) for number in range(4)}
    assert AgreementWatch(expected=lambda _: (12, 4)).news(history_of(LOWER, few)) == []
    assert agreement_of_rungs(history_of(LOWER, few), 0, 1) is None


def test_a_diverged_training_is_the_worst_and_a_failed_one_takes_no_part() -> None:
    upper = {**{number: float(number) for number in range(5)}, 5: Status.DIVERGED, 6: Status.FAILED}
    found = agreement_of_rungs(history_of(LOWER, upper), 0, 1)
    assert found.num_configurations == 6
    assert found.value == pytest.approx(1.0)


def test_scores_that_are_to_rise_are_turned_round() -> None:
    upper = {**{number: -float(number) for number in range(5)}, 5: Status.DIVERGED}
    lower = {number: -float(number) for number in range(12)}
    assert agreement_of_rungs(history_of(lower, upper, direction="maximize"), 0, 1).value == pytest.approx(1.0)


def test_survivors_are_expected_to_agree_less_than_all_configurations() -> None:
    generator = np.random.default_rng(0)
    full = generator.normal(size=60)
    noisy = full + 0.5 * generator.normal(size=60)
    losses = np.stack([noisy, full], axis=1)[:, None, :]
    landscape = landscape_of_losses(losses)
    outcome = recommend(landscape, configurations=27, tolerance=0.1).chosen
    least = least_agreements(landscape, outcome)
    assert len(least) == len(outcome.ladder.rungs) - 1
    overall = np.corrcoef(np.argsort(np.argsort(noisy)), np.argsort(np.argsort(full)))[0, 1]
    assert all(value < overall for value in least)


def test_too_few_survivors_are_expected_nothing_of() -> None:
    generator = np.random.default_rng(0)
    losses = generator.normal(size=(20, 1, 1)) + np.zeros((20, 2, 3))
    landscape = landscape_of_losses(losses)
    outcome = recommend(landscape, configurations=8, tolerance=0.0).chosen
    quotas = outcome.quotas
    least = least_agreements(landscape, outcome)
    assert all((value == -1.0) == (quota < 5) for value, quota in zip(least, quotas[1:], strict=True))
