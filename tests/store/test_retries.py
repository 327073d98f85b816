"""What failed is tried once more: in every search, after an interruption, by several workers, whatever is in the study."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import FloatDistribution

import frostline
from frostline.errors import SearchFailedError, StudyError
from frostline.records import Configuration, Cost, Evaluation, Fidelity, Request, Status
from frostline.run.plan import SearchPlan
from frostline.run.tuning import search_function
from frostline.search.algorithms.watched import WatchedHalving
from frostline.search.proposals import sampling
from frostline.store.backends.storage import open_storage, opened
from frostline.store.maintenance import retry_failed
from frostline.store.reading import read_study
from frostline.store.retries import counting_trials
from frostline.store.study import SearchStudy
from tests.executing import Watching

SPACE = frostline.SearchSpace(distributions={"rate": FloatDistribution(1e-3, 1.0)})
LADDER = frostline.Ladder.explicit([(1, 100), (2, 300), (3, 900)], num_layers=3, full_samples=900)
SEARCHES: dict[str, Any] = {
    "halving": {"configurations": 9},
    "hyperband": {"configurations": 12, "search": partial(frostline.Hyperband, reduction_factor=2)},
    "asynchronous": {"configurations": 9, "search": frostline.AsynchronousHalving},
    "sweep": {"configurations": 5, "search": frostline.Sweep},
    "full": {"configurations": 5, "search": frostline.FullFidelity},
    "watched": {"configurations": 9, "search": partial(WatchedHalving, least_agreement=(0.9, 0.5))},
    "budgeted": {"budget": 5, "initial": [{"rate": 0.3}]},
    "learning": {"configurations": 9, "sampling": sampling.TPE},
}
FAILS: list[bool] = [True]


def train(configuration: Configuration, fidelity: Fidelity) -> float:
    """The lower half of the rungs fails of some, the last rung of others."""
    number = configuration.number
    if FAILS[0] and (number % 4 == 1 or (number % 4 == 2 and fidelity.samples == 900)):
        raise ValueError(f"not {number}")
    return abs(float(configuration["rate"]) - 0.3) + 1 / fidelity.samples  # type: ignore[arg-type]


def search(place: str, name: str, **options: Any) -> frostline.TuneResult:
    return search_function(
        train, SPACE, LADDER, study="s", storage=place, plan=SearchPlan(seed=1, **SEARCHES[name]), **options
    )


def failed(place: str) -> list[tuple[int, int]]:
    history = read_study(place, "s").history
    return [(each.number, each.rung) for each in history.evaluations() if each.status is Status.FAILED]


@pytest.fixture(autouse=True)
def no_collections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Garbage collections take longer than these trainings."""
    monkeypatch.setattr("frostline.run.execution.executors.give_memory_back", lambda: None)


