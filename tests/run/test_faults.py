"""Nothing is lost: killed processes, two at once, full disks. The answer is that of an undisturbed run."""

from __future__ import annotations

import functools
import logging
import math
import multiprocessing
import os
import random
import resource
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

import frostline
from frostline.errors import LadderError, OptionError, StudyError
from frostline.records import Configuration, Fidelity, Status
from frostline.run.plan import SearchPlan
from frostline.run.tuning import search_function
from frostline.search.algorithms.halving import AsynchronousHalving
from frostline.search.ladder import Ladder
from frostline.search.spaces.space import SearchSpace
from frostline.store.backends.storage import close_storage, open_storage
from frostline.store.reading import read_study
from tests import tiny_task

pytestmark = pytest.mark.multiprocess

SPACE = SearchSpace(
    distributions={
        "learning_rate": FloatDistribution(1e-5, 1.0, log=True),
        "momentum": FloatDistribution(0.0, 0.99),
        "optimizer": CategoricalDistribution(["Adam", "SGD"]),
    }
)
LADDER = Ladder.diagonal(num_layers=10, full_samples=1000)


def bowl(configuration: Configuration, fidelity: Fidelity) -> float:
    """A bowl over the logarithm of the learning rate, noisier the lower the fidelity."""
    rate, momentum = configuration["learning_rate"], configuration["momentum"]
    assert isinstance(rate, float)
    assert isinstance(momentum, float)
    if rate > 0.5:
        return math.nan
    if configuration["optimizer"] == "SGD" and momentum > 0.8:
        raise RuntimeError("momentum is too high")
    return (math.log10(rate) + 3) ** 2 + momentum + math.sin(1e4 * rate) / fidelity.samples


def landscape(configuration: Configuration, fidelity: Fidelity) -> float:
    """Takes a moment, as training does: who shares a study has something left to do."""
    time.sleep(0.003)
    return bowl(configuration, fidelity)


def search(place: str, *, configurations: int = 27) -> frostline.TuneResult:
    return search_function(
        landscape, SPACE, LADDER, study="s", storage=place, plan=SearchPlan(configurations=configurations)
    )


def everything_in(place: str) -> list[Any]:
    """All that a study says but for the time it took."""
    storage = open_storage(place)
    found = []
    for trial in storage.get_all_trials(storage.get_study_id_from_name("s")):
        rungs = {key: value for key, value in trial.user_attrs.items() if key.startswith("rung")}
        for record in rungs.values():
            del record["seconds"]
            record.pop("fixed_seconds", None)
        found.append((trial.number, trial.params, trial.state, trial.values, trial.intermediate_values, rungs))
    close_storage(storage)
    return found


def num_ended(place: str) -> int:
    """How many evaluations a study holds; 0 before there is one."""
    try:
        return read_study(place, "s").history.num_evaluations
    except StudyError:
        return 0


def train_search(place: str, runs: Path) -> frostline.TuneResult:
    ladder = Ladder.samples_only(num_layers=6, full_samples=1024)
    return frostline.tune_task(
        tiny_task.task,
        study="s",
        storage=place,
        ladder=ladder,
        plan=SearchPlan(configurations=9),
        training=frostline.TrainingOptions(runs=runs),
    )


@pytest.mark.slow
def test_real_training_that_is_killed_goes_on_from_its_checkpoints(
    processes: multiprocessing.context.ForkServerContext, tmp_path: Path
) -> None:
    place, undisturbed = (f"sqlite:///{tmp_path}/{name}.db" for name in ("killed", "undisturbed"))
    moments = random.Random(3)
    for _ in range(2):
        process = processes.Process(target=train_search, args=(place, tmp_path / "killed"))
        process.start()
        # What two processes in a row die of is set aside: each ends an evaluation first.
        before = num_ended(place)
        while process.is_alive() and num_ended(place) == before:
            time.sleep(0.02)
        process.join(moments.uniform(0.0, 0.1))
        process.kill()
        process.join()
    train_search(place, tmp_path / "killed")
    train_search(undisturbed, tmp_path / "undisturbed")
    assert everything_in(place) == everything_in(undisturbed)
    assert not list((tmp_path / "undisturbed").rglob("*.pt")), (
        "checkpoints of ended configurations are left behind"
    )


# An empty database of a server, such as postgresql://user@localhost/frostline_test: tests leave studies in it.
SERVER = os.environ.get("FROSTLINE_TEST_DATABASE", "")
needs_server = pytest.mark.skipif(not SERVER, reason="FROSTLINE_TEST_DATABASE names no database")


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["sqlite", "journal", pytest.param("server", marks=needs_server)])
def test_two_processes_share_a_study(
    storage: str, processes: multiprocessing.context.ForkServerContext, tmp_path: Path
) -> None:
    places = {"sqlite": f"sqlite:///{tmp_path}/two.db", "journal": str(tmp_path / "two.log"), "server": SERVER}
    place = places[storage]
    alone = f"sqlite:///{tmp_path}/one.db"
    pair = [processes.Process(target=search, args=(place,)) for _ in range(2)]
    for process in pair:
        process.start()
    for process in pair:
        process.join(120)
    assert [process.exitcode for process in pair] == [0, 0]
    search(alone)
    assert everything_in(place) == everything_in(alone)


