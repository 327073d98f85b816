"""Texts with labels: read from a CSV file, and as token ids of one length with a mask."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.data import Dataset

from frostline.errors import TaskError

if TYPE_CHECKING:
    from pathlib import Path

_FEWEST = 10
_VALIDATION_ONE_IN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledText:
    """Texts, and for each the index of its label in ``label_names``, which are sorted."""

    texts: tuple[str, ...]
    labels: tuple[int, ...]
    label_names: tuple[str, ...]

    @property
    def sha256(self) -> str:
        """The hash of all texts and labels."""
        return hashlib.sha256(repr((self.texts, self.labels, self.label_names)).encode()).hexdigest()


def read_labelled_text(path: Path) -> LabelledText:
    """Return the rows of a CSV file with the columns ``text`` and ``label``.

    Raises: TaskError if it cannot be read, lacks a column, a text or a label, or has fewer than ten rows or two labels.
    """
    try:
        # Spreadsheets write a mark before the first column's name.
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            rows, columns = list(reader), list(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TaskError(
            f"{path} cannot be read as CSV: {error}. Give a UTF-8 file with the columns text and label."
        ) from error
    if not {"text", "label"} <= set(columns):
        raise TaskError(
            f"{path} has the columns {columns}, but needs text and label: name them in its first line."
        )
    for number, row in enumerate(rows, start=2):
        if not row["text"] or not row["label"]:
            raise TaskError(f"{path} has no text or no label in row {number}: fill it in, or leave the row out.")
    names = tuple(sorted({row["label"] for row in rows}))
    if len(rows) < _FEWEST or len(names) < 2:
        raise TaskError(
            f"{path} has {len(rows)} texts with {len(names)} labels, but at least {_FEWEST} and 2 are needed."
        )
    return LabelledText(
        texts=tuple(row["text"] for row in rows),
        labels=tuple(names.index(row["label"]) for row in rows),
        label_names=names,
    )


class EncodedTexts(Dataset[tuple[dict[str, Tensor], Tensor]]):
    """Token ids, padded on the right to one length, with the mask of what is text; the targets are labels."""

    def __init__(self, ids: Tensor, mask: Tensor, labels: Tensor) -> None:
        self.ids = ids
        self.mask = mask
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[dict[str, Tensor], Tensor]:
        """Return one text; IndexError beyond the last one ends an iteration."""
        return {"input_ids": self.ids[index], "attention_mask": self.mask[index]}, self.labels[index]

    def __getitems__(self, indices: Sequence[int]) -> tuple[dict[str, Tensor], Tensor]:
        """Return a batch."""
        chosen = torch.as_tensor(indices)
        return {"input_ids": self.ids[chosen], "attention_mask": self.mask[chosen]}, self.labels[chosen]


def encoded_texts(
    token_ids: Sequence[Sequence[int]], labels: Sequence[int], *, length: int, padding: int
) -> tuple[EncodedTexts, EncodedTexts]:
    """Return texts to train on, and a fixed fifth of them, drawn by chance, to validate on; each is cut at ``length``."""
    length = min(length, max(map(len, token_ids)))
    ids = torch.full((len(token_ids), length), padding)
    mask = torch.zeros_like(ids)
    for row, tokens in enumerate(token_ids):
        kept = torch.as_tensor(tokens[:length])
        ids[row, : len(kept)] = kept
        mask[row, : len(kept)] = 1
    order = torch.randperm(len(ids), generator=torch.Generator().manual_seed(0))
    held_out = max(1, len(ids) // _VALIDATION_ONE_IN)
    targets = torch.as_tensor(labels)
    training, validation = (
        EncodedTexts(ids[part], mask[part], targets[part]) for part in (order[held_out:], order[:held_out])
    )
    return training, validation
