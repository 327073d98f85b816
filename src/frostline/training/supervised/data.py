"""Examples out of data sets, put together, and what tells one data set from another."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import Dataset, Subset, TensorDataset, default_collate

from frostline.errors import TaskError
from frostline.inputs.printable import one_line
from frostline.layers.cutting.nesting import tensors
from frostline.training.machine.devices import first_tensor

LARGEST_BATCH = 2**20
"""In examples. Nobody trains on more at once, and indices alone of far more fill the memory."""

Example = tuple[Any, Any]
"""(inputs, targets): of one example, or of a batch."""


class Counted(tuple[Any, Any]):
    """A batch whose first tensor has not a row for each example, and which knows how many examples it is of."""

    num_examples: int


Collate = Callable[[list[Any]], Any]
"""Puts a list of a data set's examples together into a batch."""


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


def counted(batch: Example, num_examples: int) -> Example:
    """Return ``batch``, which is of so many examples: two views of each, time before examples, or sequences in a row."""
    first = next(iter(tensors(batch)), None)
    if first is not None and first.dim() > 0 and len(first) == num_examples:
        return batch
    made = Counted(batch)
    made.num_examples = num_examples
    return made


def examples_of(batch: Example) -> int:
    """Return of how many examples a batch is."""
    return batch.num_examples if isinstance(batch, Counted) else len(first_tensor(batch))


def fetch_examples(dataset: Dataset[Any], indices: list[int], *, collate_fn: Collate | None = None) -> Example:
    """Return the batch of the examples at ``indices``, put together by ``collate_fn``, by default torch's own.

    A TensorDataset, or a subset of one, is indexed at once, without a function. ``__getitems__``, where there is one, may
    return a list of examples, as torch's own data loader expects, or a tuple, which is taken for the batch itself.
    Raises: TaskError if an example is not a pair or, with a function, the batch is none, or torch's cannot make a batch.
    """
    if type(dataset) is Subset:
        # Whole numbers: a list of tensors of none would be an index into several dimensions.
        indices = [int(dataset.indices[index]) for index in indices]
        return fetch_examples(dataset.dataset, indices, collate_fn=collate_fn)
    if type(dataset) is TensorDataset and collate_fn is None:
        return _pair(tuple(tensor[indices] for tensor in dataset.tensors), type(dataset).__name__)
    if hasattr(dataset, "__getitems__"):
        examples = dataset.__getitems__(indices)
        if isinstance(examples, tuple):
            return _pair(examples, type(dataset).__name__)
    else:
        examples = [dataset[index] for index in indices]
    if collate_fn is not None:
        return _pair(collate_fn(examples), "collate_fn", what="a batch")
    _pair(examples[0], type(dataset).__name__)
    try:
        return _pair(tuple(default_collate(examples)), type(dataset).__name__)
    except (TypeError, RuntimeError) as error:
        raise TaskError(
            f"the examples of {type(dataset).__name__} cannot be put together by torch's default_collate: give a collate_fn "
            f"({one_line(str(error))})."
        ) from error


def lies_in_memory(dataset: Dataset[Any]) -> bool:
    """Return whether the examples are rows of tensors: they are indexed at once, and are the same each time."""
    return type(dataset) is TensorDataset or (type(dataset) is Subset and lies_in_memory(dataset.dataset))


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


def _pair(example: Any, whose: str, *, what: str = "an example") -> Example:
    if isinstance(example, tuple | list) and len(example) == 2:
        return example[0], example[1]
    came = f"a {type(example).__name__}"
    if isinstance(example, tuple | list):
        came += f" of {len(example)} parts"
    raise TaskError(
        f"{whose} gives {came}, but {what} must be a pair (inputs, targets): put several inputs into a tuple or a mapping, "
        f"or give a collate_fn that makes pairs of batches."
    )
