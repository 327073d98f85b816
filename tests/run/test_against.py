"""A search that weighs its score against what the model costs: its front, what it keeps, and how it goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import frostline
from frostline.errors import OptionError, StudyError
from frostline.records import Evaluation
from frostline.run.execution.options import alone
from frostline.run.loop import Observer
from frostline.run.outcome.front import cost_words
from frostline.run.plan import SearchPlan
from frostline.run.tuning import search_function
from frostline.search.fronts import climbing_order
from frostline.search.history import History
from frostline.store.reading import read_study
from tests import wide_task
from tests.wide_task import num_biases, num_weights

# Of this one the front has four members.
SEED = 4

LADDER = frostline.Ladder.explicit([(1, 32), (4, 256)], num_layers=4, full_samples=256)


class Killed(Exception):
    pass


class KillsAfter(Observer):
    """Ends a search after so many evaluations, as a signal would."""

    def __init__(self, number: int) -> None:
        self.number = number

    def ended(self, evaluation: Evaluation, history: History) -> None:
        self.number -= 1
        if self.number == 0:
            raise Killed


def search(folder: Path, *, study: str = "s", observer: Observer = frostline.SILENT, **plan: Any):
    return frostline.tune_task(
        wide_task.task,
        study=study,
        storage=f"{folder / 'studies.log'}",
        ladder=LADDER,
        plan=SearchPlan(**{"configurations": 12, "against": "bytes", **plan}),
        training=frostline.TrainingOptions(runs=folder / "runs", threads=1, device="cpu", engine="serial"),
        observer=observer,
    )


def facts(result: frostline.TuneResult) -> list[tuple[Any, ...]]:
    ended = sorted(result.history.evaluations(), key=lambda one: (one.rung, one.number))
    return [(one.rung, one.number, one.score, one.model_cost) for one in ended]


@pytest.fixture(scope="module")
def whole_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("whole")


@pytest.fixture(scope="module")
def whole(whole_folder: Path) -> frostline.TuneResult:
    """A search against bytes that nothing interrupts."""
    return search(whole_folder, seed=SEED)


def test_the_front_is_what_no_other_beats_and_its_models_are_kept(
    whole: frostline.TuneResult, whole_folder: Path
) -> None:
    result = whole
    full = [one for one in result.history.evaluations() if one.rung == 1]
    assert len(full) == 4
    for one in full:
        width = result.history.configurations[one.number]["width"]
        assert isinstance(width, int)
        assert one.model_cost == 4 * (num_weights(width) + num_biases(width))
    expected = [
        one.number
        for one in sorted(full, key=lambda one: one.score)
        if not any(other.score < one.score and other.model_cost <= one.model_cost for other in full)
    ]
    assert [member.configuration.number for member in result.front] == expected
    assert len(expected) > 1
    assert result.front[0].configuration == result.configuration
    assert result.front[0].score == result.score
    (models,) = (whole_folder / "runs" / "s").glob("*/models")
    assert sorted(int(path.name.partition("-")[0]) for path in models.iterdir()) == sorted({*expected})
    for member in result.front:
        assert result.models is not None
        result.models.load(member.configuration, wide_task.network(member.configuration))
    text = f"{result!r}"
    assert (
        f"front: {len(expected)} configurations that no other beats in both score and bytes of the model" in text
    )
    assert all(row in text for row in (cost_words(member.cost, "bytes") for member in result.front))
    assert "bytes of the model" in result._repr_html_()


def test_they_climb_by_fronts_and_not_by_score(whole: frostline.TuneResult) -> None:
    history = whole.history
    lowest = [one for one in history.evaluations() if one.rung == 0]
    points = {one.number: (one.score, one.model_cost) for one in lowest}
    climbed = sorted(history.rung(1).ranking)
    assert climbed == sorted(climbing_order(points)[:4])
    assert climbed != sorted(history.rung(0).ranking[:4])


def test_without_a_cost_there_is_no_front_nor_later_one(tmp_path: Path) -> None:
    result = search(tmp_path, against=None, configurations=3)
    with pytest.raises(StudyError, match="was made with against None, and this run has 'bytes'"):
        search(tmp_path, configurations=3)
    assert result.front == ()
    assert "front" not in f"{result!r}"


def test_a_killed_search_goes_on_to_the_same_front(whole: frostline.TuneResult, tmp_path: Path) -> None:
    for number in (3, 7, 4):
        with pytest.raises(Killed):
            search(tmp_path, seed=SEED, observer=KillsAfter(number))
    killed = search(tmp_path, seed=SEED)
    assert facts(killed) == facts(whole)
    assert killed.front == whole.front


def test_a_study_keeps_what_it_was_begun_with_and_is_not_gone_on_with_under_another(tmp_path: Path) -> None:
    first = search(tmp_path, against="flops", configurations=3)
    again = search(tmp_path, against=None, configurations=3)
    assert again.terms.against == "flops"
    assert again.front == first.front
    assert read_study(f"{tmp_path / 'studies.log'}", "s").terms.against == "flops"
    with pytest.raises(StudyError, match="was made with against 'flops', and this run has 'bytes': use another"):
        search(tmp_path, against="bytes", configurations=3)


def test_seconds_are_measured_while_nothing_else_trains(tmp_path: Path) -> None:
    def searched(**options: Any) -> frostline.TuneResult:
        return frostline.tune_task(
            wide_task.task,
            study="s",
            storage=":memory:",
            ladder=LADDER,
            plan=SearchPlan(configurations=3, against="seconds"),
            training=frostline.TrainingOptions(runs=tmp_path, device="cpu", threads=1, engine="serial", **options),
        )

    with pytest.raises(
        OptionError, match="which are measured while nothing else runs, but workers is 2: leave that"
    ):
        searched(workers=2)
    result = searched()
    assert all(0 < member.cost < 1 for member in result.front)
    assert "measured on the machine that searched" in f"{result!r}"


def test_what_no_model_is_known_of_is_refused() -> None:
    def train(configuration: frostline.Configuration, fidelity: frostline.Fidelity) -> float:
        raise AssertionError("it was trained")

    plan = SearchPlan(configurations=9, against="bytes")
    with pytest.raises(
        OptionError, match="against is 'bytes', but what a model costs is known of tasks and objectives: leave it"
    ):
        search_function(train, wide_task.task.space, LADDER, study="s", plan=plan, storage=":memory:")


def test_rows_have_units() -> None:
    assert cost_words(1536, "bytes") == "1.5 KiB"
    assert cost_words(2_500_000, "flops") == "2.5 MFLOPs"
    assert cost_words(0, "flops") == "0 FLOPs"
    assert cost_words(0.25, "seconds") == "250 ms"
    assert cost_words(1.5, "seconds") == "1.5 s"
    assert cost_words(12e-6, "seconds") == "12 µs"


def test_only_seconds_keep_other_workers_away() -> None:
    options = frostline.TrainingOptions(workers="auto")
    assert alone(options, "seconds").workers == 1
    assert alone(options, "bytes") is options
