"""Tensors inside containers, replaced in containers of the same kinds."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from frostline.layers.cutting.nesting import map_tensors


@dataclass(frozen=True)
class Counting:
    """Has a field that nobody gives."""

    rows: Tensor
    count: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "count", len(self.rows))


class Named(list[Any]):
    """A list with something more on it."""


def doubled(value: Any) -> Any:
    return map_tensors(lambda tensor: 2 * tensor, value)


def test_a_dataclass_with_a_field_that_nobody_gives() -> None:
    before = Counting(torch.ones(3))
    after = doubled(before)
    assert type(after) is Counting
    assert (after.rows.tolist(), after.count) == ([2.0, 2.0, 2.0], 3)
    assert before.rows.tolist() == [1.0, 1.0, 1.0]


def test_a_mapping_that_cannot_be_written_to() -> None:
    after = doubled(MappingProxyType({"rows": torch.ones(2), "name": "a"}))
    assert type(after) is MappingProxyType
    assert (after["rows"].tolist(), after["name"]) == ([2.0, 2.0], "a")


def test_what_stands_on_a_list_of_ones_own_stays_there() -> None:
    before = Named([torch.ones(1)])
    before.origin = "here"  # type: ignore[attr-defined]
    after = doubled(before)
    assert (type(after), after[0].item(), after.origin) == (Named, 2.0, "here")