def search_with_little_room(place: str, file: str, room: int, answer: Any) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (Path(file).stat().st_size + room, resource.RLIM_INFINITY))
    try:
        search(place)
    except StudyError as error:
        answer.put(f"{error}")
    else:
        answer.put("it finished")


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["sqlite", "journal"])
def test_a_full_disk_ends_the_search_in_one_line_and_loses_nothing(
    storage: str, processes: multiprocessing.context.ForkServerContext, tmp_path: Path
) -> None:
    file = tmp_path / "study"
    place = f"sqlite:///{file}" if storage == "sqlite" else str(file)
    search(place, configurations=9)
    answer = processes.Queue()
    process = processes.Process(target=search_with_little_room, args=(place, str(file), 3000, answer))
    process.start()
    words = answer.get(timeout=120)
    process.join(120)
    assert str(file) in words
    assert "\n" not in words
    assert words.startswith(("the storage", "the journal"))
    undisturbed = f"sqlite:///{tmp_path}/undisturbed.db"
    search(undisturbed, configurations=9)
    search(undisturbed)
    search(place)
    assert everything_in(place) == everything_in(undisturbed)


def test_what_diverges_or_raises_is_recorded_and_the_search_goes_on(tmp_path: Path) -> None:
    place = f"sqlite:///{tmp_path}/study.db"
    result = search(place)
    history = read_study(place, "s").history
    by_status = {status: [e for e in history.evaluations() if e.status is status] for status in Status}
    assert all(by_status.values()), "the landscape should give all three"
    assert result.score < 1
    trials = optuna.load_study(study_name="s", storage=open_storage(place)).trials
    for evaluation in by_status[Status.FAILED]:
        assert trials[evaluation.number].state is optuna.trial.TrialState.FAIL
        assert trials[evaluation.number].user_attrs["reason"] == evaluation.reason
        assert evaluation.reason is not None
        assert evaluation.reason.startswith("RuntimeError: momentum is too high (test_faults.py:")
    for evaluation in by_status[Status.DIVERGED]:
        assert trials[evaluation.number].state is optuna.trial.TrialState.PRUNED
        assert history.evaluation(evaluation.number, evaluation.rung + 1) is None


def test_a_ladder_of_another_model_or_budget_is_refused() -> None:
    tune = functools.partial(
        frostline.tune_task, tiny_task.task, study="s", storage=":memory:", plan=SearchPlan(configurations=9)
    )
    with pytest.raises(LadderError, match="ends at 3 layers and 500 examples, but the full training is 6 layers"):
        tune(ladder=Ladder.diagonal(num_layers=3, full_samples=500))
    with pytest.raises(LadderError, match="ends at 6 layers and 4096 examples"):
        tune(ladder=Ladder.diagonal(num_layers=6, full_samples=4096))


def test_words_that_are_not_allowed_are_named() -> None:
    with pytest.raises(OptionError, match="direction is 'max', but must be one of minimize, maximize"):
        SearchPlan(direction="max")  # type: ignore[arg-type]
    with pytest.raises(LadderError, match=r"configurations is 9\.5, but must be a whole number"):
        search_function(
            landscape, SPACE, LADDER, study="s", storage=":memory:", plan=SearchPlan(configurations=9.5)
        )  # type: ignore[arg-type]


def test_a_study_of_something_else_is_refused(tmp_path: Path) -> None:
    place = f"sqlite:///{tmp_path}/study.db"
    search(place, configurations=9)
    plan = SearchPlan(configurations=9)
    tune = functools.partial(search_function, landscape, storage=place, study="s", plan=plan)
    other_space = SearchSpace(distributions={"learning_rate": FloatDistribution(1e-5, 1.0)})
    with pytest.raises(StudyError, match="made with space"):
        tune(other_space, LADDER)
    with pytest.raises(StudyError, match="made with rungs"):
        tune(SPACE, Ladder.samples_only(num_layers=10, full_samples=1000))
    with pytest.raises(StudyError, match="made with search"):
        tune(SPACE, LADDER, plan=replace(plan, search=AsynchronousHalving))
    with pytest.raises(StudyError, match="made with seed 0, and this run has 1"):
        tune(SPACE, LADDER, plan=replace(plan, seed=1))
    with pytest.raises(StudyError, match="made with direction"):
        tune(SPACE, LADDER, plan=replace(plan, direction="maximize"))
    with pytest.raises(StudyError, match="made with task"):
        search_function(lambda configuration, fidelity: 0.0, SPACE, LADDER, storage=place, study="s")
    search(place, configurations=12)
    with pytest.raises(StudyError, match="holds 12 configurations, and this run asks for 9 in total"):
        tune(SPACE, LADDER)
    optuna.create_study(study_name="foreign", storage=open_storage(place)).optimize(
        lambda trial: trial.number, n_trials=1
    )
    with pytest.raises(StudyError, match="trials that frostline did not make"):
        tune(SPACE, LADDER, study="foreign")


def test_optuna_logs_no_line_amid_the_view_when_a_study_is_made(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # As Optuna has it: the command, which other tests call in this process, leaves it quiet.
    caplog.set_level(logging.INFO, "optuna")
    caplog.set_level(logging.NOTSET, "optuna.storages")
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("optuna").addHandler(handler)
    try:
        place = f"sqlite:///{tmp_path}/quiet.db"
        search_function(bowl, SPACE, LADDER, study="s", storage=place, plan=SearchPlan(configurations=9))
        assert lines == []
        # Of studies that are not ours it goes on to speak.
        optuna.create_study(storage=open_storage(place), study_name="other")
        assert "other" in lines[0]
    finally:
        logging.getLogger("optuna").removeHandler(handler)
