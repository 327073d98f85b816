"""What a checkpoint may hold: it is refused where it is written, and not only where nobody can read it back."""

from __future__ import annotations

from collections import OrderedDict, deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import frostline
from frostline.errors import ObjectiveError
from frostline.objectives.keepable import check_keepable, with_plain_numbers

POINTS = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_what_training_goes_on_from_is_kept() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(3, 2)).sum().backward()
    optimizer.step()
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=9).state_dict(),
        "values": [1, (2.5, None, "text", b"bytes", True), OrderedDict(parameter=nn.Parameter(torch.ones(2)))],
        "best": with_plain_numbers({"score": np.mean([1.0, 2.0])}),
    }
    check_keepable(state)
    assert type(state["best"]["score"]) is float


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (np.zeros(3), r"a ndarray as state\['of mine'\]\[1\]"),
        (nn.Linear(2, 2), "a Linear as"),
        (deque([1]), "a deque as"),
        (lambda: 0, "a function as"),
        (Path("weights.pt"), "Path as"),
    ],
)
def test_what_nobody_reads_back_is_named(part: Any, words: str) -> None:
    with pytest.raises(ObjectiveError, match=words) as raised:
        check_keepable({"model": nn.Linear(2, 2).state_dict(), "of mine": [0, part]})
    assert "\n" not in str(raised.value)


def search(kept: Any, resumed: list[Any]) -> frostline.TuneResult:
    def objective(trial: frostline.Trial) -> float:
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1))
        trial.freeze(model)
        optimizer = torch.optim.SGD(trial.parameters, lr=trial.suggest_float("rate", 1e-3, 0.1))
        resumed.append(trial.resumed)
        for batch in trial.batches([POINTS[:20], POINTS[20:]]):
            model(batch).square().mean().backward()
            optimizer.step()
            trial.checkpoint(kept(model))
        return float(model(POINTS).square().mean().item())

    ladder = frostline.Ladder.explicit([(2, 40), (2, 80)], num_layers=2, full_samples=80)
    return frostline.tune(objective, samples=80, ladder=ladder, configurations=3, storage=":memory:")


def test_a_mean_of_numpy_goes_along_with_a_training() -> None:
    resumed: list[Any] = []
    search(lambda _: {"best": np.mean([1.0, 2.0])}, resumed)
    # The last one goes on from its first rung, which is not trained again.
    assert resumed[1:] == [None, None, None, {"best": 1.5}]


@pytest.mark.parametrize(
    ("kept", "words"), [(lambda model: {"model": model}, "Sequential as"), (lambda _: 3, "a int, but")]
)
def test_a_search_that_could_not_go_on_ends_where_it_begins(kept: Any, words: str) -> None:
    resumed: list[Any] = []
    with pytest.raises(ObjectiveError, match=words):
        search(kept, resumed)
    assert len(resumed) == 2
