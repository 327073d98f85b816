"""``frostline fit``: what it tells and writes, what it does not know, and that bad input is one line."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from frostline.costs.capacity import Capacity
from frostline.tasks.loading import load_task
from tests.cli.command_line import run

TINY = f"{Path(__file__).parents[2] / 'tiny_task.py'}:task"

AWKWARD = Path(__file__).parents[1] / "awkward_tasks.py"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a-file").touch()
    return tmp_path


def records(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_what_fits_is_told_and_written_for_every_layer_and_device(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(f"fit {TINY} --device-memory 1MiB,35KiB,1MiB --margin 50% --ladder diagonal", capsys)
    assert (code, err) == (0, "")
    place = folder / "frostline-costs" / "tiny"
    rows = records(place / "fit.csv")
    cells = [(int(row["trainable_layers"]), int(row["device_memory_bytes"])) for row in rows]
    assert cells == [(layers, memory) for layers in range(1, 7) for memory in (35 * 1024, 1024**2)]
    capacity = Capacity(load_task(TINY, {}), margin=0.5)
    for row, cell in zip(rows, cells, strict=True):
        fit = capacity.fit(*cell)
        assert int(row["largest_batch_examples"]) == fit.largest_batch
        assert int(row["population"]) == fit.population
        assert int(row["required_bytes"]) == fit.required
        assert (row["origin"], row["margin"]) == ("predicted", "0.5")
    assert [line.split()[0] for line in out.splitlines() if " of 6 " in line] == [*"123456"]
    assert "A device of 35 KiB can serve rungs 0 and 1 of 0 to 2." in out
    assert "Largest batch of one configuration" in (place / "fit.html").read_text()


@pytest.mark.parametrize(
    ("options", "layers"),
    [("", ["1", "6", "6", "6"]), ("--rungs 4", ["2", "3", "4", "6"]), ("--ladder samples-only", ["6", "6", "6"])],
)
def test_the_rungs_are_those_of_the_search_that_one_would_begin(
    options: str, layers: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(f"fit {TINY} --layers 1 --device-memory 1MiB {options}", capsys)
    assert code == 0
    rungs = out[out.index("rung  layers") :].splitlines()[1 : 1 + len(layers)]
    assert [line.split()[1] for line in rungs] == layers


def test_layers_ladder_configuration_and_place_are_as_asked_for(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = TINY.replace(":task", ":make")
    options = f"{task} --set size=64 --layers 6,2 --ladder 3:100,6:256 --out there --device-memory 1GB"
    run(f"fit {options}", capsys)
    with_state = records(folder / "there" / "fit.csv")
    code, out, err = run(f"""fit {options} --configuration '{{"optimizer": "SGD"}}'""", capsys)
    assert (code, err) == (0, "")
    without = records(folder / "there" / "fit.csv")
    assert [row["trainable_layers"] for row in without] == ["2", "6"]
    assert all(
        int(a["required_bytes"]) > int(b["required_bytes"]) for a, b in zip(with_state, without, strict=True)
    )
    rungs = out[out.index("rung") :].splitlines()
    assert [line.split()[:3] for line in rungs[1:3]] == [["0", "3", "100"], ["1", "6", "256"]]
    assert not (folder / "frostline-costs").exists()


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_reckoned(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "frostline-costs").touch()
    code, out, err = run(f"fit {TINY} --device-memory 8GiB", capsys)
    assert code == 1
    assert "frostline-costs/tiny/fit.csv cannot be written" in err
    assert "kept free" not in out


def test_a_last_rung_that_no_device_serves_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(f"fit {TINY} --layers 1 --device-memory 4KiB,8KiB", capsys)
    assert code == 0
    assert "A device of 4 KiB can serve no rung." in out
    assert re.search(r"No device here can serve the last rung: 6 layers need [\d.]+ KiB", out)


def test_where_batches_have_one_size_the_population_is_told_alone(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(f"fit {AWKWARD}:fixed --layers 1,2 --device-memory 1MiB", capsys)
    assert (code, err) == (0, "")
    assert (
        out.count("the largest batch is not known: batch_size is 1, but the batches of tiny have 8 examples") == 1
    )
    rows = records(folder / "frostline-costs" / "tiny" / "fit.csv")
    assert [row["largest_batch_examples"] for row in rows] == ["", ""]
    assert all(int(row["population"]) > 1 for row in rows)


def test_what_cannot_be_predicted_is_measured_and_it_says_so_once(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(f"fit {AWKWARD}:numbers --device-memory 1MiB --rungs 2", capsys)
    assert (code, err) == (0, "")
    assert out.count("cannot be predicted") == 1
    assert out.count("the largest batch is not known") == 1
    rows = records(folder / "frostline-costs" / "tiny" / "fit.csv")
    assert [row["origin"] for row in rows] == ["measured"] * 3
    assert [row["largest_batch_examples"] for row in rows] == [""] * 3
    assert all(int(row["required_bytes"]) > 0 and int(row["population"]) >= 1 for row in rows)


def test_what_can_neither_be_predicted_nor_measured_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(f"fit {AWKWARD}:impossible --device-memory 1MiB", capsys)
    assert code == 1
    assert "can neither be predicted nor measured here: MemoryError: no room" in err
    assert err.count("\n") == 1


def test_what_fits_on_a_card_is_told_without_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(f"fit {TINY} --device cuda --device-memory 64MiB --layers 1,6 --out there", capsys)
    assert (code, err) == (0, "")
    assert "predicted for CUDA, not measured" in out
    assert "what cuDNN works in and the context, some hundred MiB, come on top" in out
    required = [int(row["required_bytes"]) for row in records(folder / "there" / "fit.csv")]
    assert all(each >= 22 * 2**20 for each in required)  # cuBLAS and a segment of small blocks
    code, _, err = run(f"fit {AWKWARD}:numbers --device cuda --device-memory 64MiB", capsys)
    assert code == 1
    assert "measure it instead" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", r"either --device-memory, such as 8GiB,24GiB, or --cluster"),
        ("--device-memory 1GiB --cluster", r"either --device-memory, such as 8GiB,24GiB, or --cluster"),
        ("--cluster --address 127.0.0.1:9", r"nobody answers at '127.0.0.1:9'"),
        (
            "--device-memory 1GiB --address 127.0.0.1:9",
            r"--address 127.0.0.1:9 is that of a cluster: add --cluster",
        ),
        ("--cluster --layers 1", r"--layers goes with --device-memory"),
        ("--cluster --configuration '{}'", r"--configuration goes with --device-memory"),
        ("--cluster --margin 50%", r"--margin goes with --device-memory"),
        ("--cluster --out there", r"--out goes with --device-memory"),
        ("--cluster --device cuda", r"--device goes with --device-memory"),
        ("--device-memory lots", r"'lots' is no size"),
        ("--device-memory 0", r"--device-memory is '0', but a device has some memory"),
        ("--device-memory 1GiB,0.1", r"--device-memory is '1GiB,0.1', but a device has some memory"),
        ("--device-memory ''", r"'' is no size"),
        ("--device-memory 1GiB,", r"'' is no size"),
        ("--device-memory -1", r"'-1' is no size"),
        ("--device-memory 1GiB --device mps", r"device is 'mps', for which no cost is predicted"),
        ("--device-memory 1GiB --layers 7", r"the number of trained layers is 7, but this model has 6 layers"),
        ("--device-memory 1GiB --layers 0", r"--layers is '0'"),
        ("--device-memory 1GiB --margin some", r"--margin is 'some', but must be a share of at least 0"),
        ("--device-memory 1GiB --margin -1", r"--margin is '-1'"),
        ("--device-memory 1GiB --margin nan", r"--margin is 'nan'"),
        ("--device-memory 1GiB --ladder steep", r"there is no ladder 'steep'"),
        ("--device-memory 1GiB --ladder 2:100", r"a ladder of 1 rungs"),
        ("--device-memory 1GiB --out a-file", r"cannot be written"),
        ("""--device-memory 1GiB --configuration '{"learning_rat": 1}'""", r"learning_rat"),
    ],
)
def test_bad_input_is_one_line(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(f"fit {TINY} {words}", capsys)
    assert code == 1
    assert re.search(message, err)
    assert err.count("\n") == 1
