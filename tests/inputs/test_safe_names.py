"""Names that people give become folders of their own, whatever is in them."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frostline.errors import OptionError
from frostline.inputs.safe_names import check_name, folder_name

# Surrogates too: what a terminal sends in another encoding arrives so.
NAMES = st.text(st.characters(exclude_categories=()), max_size=300) | st.text("./\\~ aA%+\0\udcff", max_size=8)


@given(NAMES)
def test_every_name_is_one_folder_in_the_folder_it_is_put_in(name: str) -> None:
    folder = folder_name(name)
    assert 1 <= len(folder.encode("ascii")) <= 200
    assert not set(folder) & set('/\\:*?"<>|\0 ')
    assert folder not in {".", ".."}
    assert not folder.endswith(".")
    assert Path("runs", folder).parent == Path("runs")


@given(NAMES, NAMES)
def test_no_two_names_share_a_folder(name: str, other: str) -> None:
    # Nor where the file system ignores case.
    assert (folder_name(name).lower() == folder_name(other).lower()) == (name == other)


@pytest.mark.parametrize("name", ["digits-resnet", "digits-resnet audit", "a/b", "größe_1.5~", "100%", ".hidden"])
def test_names_that_were_safe_keep_the_folder_they_had(name: str) -> None:
    assert folder_name(name) == quote(name, safe="")


def test_names_that_mean_something_and_long_ones_get_a_hash() -> None:
    for name in ("..", ".", "", "nul", "COM1.txt", "end.", "Mine", "mINE"):
        assert folder_name(name).startswith(f"{name}+")
    assert folder_name("x" * 200) == "x" * 200
    long, longer = folder_name("x" * 201), folder_name("x" * 202)
    assert len(long) == len(longer) == 200
    assert long != longer


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "has 0 characters, but must have 1 to 512"),
        ("x" * 513, "has 513 characters"),
        ("a\nb", r"holds '\n', which cannot be printed"),
        ("\x1b[2J", r"holds '\x1b'"),
        ("a\u202eb", r"holds '\u202e'"),
        ("a\udcff", r"holds '\udcff'"),
        (3, "is 3, but must be text"),
    ],
)
def test_what_is_no_name_is_said(name: object, words: str) -> None:
    with pytest.raises(OptionError) as caught:
        check_name("study", name)
    assert words in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_name_may_be_in_any_language() -> None:
    for name in ("digits-resnet audit", "größe 😀", "研究", ".."):
        check_name("study", name)
