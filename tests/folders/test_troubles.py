"""A place that refuses, breaks off or is gone costs a line, and never what was evaluated; no line holds a password."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch

import frostline
from frostline.errors import FolderError, OptionError
from frostline.folders.places import folder_at
from frostline.folders.study_place import StudyPlace
from frostline.objectives import pending_checkpoint
from frostline.records import Configuration, Fidelity
from frostline.run.plan import SearchPlan
from frostline.training.files.checkpoints import CheckpointKey, Checkpoints
from tests import tiny_task
from tests.folders.test_folders import contents_of, put
from tests.folders.troubled import Troubled

URL = "troubled://me:hunter2-pass@host/runs"
SHOWN = "troubled://me@host/runs"
KEY = CheckpointKey(
    configuration=Configuration(number=1, hyperparameters={}),
    rung=0,
    path=(Fidelity(trainable_layers=1, samples=8),),
)
TASK = tiny_task.make(64)
LADDER = frostline.Ladder.explicit([(6, 64), (6, 128), (6, 256)], num_layers=6, full_samples=256)


@pytest.fixture(autouse=True)
def troubled(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> Iterator[set[str]]:
    """What is refused from now on; nothing that is said may hold the password."""
    fsspec.register_implementation("troubled", Troubled, clobber=True)
    Troubled.reset()
    yield Troubled.refused
    assert "hunter2" not in caplog.text + "".join(capsys.readouterr())


def search(study: str, runs: Path | str) -> frostline.TuneResult:
    return frostline.tune_task(
        TASK,
        study=study,
        storage=":memory:",
        ladder=LADDER,
        plan=SearchPlan(configurations=9),
        training=frostline.TrainingOptions(runs=runs, threads=1, device="cpu", engine="serial"),
    )


def test_a_half_copied_file_never_has_its_name(troubled: set[str]) -> None:
    folder = folder_at(URL)
    put(folder, "a.pt", b"old")
    troubled.add("half")
    with pytest.raises(FolderError):
        put(folder, "a.pt", b"a newer one")
    assert contents_of(folder, "a.pt") == b"old"
    assert folder.names() == ["a.pt"]
    # What a process dies of leaves that name alone: it is swept with those that begin like it.
    assert all(name.rpartition("/")[2].startswith("a.pt.") and name.endswith(".partial") for name in Troubled.puts)


def test_a_place_that_renames_to_no_name_that_is_there_is_helped(troubled: set[str]) -> None:
    folder = folder_at(URL)
    troubled.add("mv")
    put(folder, "a.pt", b"old")
    put(folder, "a.pt", b"new")
    assert (folder.names(), contents_of(folder, "a.pt")) == (["a.pt"], b"new")


def test_before_a_search_a_place_that_refuses_or_says_nothing_is_a_line(
    troubled: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    troubled.add("put")
    with pytest.raises(OptionError) as raised:
        search("s", URL)
    assert re.sub("/s/[0-9a-f]{8}/", "/s/", f"{raised.value}") == (
        f"nothing can be written to {SHOWN}/s/models ([Errno 13] Denied to ***@host: put): name another folder (--runs), or "
        f"mend that."
    )
    assert raised.value.__cause__ is None
    monkeypatch.setattr("frostline.folders.waiting.SECONDS_TO_ANSWER", 0.05)
    monkeypatch.setattr(Troubled, "put_file", lambda *_, **__: threading.Event().wait(0.5))
    with pytest.raises(
        OptionError, match=f"^nothing can be written to {SHOWN}/s/[0-9a-f]+/models .no answer for 0 seconds"
    ):
        search("s", URL)
    monkeypatch.undo()
    troubled.clear()
    troubled.add("ls")
    with pytest.raises(FolderError, match=f"^nothing can be read from {SHOWN}/s "):
        StudyPlace(runs=folder_at(URL), name="s").exists()


@pytest.mark.parametrize("refused", ["put", "half", "get", "ls", "rm"])
def test_a_place_that_fails_while_it_runs_costs_no_evaluation(
    refused: str,
    troubled: set[str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = search("s", tmp_path / "runs")
    monkeypatch.setattr("frostline.folders.remote_folder.RemoteFolder.check", lambda _: troubled.add(refused))
    with caplog.at_level(logging.WARNING):
        result = search("s", URL)
    assert [*result.history.evaluations()] != []
    assert [(one.number, one.rung, one.score) for one in result.history.evaluations()] == [
        (one.number, one.rung, one.score) for one in expected.history.evaluations()
    ]
    said = {"rm": "could not be deleted", "ls": "no checkpoint", "get": "the training is made again"}
    assert said.get(refused, "no checkpoint in") in caplog.text
    assert all("\n" not in record.getMessage() for record in caplog.records)


def test_an_objective_goes_on_where_nobody_knows_what_was_kept(troubled: set[str]) -> None:
    checkpoints = Checkpoints(folder=folder_at(URL))
    assert not checkpoints.keeps_any()
    troubled.add("ls")
    assert checkpoints.keeps_any()
    assert [*checkpoints.load_contents(KEY)] == []
    checkpoints.forget(1)


def test_a_newer_checkpoint_beside_an_older_that_cannot_be_deleted_is_kept(troubled: set[str]) -> None:
    checkpoints = Checkpoints(folder=folder_at(URL))
    assert checkpoints.save_newer(KEY, {"weight": torch.zeros(2)})
    troubled.add("rm")
    assert checkpoints.save_newer(KEY, {"weight": torch.ones(2)})
    assert len([*checkpoints.load_contents(KEY)]) == 2


def test_slow_writes_take_a_tenth_of_the_time_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    written: list[float] = []

    def keep(_: object) -> None:
        written.append(now[0])
        now[0] += 30.0

    monkeypatch.setattr(pending_checkpoint.time, "monotonic", lambda: now[0])
    pending = pending_checkpoint.PendingCheckpoint(keep)
    for _ in range(1000):
        pending.hand_over(object(), may_wait=True)  # type: ignore[arg-type]
        now[0] += 1.0
    assert 3 <= len(written) <= 5
    assert all(later - earlier >= 300.0 for earlier, later in pairwise(written))


def test_a_place_that_falls_silent_is_left_alone_and_one_that_is_slow_is_not(
    troubled: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_at(URL)
    put(folder, "a.pt", b"abc")
    whole = Troubled.get_file

    def slow(self: Troubled, rpath: str, lpath: str, callback: Any, **_: Any) -> None:
        for _ in range(6):
            time.sleep(0.1)
            if "silence" not in troubled:
                callback.relative_update(1)
        whole(self, rpath, lpath)

    monkeypatch.setattr(Troubled, "get_file", slow)
    monkeypatch.setattr("frostline.folders.waiting.SECONDS_WITHOUT_A_BYTE", 0.25)
    assert contents_of(folder, "a.pt") == b"abc"
    troubled.add("silence")
    with pytest.raises(FolderError, match=r"a.pt cannot be read from .* .no answer for 0 seconds.$"):
        contents_of(folder, "a.pt")