@pytest.mark.parametrize("name", SEARCHES)
def test_every_search_goes_on_with_what_is_tried_once_more(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = f"{tmp_path}/s.log"
    with suppress(SearchFailedError):
        search(place, name)
    before = failed(place)
    assert before
    kept = {
        each.request: each
        for each in read_study(place, "s").history.evaluations()
        if each.status is not Status.FAILED
    }
    assert retry_failed(place, "s") == sorted({number for number, _ in before})
    monkeypatch.setattr(f"{__name__}.FAILS", [False])
    seen: list[Evaluation] = []
    search(place, name, observer=Watching(seen.append))
    assert failed(place) == []
    # What did not fail is not trained again, and what failed is trained first.
    assert not kept.keys() & {each.request for each in seen}
    assert {each.request for each in read_study(place, "s").history.evaluations()} >= kept.keys()
    assert sorted((each.number, each.rung) for each in seen[: len(before)]) == sorted(before)
    with opened(place) as storage:
        trials = storage.backend.get_all_trials(storage.backend.get_study_id_from_name("s"))
    assert all(trial.state.is_finished() for trial in trials)


def test_a_search_that_is_larger_afterwards_numbers_its_configurations_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = f"sqlite:///{tmp_path}/s.db"
    search(place, "halving")
    retry_failed(place, "s")
    monkeypatch.setattr(f"{__name__}.FAILS", [False])
    monkeypatch.setitem(SEARCHES, "halving", {"configurations": 12})
    seen: list[Evaluation] = []
    search(place, "halving", observer=Watching(seen.append))
    history = read_study(place, "s").history
    assert [each.number for each in history.configurations] == [*range(12)]
    assert {9, 10, 11} <= {each.number for each in seen}
    monkeypatch.setitem(SEARCHES, "halving", {"configurations": 11})
    with pytest.raises(StudyError, match="holds 12 configurations, and this run asks for 11"):
        search(place, "halving")


def test_a_trial_that_failed_and_is_still_open_ends_when_another_takes_its_place(tmp_path: Path) -> None:
    place = f"{tmp_path}/s.log"

    def interrupt(evaluation: Evaluation) -> None:
        if evaluation.status is Status.FAILED:
            raise KeyboardInterrupt

    # Under a budget nobody ends before the rung has closed.
    with pytest.raises(KeyboardInterrupt):
        search(place, "budgeted", observer=Watching(interrupt))
    with opened(place) as storage:
        trials = storage.backend.get_all_trials(storage.backend.get_study_id_from_name("s"))
    assert trials[1].state.name == "RUNNING"
    assert retry_failed(place, "s") == [1]
    search(place, "budgeted")
    with opened(place) as storage:
        trials = storage.backend.get_all_trials(storage.backend.get_study_id_from_name("s"))
    assert trials[1].state.name == "FAIL"
    assert [trial.number for trial in trials if trial.user_attrs.get("retries") == 1] == [2]
    assert all(trial.state.is_finished() for trial in trials)


@pytest.mark.parametrize("is_mended", [True, False])
def test_with_another_source_what_failed_is_tried_once_more_and_who_works_on_it_hears_of_it(
    is_mended: bool, tmp_path: Path
) -> None:
    place = f"{tmp_path}/s.log"
    search(place, "halving")
    stored = read_study(place, "s")
    terms = replace(stored.terms, source="another" if is_mended else stored.terms.source)
    with opened(place) as storage:
        there = SearchStudy.open(storage, "s", terms=stored.terms, space=stored.space)
        with there.deciding():
            pass
        failed_there = [each.number for each in there.history.evaluations() if each.status is Status.FAILED]
        assert failed_there
        here = SearchStudy.open(storage, "s", terms=terms, space=stored.space)
        with here.deciding():
            assert sorted({request.number for request in here.abandoned()[0]}) == (
                sorted(failed_there) if is_mended else []
            )
        # This one lives on: the other has nothing but its news.
        with there.deciding():
            known = [each.number for each in there.history.evaluations() if each.status is Status.FAILED]
        assert known == ([] if is_mended else failed_there)
        there.close()
        here.close()
    # What was tried once more because of a source is not tried again because of the same.
    with opened(place) as storage:
        again = SearchStudy.open(storage, "s", terms=terms, space=stored.space)
        with again.deciding():
            pass
        again.close()
        num_trials = storage.backend.get_n_trials(storage.backend.get_study_id_from_name("s"))
    assert num_trials == (9 + len(failed_there) if is_mended else 9)


def test_what_another_evaluates_just_now_is_left_alone(tmp_path: Path) -> None:
    place = f"{tmp_path}/s.log"
    search(place, "sweep")
    numbers = sorted({number for number, _ in failed(place)})
    retry_failed(place, "s")
    stored = read_study(place, "s")
    with opened(place) as storage:
        worker = SearchStudy.open(storage, "s", terms=stored.terms, space=stored.space)
        with worker.deciding():
            for rung in (0, 1):
                worker.claim(worker.history.configurations[numbers[0]], rung)
        # The first rung fails once more while the next is under way.
        worker.record(
            Evaluation(
                number=numbers[0],
                rung=0,
                fidelity=LADDER.rungs[0],
                status=Status.FAILED,
                score=None,
                cost=next(iter(stored.history.evaluations())).cost,
                failure=next(each.failure for each in _evaluations(tmp_path, "other") if each.failure),
            )
        )
        assert retry_failed(place, "s") == []
        worker.record(_finished(numbers[0], 1))
        # Who evaluated it still lives, and is not taken for evaluating it again.
        assert retry_failed(place, "s") == [numbers[0]]
        with worker.deciding():
            assert Request(numbers[0], 0) in worker.abandoned()[0]
        worker.close()


def test_what_is_drawn_after_a_retry_is_written_to_its_own_trial_by_whoever_heard_of_it(tmp_path: Path) -> None:
    place = f"sqlite:///{tmp_path}/s.db"
    search(place, "halving")
    again = retry_failed(place, "s")
    stored = read_study(place, "s")
    with opened(place) as storage:
        one, other = (SearchStudy.open(storage, "s", terms=stored.terms, space=stored.space) for _ in range(2))
        for each in (other, one):
            with each.deciding():
                pass
        with one.deciding():
            one.claim(Configuration(number=9, hyperparameters={"rate": 0.5}), 0)
        with other.deciding() as news:
            assert news
            other.claim(other.history.configurations[9], 1)
        other.record(_finished(9, 1))
        trials = storage.backend.get_all_trials(storage.backend.get_study_id_from_name("s"))
        assert "rung 1" in trials[9 + len(again)].user_attrs
        assert read_study(storage, "s").history.evaluation(9, 1) is not None
        one.close()
        other.close()


def _finished(number: int, rung: int) -> Evaluation:
    return Evaluation(
        number=number,
        rung=rung,
        fidelity=LADDER.rungs[rung],
        status=Status.FINISHED,
        score=0.5,
        cost=Cost(seconds=1.0, samples=1),
    )


def _evaluations(folder: Path, study: str) -> Sequence[Evaluation]:
    place = f"{folder}/{study}.log"
    search(place, "halving")
    return [*read_study(place, "s").history.evaluations()]


@pytest.mark.parametrize("value", ["x", 7, -1, True, None])
def test_a_trial_that_is_said_to_try_none_of_the_others_again_is_damage(value: Any, tmp_path: Path) -> None:
    place = f"{tmp_path}/s.log"
    search(place, "full")
    backend = open_storage(place)
    study_id = backend.get_study_id_from_name("s")
    trial_id = backend.create_new_trial(study_id)
    backend.set_trial_system_attr(trial_id, "frostline:retries", value)
    with pytest.raises(StudyError, match="trial 5 of the study is said to try another once more"):
        read_study(place, "s")
    with pytest.raises(StudyError, match="trial 5 of the study is said to try another once more"):
        counting_trials(backend.get_all_trials(study_id))
