"""Optuna reads the trials that the search keeps, and nothing rests on what its own storages hand out."""

from __future__ import annotations

import copy

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.samplers import RandomSampler
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from frostline.records import Direction, Request
from frostline.search.history import History
from frostline.search.proposals.sampling import TPE, Draws
from frostline.search.proposals.trial_view import STUDY_NAME, TrialView
from frostline.search.spaces.space import SearchSpace
from tests.search.simulation import ended

SPACE = SearchSpace(distributions={"rate": FloatDistribution(0.0, 1.0)})


def study_of(view: TrialView) -> optuna.Study:
    return optuna.load_study(study_name=STUDY_NAME, storage=view, sampler=RandomSampler(seed=0))


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_a_study_shows_the_trials_as_they_are_now(direction: Direction) -> None:
    view = TrialView(direction)
    assert view.trial(2).number == 2
    assert study_of(view).direction.name == direction.upper()
    assert [trial.state for trial in study_of(view).trials] == [TrialState.RUNNING] * 3
    view.trial(1).state, view.trial(1).intermediate_values = TrialState.PRUNED, {0: 0.5}
    (pruned,) = study_of(view).get_trials(states=(TrialState.PRUNED,))
    assert pruned.number == 1
    # It was promoted, and is better now: no storage of Optuna's reopens it.
    view.trial(1).intermediate_values = {1: 0.25}
    assert study_of(view).trials[1].last_step == 1
    assert view.get_n_trials(0) == 3
    assert view.get_trial_number_from_id(2) == 2


def test_a_sampler_writes_attributes_that_only_later_readers_see() -> None:
    view = TrialView("minimize")
    before = view.trial(0)
    view.set_trial_system_attr(0, "state", "x")
    view.set_study_system_attr(0, "generation", 3)
    assert before.system_attrs == {}
    assert view.get_trial(0).system_attrs == {"state": "x"}
    assert view.get_study_system_attrs(0) == {"generation": 3}


def test_a_sampler_makes_no_trials() -> None:
    with pytest.raises(NotImplementedError, match="a sampler reads the trials of a search"):
        study_of(TrialView("minimize")).ask()


def last_drawn() -> dict[str, object]:
    draws = Draws(space=SPACE, sampling=TPE, root_seed=1, direction="minimize")
    history = History("minimize")
    for number in range(30):
        configuration = draws.draw(history)
        history.add_configuration(configuration)
        history.start(Request(number, 0))
        history.finish(ended(Request(number, 0), abs(configuration["rate"] - 0.3)))
    return dict(draws.draw(history))


def test_draws_do_not_rest_on_objects_that_optuna_hands_out(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = last_drawn()
    own = InMemoryStorage.get_trial
    monkeypatch.setattr(InMemoryStorage, "get_trial", lambda *arguments: copy.deepcopy(own(*arguments)))
    assert last_drawn() == expected
