"""A table is read back as the landscape that was written; what is no whole table is refused in one line."""

from __future__ import annotations

import gzip
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from frostline.audit.csv_table import read_table, write_table
from frostline.audit.landscape import Landscape
from frostline.errors import AuditError
from frostline.records import Configuration
from frostline.search.spaces.space import SearchSpace
from tests.audit.landscapes import landscape

SPACE = SearchSpace(
    distributions={
        "learning_rate": FloatDistribution(1e-4, 1.0, log=True),
        "layers": IntDistribution(1, 9),
        "seed": CategoricalDistribution((True, 2, "2", 'a "quoted", one')),
    }
)


def table() -> Landscape:
    generator = np.random.default_rng(0)
    scores = generator.normal(size=(6, 2, 3))
    scores[1, 0, 2] = np.nan
    peak_bytes = np.full(scores.shape, 2.0**33)
    peak_bytes[2] = np.nan
    values = [
        {
            "learning_rate": float(generator.uniform()),
            "layers": 1 + n,
            "seed": (True, 2, "2", 'a "quoted", one')[n % 4],
        }
        for n in range(6)
    ]
    repeats = np.array([[1, np.nan, 3, np.inf, 5, 6], [np.nan] * 6])
    return landscape(
        scores,
        hyperparameters=values,
        space=SPACE,
        repeats=repeats,
        peak_bytes=peak_bytes,
        flops=1e12 * np.ones(scores.shape),
        metric="accuracy",
    )


def assert_same(found: Landscape, expected: Landscape) -> None:
    for name in (
        "task",
        "reference",
        "direction",
        "sample_unit",
        "horizon",
        "metric",
        "seed",
        "layers",
        "samples",
        "configurations",
    ):
        assert getattr(found, name) == getattr(expected, name)
    assert found.space.fingerprint == expected.space.fingerprint
    for name in ("scores", "seconds", "peak_bytes", "flops", "repeats"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-8)


@pytest.mark.parametrize("name", ["audit.csv", "audit.csv.gz"])
def test_a_table_comes_back_as_it_was(name: str, tmp_path: Path) -> None:
    path = tmp_path / "new folder" / name
    write_table(table(), path)
    found = read_table(path)
    assert_same(found, table())
    assert [type(each["seed"]) for each in found.configurations[:3]] == [bool, int, str]
    assert [file.name for file in path.parent.iterdir()] == [name]
    content = path.read_bytes()
    write_table(found, path)
    assert path.read_bytes() == content
    write_table(found, path.with_name(f"other {name}"))
    assert path.with_name(f"other {name}").read_bytes() == content


def test_it_is_tidy_and_says_what_it_is(tmp_path: Path) -> None:
    write_table(table(), tmp_path / "audit.csv")
    first, header, *rows = (tmp_path / "audit.csv").read_text().splitlines()
    assert first.startswith('# {"task": "quick task", "reference": "quick.py:task", "direction": "minimize"')
    assert header == (
        "configuration,seed,layers,samples,score,seconds,peak_bytes,flops,learning_rate,layers (hyperparameter),"
        "seed (hyperparameter)"
    )
    assert '"metric": "accuracy"' in first
    # Six cells each, and five repeats, of which the one that diverged is named.
    assert len(rows) == 6 * 6 + 5
    assert rows[0].startswith("0,7,1,100,0.125730221,1,8589934592,1000000000000,")
    assert rows[9].startswith("1,7,1,300,,3,8589934592,")
    assert sum(row.startswith("3,8,2,300,inf,,,,") for row in rows) == 1


@given(
    scores=st.lists(st.floats(-1e12, 1e12, allow_subnormal=False) | st.just(math.nan), min_size=4, max_size=4),
    numbers=st.lists(st.integers(0, 999), min_size=2, max_size=2, unique=True),
)
def test_any_scores_come_back(
    scores: list[float], numbers: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    configurations = tuple(Configuration(number=number, hyperparameters={"rate": 0.1}) for number in numbers)
    written = landscape(np.array(scores).reshape(2, 1, 2), configurations=configurations)
    path = tmp_path_factory.mktemp("table") / "audit.csv"
    write_table(written, path)
    assert_same(read_table(path), written)


def lines_but(change: Callable[[list[str]], list[str]]) -> Callable[[bytes], bytes]:
    return lambda content: ("\n".join(change(content.decode().splitlines())) + "\n").encode()


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda _: b"", "is no table of frostline's: its first line must be"),
        (lambda _: b"a,b\n1,2\n", "is no table of frostline's: its first line must be"),
        (lambda content: b"# {\xff" + content, "is no whole table of frostline's (UnicodeDecodeError"),
        (lines_but(lambda lines: lines[:-1]), "1 of 36 rows are missing"),
        (lines_but(lambda lines: lines[:2]), "36 of 36 rows are missing"),
        (lines_but(lambda lines: [line for line in lines if not line.startswith("5,")]), "6 of 36 rows are missing"),
        (lines_but(lambda lines: [*lines, lines[2]]), "configuration 0 has two rows for one cell"),
        (lines_but(lambda lines: [*lines, lines[2].replace("0,7,", "0,5,", 1)]), "a row has the seed 5, which is none of"),
        (lines_but(lambda lines: [*lines, lines[2].replace("0,7,1,", "0,7,4,", 1)]), "(ValueError: "),
        (lines_but(lambda lines: [lines[0].replace("s\": [1, 2]", "s\": [2, 1]"), *lines[1:]]), "layers is (2, 1)"),
        (lines_but(lambda lines: [lines[0], lines[1].replace("score", "loss"), *lines[2:]]), "(KeyError: 'score')"),
    ],
)  # fmt: skip
def test_what_is_no_whole_table_is_refused(
    damage: Callable[[bytes], bytes], complaint: str, tmp_path: Path
) -> None:
    path = tmp_path / "audit.csv"
    written = table().of(range(6))
    # The last row is a cell, not a repeat.
    write_table(
        landscape(written.scores, hyperparameters=list(map(dict, written.configurations)), space=SPACE), path
    )
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(AuditError) as caught:
        read_table(path)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_damaged_in_its_compression_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match=r"^there is no file .*nowhere.csv: name a table"):
        read_table(tmp_path / "nowhere.csv")
    with pytest.raises(AuditError, match="IsADirectoryError"):
        read_table(tmp_path)
    path = tmp_path / "audit.csv.gz"
    write_table(table(), path)
    whole = path.read_bytes()
    assert gzip.decompress(whole).startswith(b"# {")
    flipped = bytearray(whole)
    flipped[30:40] = bytes(255 - byte for byte in whole[30:40])
    for damaged in (whole[: len(whole) // 2], bytes(flipped), b"# {}"):
        path.write_bytes(damaged)
        with pytest.raises(AuditError, match="is no whole table of frostline's"):
            read_table(path)
