"""Finite groups by their names, as tables of products, and words over them."""

from __future__ import annotations

import re
from itertools import permutations

import torch
from torch import Tensor

from frostline.errors import OptionError
from frostline.inputs.whole_numbers import shown

# Permutations of six points have a table of half a million products, and dihedral groups grow slowly.
_LARGEST_NUMBER = {"S": 5, "D": 60, "Z": 120}
_SMALLEST_NUMBER = {"S": 2, "D": 3, "Z": 2}

Permutation = tuple[int, ...]


def multiplication_table(group: str) -> Tensor:
    """Return the products of a group: entry (a, b) is the element that a, then b, makes; int64, element 0 the identity.

    "S3" holds the permutations of three points, "D4" the rotations and reflections of a square, "Z2" counts modulo 2: its
    words are parity.
    Raises: OptionError if there is no such group.
    """
    elements = _elements(group)
    numbers = {element: number for number, element in enumerate(elements)}
    return torch.tensor(
        [
            [numbers[tuple(second[point] for point in first)] for second in elements]
            for first in elements
        ]
    )  # fmt: skip


def random_words(table: Tensor, *, num_words: int, length: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return words of uniformly drawn elements and the product up to each place, both int64 of (num_words, length)."""
    words = torch.randint(len(table), (num_words, length), generator=torch.Generator().manual_seed(seed))
    products = torch.empty_like(words)
    products[:, 0] = words[:, 0]
    for place in range(1, length):
        products[:, place] = table[products[:, place - 1], words[:, place]]
    return words, products


def _elements(group: object) -> list[Permutation]:
    """Return the elements of a group as permutations of points, the identity first."""
    match = re.fullmatch(r"([SDZ])([1-9]\d{0,2})", group) if isinstance(group, str) else None
    kind, number = (match[1], int(match[2])) if match else ("", 0)
    if not match or not _SMALLEST_NUMBER[kind] <= number <= _LARGEST_NUMBER[kind]:
        raise OptionError(
            f"group is {shown(group)}, but must be a symmetric group S2 to S5, a dihedral group D3 to D60 or a cyclic group "
            f"Z2 to Z120."
        )
    points = range(number)
    if kind == "S":
        return list(permutations(points))
    rotations = [tuple((point + turn) % number for point in points) for turn in points]
    if kind == "Z":
        return rotations
    return rotations + [tuple((turn - point) % number for point in points) for turn in points]
