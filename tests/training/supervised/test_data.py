from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset

from frostline.errors import TaskError
from frostline.training.supervised.batch_order import ordered_places, shuffled_places
from frostline.training.supervised.data import data_identity, fetch_examples, num_examples


def numbers(size: int) -> TensorDataset:
    return TensorDataset(torch.arange(size), -torch.arange(size))


def stream(size: int, *, batch_size: int, seed: int = 0, skip: int = 0, length: int) -> list[int]:
    places = shuffled_places(size, batch_size=batch_size, seed=seed, skip_examples=skip)
    taken: list[int] = []
    for position, indices in islice(places, -(-length // batch_size)):
        assert position == skip + len(taken)
        assert len(indices) == batch_size
        taken += indices
    return taken[:length]


@given(size=st.integers(1, 20), batch_size=st.integers(1, 30), skip=st.integers(0, 60), seed=st.integers(0, 5))
def test_the_stream_is_the_same_in_any_batches_and_from_anywhere(
    size: int, batch_size: int, skip: int, seed: int
) -> None:
    whole = stream(size, batch_size=1, seed=seed, length=skip + 40)
    assert stream(size, batch_size=batch_size, seed=seed, skip=skip, length=40) == whole[skip:]
    for epoch in range(len(whole) // size):
        assert sorted(whole[epoch * size : (epoch + 1) * size]) == list(range(size))


def test_epochs_and_seeds_are_shuffled_differently() -> None:
    first = stream(30, batch_size=30, length=60)
    assert first[:30] != first[30:]
    assert first[:30] != list(range(30))
    assert first != stream(30, batch_size=30, seed=1, length=60)


def test_ordered_batches_give_all_once() -> None:
    assert [*ordered_places(7, batch_size=3)] == [(0, [0, 1, 2]), (3, [3, 4, 5]), (6, [6])]


class Pairs(Dataset[tuple[Tensor, int]]):
    def __len__(self) -> int:
        return 9

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.tensor([index, index]), -index


class Bulk(Pairs):
    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        return torch.tensor(indices).repeat(2, 1).T, -torch.tensor(indices)


class Mappings(Pairs):
    def __getitem__(self, index: int) -> tuple[dict[str, Tensor], int]:
        return {"tokens": torch.tensor([index])}, -index


@pytest.mark.parametrize("dataset", [Pairs(), Bulk(), Subset(Pairs(), range(9)), Subset(Bulk(), range(9))])
def test_examples_are_fetched_from_any_map_style_data_set(dataset: Dataset[object]) -> None:
    inputs, targets = fetch_examples(dataset, [4, 0, 8])
    assert inputs.tolist() == [[4, 4], [0, 0], [8, 8]]
    assert targets.tolist() == [-4, 0, -8]


def test_inputs_may_be_mappings() -> None:
    inputs, targets = fetch_examples(Mappings(), [2, 3])
    assert inputs["tokens"].tolist() == [[2], [3]]
    assert targets.tolist() == [-2, -3]


def test_subsets_of_tensors_are_indexed_at_once() -> None:
    subset = Subset(Subset(numbers(10), [9, 8, 7, 6]), [1, 3])
    inputs, _ = fetch_examples(subset, [1, 0])
    assert inputs.tolist() == [6, 8]


def test_examples_that_are_no_pairs_are_refused() -> None:
    three = TensorDataset(torch.zeros(4), torch.zeros(4), torch.zeros(4))
    with pytest.raises(TaskError, match=r"TensorDataset gives a tuple of 3 parts, but an example must be a pair"):
        fetch_examples(three, [0])
    with pytest.raises(TaskError, match="list gives a Tensor"):
        fetch_examples([torch.zeros(2)], [0])  # type: ignore[arg-type]


class Ragged(Pairs):
    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.zeros(index), 0


class Strange(Pairs):
    def __getitem__(self, index: int) -> Any:
        return object(), 0


@pytest.mark.parametrize(
    ("dataset", "why"),
    [(Ragged(), "stack expects each tensor to be equal size"), (Strange(), "batch must contain")],
)
def test_examples_that_torch_cannot_put_together_need_a_function(dataset: Dataset[Any], why: str) -> None:
    with pytest.raises(TaskError, match=rf"the examples of \w+ cannot be put .* give a collate_fn \(.*{why}"):
        fetch_examples(dataset, [1, 2])


def test_data_without_a_length_are_refused() -> None:
    class Endless(IterableDataset[int]):
        def __iter__(self) -> Iterator[int]:
            return iter(range(9))

    with pytest.raises(TaskError, match="Endless has no length"):
        num_examples(Endless())


def test_identity_follows_the_contents() -> None:
    base = data_identity(numbers(5))
    assert base == data_identity(numbers(5))
    changed = numbers(5)
    changed.tensors[1][3] = 7
    assert base != data_identity(changed)
    assert base != data_identity(TensorDataset(torch.arange(5).int(), -torch.arange(5)))
    assert data_identity(Subset(numbers(5), [0, 1])) != data_identity(Subset(numbers(5), [1, 0]))
    assert data_identity(Pairs()) == "Pairs of 9"
    assert data_identity(TensorDataset(torch.ones(3, 2, dtype=torch.bool).T, torch.ones(2))) != base


@pytest.mark.parametrize("size", [2, 4, 40])
def test_a_subset_may_be_drawn_by_torch(size: int) -> None:
    drawn = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    inputs, targets = fetch_examples(Subset(numbers(50), drawn), list(range(size)))  # type: ignore[arg-type]
    assert inputs.tolist() == drawn[:size].tolist()
    assert targets.tolist() == (-drawn[:size]).tolist()
