"""The best model of a search is on disk when it ends, is loaded with a line, and costs nothing that counts."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from optuna.distributions import FloatDistribution
from safetensors import safe_open
from safetensors.torch import load_model
from torch import nn

import frostline
from frostline.errors import ModelError, OptionError
from frostline.records import Configuration
from frostline.run.outcome.trial_rows import trial_rows
from frostline.run.plan import SearchPlan
from frostline.run.tuning import search_function
from frostline.training.files import kept_models
from frostline.training.files.model_files import read_model, write_model
from tests import tiny_task
from tests.cli.command_line import run

TASK = tiny_task.make(64)
LADDER = frostline.Ladder.explicit([(2, 64), (6, 128), (6, 256)], num_layers=6, full_samples=256)
TINY = f"{Path(__file__).parents[2] / 'tiny_task.py'}:task"


def search(folder: Path, *, task: Any = TASK, **options: Any) -> frostline.TuneResult:
    return frostline.tune_task(
        task,
        study="s",
        storage=f"{folder}.log",
        ladder=LADDER,
        plan=SearchPlan(configurations=18),
        training=frostline.TrainingOptions(**{"runs": folder / "runs", "threads": 1, "device": "cpu", **options}),
    )


def files(folder: Path) -> list[int]:
    return sorted(int(path.name.partition("-")[0]) for path in (folder / "runs" / "s").glob("*/models/*"))


def score_of(model: nn.Module) -> float:
    task = TASK
    model.eval()
    with torch.no_grad():
        return task.score(model, task.validation_batches(Configuration(number=0, hyperparameters={})))


@pytest.mark.parametrize("engine", ["serial", "shared", "stacked"])
def test_the_best_model_is_loaded_with_the_score_that_it_had(engine: str, tmp_path: Path) -> None:
    result = search(tmp_path, engine=engine)
    # The best stays, and one's own if it came so far; of the others that were trained in full none does.
    assert {result.best.number} <= {*files(tmp_path)} <= {0, result.best.number}
    model = result.load_model(tiny_task.network(result.configuration))
    assert score_of(model) == pytest.approx(result.score, rel=1e-6)
    with safe_open(result.weights, framework="pt") as file:
        about = json.loads(file.metadata()["frostline"])
    assert about["configuration"] == f"{result.best.number}"
    assert json.loads(about["hyperparameters"]) == dict(result.configuration.hyperparameters)
    assert float(about["score"]) == result.score


def test_under_a_budget_ones_own_stays_beside_the_best(tmp_path: Path) -> None:
    options = frostline.TrainingOptions(runs=tmp_path / "runs", threads=1, device="cpu")
    result = frostline.tune_task(TASK, study="s", storage=":memory:", plan=SearchPlan(budget=4), training=options)
    assert files(tmp_path) == sorted({0, result.best.number})


def test_what_cannot_be_written_costs_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = search(tmp_path / "with")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kept_models, "model_writer", full)
    with caplog.at_level(logging.WARNING):
        result = search(tmp_path / "without")
    assert (result.best.number, result.score) == (expected.best.number, expected.score)
    assert "are not kept: [Errno 28] No space left on device" in caplog.text
    with pytest.raises(ModelError, match="there are no weights of configuration"):
        result.load_model(tiny_task.network(result.configuration))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.embedding.weight


class TiedToAPart(Tied):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("part", torch.arange(12.0).view(3, 4)[1:, :2])
        self.register_buffer("rows", self.embedding.weight.detach()[1:3])


def test_a_tied_weight_is_written_once_and_loaded_under_every_name(tmp_path: Path) -> None:
    torch.manual_seed(0)
    trained = Tied()
    write_model(tmp_path / "tied.safetensors", trained)
    with safe_open(tmp_path / "tied.safetensors", framework="pt") as file:
        assert [*file.keys()] == ["embedding.weight"]
    for load in (lambda path, model: read_model(path, model), lambda path, model: load_model(model, path)):
        fresh = Tied()
        load(tmp_path / "tied.safetensors", fresh)
        assert torch.equal(fresh.head.weight, trained.head.weight)
        assert fresh.head.weight is fresh.embedding.weight


def test_a_part_of_a_larger_tensor_is_written_as_it_is(tmp_path: Path) -> None:
    trained, fresh = TiedToAPart(), TiedToAPart()
    trained.part += 1
    write_model(tmp_path / "part.safetensors", trained)
    assert torch.equal(read_model(tmp_path / "part.safetensors", fresh).part, trained.part)
    assert torch.equal(fresh.rows, trained.rows)
    assert torch.equal(fresh.embedding.weight, trained.embedding.weight)


class Stateful(nn.Linear):
    def get_extra_state(self) -> Any:
        return {"steps": 3}

    def set_extra_state(self, state: Any) -> None:
        pass


def test_a_model_that_does_not_fit_the_file_or_the_format_is_said_in_a_line(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_model(path, nn.Linear(2, 3))
    with pytest.raises(ModelError, match=r"is of another model: .*size mismatch for weight"):
        read_model(path, nn.Linear(2, 4))
    with pytest.raises(ModelError, match=r"is of another model: .*Missing key"):
        read_model(path, nn.Sequential(nn.Linear(2, 3)))
    with pytest.raises(ModelError, match="_extra_state has a state that is no tensor"):
        write_model(path, Stateful(2, 3))
    with pytest.raises(ModelError, match="weight has no weights yet"):
        write_model(path, nn.Linear(2, 3, device="meta"))
    path.write_bytes(b"something else")
    with pytest.raises(ModelError, match="cannot be read as safetensors"):
        read_model(path, nn.Linear(2, 3))
    assert [each.name for each in tmp_path.iterdir()] == ["model.safetensors"]


def test_the_result_is_an_optuna_study_and_rows(tmp_path: Path) -> None:
    result = search(tmp_path)
    assert isinstance(result.study, optuna.Study)
    assert result.study.best_value == result.score
    memory = frostline.tune_task(
        TASK,
        study="s",
        storage=":memory:",
        ladder=LADDER,
        plan=SearchPlan(configurations=9),
        training=frostline.TrainingOptions(runs=tmp_path / "memory", threads=1),
    )
    assert len(memory.study.trials) == 9
    assert memory.study.best_value == memory.score


@pytest.mark.parametrize("place", ["file", ":memory:"])
def test_the_page_is_written_of_a_result(place: str, tmp_path: Path) -> None:
    result = frostline.tune_task(
        TASK,
        study="s",
        storage=place if place == ":memory:" else f"{tmp_path}/s.log",
        ladder=LADDER,
        plan=SearchPlan(configurations=9),
        training=frostline.TrainingOptions(runs=tmp_path / "runs", threads=1),
    )
    frostline.write_report(result, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert f"configuration {result.best.number}" in page
    # No command knows a task that was made in Python by what it calls itself.
    assert "frostline train" not in page


def test_trials_are_a_data_frame_or_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = search(tmp_path)
    rows = trial_rows(result.history)
    assert len(rows) == 18
    best = rows[result.best.number]
    assert list(best) == [
        *("number", "learning_rate", "optimizer", "rung", "layers", "samples", "state", "score", "seconds")
    ]
    assert (best["rung"], best["layers"], best["samples"], best["state"]) == (2, 6, 256, "finished")
    assert best["score"] == result.score
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(OptionError, match="pandas DataFrame: pip install"):
        _ = result.trials
    monkeypatch.undo()
    assert list(result.trials.index) == list(range(18))


def test_an_objective_of_ones_own_has_no_models() -> None:
    result = search_function(
        lambda configuration, fidelity: float(configuration["learning_rate"]),  # type: ignore[arg-type]
        TASK.space,
        LADDER,
        study="s",
        storage=":memory:",
        plan=SearchPlan(configurations=9),
    )
    with pytest.raises(ModelError, match="kept no models"):
        _ = result.weights


def test_the_command_line_copies_the_best_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run(f"tune {TINY} --study s --configurations 9 --runs runs", capsys)
    _, out, _ = run("best s --runs runs", capsys)
    assert out.splitlines()[-2].startswith("its weights: runs/s/")
    code, out, err = run("best s --weights best.safetensors --runs runs", capsys)
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "weights in best.safetensors"
    score = float(out.split("score ")[1].split()[0])
    model = read_model(Path("best.safetensors"), tiny_task.network(Configuration(number=0, hyperparameters={})))
    assert score_of(model) == pytest.approx(score, rel=1e-4)
    code, _, err = run("best s --weights best.safetensors --runs elsewhere", capsys)
    assert (code, err.count("\n")) == (1, 1)
    assert "there are no weights of configuration" in err
    assert "or took its score over from an audit, whose study may have them" in err


def test_train_writes_safetensors_where_the_name_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    values = "--configuration '{\"learning_rate\": 0.01}'"
    _, out, _ = run(f"train {TINY} {values} --save weights.safetensors", capsys)
    assert out.splitlines()[-1] == "weights in weights.safetensors"
    score = float(out.split("score ")[-1].split()[0])
    fresh = tiny_task.network(Configuration(number=0, hyperparameters={}))
    assert score_of(read_model(Path("weights.safetensors"), fresh)) == pytest.approx(score, rel=1e-4)
    run(f"train {TINY} {values} --save weights.pt", capsys)
    state = torch.load("weights.pt", weights_only=True)
    assert all(torch.equal(state[name], value) for name, value in fresh.state_dict().items())


def test_train_says_that_frozen_weights_were_rounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "rounding.py"
    script.write_text(
        "from dataclasses import replace\nfrom tests.tiny_task import task as whole\n"
        "task = replace(whole, frozen_dtype='bfloat16')\n"
    )
    _, out, _ = run(f"train {script}:task --layers 2 --samples 64 --save weights.safetensors", capsys)
    assert out.splitlines()[-1] == (
        "weights in weights.safetensors (the frozen ones as they were trained with: rounded)"
    )
    model = tiny_task.network(Configuration(number=0, hyperparameters={}))
    rounded = read_model(Path("weights.safetensors"), model)[0][0].weight
    assert torch.equal(rounded, rounded.bfloat16().float())


def test_every_event_is_handed_on(tmp_path: Path) -> None:
    events: list[str] = []

    class Listing(frostline.Observer):
        def began(self, search: object, history: object) -> None:
            events.append("began")

        def started(self, jobs: object) -> None:
            events.append("started")

        def ended(self, evaluation: object, history: object) -> None:
            events.append("ended")

    search_function(
        lambda configuration, _: float(configuration["rate"]),
        {"rate": FloatDistribution(0.1, 1.0)},
        frostline.Ladder.diagonal(num_layers=4, full_samples=400),
        study="s",
        storage=":memory:",
        plan=SearchPlan(configurations=9),
        observer=Listing(),
    )
    assert events[:3] == ["began", "started", "ended"]
    assert events.count("ended") == 13
