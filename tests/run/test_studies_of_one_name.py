"""Two studies of one name on one folder, in two databases or one after the other, have nothing of each other."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch

import frostline
from frostline.errors import StudyError
from frostline.folders.local_folder import LocalFolder
from frostline.folders.study_place import StudyPlace
from frostline.store.backends.storage import Storage, open_storage
from frostline.store.identity import identity_in, kept_identity
from frostline.store.opening import open_study
from frostline.store.reading import read_study
from frostline.store.study import SearchStudy
from tests import tiny_task
from tests.cli.command_line import run

TASK = tiny_task.make(64)
LADDER = frostline.Ladder.explicit([(2, 64), (6, 128), (6, 256)], num_layers=6, full_samples=256)
OPTIONS = frostline.TrainingOptions(threads=1, device="cpu")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def search(storage: str, **plan: Any) -> frostline.TuneResult:
    return frostline.tune_task(
        TASK, study="s", storage=storage, ladder=LADDER, configurations=9, training=OPTIONS, **plan
    )


def left() -> list[Path]:
    return sorted(path for path in Path("frostline-runs/s").rglob("*") if path.is_file())


def without_identity(name: str) -> None:
    """Make of a study what earlier versions left."""
    backend = open_storage(name)
    study_id = backend.get_study_id_from_name("s")
    identity = kept_identity(backend, study_id)
    backend.set_study_user_attr(study_id, "frostline identity", "")
    for part in Path(f"frostline-runs/s/{identity}").iterdir():
        part.rename(f"frostline-runs/s/{part.name}")
    Path(f"frostline-runs/s/{identity}").rmdir()


def test_the_models_of_both_are_there() -> None:
    one = search("one.log")
    weights = one.weights.read_bytes()
    other = search("other.log", seed=1)
    assert one.weights.read_bytes() == weights
    assert one.weights != other.weights
    assert left() == sorted([one.weights, other.weights])
    assert search("one.log").weights == one.weights


def test_one_whose_database_is_gone_is_not_gone_on_with() -> None:
    resumed: list[str] = []
    code = "before"

    def objective(trial: frostline.Trial) -> float:
        model = torch.nn.Sequential(*[torch.nn.Linear(4, 4) for _ in range(4)])
        trial.freeze(model)
        optimizer = torch.optim.SGD(trial.parameters, lr=trial.suggest_float("rate", 1e-3, 1e-1))
        if trial.resumed:
            resumed.append(trial.resumed["code"])
            model.load_state_dict(trial.resumed["model"])
        for (inputs,) in trial.batches([(torch.ones(16, 4),)]):
            optimizer.zero_grad()
            (model(inputs) - 1).square().mean().backward()
            optimizer.step()
            trial.checkpoint({"model": model.state_dict(), "code": code})
        if trial.trains and code == "before" and resumed:
            raise KeyboardInterrupt
        return (model(torch.ones(1, 4)) - 1).square().mean().item()

    def tune() -> frostline.TuneResult:
        ladder = frostline.Ladder.explicit([(4, 128), (4, 512)], num_layers=4, full_samples=512)
        return frostline.tune(objective, samples=512, storage="s.log", study="s", ladder=ladder, configurations=4)

    with pytest.raises(KeyboardInterrupt):
        tune()
    assert left()
    Path("s.log").unlink()
    resumed.clear()
    code = "after"
    tune()
    assert {*resumed} == {"after"}


def test_those_that_begin_it_at_once_agree(tmp_path: Path) -> None:
    terms, place = search(":memory:").terms, f"sqlite:///{tmp_path / 's.db'}"
    storage = Storage(place, open_storage(place))
    open_study(storage, "s", terms)
    found: list[str] = []
    ready = threading.Barrier(4)

    def begin(offered: str) -> None:
        own = Storage(place, open_storage(place))
        ready.wait()
        study = SearchStudy.open(own, "s", terms=terms, space=TASK.space, identity=offered)
        found.append(study.identity)
        study.close()

    offered = [f"{number:08x}" for number in range(4)]
    threads = [threading.Thread(target=begin, args=(each,)) for each in offered]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert {*found} == {identity_in(place, "s")} <= {*offered}


def test_whoever_came_second_trains_in_the_place_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = search("s.log")
    identity = read_study("s.log", "s").identity
    # As if the study had not been there yet when it was looked for.
    monkeypatch.setattr("frostline.run.tuning.identity_in", lambda *_: "01234567")
    again = search("s.log")
    assert again.weights == expected.weights
    assert again.weights.parent.parent.name == identity


def test_a_study_of_before_goes_on_where_it_was() -> None:
    name = search("s.log").weights.name
    without_identity("s.log")
    again = search("s.log")
    assert again.weights == Path("frostline-runs/s/models") / name
    assert left() == [again.weights]


@pytest.mark.parametrize("is_old", [False, True])
def test_only_ones_own_is_deleted(is_old: bool, capsys: pytest.CaptureFixture[str]) -> None:
    search("one.log")
    if is_old:
        without_identity("one.log")
    other = search("other.log")
    kept = other.weights.parent.parent
    _, _, err = run("delete s --storage one.log", capsys)
    assert f"the checkpoints and weights in frostline-runs/s (kept there: {kept.name})" in err
    assert run("delete s --storage one.log --yes", capsys)[0] == 0
    assert left() == [other.weights]
    assert run("delete s --storage other.log --yes", capsys)[0] == 0
    assert not Path("frostline-runs/s").exists()


def test_an_identity_that_is_no_name_of_a_folder_is_refused() -> None:
    search("s.log")
    backend = open_storage("s.log")
    backend.set_study_user_attr(backend.get_study_id_from_name("s"), "frostline identity", "../../home")
    with pytest.raises(StudyError, match="the identity of the study is damaged"):
        read_study("s.log", "s")
    with pytest.raises(StudyError, match="the identity of the study is damaged"):
        search("s.log")


def test_a_place_has_the_name_and_the_identity(tmp_path: Path) -> None:
    runs = LocalFolder(path=tmp_path)
    assert StudyPlace(runs=runs, name="a/b").folder.path == tmp_path / "a%2Fb"
    assert StudyPlace(runs=runs, name="a/b", identity="01234567").folder.path == tmp_path / "a%2Fb" / "01234567"
