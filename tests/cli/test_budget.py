"""`frostline tune` within a budget: what it plans, spends and answers."""

from __future__ import annotations

import json
import re
from pathlib import Path

import optuna
import pytest

import frostline
from frostline.errors import OptionError, StudyError
from frostline.store.reading import read_study
from tests import tiny_task
from tests.cli.command_line import run, study_here

TINY, MADE = (f"{Path(__file__).parents[1] / 'tiny_task.py'}:{name}" for name in ("task", "make"))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def trials() -> list[optuna.trial.FrozenTrial]:
    return study_here("s").trials


def test_a_budget_plans_trains_ones_own_first_and_says_what_was_spent(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(f"tune {TINY} --study s --budget 3 --device cpu", capsys)
    assert (code, err) == (0, "")
    assert "budget 3 full trainings: one's own configuration in full first" in out
    evaluations = [line for line in out.splitlines() if re.match(r"rung \d  configuration", line)]
    assert evaluations[0].startswith("rung 3  configuration 0  6 layers  1,024 examples")
    assert "Your own configuration, 0," in out
    assert "The budget, 3 full trainings, is " in out
    own, *others = trials()
    assert own.params == {name: tiny_task.task.defaults[name] for name in own.params}
    assert others
    assert all(trial.state.is_finished() for trial in others)
    best = study_here("s").best_trial
    assert best.value is not None
    assert own.value is not None
    assert best.value <= own.value


def test_a_larger_budget_on_the_same_study_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    run(f"tune {TINY} --study s --budget 3 --device cpu", capsys)
    before = read_study("sqlite:///frostline.db", "s").history
    _, again, _ = run(f"tune {TINY} --study s --budget 3 --device cpu", capsys)
    assert "configuration 0  " not in again
    code, _, err = run(f"tune {TINY} --study s --budget 8 --device cpu", capsys)
    assert (code, err) == (0, "")
    after = read_study("sqlite:///frostline.db", "s").history
    assert {one.request for one in before.evaluations()} < {one.request for one in after.evaluations()}
    assert len(after.configurations) > len(before.configurations)


def test_a_study_keeps_the_ladder_that_it_was_begun_with(capsys: pytest.CaptureFixture[str]) -> None:
    # The usual one of an earlier version.
    begun = "2:102,2:205,2:410,6:410,6:1024"
    assert run(f"tune {TINY} --study s --budget 3 --ladder {begun} --device cpu", capsys)[0] == 0
    before = read_study("sqlite:///frostline.db", "s").history
    code, out, err = run(f"tune {TINY} --study s --budget 5 --device cpu", capsys)
    assert (code, err) == (0, "")
    assert ["1", "2", "205"] in [line.split()[:3] for line in out.splitlines()]
    after = read_study("sqlite:///frostline.db", "s").history
    assert {one.request for one in before.evaluations()} < {one.request for one in after.evaluations()}
    # In Python too, and another that is named is another search.
    plan = frostline.SearchPlan(budget=5)
    result = frostline.tune_task(tiny_task.task, study="s", plan=plan, observer=frostline.SILENT)
    assert result.summary.rungs[1].fidelity.samples == 205
    code, _, err = run(f"tune {TINY} --study s --budget 5 --ladder sieve --device cpu", capsys)
    assert code == 1
    assert "was made with rungs" in err


def test_who_climbs_is_trained_in_full_as_one_is_by_itself(capsys: pytest.CaptureFixture[str]) -> None:
    def horizon_of(study: str) -> str | None:
        training = read_study("sqlite:///frostline.db", study).terms.training
        return None if training is None else training.horizon

    options = "--device cpu --engine serial"
    assert run(f"tune {TINY} --study budget --budget 3 {options}", capsys)[0] == 0
    assert run(f"tune {TINY} --study number -n 27 {options}", capsys)[0] == 0
    assert (horizon_of("budget"), horizon_of("number")) == ("full", "rung")
    # Under that horizon, on the ladder of a budget: one climbs all rungs, whatever the clock says.
    assert (
        run(
            f"tune {TINY} --study climb -n 27 --ladder sieve --horizon full --default cooldown_fraction=0.9 {options}",
            capsys,
        )[0]
        == 0
    )
    stored = read_study("sqlite:///frostline.db", "climb")
    top = len(stored.terms.rungs) - 1
    for number in stored.history.rung(top).ranking:
        values = {"cooldown_fraction": 0.9, **stored.history.configurations[number].hyperparameters}
        code, out, _ = run(f"train {TINY} --device cpu --configuration '{json.dumps(values)}'", capsys)
        assert code == 0
        evaluation = stored.history.evaluation(number, top)
        assert evaluation is not None
        assert f"score {evaluation.score:.5g}" in out


def test_a_study_keeps_the_horizon_that_it_was_begun_with(capsys: pytest.CaptureFixture[str]) -> None:
    run(f"tune {TINY} --study s --budget 3 --horizon rung --device cpu", capsys)
    code, _, err = run(f"tune {TINY} --study s --budget 4 --device cpu", capsys)
    assert (code, err) == (0, "")
    plan = frostline.SearchPlan(budget=5)
    frostline.tune_task(tiny_task.task, study="s", plan=plan, observer=frostline.SILENT)
    code, _, err = run(f"tune {TINY} --study s --budget 6 --horizon full --device cpu", capsys)
    assert code == 1
    assert "horizon=rung" in err


def test_a_study_keeps_the_statistics_that_it_was_begun_with(capsys: pytest.CaptureFixture[str]) -> None:
    def begun(statistics: str | None, *, budget: int) -> None:
        training = frostline.TrainingOptions(statistics=statistics, device="cpu")
        plan = frostline.SearchPlan(budget=budget)
        frostline.tune_task(tiny_task.task, study="s", plan=plan, training=training, observer=frostline.SILENT)

    # As studies of before are.
    begun("running", budget=3)
    begun(None, budget=4)
    code, _, err = run(f"tune {TINY} --study s --budget 5 --device cpu", capsys)
    assert (code, err) == (0, "")
    stored = read_study("sqlite:///frostline.db", "s").terms.training
    assert stored is not None
    assert stored.statistics == "running"
    with pytest.raises(StudyError, match="statistics=running"):
        begun("batches", budget=6)
    run(f"tune {TINY} --study new --budget 3 --device cpu", capsys)
    stored = read_study("sqlite:///frostline.db", "new").terms.training
    assert stored is not None
    assert stored.statistics == "batches"


def test_a_budget_too_small_to_search_says_so_and_trains_ones_own(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(f"tune {TINY} --study s --budget 2 --device cpu", capsys)
    assert code == 0
    assert "a budget of 2 full trainings is too small to search, which takes 2.5" in out
    assert "Your own configuration, 0, is the only one that was trained, and so compared with nobody" in out
    assert "candidates in full" not in out
    assert len(trials()) == 1


def test_a_space_that_is_exhausted_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def tuned(choices: str, words: str = "") -> str:
        few = tmp_path / "few.toml"
        few.write_text(f"[space.learning_rate]\nchoices = {choices}\n")
        code, out, err = run(f"tune {TINY} --study s --space {few} --device cpu {words}", capsys)
        assert (code, err) == (0, "")
        return out

    out = tuned("[1e-3, 1e-2, 1e-1]", "--budget 40")
    assert len({trial.params["learning_rate"] for trial in trials()}) == len(trials()) == 3
    assert re.search(r"All configurations of the space have been tried(\.$|, \d of 3 in full: a new study)", out)
    optuna.delete_study(study_name="s", storage="sqlite:///frostline.db")
    out = tuned("[1e-3]")
    assert "the search space holds nothing else to try: one's own configuration is trained in full" in out
    assert len(trials()) == 1


def test_a_time_too_short_to_search_says_what_a_search_takes(capsys: pytest.CaptureFixture[str]) -> None:
    # A training of one step has ended before anything can be said of it.
    code, out, _ = run(f"tune {MADE} --set size=8 --study s --budget 0.000001s --device cpu", capsys)
    assert code == 0
    last = out.splitlines()[-1]
    assert re.search(r"The budget, 1e-06 s, is [\d.e-]+ full trainings here: \d+% of it is spent\.", last)
    assert "Nothing was searched: that begins at 2.5 full trainings, " in last
    assert len(trials()) == 1


def test_a_time_shorter_than_a_step_is_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(f"tune {TINY} --study s --budget 0.000001s --device cpu", capsys)
    assert code == 1
    assert re.fullmatch(
        r"frostline: a budget of 1e-06 s does not pay for one full training, which takes about [\d.]+ m?s here: give at "
        r"least [\d.]+ m?s, or [\d.]+ m?s to search\.\n",
        err,
    )
    code, out, _ = run(f"tune {TINY} --study s --budget 2 --device cpu", capsys)
    assert code == 0
    assert "Your own configuration, 0, is the only one that was trained" in out


def test_without_defaults_nothing_is_said_to_be_ones_own(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(f"tune {TINY} --study s --budget 3 --device cpu --no-defaults", capsys)
    assert code == 0
    assert "Your own" not in out


def test_a_grid_is_never_asked_for_more_than_its_points(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(f"tune {TINY} --study s --budget 50 --device cpu --sampler grid --grid-points 2", capsys)
    assert (code, err) == (0, ""), out
    assert len(trials()) <= 16


def test_a_belief_is_drawn_near_and_part_of_what_the_study_is(capsys: pytest.CaptureFixture[str]) -> None:
    command = f"tune {TINY} --study s --budget 3 --device cpu --prior learning_rate=1e-3"
    code, out, err = run(command, capsys)
    assert (code, err) == (0, ""), out
    assert len(trials()) > 3
    _, _, err = run(f"tune {TINY} --study s --budget 4 --device cpu --prior learning_rate=1e-2", capsys)
    assert "near learning_rate=0.001" in err
    for words, line in (
        ("--prior learning_rate=1e-3 --sampler tpe", "--prior goes with the sampler random, not with tpe"),
        ("--prior speed=1", "the search space has no 'speed'"),
        ("--prior learning_rate=1e9", "learning_rate is 1000000000.0"),
    ):
        code, _, err = run(f"tune {TINY} --study t --device cpu {words}", capsys)
        assert code != 0
        assert line in err
        assert len(err.splitlines()) == 1


def test_the_rungs_of_a_budget_are_shown_before(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(f"ladder {TINY}", capsys)
    assert code == 0
    assert [line.split()[:3] for line in out.splitlines()[1:5]] == [
        ["0", "1", "102"],
        ["1", "6", "102"],
        ["2", "6", "307"],
        ["3", "6", "1,024"],
    ]
    assert "budget 6 full trainings" in out
    _, out, _ = run(f"ladder {TINY} --budget 2h", capsys)
    assert "budget 2 h" in out
    assert out.split()[:3] == ["rung", "layers", "examples"]


def test_in_python_a_plan_has_a_budget(tmp_path: Path) -> None:
    result = frostline.tune_task(
        tiny_task.task,
        study="s",
        storage=":memory:",
        plan=frostline.SearchPlan(budget="3"),
        training=frostline.TrainingOptions(device="cpu", runs=tmp_path),
    )
    assert result.own is not None
    assert result.own.number == 0
    assert result.own.score is not None
    assert result.score <= result.own.score
    assert "Your own configuration, 0," in f"{result!r}"
    with pytest.raises(OptionError, match="leave out the number of configurations"):
        frostline.SearchPlan(budget=6, configurations=27)
    with pytest.raises(OptionError, match="is no budget"):
        frostline.SearchPlan(budget="lots")
