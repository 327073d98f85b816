"""How many samples a batch of any kind holds, and which batches tell nobody."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from frostline.errors import ObjectiveError
from frostline.objectives.batch_sizes import num_examples, whole_count

IMAGES, LABELS = torch.zeros(20, 3, 8, 8), torch.zeros(20, dtype=torch.long)


@dataclass
class Pair:
    images: Any
    labels: Any


class OfTheirOwn:
    def __len__(self) -> int:
        return 20


@pytest.mark.parametrize(
    "batch",
    [
        pytest.param(IMAGES, id="a tensor"),
        pytest.param([IMAGES, LABELS], id="a list of tensors"),
        pytest.param((IMAGES.numpy(), LABELS.numpy()), id="arrays"),
        pytest.param((pd.DataFrame(LABELS.numpy()), pd.Series(LABELS.numpy())), id="tables"),
        pytest.param({"scale": torch.tensor(1.0), "images": IMAGES.numpy()}, id="a mapping"),
        pytest.param({"inputs": {"images": IMAGES}, "labels": {"classes": LABELS}}, id="mappings in a mapping"),
        pytest.param(({"images": IMAGES}, {"labels": LABELS}), id="mappings of other names"),
        pytest.param(([IMAGES, IMAGES], LABELS), id="two views"),
        pytest.param(([IMAGES, LABELS], [IMAGES[:5]]), id="batches of two loaders"),
        pytest.param({"a": [IMAGES, LABELS], "b": [IMAGES, LABELS]}, id="batches of two loaders by name"),
        pytest.param(Pair(images=IMAGES, labels=LABELS), id="a dataclass"),
        pytest.param(["a text"] * 20, id="texts"),
        pytest.param({"texts": ["a text"] * 20, "labels": [0] * 20}, id="texts in a mapping"),
        pytest.param({"tokens": [[1, 2, 3]] * 20}, id="lists of numbers in a mapping"),
        pytest.param((["a text"] * 20, LABELS), id="texts and labels"),
        pytest.param([torch.tensor(1)] * 20, id="numbers"),
        pytest.param(OfTheirOwn(), id="a class of their own"),
    ],
)
def test_examples_are_counted(batch: Any) -> None:
    assert num_examples(batch) == 20


@pytest.mark.parametrize(
    "batch",
    [
        pytest.param([(IMAGES[0], 0)] * 20, id="a list of examples"),
        pytest.param([{"image": IMAGES[0]}] * 20, id="a list of examples by name"),
        pytest.param(((IMAGES[0],) * 20, ({"boxes": LABELS},) * 20), id="images of several sizes"),
        pytest.param((["a text"] * 20, [0] * 20), id="texts and labels"),
    ],
)
def test_what_may_be_examples_or_their_parts_is_refused(batch: Any) -> None:
    with pytest.raises(ObjectiveError, match="num_samples=len where they are examples") as raised:
        num_examples(batch)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("batch", ["a text", 3, object(), {"text": "a text"}, torch.tensor(1.0)])
def test_a_batch_of_which_nobody_knows_is_refused(batch: Any) -> None:
    with pytest.raises(ObjectiveError, match="nobody knows how many samples it holds"):
        num_examples(batch)


@pytest.mark.parametrize("counted", [20, 20.0, torch.tensor(20), torch.tensor([20.0]), np.int64(20), np.array(20)])
def test_counts_are_whole_numbers_whatever_has_summed_them(counted: Any) -> None:
    count = whole_count(counted)
    assert (type(count), count) == (int, 20)


@pytest.mark.parametrize("counted", [-1, 2.5, float("nan"), None, "20", torch.zeros(2)])
def test_other_counts_are_refused(counted: Any) -> None:
    with pytest.raises(ObjectiveError, match="return a whole number from 0 on"):
        whole_count(counted)
