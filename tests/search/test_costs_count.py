"""What samplers are shown of a search that weighs scores against what models cost, and what they make of it."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from statistics import mean

import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import TrialState

from frostline.records import Configuration, Request, Status
from frostline.search.history import History
from frostline.search.proposals.sampling import GP, RANDOM, TPE, Draws, near
from frostline.search.spaces.space import SearchSpace
from tests.search.simulation import ended

SPACE = SearchSpace(distributions={"rate": FloatDistribution(-1.0, 1.0), "width": IntDistribution(1, 64)})
every_learning = pytest.mark.parametrize("sampling", [TPE, GP], ids=lambda sampling: sampling.name)


def draws(sampling, *, costs_count: bool = True) -> Draws:
    return Draws(space=SPACE, sampling=sampling, root_seed=0, direction="maximize", costs_count=costs_count)


def score(configuration: Configuration) -> float:
    """Wide models are good, whatever the rate; a rate of 0.5 is best."""
    return configuration["width"] / 64 - abs(configuration["rate"] - 0.5)


def history_of(made: Draws, number: int, *, faults: float = 0.0, rungs: int = 2) -> History:
    """A history of so many; a score is 3 more at every rung, and a third of all reach the second."""
    random = Random(0)
    history = History("maximize")
    for count in range(number):
        history.add_configuration(made.draw(history))
        configuration = history.configurations[count]
        for rung in range(rungs if count % 3 == 0 else 1):
            outcome = Status.DIVERGED if random.random() < faults else score(configuration) + 3 * rung
            evaluation = ended(Request(count, rung), outcome)
            history.finish(replace(evaluation, model_cost=float(configuration["width"])))
            if isinstance(outcome, Status):
                break
    return history


@every_learning
def test_they_are_shown_scores_without_what_climbing_changed_and_costs(sampling) -> None:
    made = draws(sampling)
    history = history_of(made, 12)
    made.draw(history)
    view = made._mirror._view
    assert view.get_study_directions(0) == [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE]
    for configuration in history.configurations:
        trial = view.trial(configuration.number)
        assert trial.state is TrialState.COMPLETE
        assert trial.values == pytest.approx([score(configuration), configuration["width"]])


@every_learning
def test_a_draw_follows_from_the_history_alone(sampling) -> None:
    made = draws(sampling)
    history = history_of(made, 14, faults=0.3)
    assert any(evaluation.status is Status.DIVERGED for evaluation in history.evaluations())
    again = History("maximize")
    for configuration in history.configurations:
        again.add_configuration(configuration)
    for evaluation in sorted(history.evaluations(), key=lambda one: (-one.number, one.rung)):
        again.finish(evaluation)
    assert made.draw(history) == draws(sampling).draw(again) == made.draw(history)


def test_they_draw_good_rates_of_every_width() -> None:
    """Against costs small models are as good as wide ones; for the score alone wide ones are drawn."""
    of_both, of_score = (
        history_of(draws(TPE, costs_count=counts), 40, rungs=1).configurations[20:] for counts in (True, False)
    )
    widths = [mean(configuration["width"] for configuration in drawn) for drawn in (of_both, of_score)]
    assert widths[0] < widths[1] - 8
    assert mean(abs(configuration["rate"] - 0.5) for configuration in of_both) < 0.4  # of what chance draws 0.625


def test_whose_cost_is_not_known_tells_nothing() -> None:
    made = draws(TPE)
    history = history_of(made, 3)
    history.add_configuration(made.draw(history))
    history.finish(ended(Request(3, 0), 0.5))
    made.draw(history)
    assert made._mirror._view.trial(3).state is TrialState.FAIL


@pytest.mark.parametrize("sampling", [RANDOM, near({"rate": 0.3})], ids=["random", "near"])
def test_chance_and_beliefs_draw_as_they_do_for_the_score_alone(sampling) -> None:
    drawn = [history_of(draws(sampling, costs_count=counts), 10).configurations for counts in (True, False)]
    assert drawn[0] == drawn[1]
