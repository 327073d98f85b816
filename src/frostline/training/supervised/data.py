"""Examples out of data sets: their order, their batches, and what tells one data set from another."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset, TensorDataset, default_collate

from frostline.errors import TaskError
from frostline.seeding import derive_seed

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGEST_BATCH = 2**20
"""In examples. Nobody trains on more at once, and indices alone of far more fill the memory."""

Example = tuple[Any, Any]
"""(inputs, targets): of one example, or of a batch."""


def num_examples(dataset: Dataset[Any]) -> int:
    """Return the length of ``dataset``.

    Raises: TaskError if it has none.
    """
    try:
        return len(dataset)  # type: ignore[arg-type]
    except TypeError:
        raise TaskError(
            f"a data set of type {type(dataset).__name__} has no length: give one with __len__ and __getitem__."
        ) from None


def shuffled_batches(
    dataset: Dataset[Any], *, batch_size: int, seed: int, skip_examples: int = 0
) -> Iterator[tuple[int, Example]]:
    """Yield (position of its first example, batch) without end, from after ``skip_examples``.

    The examples form one stream, a new permutation every epoch, that depends on ``seed`` alone; a batch is the
    next ``batch_size`` of it, across the end of an epoch too. So every batch is full, another batch size sees the
    same examples in the same order, and any position can be gone on from.
    """
    size = num_examples(dataset)
    position = skip_examples
    epoch, offset = divmod(skip_examples, size)
    waiting = _permutation(size, seed, epoch)[offset:]
    while True:
        # All at once: a batch may hold many epochs.
        num_epochs = max(0, -(-(batch_size - len(waiting)) // size))
        if num_epochs:
            following = (_permutation(size, seed, epoch + 1 + index) for index in range(num_epochs))
            waiting = torch.cat([waiting, *following])
            epoch += num_epochs
        yield position, fetch_examples(dataset, waiting[:batch_size].tolist())
        waiting = waiting[batch_size:]
        position += batch_size


def ordered_batches(dataset: Dataset[Any], *, batch_size: int) -> Iterator[Example]:
    """Yield all examples once, in their order; the last batch may be smaller."""
    size = num_examples(dataset)
    for start in range(0, size, batch_size):
        yield fetch_examples(dataset, list(range(start, min(start + batch_size, size))))


def fetch_examples(dataset: Dataset[Any], indices: list[int]) -> Example:
    """Return the batch of the examples at ``indices``.

    A TensorDataset, or a subset of one, is indexed at once. ``__getitems__``, where there is one, may return a
    list of examples, as torch's own data loader expects, or a tuple, which is taken for the batch itself.
    Raises: TaskError if an example is not a pair.
    """
    if type(dataset) is TensorDataset:
        return _pair(tuple(tensor[indices] for tensor in dataset.tensors), dataset)
    if type(dataset) is Subset:
        return fetch_examples(dataset.dataset, [dataset.indices[index] for index in indices])
    if hasattr(dataset, "__getitems__"):
        examples = dataset.__getitems__(indices)
        if isinstance(examples, tuple):
            return _pair(examples, dataset)
    else:
        examples = [dataset[index] for index in indices]
    _pair(examples[0], dataset)
    return _pair(tuple(default_collate(examples)), dataset)


def data_identity(dataset: Dataset[Any]) -> str:
    """Return what is known of the contents of ``dataset``: a hash of tensors in memory, or type and length."""
    if type(dataset) is TensorDataset:
        digest = hashlib.sha256()
        for tensor in dataset.tensors:
            digest.update(f"{tensor.dtype} {tuple(tensor.shape)} ".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()
    if type(dataset) is Subset:
        indices = hashlib.sha256(str(list(dataset.indices)).encode()).hexdigest()
        return f"{indices} of {data_identity(dataset.dataset)}"
    return f"{type(dataset).__qualname__} of {num_examples(dataset)}"


def _permutation(size: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(size, generator=torch.Generator().manual_seed(derive_seed(seed, "data", epoch)))


def _pair(example: Any, dataset: Dataset[Any]) -> Example:
    if isinstance(example, tuple | list) and len(example) == 2:
        return example[0], example[1]
    came = f"a {type(example).__name__}"
    if isinstance(example, tuple | list):
        came += f" of {len(example)} parts"
    raise TaskError(
        f"{type(dataset).__name__} gives {came}, but an example must be a pair (inputs, targets): put several "
        f"inputs into a tuple or a mapping."
    )
