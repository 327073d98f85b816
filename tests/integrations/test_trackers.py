"""What trackers are told, read by their own readers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import frostline
from frostline.integrations import MLflowTracker, TensorBoardTracker
from frostline.run.loop import Together
from frostline.run.result import TuneResult
from tests.cli.command_line import run

pytestmark = pytest.mark.filterwarnings("ignore")  # the trackers' own

LOADER = DataLoader(
    TensorDataset(torch.linspace(-1, 1, 40)[:, None], torch.linspace(-1, 1, 40)[:, None]), batch_size=10
)


def objective(trial: frostline.Trial) -> float:
    model = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1))
    trial.freeze(model)
    optimizer = torch.optim.SGD(trial.parameters, lr=trial.suggest_float("rate", 1e-3, 1e-1, log=True))
    kind = trial.suggest_categorical("kind", ["plain", None])
    assert kind in ("plain", None)
    for inputs, targets in trial.batches(LOADER):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(inputs), targets)
        loss.backward()
        optimizer.step()
        trial.report(loss.item())
    return loss.item()


def tune(tmp_path: Path, observer: frostline.Observer) -> TuneResult:
    return frostline.tune(
        objective, samples=80, configurations=9, storage=":memory:", runs=tmp_path, observer=observer
    )


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    pytest.importorskip("mlflow")
    # Its database takes seven seconds to make.
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = (tmp_path / "mlruns").as_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.chdir(tmp_path)
    return uri


def runs_of(uri: str, experiment: str) -> tuple[Any, list[Any]]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(experiment)
    return client, list(client.search_runs([found.experiment_id]))


def test_mlflow_has_a_run_for_every_evaluation(tmp_path: Path, store: str) -> None:
    result = tune(tmp_path, Together(MLflowTracker("tiny", tracking_uri=store)))
    client, runs = runs_of(store, "tiny")
    evaluations = {(each.number, each.rung): each for each in result.history.evaluations()}
    assert len(runs) == len(evaluations) > 9
    for each in runs:
        tags = each.data.tags
        evaluation = evaluations[int(tags["frostline.configuration"]), int(tags["frostline.rung"])]
        configuration = result.history.configurations[evaluation.number]
        assert each.data.params == {name: f"{value}" for name, value in configuration.hyperparameters.items()}
        curve = client.get_metric_history(each.info.run_id, "score")
        assert [(metric.step, metric.value) for metric in curve] == [
            (point.samples, point.score) for point in evaluation.curve
        ]
        assert each.data.metrics["samples"] == evaluation.fidelity.samples
        assert each.data.metrics["trainable_layers"] == evaluation.fidelity.trainable_layers
        assert each.data.metrics["seconds"] == evaluation.cost.seconds
        assert each.info.status == "FINISHED"


def test_tensorboard_has_a_folder_for_every_evaluation(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = tune(tmp_path, Together(TensorBoardTracker(tmp_path / "board")))
    for evaluation in result.history.evaluations():
        folder = tmp_path / "board" / f"{evaluation.number:06d}-rung{evaluation.rung}"
        events = EventAccumulator(str(folder)).Reload()
        assert [(each.step, each.value) for each in events.Scalars("score")] == [
            (point.samples, pytest.approx(point.score)) for point in evaluation.curve
        ]
        assert events.Scalars("final/score")[0].value == pytest.approx(evaluation.score)
        assert events.Scalars("final/seconds")[0].value == pytest.approx(evaluation.cost.seconds, rel=1e-6)
        assert "_hparams_/session_start_info" in events.summary_metadata


def test_a_tracker_leaves_the_view_where_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tensorboard")
    tune(tmp_path, TensorBoardTracker(tmp_path / "board"))
    assert "best: configuration" in capsys.readouterr().err
    assert any((tmp_path / "board").iterdir())


def test_a_tracker_that_fails_ends_no_search(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("tensorboard")
    folder = tmp_path / "board"
    folder.write_text("not a folder")
    assert tune(tmp_path, Together(TensorBoardTracker(folder))).score < 10
    assert "configuration 0, rung 0 is not logged by TensorBoardTracker" in caplog.text


@pytest.mark.parametrize("tracker", ["mlflow", "tensorboard"])
def test_the_command_logs(tracker: str, store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tensorboard")
    command = (
        "tune digits-mlp --set full_images=256 --set num_hidden_layers=2 --study logged --configurations 2 "
        f"--search full --threads 1 --workers 1 --storage :memory: --log {tracker}"
    )
    code, out, err = run(command, capsys)
    assert code == 0, f"{out}{err}"
    if tracker == "mlflow":
        assert len(runs_of(store, "logged")[1]) == 2
    else:
        assert len([*(tmp_path / "frostline-runs" / "logged" / "tensorboard").iterdir()]) == 2


def test_what_is_wrong_is_said_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    _, _, err = run("tune digits-mlp --log neptune", capsys)
    assert "--log is 'neptune', but must be mlflow or tensorboard." in err
    code = "import sys; sys.modules['mlflow'] = None; from frostline.integrations import MLflowTracker; MLflowTracker('x')"
    failed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install 'frostline[mlflow]'" in failed.stderr.splitlines()[-1]
