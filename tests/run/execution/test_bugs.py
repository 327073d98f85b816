"""A bug in the user's code stops the search, names its line, and costs nothing but what it burned: mended, all goes on."""

from __future__ import annotations

import importlib.util
import os
import sys
import textwrap
import traceback
import weakref
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import optuna
import pytest
import torch
from optuna.distributions import FloatDistribution
from torch import nn

import frostline
from frostline.errors import SearchFailedError, StudyError, TrainingBugError
from frostline.records import Configuration, Evaluation, Failure, Fidelity, Status
from frostline.run.plan import SearchPlan
from frostline.run.tuning import search_function
from frostline.store.backends.storage import open_storage, opened
from frostline.store.maintenance import retry_failed
from frostline.store.reading import read_study
from frostline.store.study import SearchStudy
from tests import tiny_task
from tests.executing import Watching

SPACE = frostline.SearchSpace(distributions={"rate": FloatDistribution(1e-3, 1.0)})
LADDER = frostline.Ladder.explicit([(1, 100), (2, 300), (3, 900)], num_layers=3, full_samples=900)
PLAN = SearchPlan(configurations=9)
BUG = """
    def lookup(values, name):
        return values[name]


    def train(configuration, fidelity):
        return lookup(configuration, "rat") - 0.3
"""
MENDED = BUG.replace('"rat"', '"rate"')


@pytest.fixture(autouse=True)
def no_collections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Garbage collections take longer than these trainings."""
    monkeypatch.setattr("frostline.run.execution.executors.give_memory_back", lambda: None)


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Path]:
    """A file of the user's, with a bug."""
    path = tmp_path / "my_training.py"
    path.write_text(textwrap.dedent(BUG))
    yield path
    sys.modules.pop("my_training", None)


def loaded(script: Path) -> ModuleType:
    specification = importlib.util.spec_from_file_location(script.stem, script)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def mend(script: Path) -> None:
    script.write_text(textwrap.dedent(MENDED))
    # Python keeps what it compiled of a file of the same size and second.
    os.utime(script, (1, 1))


def search(train: Any, place: str, **options: Any) -> frostline.TuneResult:
    return search_function(train, SPACE, LADDER, study="s", storage=place, plan=PLAN, **options)


def outcomes(place: str) -> list[Any]:
    """All that a search came to, by configuration, but for the time it took."""
    history = read_study(place, "s").history
    return [
        (
            dict(configuration.hyperparameters),
            [(each.rung, each.status, each.score) for each in history.evaluations_of(configuration.number)],
        )
        for configuration in history.configurations
    ]


@pytest.fixture
def place(tmp_path: Path) -> str:
    """A storage that outlives its search."""
    return f"{tmp_path}/s.log"


@pytest.fixture(params=["sqlite", "journal"])
def each_place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """One of each kind, where it is written to in another way."""
    return f"sqlite:///{tmp_path}/s.db" if request.param == "sqlite" else f"{tmp_path}/s.log"


def test_the_first_bug_stops_the_search_and_names_the_last_line_of_the_users_code(
    script: Path, place: str
) -> None:
    with pytest.raises(TrainingBugError) as stopped:
        search(loaded(script).train, place)
    assert str(stopped.value) == (
        "the training raises, 2 times in a row and before any has ended: KeyError: 'rat' (my_training.py:3). Mend it, or "
        "return nan for what cannot be trained, and run the same search again: what failed is tried once more."
    )
    cause = stopped.value.__cause__
    assert isinstance(cause, KeyError)
    shown = [(Path(frame.filename).name, frame.lineno) for frame in traceback.extract_tb(cause.__traceback__)]
    assert shown == [("my_training.py", 7), ("my_training.py", 3)]
    lines = stopped.value.traceback.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1] == f'  File "{script}", line 7, in train'
    assert lines[-1] == "KeyError: 'rat'"
    # Nothing is lost: both are in the study, with where it was.
    history = read_study(place, "s").history
    assert [(each.number, each.status) for each in history.evaluations()] == [
        (0, Status.FAILED),
        (1, Status.FAILED),
    ]
    for each in history.evaluations():
        assert each.reason == "KeyError: 'rat' (my_training.py:3)"
        assert each.failure == Failure(error="KeyError", place="my_training.py:3", traceback="\n".join(lines))


