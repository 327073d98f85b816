"""What fits where, on paper: lines, sentences, the file, the page of figures."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from frostline.costs.capacity import MOST, Fit, RungFit
from frostline.costs.shown.cost_tables import Circumstances
from frostline.costs.shown.fit_figures import fit_page
from frostline.costs.shown.fit_tables import (
    fit_heading,
    fit_line,
    rung_heading,
    rung_line,
    served_sentences,
    write_fits,
)
from frostline.errors import OptionError
from frostline.records import Fidelity

GIB = 2**30
HERE = Circumstances(task="tiny", device="cpu x", precision="float32", torch_version="2.13.0", threads=2)
MEMORIES = (8 * GIB, 80 * GIB)


def fit(layers: int, memory: int, *, batch: int | None = 12, population: int = 3) -> Fit:
    return Fit(
        trainable_layers=layers, num_layers=4, batch_size=8, device_memory=memory, required=2 * GIB,
        largest_batch=batch, population=population, origin="predicted",
    )  # fmt: skip


def rung(layers: int, *populations: int) -> RungFit:
    fidelity = Fidelity(trainable_layers=layers, samples=1000 * layers)
    return RungFit(fidelity=fidelity, required=layers * GIB, populations=populations)


def test_a_line_tells_batches_and_populations_under_their_headings() -> None:
    line = fit_line([fit(2, MEMORIES[0], batch=0, population=0), fit(2, MEMORIES[1], batch=1200)])
    assert line.split() == ["2", "of", "4", "2", "GiB", "-", "-", "1,200", "3"]
    names, kinds = fit_heading(MEMORIES, 8)
    assert names.split() == ["needs", "at", "8", "GiB", "80", "GiB"]
    assert kinds.split() == ["trained", "batch", "8", *["largest", "batch", "together"] * 2]
    assert len(names) == len(kinds) == len(line)


def test_what_is_not_known_and_what_is_beyond_counting_is_told_apart() -> None:
    line = fit_line([fit(2, GIB, batch=None, population=1), fit(2, GIB, batch=MOST, population=MOST - 1)])
    assert line.split()[-4:] == ["?", "1", "1,048,575+", "1,048,574"]


def test_a_rung_stands_with_what_each_device_serves() -> None:
    line = rung_line(1, rung(2, 0, 40))
    assert line.split() == ["1", "2", "2,000", "2", "GiB", "-", "40"]
    assert len(line) == len(rung_heading(MEMORIES, "tokens"))


@pytest.mark.parametrize(
    ("populations", "said"),
    [
        ([(9, 90), (3, 30), (1, 1)], ["A device of 8 GiB can serve every rung."]),
        ([(9, 90), (3, 30), (0, 1)], ["A device of 8 GiB can serve rungs 0 and 1 of 0 to 2."]),
        ([(9, 90), (0, 30), (0, 1)], ["A device of 8 GiB can serve rung 0 of 0 to 2."]),
        (
            [(0, 9), (0, 3), (0, 0)],
            [
                "A device of 8 GiB can serve no rung.",
                "No device here can serve the last rung: 3 layers need 3 GiB.",
            ],
        ),
    ],
)
def test_sentences_name_what_the_smallest_device_serves(
    populations: list[tuple[int, ...]], said: list[str]
) -> None:
    rungs = [rung(layers, *each) for layers, each in enumerate(populations, start=1)]
    assert served_sentences(rungs, MEMORIES) == said
    # Whichever place it has.
    turned = [replace(each, populations=each.populations[::-1]) for each in rungs]
    assert served_sentences(turned, MEMORIES[::-1]) == said


def test_the_file_is_tidy_and_leaves_out_what_is_not_known(tmp_path: Path) -> None:
    path = tmp_path / "new" / "fit.csv"
    write_fits(path, [fit(1, GIB), fit(1, 2 * GIB, batch=None)], HERE, margin=0.1)
    with path.open(newline="") as file:
        first, second = csv.DictReader(file)
    assert first == {
        "task": "tiny", "device": "cpu x", "precision": "float32", "torch_version": "2.13.0", "threads": "2",
        "origin": "predicted", "margin": "0.1", "trainable_layers": "1", "num_layers": "4", "batch_size_examples": "8",
        "device_memory_bytes": f"{GIB}", "required_bytes": f"{2 * GIB}", "largest_batch_examples": "12",
        "population": "3",
    }  # fmt: skip
    assert second["largest_batch_examples"] == ""
    with pytest.raises(OptionError, match="cannot be written"):
        write_fits(path / "below.csv", [], HERE, margin=0.1)


def test_the_page_has_a_line_for_each_device_and_none_where_nothing_is_known() -> None:
    fits = [fit(layers, memory, batch=layers * memory // GIB) for layers in (1, 2) for memory in MEMORIES]
    page = fit_page([*fits, fit(3, 8 * GIB, batch=0)], HERE, margin=0.25)
    assert page.count("<h2>Largest batch of one configuration</h2>") == 1
    assert "With 25 % kept free" in page
    assert '"name":"8 GiB"' in page
    assert '"y":[8,16,null]' in page
    assert '"type":"log"' in page
    unknown = fit_page([fit(1, GIB, batch=None)], HERE, margin=0.1)
    assert "Largest batch" not in unknown
    assert "Largest population, batch size 8" in unknown


def test_columns_never_run_together() -> None:
    most = fit(2, MEMORIES[0], batch=MOST, population=MOST)
    assert fit_line([most, most]).split()[-4:] == ["1,048,575+"] * 4
    assert rung_line(0, rung(2, MOST, MOST)).split()[-2:] == ["1,048,575+"] * 2
