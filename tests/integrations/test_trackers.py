"""What trackers are told, read by their own readers."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import time
import urllib.request
from collections.abc import Iterator
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import frostline
from frostline.integrations import MLflowTracker, TensorBoardTracker, TrackioTracker, WandbTracker
from frostline.run.loop import Together
from frostline.run.outcome.result import TuneResult
from tests.cli.command_line import run
from tests.forks import Fork

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


def tune(tmp_path: Path, observer: frostline.Observer, **options: Any) -> TuneResult:
    fields: dict[str, Any] = {"samples": 80, "configurations": 9, "storage": ":memory:"}
    return frostline.tune(objective, runs=tmp_path, observer=observer, **fields | options)


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


def serve(store: str, port: int) -> None:
    """What `mlflow server` does in its second process: the first loads MLflow too, and starts no more than that."""
    import uvicorn
    from mlflow.server import constants

    for name in (constants.BACKEND_STORE_URI_ENV_VAR, constants.ARTIFACT_ROOT_ENV_VAR):
        os.environ[name] = store
    uvicorn.run("mlflow.server.fastapi_app:app", host="127.0.0.1", port=port, log_level="error")


@pytest.fixture
def server(
    processes: ForkServerContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, Fork]]:
    """MLflow's own server."""
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    with Fork(processes, serve, (tmp_path / "mlruns").as_uri(), port) as process:
        _wait_for(f"{address}/health", process)
        yield address, process


def _wait_for(address: str, process: Fork) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            assert process.returncode is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.slow
def test_mlflow_s_server_has_a_run_for_every_evaluation_and_ends_no_search_when_it_goes(
    server: tuple[str, Fork], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    address, process = server
    tracker = MLflowTracker("tiny", tracking_uri=address)
    result = tune(tmp_path, Together(tracker))
    client, runs = runs_of(address, "tiny")
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
    process.send_signal(signal.SIGTERM)
    process.wait()
    tracker.ended(evaluation, result.history)
    assert (
        f"configuration {evaluation.number}, rung {evaluation.rung} is not logged by MLflowTracker" in caplog.text
    )


def test_mlflow_is_given_names_that_it_takes(store: str, tmp_path: Path) -> None:
    def odd(trial: frostline.Trial) -> float:
        model = nn.Linear(1, 1)
        trial.freeze(model)
        rate = trial.suggest_float("rate (log), [0]", 1e-3, 1e-1, log=True)
        for _ in trial.batches(LOADER):
            pass
        return rate

    plan: dict[str, Any] = {"samples": 40, "configurations": 1, "search": "full", "storage": ":memory:"}
    result = frostline.tune(odd, **plan, runs=tmp_path, observer=MLflowTracker("odd"))
    _, (only,) = runs_of(store, "odd")
    assert only.data.params == {"rate _log__ _0_": f"{result.score}"}
    assert only.info.status == "FINISHED"


def records_in(path: Path) -> Iterator[Any]:
    """What wandb wrote for its server, by its own messages in the frames of LevelDB's log, after a header of 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    contents, at, parts = path.read_bytes(), 7, b""
    while at + 7 <= len(contents):
        if (left := 2**15 - at % 2**15) < 7:
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", contents, at)
        parts += contents[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            record = Record()
            record.ParseFromString(parts)
            yield record
            parts = b""


def values_of(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


@pytest.mark.slow
def test_wandb_has_a_run_for_every_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    # Each run of theirs takes half a second.
    tracker = WandbTracker("tiny", folder=tmp_path / "board")
    result = tune(tmp_path, Together(tracker), configurations=3, search="full")
    evaluations = {(each.number, each.rung): each for each in result.history.evaluations()}
    files = [*(tmp_path / "board").rglob("*.wandb")]
    assert len(files) == len(evaluations) == 3
    for file in files:
        records = [*records_in(file)]
        (run,) = (each.run for each in records if each.WhichOneof("record_type") == "run")
        config = values_of(run.config.update)
        evaluation = evaluations[config["configuration"], config["rung"]]
        configuration = result.history.configurations[evaluation.number]
        assert {name: config[name] for name in configuration.hyperparameters} == configuration.hyperparameters
        assert (run.project, run.run_group) == ("tiny", f"rung {evaluation.rung}")
        logged = [values_of(each.history.item) for each in records if each.WhichOneof("record_type") == "history"]
        curve = [(point.samples, point.score) for point in evaluation.curve]
        assert [(each["_step"], each["score"]) for each in logged] == curve
        assert logged[-1]["seconds"] == evaluation.cost.seconds
        assert logged[-1]["trainable_layers"] == evaluation.fidelity.trainable_layers
        (end,) = (each.exit for each in records if each.WhichOneof("record_type") == "exit")
        assert end.exit_code == 0


def test_wandb_without_a_key_is_refused_before_anything_is_trained(
    processes: ForkServerContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    code = "from frostline.integrations import WandbTracker; WandbTracker('tiny')"
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with Fork(processes, exec, code) as fork:
        failed = fork.ended()
    assert failed.stderr.splitlines()[-1].endswith(
        "wandb has no key for its server: run `wandb login`, or set WANDB_MODE=offline."
    )


def test_trackio_has_a_run_for_every_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("trackio")
    from trackio.sqlite_storage import SQLiteStorage

    monkeypatch.setattr("trackio.sqlite_storage.TRACKIO_DIR", tmp_path / "board")
    result = tune(tmp_path, Together(TrackioTracker("tiny")))
    configs = SQLiteStorage.get_all_run_configs("tiny")
    evaluations = {(each.number, each.rung): each for each in result.history.evaluations()}
    assert len(configs) == len(evaluations) > 9
    for identity, config in configs.items():
        evaluation = evaluations[config["configuration"], config["rung"]]
        configuration = result.history.configurations[evaluation.number]
        assert {each: config[each] for each in configuration.hyperparameters} == configuration.hyperparameters
        logged = SQLiteStorage.get_logs("tiny", run_id=identity)
        curve = [(point.samples, point.score) for point in evaluation.curve]
        assert [(each["step"], each["score"]) for each in logged] == curve
        assert logged[-1]["seconds"] == evaluation.cost.seconds
    assert capsys.readouterr().out == ""


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


def test_mlflow_s_server_that_does_not_answer_at_the_start_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hunter2@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    code, _, err = run("tune digits-mlp --storage :memory: --log mlflow", capsys)
    assert code == 1
    assert err.startswith("frostline: the MLflow server or store http://me@127.0.0.1:9 cannot be used (")
    assert err.endswith(": start it, or name another one in MLFLOW_TRACKING_URI.\n")
    assert "hunter2" not in err


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


def test_what_is_wrong_is_said_in_a_line(processes: ForkServerContext, capsys: pytest.CaptureFixture[str]) -> None:
    _, _, err = run("tune digits-mlp --log neptune", capsys)
    assert "--log is 'neptune', but must be one of mlflow, tensorboard, trackio, wandb." in err
    code = "import sys; sys.modules['mlflow'] = None; from frostline.integrations import MLflowTracker; MLflowTracker('x')"
    with Fork(processes, exec, code) as fork:
        failed = fork.ended()
    assert "pip install 'frostline[mlflow]'" in failed.stderr.splitlines()[-1]