def test_mended_and_run_again_it_gives_the_numbers_of_a_search_without_the_bug(
    script: Path, each_place: str, tmp_path: Path
) -> None:
    with pytest.raises(TrainingBugError):
        search(loaded(script).train, each_place)
    mend(script)
    mended = loaded(script).train
    found = search(mended, each_place)
    undisturbed = f"{tmp_path}/undisturbed.log"
    expected = search(mended, undisturbed)
    assert (found.best.number, found.score) == (expected.best.number, expected.score)
    assert outcomes(each_place) == outcomes(undisturbed)
    # In Optuna the trials that failed stay, and others take their places.
    trials = optuna.load_study(study_name="s", storage=open_storage(each_place)).trials
    assert [trial.state.name for trial in trials[:2]] == ["FAIL", "FAIL"]
    assert {trial.user_attrs["retries"] for trial in trials if "retries" in trial.user_attrs} == {0, 1}
    assert len(trials) == 11
    assert not [trial for trial in trials if not trial.state.is_finished()]
    # And again nothing is left to do.
    seen: list[Evaluation] = []
    search(mended, each_place, observer=Watching(seen.append))
    assert seen == []


def test_where_the_mended_file_is_another_one_what_failed_is_tried_again_as_nothing_else_came_of_it(
    place: str,
) -> None:
    broken = [True]

    def train(configuration: Configuration, fidelity: Fidelity) -> float:
        if broken[0]:
            raise RuntimeError("no data")
        return float(configuration["rate"])  # type: ignore[arg-type]

    for _ in range(2):
        with pytest.raises(TrainingBugError, match="RuntimeError: no data"):
            search(train, place)
    broken[0] = False
    search(train, place)
    assert {status for _, evaluations in outcomes(place) for _, status, _ in evaluations} == {Status.FINISHED}


def test_a_mended_model_of_another_shape_begins_anew_where_nothing_but_failures_came(tmp_path: Path) -> None:
    def network(configuration: Configuration, *, classes: int) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, classes))

    def run(classes: int) -> frostline.TuneResult:
        return frostline.tune_task(
            replace(tiny_task.task, model=partial(network, classes=classes)),
            study="s",
            storage=f"{tmp_path}/s.log",
            ladder=frostline.Ladder.explicit([(2, 512), (2, 1024)], num_layers=2, full_samples=1024),
            plan=SearchPlan(configurations=9),
            training=frostline.TrainingOptions(runs=tmp_path, threads=1, device="cpu"),
        )

    with pytest.raises(TrainingBugError, match="IndexError: Target 1 is out of bounds"):
        run(1)
    assert run(2).summary.rungs[0].failed == 0
    # What has come to something is nobody's to delete.
    with pytest.raises(StudyError, match="was made with data"):
        run(3)


def test_a_model_that_cannot_be_built_for_some_fails_for_these_alone(tmp_path: Path) -> None:
    def network(configuration: Configuration) -> nn.Module:
        if float(configuration["learning_rate"]) > 0.01:  # type: ignore[arg-type]
            raise ValueError("heads do not divide the width")
        return nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 2))

    result = frostline.tune_task(
        replace(tiny_task.task, model=network),
        storage=f"{tmp_path}/s.log",
        configurations=20,
        training=frostline.TrainingOptions(runs=tmp_path, threads=1, device="cpu"),
        observer=frostline.SILENT,
    )
    lowest = [result.history.evaluation(number, 0) for number in range(20)]
    failed = [each for each in lowest if each is not None and each.status is Status.FAILED]
    assert 0 < len(failed) < 20
    assert all("heads do not divide the width" in f"{each.reason}" for each in failed)
    assert all(float(result.history.configurations[each.number]["learning_rate"]) > 0.01 for each in failed)


IS_MENDED: list[bool] = []


def sometimes(configuration: Configuration, fidelity: Fidelity) -> float:
    if configuration.number % 3 and not IS_MENDED:
        raise ValueError("not that one")
    return float(configuration["rate"])  # type: ignore[arg-type]


def test_what_fails_after_one_has_finished_stays_an_evaluation_that_failed(place: str) -> None:
    seen: list[Evaluation] = []
    search(sometimes, place, observer=Watching(seen.append))
    failed = [each for each in seen if each.status is Status.FAILED]
    assert len(failed) > 2
    before = outcomes(place)
    # Run again, it is not tried again: nothing was mended.
    search(sometimes, place)
    assert outcomes(place) == before


