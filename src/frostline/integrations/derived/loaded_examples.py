"""The examples of a ``DataLoader`` as a task's: fetched by index, put together by the loader's own function."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Subset,
    TensorDataset,
    default_collate,
)

from frostline.errors import TaskError
from frostline.layers.cutting.nesting import leaves, tensors
from frostline.training.machine.randomness import seeded_for_data
from frostline.training.supervised.data import data_identity, lies_in_memory, num_examples

# Enough to tell data apart, and read in a moment.
_NUM_HASHED = 64


@dataclass(frozen=True, eq=False, kw_only=True)
class LoadedExamples(Dataset[Any]):
    """Batches of a data set, as its loader puts them together: ``form`` makes a model's inputs of one, without targets."""

    dataset: Dataset[Any]
    collate: Callable[[Any], Any]
    form: Callable[[Any], Any]
    num_workers: int = 0
    """How many processes the loader has for fetching."""

    def __len__(self) -> int:
        """Return the number of examples."""
        return num_examples(self.dataset)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """Return a batch of one example."""
        return self.__getitems__([index])

    def __getitems__(self, indices: list[int]) -> tuple[Any, Any]:
        """Return the batch of the examples at ``indices``, with nothing in the place of targets."""
        return self.form(self.batch(indices)), ()

    def batch(self, indices: list[int]) -> Any:
        """Return what the loader would hand to its model for the examples at ``indices``."""
        columns = _columns(self.dataset, indices) if self.collate is default_collate else None
        if columns is not None:
            # What default_collate makes of rows, without making rows: populations wait for nothing but data.
            return columns
        fetch = getattr(self.dataset, "__getitems__", None)
        return self.collate(fetch(indices) if fetch is not None else [self.dataset[index] for index in indices])

    def identity(self) -> str:
        """Return what tells these data from others: a hash of tensors in memory, or of some examples."""
        if lies_in_memory(self.dataset):
            return data_identity(self.dataset)
        size = len(self)
        digest = hashlib.sha256(f"{size} {self.collate!r}".partition(" at 0x")[0].encode())
        for index in sorted({place * size // _NUM_HASHED for place in range(_NUM_HASHED)}):
            for leaf in leaves(_seeded_batch(self, [index])):
                if isinstance(leaf, Tensor):
                    digest.update(f"{leaf.dtype} {tuple(leaf.shape)}".encode())
                    digest.update(leaf.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
                else:
                    digest.update(str(leaf).encode())
        return digest.hexdigest()


def examples_of(
    loader: Any, which: str, *, form: Callable[[Any], Any], shuffles: bool, checks_sampler: bool = True
) -> LoadedExamples:
    """Return the examples of ``loader``, which is the ``which`` one and has to shuffle, or must not.

    Raises: TaskError if it is no loader of a data set with a length, orders or joins examples in a way of its own, or draws
        what no seed reaches whenever an example is fetched.
    """
    if not isinstance(loader, DataLoader):
        raise TaskError(
            f"the {which} data are a {type(loader).__name__}, but a task takes one torch.utils.data.DataLoader of a data "
            f"set with a length: give that, or tune it as trials."
        )
    dataset = loader.dataset
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__getitem__"):
        raise TaskError(
            f"the {which} data are an iterable {type(dataset).__name__}, whose examples cannot be asked for by number: "
            f"give a data set with __len__ and __getitem__, or tune it as trials."
        )
    if checks_sampler:
        _check_order(loader, which, shuffles=shuffles)
    collate = loader.collate_fn
    assert collate is not None, "of a batch there is one"
    examples = LoadedExamples(dataset=dataset, collate=collate, form=form, num_workers=loader.num_workers)
    if len(examples) == 0:
        raise TaskError(f"the {which} data are empty: a task needs at least one example.")
    _check_batch(examples, which)
    return examples


def _check_order(loader: DataLoader[Any], which: str, *, shuffles: bool) -> None:
    sampler = loader.sampler
    is_plain = type(loader.batch_sampler) is BatchSampler
    is_random = (
        type(sampler) is RandomSampler
        and not sampler.replacement
        and sampler.num_samples == num_examples(loader.dataset)
    )
    if is_plain and shuffles and is_random:
        return
    if is_plain and not shuffles and type(sampler) is not RandomSampler and loader.drop_last is False:
        return
    found = type(sampler).__name__ if is_plain else type(loader.batch_sampler).__name__
    allowed = "shuffle=True, each example once an epoch" if shuffles else "no shuffling, and no batch left out"
    raise TaskError(
        f"the {which} data are drawn by a {found} in an order of its own, but a task takes a batch_size with {allowed}: "
        f"change the loader, or tune it as trials."
    )


def _check_batch(examples: LoadedExamples, which: str) -> None:
    """Check that a batch is made of tensors, one row for each example, and is the same whenever it is fetched."""
    indices = [*range(min(len(examples), 2))]
    batch = _seeded_batch(examples, indices)
    found = tensors(batch)
    if not found or any(each.dim() == 0 or len(each) != len(indices) for each in found):
        kinds = ", ".join(dict.fromkeys(_kind(leaf) for leaf in leaves(batch))) or "nothing"
        raise TaskError(
            f"a batch of 2 {which} examples holds {kinds}, but must hold tensors with a row for each example: change "
            f"collate_fn, or tune it as trials."
        )
    again = tensors(_seeded_batch(examples, indices))
    if any(not torch.equal(old, new) for old, new in zip(found, again, strict=True)):
        raise TaskError(
            f"the {which} data draw something at random whenever an example is fetched, from a generator that no seed "
            f"reaches: draw from the global ones of torch, NumPy or Python, or tune it as trials."
        )


def _seeded_batch(examples: LoadedExamples, indices: list[int]) -> Any:
    """Return a batch as a task would fetch it, whose draws depend on its place."""
    with seeded_for_data(0):
        return examples.batch(indices)


def _kind(leaf: Any) -> str:
    return f"a tensor of {list(leaf.shape)}" if isinstance(leaf, Tensor) else type(leaf).__name__


def _columns(dataset: Any, indices: list[int]) -> list[Tensor] | None:
    """Return the rows of tensors that lie in memory; None if there are none."""
    if type(dataset) is TensorDataset:
        return [tensor[indices] for tensor in dataset.tensors]
    if type(dataset) is Subset:
        return _columns(dataset.dataset, [dataset.indices[index] for index in indices])
    return None
