"""Every kind of folder passes the same tests, and so do checkpoints and models in it."""

from __future__ import annotations

import pickle
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from frostline.errors import ModelError
from frostline.folders.folder import Folder
from frostline.folders.local_folder import LocalFolder
from frostline.folders.remote_folder import RemoteFolder
from frostline.records import Configuration, Fidelity
from frostline.training.files.checkpoints import CheckpointKey, Checkpoints
from frostline.training.files.kept_models import KeptModels

KEYS = [
    CheckpointKey(
        configuration=Configuration(number=number, hyperparameters={"rate": 0.1}),
        rung=0,
        path=(Fidelity(trainable_layers=1, samples=8),),
    )
    for number in (1, 10)
]


def put(folder: Folder, name: str, contents: bytes = b"contents") -> None:
    with folder.new_file(prefix=name) as new:
        new.file.write(contents)
        new.named(name)


def contents_of(folder: Folder, name: str) -> bytes:
    with folder.fetched(name) as path:
        return path.read_bytes()


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary files, empty."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", f"{tmp_path}/temporary")
    return tmp_path / "temporary"


def test_a_folder_has_what_was_put_there(folder: Folder, temporary: Path) -> None:
    assert (folder.exists(), folder.names(), folder.folders()) == (False, [], [])
    folder.delete("nothing")
    folder.check()
    assert folder.names() == []
    put(folder, "b.pt", b"old")
    put(folder, "b.pt", b"new")
    put(folder, "a.pt")
    put(folder.below("deep"), "c.pt")
    assert (folder.exists(), folder.names(), folder.folders()) == (True, ["a.pt", "b.pt"], ["deep"])
    assert (folder.names("b"), folder.names("deep"), folder.below("deep").names()) == (["b.pt"], [], ["c.pt"])
    assert contents_of(folder, "b.pt") == b"new"
    assert folder.below("deep").parent == folder
    assert folder.below("deep").name == "deep"
    assert contents_of(pickle.loads(pickle.dumps(folder)).below("deep"), "c.pt") == b"contents"
    assert folder.below("deep").place_of("c.pt") == f"{folder}/deep/c.pt"
    folder.delete("a.pt")
    folder.below("deep").clear()
    assert (folder.names(), folder.folders()) == (["b.pt"], [])
    with pytest.raises(OSError), folder.fetched("a.pt") as path:
        path.read_bytes()
    assert list(temporary.iterdir()) == []


def test_a_file_is_there_whole_or_not_at_all(folder: Folder, temporary: Path) -> None:
    put(folder, "kept.pt", b"old")
    with folder.new_file(prefix="kept.pt") as new:
        new.file.write(b"half")
        new.file.flush()
        assert contents_of(folder, "kept.pt") == b"old"
    assert folder.names() == ["kept.pt"]
    assert contents_of(folder, "kept.pt") == b"old"
    assert list(temporary.iterdir()) == []


def test_what_another_process_puts_and_deletes_is_seen_at_once(folder: Folder, place: Any) -> None:
    put(folder, "a.pt")
    assert folder.names() == ["a.pt"]
    if isinstance(folder, RemoteFolder):
        import fsspec

        filesystem, path = fsspec.core.url_to_fs(place, skip_instance_cache=True)
        filesystem.pipe_file(f"{path}/b.pt", b"theirs")
        filesystem.rm_file(f"{path}/a.pt")
    else:
        assert isinstance(folder, LocalFolder)
        (folder.path / "b.pt").write_bytes(b"theirs")
        (folder.path / "a.pt").unlink()
    assert folder.names() == ["b.pt"]
    assert contents_of(folder, "b.pt") == b"theirs"


def test_checkpoints_are_kept_loaded_and_forgotten(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    checkpoints = Checkpoints(folder=folder.below("study"))
    assert [*checkpoints.load_contents(KEYS[0])] == []
    assert not checkpoints.has(KEYS[0])
    assert not checkpoints.keeps_any()
    for size in (3, 1_000_000):
        for key in KEYS:
            assert checkpoints.save_newer(key, {"weight": torch.arange(size)})
    assert len(checkpoints.folder.names()) == 2
    assert checkpoints.has(KEYS[0])
    assert checkpoints.keeps_any()
    (contents,) = checkpoints.load_contents(KEYS[0])
    assert torch.equal(contents["weight"], torch.arange(1_000_000))
    checkpoints.forget(1)
    assert not checkpoints.has(KEYS[0])
    assert checkpoints.has(KEYS[1])
    assert caplog.text == ""


@pytest.mark.parametrize("damage", ["torn", "foreign"])
def test_a_checkpoint_that_is_not_what_was_written_is_known_and_deleted(
    folder: Folder, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = Checkpoints(folder=folder)
    name = checkpoints.save_contents(KEYS[0], {"weight": torch.arange(1000)})
    assert name is not None
    put(folder, name, contents_of(folder, name)[:-100] if damage == "torn" else b"something else")
    assert [*checkpoints.load_contents(KEYS[0])] == []
    assert f"{folder.place_of(name)} is not used, the training is made again: its contents" in caplog.text
    assert folder.names() == []


def test_models_are_kept_loaded_and_pruned(folder: Folder) -> None:
    models = KeptModels.in_folder(folder.below("study"))
    configurations = [Configuration(number=number, hyperparameters={"rate": 0.1}) for number in range(3)]
    trained = [nn.Linear(3, 2) for _ in configurations]
    for model, configuration in zip(trained, configurations, strict=True):
        assert models.keep(model, configuration, score=0.5)
    models.prune(configurations, has_ended=lambda number: number < 2, kept={1})
    assert [models.has(configuration) for configuration in configurations] == [False, True, True]
    assert torch.equal(models.load(configurations[1], nn.Linear(3, 2)).weight, trained[1].weight)
    with pytest.raises(ModelError, match=f"there are no weights of configuration 0 in {folder}/study/models"):
        models.load(configurations[0], nn.Linear(3, 2))
    with pytest.raises(ModelError, match=f"^{models.place_of(configurations[1])} is of another model"):
        models.load(configurations[1], nn.Linear(4, 2))
    put(models.folder, models.name_of(configurations[1]), b"torn")
    with pytest.raises(ModelError, match=f"^{models.place_of(configurations[1])} cannot be read as safetensors"):
        models.load(configurations[1], nn.Linear(3, 2))
    if isinstance(folder, LocalFolder):
        assert models.existing(configurations[2]).is_file()
    else:
        with pytest.raises(
            ModelError, match="no file of this machine: load_model reads them, and `frostline best"
        ):
            models.existing(configurations[2])
