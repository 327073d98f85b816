"""Checkpoints that killed searches leave behind are gone when the search is run again; nobody else's are."""

from __future__ import annotations

from pathlib import Path

import pytest

import frostline
from frostline.folders.local_folder import LocalFolder
from frostline.records import Evaluation
from frostline.run.loop import Observer
from frostline.run.plan import SearchPlan
from frostline.search.history import History
from frostline.training.files.checkpoints import Checkpoints
from frostline.training.files.kept_models import KeptModels
from tests import tiny_task
from tests.store.dying import KilledError

LADDER = frostline.Ladder.samples_only(num_layers=6, full_samples=1024)


class DiesAfter(Observer):
    def __init__(self, num_evaluations: int) -> None:
        self.left = num_evaluations

    def ended(self, evaluation: Evaluation, history: History) -> None:
        self.left -= 1
        if self.left == 0:
            raise KilledError


def train(folder: Path, study: str, observer: Observer) -> frostline.TuneResult:
    return frostline.tune_task(
        tiny_task.task,
        study=study,
        storage=str(folder / f"{study}.log"),
        ladder=LADDER,
        plan=SearchPlan(configurations=18),
        training=frostline.TrainingOptions(runs=folder / "runs"),
        observer=observer,
    )


def test_what_a_killed_search_left_behind_is_swept_when_it_is_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tmp_path / "runs"
    with pytest.raises(KilledError):
        train(tmp_path, "another", DiesAfter(3))
    others = {*(runs / "another").rglob("*.pt")}
    assert others
    with monkeypatch.context() as patch:
        # As if the process was killed whenever trials had ended, before it could let go of their checkpoints.
        patch.setattr(Checkpoints, "forget", lambda self, number: None)
        with pytest.raises(KilledError):
            train(tmp_path, "killed", DiesAfter(11))
    left = [*(runs / "killed").rglob("*.pt")]
    assert len(left) >= 9
    partial = left[0].with_name(f"{left[0].name.split('.')[0]}.0123456789ab.partial")
    partial.write_bytes(b"half of one")
    half_written = left[0].parent.parent / "models" / ".000000-0123456789abcdef.safetensors.0123456789ab.partial"
    half_written.parent.mkdir(exist_ok=True)
    half_written.write_bytes(b"half of one")
    best = train(tmp_path, "killed", Observer())
    assert [path for path in (runs / "killed").rglob("*") if path.is_file()] == [best.weights]
    assert {*(runs / "another").rglob("*.pt")} == others


def test_a_search_that_is_over_is_swept_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "forget", lambda self, number: None)
        patch.setattr(KeptModels, "prune", lambda self, configurations, **_: None)
        best = train(tmp_path, "killed", Observer())
    assert [*(tmp_path / "runs" / "killed").rglob("*.pt")]
    # As if it had been the best before another was.
    models = KeptModels(folder=LocalFolder(path=best.weights.parent), data=tiny_task.task.fingerprint)
    last = best.history.configurations[best.history.rung(len(best.terms.rungs) - 1).ranking[-1]]
    worse = best.weights.parent / models.name_of(last)
    assert worse != best.weights
    worse.write_bytes(best.weights.read_bytes())
    train(tmp_path, "killed", Observer())
    assert [path for path in (tmp_path / "runs" / "killed").rglob("*") if path.is_file()] == [best.weights]
