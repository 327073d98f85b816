"""``frostline cost``: what it prints and writes, and that bad input is one line."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from frostline.cli.options.step_arguments import spread
from frostline.costs.measurement import FailedStep
from frostline.costs.shown.cost_tables import CostRow
from frostline.costs.step_cost import StepCost
from tests.cli.command_line import run
from tests.costs.written_costs import read_costs

TINY = f"{Path(__file__).parents[2] / 'tiny_task.py'}:task"

AWKWARD = Path(__file__).parents[1] / "awkward_tasks.py"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a-file").touch()
    return tmp_path


def test_every_layer_is_measured_and_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(f"cost {TINY} --device cpu", capsys)
    assert (code, err) == (0, "")
    rows, circumstances = read_costs(folder / "frostline-costs" / "tiny" / "costs.csv")
    assert [row.trainable_layers for row in rows] == [1, 2, 3, 4, 5, 6]
    assert all(isinstance(row, StepCost) and row.seconds and row.batch_size == 32 for row in rows)
    assert circumstances.task == "tiny"
    # Once as it was measured, once in each of two tables.
    assert out.count("3 of 6") == 3
    assert "costs.csv, costs.html" in out
    assert "Peak memory of a step" in (folder / "frostline-costs" / "tiny" / "costs.html").read_text()


def test_layers_sizes_options_and_place_are_as_asked_for(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = TINY.replace(":task", ":make")
    command = (
        f"cost {task} --set size=64 --layers 6,2 --batch-sizes 1,8 --device cpu --precision bfloat16 "
        f"""--repetitions 1 --configuration '{{"optimizer": "SGD"}}' --out there"""
    )
    code, _, err = run(command, capsys)
    assert (code, err) == (0, "")
    rows, circumstances = read_costs(folder / "there" / "costs.csv")
    assert [(row.batch_size, row.trainable_layers) for row in rows] == [(1, 2), (1, 6), (8, 2), (8, 6)]
    assert all(isinstance(row, StepCost) and row.memory.optimizer_state == 0 for row in rows)
    assert circumstances.precision == "bfloat16"
    assert not (folder / "frostline-costs").exists()
    code, _, _ = run(command.replace("bfloat16", "float32"), capsys)
    assert code == 0
    # Under autocast other tensors are kept for backward.
    assert kept(read_costs(folder / "there" / "costs.csv")[0]) != kept(rows)


def kept(rows: Sequence[CostRow]) -> list[int]:
    return [row.memory.activations for row in rows if isinstance(row, StepCost)]


def test_predictions_agree_with_measurements_and_have_no_seconds(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(f"cost {TINY} --layers all --repetitions 1 --device cpu --out measured", capsys)
    code, out, err = run(f"cost {TINY} --layers all --predict --check --out predicted", capsys)
    assert (code, err) == (0, "")
    assert "Every cost rises with the number of trained layers." in out
    measured, _ = read_costs(folder / "measured" / "costs.csv")
    predicted, _ = read_costs(folder / "predicted" / "costs.csv")
    assert len(measured) == len(predicted) == 6
    for real, told in zip(measured, predicted, strict=True):
        assert isinstance(real, StepCost)
        assert isinstance(told, StepCost)
        assert told.seconds is None
        assert told.flops == real.flops
        assert told.memory.activations == real.memory.activations


def test_what_cannot_be_predicted_is_measured_and_it_says_so_once(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(f"cost {AWKWARD}:numbers --predict --batch-sizes 4,8", capsys)
    assert (code, err) == (0, "")
    assert out.count("cannot be predicted") == 1
    rows, _ = read_costs(folder / "frostline-costs" / "tiny" / "costs.csv")
    assert [(row.batch_size, row.trainable_layers) for row in rows] == [(b, n) for b in (4, 8) for n in (1, 2, 3)]
    assert isinstance(rows[-1], StepCost)
    assert rows[-1].seconds is not None


def test_costs_are_predicted_for_a_card_that_is_not_here(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(f"cost {TINY} --predict --device cuda --layers 1,6", capsys)
    assert (code, err) == (0, "")
    assert "tiny: predicted for CUDA, not measured" in out
    assert out.count("held by the allocator") == 2
    rows, circumstances = read_costs(folder / "frostline-costs" / "tiny" / "costs.csv")
    assert circumstances.device == "predicted for CUDA, not measured"
    assert all(isinstance(row, StepCost) and row.seconds is None for row in rows)
    code, _, err = run(f"cost {AWKWARD}:numbers --predict --device cuda", capsys)
    assert code == 1
    assert "measure it instead" in err


def test_a_reader_that_stops_reading_is_no_trouble(folder: Path) -> None:
    words = [sys.executable, "-m", "frostline", *f"cost {TINY} --predict --layers all --out {folder}".split()]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as command:
        assert command.stdout is not None
        assert command.stderr is not None
        assert command.stdout.readline().startswith("tiny: ")
        command.stdout.close()
        assert "Traceback" not in command.stderr.read()


def test_a_check_that_fails_names_where_and_ends_with_one(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(f"cost {AWKWARD}:words --predict --check", capsys)
    assert code == 1
    assert "3 trained layers cost what 2 cost, batch size 32" in out
    assert run(f"cost {AWKWARD}:words --predict", capsys)[0] == 0


def test_a_step_that_fails_is_told_and_the_rest_is_measured(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(f"cost {AWKWARD}:large --layers 1 --batch-sizes 32,8 --device cpu", capsys)
    assert code == 0
    assert out.count("1 of 6 layers, batch 32: ") == 2
    assert "MemoryError: no room" in out
    rows, _ = read_costs(folder / "frostline-costs" / "tiny" / "costs.csv")
    assert [type(row) for row in rows] == [FailedStep, StepCost]
    code, out, _ = run(f"cost {AWKWARD}:large --layers 1 --batch-sizes 32,8 --device cpu --check", capsys)
    assert code == 1
    assert "Steps that failed cannot be checked." in out


def test_when_every_step_fails_the_status_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(f"cost {AWKWARD}:impossible --layers 1 --device cpu", capsys)[0] == 1


def test_what_was_measured_is_written_before_the_rest_is(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # A hyperparameter that only a batch shows wrong: the first size is fine, the second ends the command.
    (folder / "fixed.py").write_text(
        "from tests import tiny_task\n"
        "class Fixed:\n"
        "    def __getattr__(self, name):\n"
        "        return getattr(tiny_task.task, name)\n"
        "    def training_batches(self, configuration, **keywords):\n"
        "        for inputs, targets in tiny_task.task.training_batches(configuration, **keywords):\n"
        "            yield inputs[:8], targets[:8]\n"
        "task = Fixed()\n"
    )
    code, _, err = run("cost fixed.py:task --layers 1 --batch-sizes 8,16 --device cpu", capsys)
    assert code == 1
    assert "batch_size is 16, but the batches of tiny have 8 examples" in err
    (row,) = read_costs(folder / "frostline-costs" / "tiny" / "costs.csv")[0]
    assert row.batch_size == 8


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--layers 7", r"the number of trained layers is 7, but this model has 6 layers"),
        ("--layers 0", r"--layers is '0', but must be whole numbers of at least 1"),
        ("--layers one", r"--layers is 'one'"),
        ("--batch-sizes 0", r"--batch-sizes is '0', but must be whole numbers of at least 1"),
        ("--batch-sizes 1,,8", r"--batch-sizes is '1,,8'"),
        ("--batch-sizes -1", r"--batch-sizes is '-1'"),
        ("--repetitions 0", r"repetitions is 0, but must be a whole number in 1..10000"),
        ("--precision float16", r"precision is 'float16', but must be one of float32, bfloat16"),
        ("--precision bfloat16 --predict", r"costs are predicted for float32"),
        ("--device tpu", r"device is 'tpu'"),
        (
            "--device mps --predict",
            r"device is 'mps', for which no cost is predicted: use cpu or cuda, or measure there",
        ),
        ("""--configuration '{"learning_rat": 1}'""", r"learning_rat"),
        ("--out a-file", r"cannot be written"),
    ],
)
def test_bad_input_is_one_line(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(f"cost {TINY} --layers 1 {words}", capsys)
    assert code == 1
    assert re.search(message, err)
    assert err.count("\n") == 1


def test_a_folder_that_cannot_be_written_is_told_before_a_step_is_made(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "frostline-costs").touch()
    code, out, err = run(f"cost {TINY} --predict", capsys)
    assert code == 1
    assert "frostline-costs/tiny/costs.csv cannot be written" in err
    assert "of 6" not in out


def test_an_unknown_task_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run("cost digits-mpl", capsys)
    assert code == 1
    assert err.count("\n") == 1
    assert "digits-mlp" in err


def test_few_layers_are_all_shown_and_many_are_spread_with_both_ends() -> None:
    assert spread(1) == (1,)
    assert spread(12) == tuple(range(1, 13))
    for num_layers in range(13, 200):
        shown = spread(num_layers)
        assert {1, 2, num_layers - 1, num_layers} <= set(shown)
        assert 10 <= len(shown) <= 12
        assert shown == tuple(sorted(set(shown)))
