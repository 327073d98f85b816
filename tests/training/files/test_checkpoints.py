from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from frostline.folders.local_folder import LocalFolder
from frostline.records import CurvePoint, Fidelity
from frostline.training.files.checkpoints import Checkpoint, CheckpointKey, Checkpoints
from frostline.training.serial import train_serially
from tests.training.cases import configured, job_of, noisy_network, regression_task, settings_of

KEY = CheckpointKey(configuration=configured(), rung=0, path=(Fidelity(trainable_layers=1, samples=8),))


def checkpoint(scale: float = 1.0, *, size: int = 10) -> Checkpoint:
    return Checkpoint(
        samples_seen=8,
        curve=(CurvePoint(4, 1.5), CurvePoint(8, 1.25)),
        model={"weight": torch.full((size,), scale)},
        optimizer={"state": {0: {"step": torch.tensor(2.0)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
    )


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    checkpoints = Checkpoints(folder=LocalFolder(path=tmp_path / "deep" / "down"))
    assert checkpoints.load(KEY) is None
    assert checkpoints.save(KEY, checkpoint())
    loaded = checkpoints.load(KEY)
    assert loaded is not None
    assert (loaded.samples_seen, loaded.curve) == (8, checkpoint().curve)
    assert torch.equal(loaded.model["weight"], torch.ones(10))
    assert loaded.optimizer == checkpoint().optimizer
    assert [path.suffix for path in checkpoints.folder.path.iterdir()] == [".pt"]


def test_saving_twice_keeps_one_of_equal_contents(tmp_path: Path) -> None:
    checkpoints = Checkpoints(folder=LocalFolder(path=tmp_path))
    assert checkpoints.save(KEY, checkpoint())
    assert checkpoints.save(KEY, checkpoint())
    assert len(list(tmp_path.iterdir())) == 1


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "sprung",)  # type: ignore[return-value]

    checkpoints = Checkpoints(folder=LocalFolder(path=tmp_path / "study"))
    bad = Checkpoint(samples_seen=8, curve=(), model={"weight": Trap()}, optimizer={})  # type: ignore[dict-item]
    assert checkpoints.save(KEY, bad)
    assert checkpoints.load(KEY) is None
    assert "is not used, the training is made again" in caplog.text
    assert not (tmp_path / "sprung").exists()


def test_a_directory_that_cannot_be_made_costs_only_the_checkpoint(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    assert not Checkpoints(folder=LocalFolder(path=tmp_path / "file" / "study")).save(KEY, checkpoint())
    assert "no checkpoint in" in caplog.text
    assert "Not a directory" in caplog.text


def test_a_state_that_cannot_be_saved_costs_only_the_checkpoint(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = Checkpoint(samples_seen=8, curve=(), model={"weight": (each for each in ())}, optimizer={})  # type: ignore[dict-item]
    assert not Checkpoints(folder=LocalFolder(path=tmp_path)).save(KEY, state)
    assert "no checkpoint in" in caplog.text
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def full_disk() -> Iterator[None]:
    """Let no file grow beyond a kilobyte."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("full_disk")
@pytest.mark.parametrize("size", [10, 1_000, 1_000_000])
def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, size: int, caplog: pytest.LogCaptureFixture) -> None:
    checkpoints = Checkpoints(folder=LocalFolder(path=tmp_path))
    assert not checkpoints.save(KEY, checkpoint(size=size))
    assert checkpoints.load(KEY) is None
    assert list(tmp_path.iterdir()) == []
    assert caplog.text.count("no checkpoint in") == 1


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_costs_only_the_checkpoint(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    task = regression_task(model=noisy_network)
    jobs = [job_of(configured(), layers=2, samples=80, path=(40,)[:rung]) for rung in (0, 1)]
    lost = [train_serially(task, job, settings_of(checkpoints=tmp_path)) for job in jobs]
    undisturbed = [train_serially(task, job, settings_of()) for job in jobs]
    assert [one.score for one in lost] == [one.score for one in undisturbed]
    assert caplog.text.count("no checkpoint in") == 3  # of rung 0 twice: as itself, and on the way to rung 1
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
