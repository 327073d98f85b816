from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frostline.errors import OptionError
from frostline.sizes import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "num_bytes"),
    [
        ("8GiB", 8 * 1024**3),
        ("500MB", 500_000_000),
        ("1.5 GiB", 3 * 1024**3 // 2),
        (" 2kb ", 2000),
        ("2KiB", 2048),
        ("1TiB", 1024**4),
        ("1TB", 10**12),
        ("4096", 4096),
        ("7 B", 7),
        ("0", 0),
        ("9007199254740993", 2**53 + 1),  # more than a float can count
        ("0.1GB", 100_000_000),
    ],
)
def test_sizes_are_read(text: str, num_bytes: int) -> None:
    assert parse_size(text) == num_bytes


@pytest.mark.parametrize(
    "text", ["", "GiB", "8G", "-1GB", "1e9", "8 GiB GiB", "1.5.2MB", "nan", "inf", "many", "٣MB"]
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(
        OptionError, match=r"is no size: write a number and one of B, KB, .*GiB.* such as 8GiB"
    ) as error:
        parse_size(text)
    assert repr(text) in str(error.value)


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (1024**2 - 1, "1 MiB"),
        (3 * 1024**3 // 2, "1.5 GiB"),
        (5000 * 1024**4, "5000 TiB"),
    ],
)
def test_sizes_are_written(num_bytes: int, text: str) -> None:
    assert format_size(num_bytes) == text


@given(st.integers(0, 1024**5))
def test_what_is_written_is_read_again_to_its_decimals(num_bytes: int) -> None:
    assert abs(parse_size(format_size(num_bytes)) - num_bytes) <= 0.051 * max(num_bytes, 1)
