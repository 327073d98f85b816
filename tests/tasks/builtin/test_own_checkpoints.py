"""Checkpoints that are made on the first use: once, whole, the same again, whoever else makes them and whatever dies."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from frostline.errors import TaskError
from frostline.records import Configuration
from frostline.tasks.builtin.own_checkpoints import own_checkpoint
from frostline.training.files.model_files import read_model
from frostline.training.supervised.supervised_task import SupervisedTask
from tests.forks import Fork
from tests.tiny_task import make

MADE = "is pretrained, once"
DEFAULTS = Configuration(number=0, hyperparameters={})


def small() -> SupervisedTask:
    return replace(make(), full_samples=4 * 32)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FROSTLINE_CACHE", str(tmp_path / "new" / "cache"))
    return tmp_path / "new" / "cache"


def test_it_is_made_once_and_is_the_trained_model(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = own_checkpoint(small())
    assert path.parent == cache
    assert caplog.messages == [f"tiny {MADE}: it is kept in {path}"]
    stamp = path.stat().st_mtime_ns
    assert own_checkpoint(small()) == path
    assert path.stat().st_mtime_ns == stamp
    assert len(caplog.messages) == 1
    initial = small().build_model(DEFAULTS)
    trained = read_model(path, small().build_model(DEFAULTS))
    assert not torch.equal(initial[0][0].weight, trained[0][0].weight)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def flip(path: Path) -> None:
    contents = bytearray(path.read_bytes())
    contents[-9] ^= 1
    path.write_bytes(contents)


def forget_its_hash(path: Path) -> None:
    save_file(load_file(path), path)


@pytest.mark.parametrize("damage", [cut, flip, forget_its_hash, lambda path: path.write_bytes(b"")])
def test_a_damaged_one_is_made_again_to_the_bit(
    damage: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    path = own_checkpoint(small())
    contents = path.read_bytes()
    damage(path)
    assert path.read_bytes() != contents
    assert own_checkpoint(small()) == path
    assert path.read_bytes() == contents
    assert any("is damaged and is made again" in message for message in caplog.messages)


def test_torch_is_left_as_it_was_and_does_not_matter() -> None:
    path = own_checkpoint(small())
    contents = path.read_bytes()
    path.unlink()
    torch.manual_seed(7)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        own_checkpoint(small())
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.get_rng_state(), state)
    assert path.read_bytes() == contents


def test_whatever_makes_it_is_in_its_name() -> None:
    task = small()
    others = [
        replace(task, full_samples=64),
        replace(task, defaults={**task.defaults, "learning_rate": 1e-2}),
        replace(make(size=128), full_samples=task.full_samples),
        replace(task, model=lambda _configuration: nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))),
    ]
    assert len({own_checkpoint(each).name for each in (task, *others)}) == 5


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        (
            "a-file/cache",
            r"cannot be kept in .*a-file/cache \(Not a directory\): name another folder in FROSTLINE_CACHE",
        ),
        (None, "there is no folder to keep the checkpoint of tiny in: name one in FROSTLINE_CACHE"),
    ],
)
def test_a_place_that_is_none_is_one_line(
    folder: str | None, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a-file").write_text("")
    if folder is not None:
        monkeypatch.setenv("FROSTLINE_CACHE", str(tmp_path / folder))
    else:
        monkeypatch.delenv("FROSTLINE_CACHE")
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

        def nobody() -> Path:
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.setattr(Path, "home", nobody)
    with pytest.raises(TaskError, match=words):
        own_checkpoint(small())


def test_a_long_training_says_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("frostline.tasks.builtin.own_checkpoints._SECONDS_BETWEEN_LINES", 0.0)
    own_checkpoint(small())
    assert caplog.messages[1:] == [f"tiny is pretrained: {percent} %" for percent in (0, 25, 50, 75, 100)]


def make_when_asked() -> None:
    """Make it upon a line of input, and print what is logged and where it is."""
    logging.basicConfig(stream=sys.stdout, format="%(message)s", force=True)
    task = small()
    sys.stdout.write("ready\n")
    sys.stdin.readline()
    sys.stdout.write(f"{own_checkpoint(task)}\n")


@pytest.mark.multiprocess
@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="stops a process in the middle of its work")
def test_one_process_makes_it_while_another_waits_which_makes_it_if_the_first_is_killed(
    cache: Path, processes: ForkServerContext
) -> None:
    def goes_on(fork: Fork, until: str) -> None:
        assert until in fork.stdout.readline()

    with Fork(processes, make_when_asked) as first, Fork(processes, make_when_asked) as other:
        for fork in (first, other):
            goes_on(fork, until="ready")
        first.stdin.write("\n")
        goes_on(first, until=MADE)
        first.send_signal(signal.SIGSTOP)
        other.stdin.write("\n")
        goes_on(other, until="by another process: waiting for it")
        assert not list(cache.glob("*.safetensors"))
        first.kill()
        made, path = other.ended().stdout.splitlines()
    assert MADE in made
    stamp = Path(path).stat().st_mtime_ns
    assert own_checkpoint(small()) == Path(path)
    assert Path(path).stat().st_mtime_ns == stamp