def test_retry_lets_what_failed_be_tried_again_once(each_place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    search(sometimes, each_place)
    failed = [
        number
        for number, (_, evaluations) in enumerate(outcomes(each_place))
        if any(status is Status.FAILED for _, status, _ in evaluations)
    ]
    assert retry_failed(each_place, "s") == failed
    assert retry_failed(each_place, "s") == []
    seen: list[Evaluation] = []
    monkeypatch.setattr(f"{__name__}.IS_MENDED", [True])
    search(sometimes, each_place, observer=Watching(seen.append))
    assert [each.number for each in seen[: len(failed)]] == failed
    assert all(each.status is Status.FINISHED for each in seen)


def test_memory_that_ran_out_and_divergence_are_no_bugs(place: str) -> None:
    def train(configuration: Configuration, fidelity: Fidelity) -> float:
        if configuration.number % 2:
            return float("nan")
        raise torch.OutOfMemoryError("400 TiB")

    def hungry(configuration: Configuration, fidelity: Fidelity) -> float:
        raise MemoryError("400 TiB")

    for training in (train, hungry):
        with pytest.raises(SearchFailedError):
            search_function(training, SPACE, LADDER, study=training.__name__, storage=place, plan=PLAN)
    assert retry_failed(place, "hungry") == []
    assert len(retry_failed(place, "hungry", every=True)) == 9


def test_what_says_by_itself_what_to_do_stops_the_search_too() -> None:
    with pytest.raises(TrainingBugError, match="the training function returned None: return a score"):
        search(lambda configuration, fidelity: None, ":memory:")


def test_different_errors_in_a_row_are_no_bug() -> None:
    def train(configuration: Configuration, fidelity: Fidelity) -> float:
        if configuration.number % 2:
            raise ValueError("odd")
        raise ValueError("even")

    with pytest.raises(SearchFailedError):
        search(train, ":memory:")


def test_a_bug_holds_no_tensor_of_the_training() -> None:
    alive: list[Any] = []

    def train(configuration: Configuration, fidelity: Fidelity) -> float:
        weights = torch.zeros(1000)
        alive.append(weakref.ref(weights))
        raise RuntimeError(f"the shape is {weights.shape}")

    with suppress(TrainingBugError):
        search(train, ":memory:")
    assert [reference() for reference in alive] == [None, None]


def test_a_traceback_is_bounded_printable_and_holds_no_password(place: str) -> None:
    def train(configuration: Configuration, fidelity: Fidelity) -> float:
        raise RuntimeError("postgresql://me:hunter2hunter2@host/x \x1b[2J " + 10_000 * "long ")

    with pytest.raises(TrainingBugError) as stopped:
        search(train, place)
    (one, _) = read_study(place, "s").history.evaluations()
    assert one.failure is not None
    assert one.failure.traceback == stopped.value.traceback
    assert len(one.failure.traceback) < 4100
    assert "hunter2" not in one.failure.traceback
    assert "\\x1b[2J" in one.failure.traceback
    assert "\x1b" not in one.failure.traceback


def test_a_process_killed_while_it_makes_the_new_trials_leaves_the_rest_to_the_next(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    search(sometimes, place)
    failed = retry_count = 0
    failed = sum(status is Status.FAILED for _, each in outcomes(place) for _, status, _ in each)
    study = read_study(place, "s")
    made = 0

    def dies(self: Any, *arguments: Any) -> int:
        nonlocal made
        if made == 2:
            raise KeyboardInterrupt
        made += 1
        return original(self, *arguments)

    storage = type(open_storage(place))
    original = storage.create_new_trial
    monkeypatch.setattr(storage, "create_new_trial", dies)
    with pytest.raises(KeyboardInterrupt):
        retry_failed(place, "s")
    monkeypatch.undo()
    retry_count = len(retry_failed(place, "s"))
    assert (made, retry_count) == (2, failed - 2)
    assert len(read_study(place, "s").history.configurations) == len(study.history.configurations)


def broken(configuration: Configuration) -> Any:
    def schedule(share: float) -> float:
        raise KeyError("warmup")

    return schedule


@pytest.mark.parametrize("engine", ["auto", "stacked", "serial"])
def test_a_population_is_tried_one_by_one_and_stops_then(engine: str, tmp_path: Path) -> None:
    task = replace(tiny_task.task, schedule=broken)
    options = frostline.TrainingOptions(runs=tmp_path, engine=engine, threads=1)
    with pytest.raises(TrainingBugError, match=r"KeyError: 'warmup' \(test_bugs.py:\d+\)") as stopped:
        frostline.tune_task(
            task, study="s", storage=":memory:", training=options, plan=SearchPlan(configurations=9)
        )
    assert isinstance(stopped.value.__cause__, KeyError)


def test_a_worker_hears_that_another_lets_what_failed_be_tried_again(place: str) -> None:
    search(sometimes, place)
    stored = read_study(place, "s")
    with opened(place) as storage:
        first = SearchStudy.open(storage, "s", terms=stored.terms, space=stored.space)
        with first.deciding():
            pass
        failed = sum(each.status is Status.FAILED for each in first.history.evaluations())
        again = retry_failed(place, "s")
        with first.deciding() as news:
            assert news
            requests, _ = first.abandoned()
        assert [request.number for request in requests] == again
        assert len(again) == failed
        first.close()
