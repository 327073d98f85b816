from __future__ import annotations

import math

import pytest
import torch

from frostline.errors import OptionError
from frostline.tasks.data.groups import multiplication_table, random_words

ORDERS = {"Z2": 2, "Z7": 7, "S2": 2, "S3": 6, "S4": 24, "D3": 6, "D4": 8, "D5": 10}
EACH = pytest.mark.parametrize("group", ORDERS)


@EACH
def test_the_table_is_that_of_a_group(group: str) -> None:
    table = multiplication_table(group)
    order = torch.arange(ORDERS[group])
    assert table.shape == (len(order), len(order))
    assert torch.equal(table[0], order)
    assert torch.equal(table[:, 0], order)
    for lines in (table, table.T):
        assert all(torch.equal(line.sort().values, order) for line in lines)
    assert torch.equal(table[table], table[:, table])


@pytest.mark.parametrize(("group", "commutes"), [("Z7", True), ("S2", True), ("S3", False), ("D4", False)])
def test_which_groups_commute(group: str, commutes: bool) -> None:
    table = multiplication_table(group)
    assert torch.equal(table, table.T) is commutes


def test_half_of_a_dihedral_group_are_reflections() -> None:
    table = multiplication_table("D5")
    assert (table.diagonal()[5:] == 0).all()
    assert (table.diagonal() == 0).sum() == 6


def test_products_are_those_of_the_elements_in_their_order() -> None:
    table = multiplication_table("S3")
    words, products = random_words(table, num_words=4, length=6, seed=3)
    for word, product in zip(words.tolist(), products.tolist(), strict=True):
        running = 0
        for element, expected in zip(word, product, strict=True):
            running = int(table[running, element])
            assert running == expected
    again, _ = random_words(table, num_words=4, length=6, seed=3)
    other, _ = random_words(table, num_words=4, length=6, seed=4)
    assert torch.equal(words, again)
    assert not torch.equal(words, other)


def test_words_hold_every_element_alike() -> None:
    words, products = random_words(multiplication_table("S3"), num_words=600, length=10, seed=0)
    spread = 5 * math.sqrt(6000 * 5 / 36)
    for counted in (words, products):
        assert (torch.bincount(counted.flatten(), minlength=6) - 1000).abs().max() < spread


@pytest.mark.parametrize("group", ["S1", "S6", "D2", "Z1", "Z121", "A4", "s3", "S03", "", "S3 ", 3, None])
def test_other_names_are_refused(group: object) -> None:
    with pytest.raises(
        OptionError, match=r"^group is .+, but must be a symmetric group S2 to S5, a dihedral group D3"
    ):
        multiplication_table(group)  # type: ignore[arg-type]
