"""What needs torchvision or LitGPT, as they are installed in the folder ``.families`` (``make test`` does that)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from frostline.errors import OptionError, TaskError
from frostline.tasks.builtin.cifar100_resnet18 import cifar100_resnet18


@pytest.fixture(scope="module")
def found(other_libraries: dict[str, Any]) -> dict[str, Any]:
    return other_libraries["tasks"]


@pytest.mark.multiprocess
@pytest.mark.slow
def test_a_gpt_computes_what_litgpt_computes(found: dict[str, Any]) -> None:
    assert found["litgpt"]["scale"] > 1
    assert found["litgpt"]["difference"] < 1e-5
    assert found["litgpt"]["our_parameters"] == found["litgpt"]["litgpt_parameters"]


@pytest.mark.multiprocess
@pytest.mark.slow
def test_resnet18_trains_on_images_in_the_format_of_cifar100(found: dict[str, Any]) -> None:
    cifar100 = found["cifar100"]
    assert cifar100["layers"] == 11
    assert cifar100["sizes"] == [270, 30, 540]
    assert cifar100["batch"] == [128, 3, 32, 32]
    assert cifar100["same"]
    assert 0.9 < cifar100["score"] <= 1  # an untrained model's error rate over a hundred classes
    assert cifar100["losses"][-1] < 0.8 * cifar100["losses"][0]


@pytest.mark.multiprocess
@pytest.mark.slow
def test_missing_or_damaged_images_are_named_and_never_fetched(found: dict[str, Any]) -> None:
    for kind in ("missing", "damaged"):
        message = found["cifar100"][kind]
        assert message.startswith("CIFAR-100 is not in /")
        assert "frostline downloads nothing: fetch it with torchvision.datasets.CIFAR100(" in message
        assert "\n" not in message


def test_a_missing_torchvision_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(TaskError, match=r"needs the package 'torchvision'.*pip install 'frostline\[vision\]'"):
        cifar100_resnet18()


def test_a_torchvision_that_does_not_load_is_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # What torchvision 0.28 does beside a torch without its operators.
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text("raise RuntimeError('operator nms does not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    with pytest.raises(TaskError, match=r"torchvision does not load beside torch .*operator nms does not exist"):
        cifar100_resnet18()


def test_a_number_of_epochs_below_one_is_refused() -> None:
    with pytest.raises(OptionError, match="num_epochs is 0, but must be a whole number of at least 1"):
        cifar100_resnet18(num_epochs=0)
