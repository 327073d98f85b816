"""Costs on paper: the table for people, the file that gives them back, the page of figures."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from frostline.costs.measurement import FailedStep
from frostline.costs.shown.cost_figures import cost_page
from frostline.costs.shown.cost_tables import (
    Circumstances,
    CostRow,
    failure_lines,
    memory_table,
    progress_line,
    time_table,
    write_costs,
)
from frostline.costs.step_cost import Memory, Seconds, StepCost, StepSeconds
from frostline.errors import OptionError
from tests.costs.written_costs import read_costs

MIB = 2**20
HERE = Circumstances(task="tiny", device="cpu x", precision="float32", torch_version="2.13.0", threads=2)


def cost(layers: int, *, batch: int = 8, is_measured: bool = True) -> StepCost:
    seconds = StepSeconds(
        forward=Seconds(0.010, 0.001),
        backward=Seconds(0.001 * layers, 1 / 3 * 1e-4),
        optimizer=Seconds(0.001, 0.0),
        whole=Seconds(0.010 + 0.005 * layers, 0.002),
    )
    memory = Memory(
        parameters=4 * MIB, gradients=layers * MIB, optimizer_state=0, activations=MIB, peak=(5 + layers) * MIB
    )
    return StepCost(
        trainable_layers=layers, num_layers=4, batch_size=batch, trainable_parameters=1000 * layers, memory=memory,
        forward_flops=2 * 10**9, backward_flops=layers * 10**9, seconds=seconds if is_measured else None,
    )  # fmt: skip


FAILED = FailedStep(trainable_layers=4, num_layers=4, batch_size=32, reason='MemoryError: no "room", at all')
ROWS: tuple[CostRow, ...] = (cost(1), cost(4), cost(1, batch=32, is_measured=False), FAILED)


def printed(table: object) -> list[str]:
    text = io.StringIO()
    Console(file=text, width=120).print(table)
    return text.getvalue().splitlines()


def test_a_file_gives_back_the_very_costs(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "costs.csv"
    write_costs(path, ROWS, HERE)
    assert read_costs(path) == (ROWS, HERE)


def test_what_an_allocator_holds_is_told_where_it_is_known(tmp_path: Path) -> None:
    plain = cost(1, is_measured=False)
    on_a_card = replace(plain, memory=replace(plain.memory, reserved=24 * MIB))
    path = tmp_path / "costs.csv"
    write_costs(path, [on_a_card], HERE)
    assert read_costs(path) == ((on_a_card,), HERE)
    text = "\n".join(printed(memory_table([on_a_card])))
    assert "held by the" in text
    assert "24.00" in text
    assert "held by the" not in "\n".join(printed(memory_table([plain])))


def test_a_file_is_tidy_and_its_columns_say_their_units(tmp_path: Path) -> None:
    path = tmp_path / "costs.csv"
    write_costs(path, ROWS, HERE)
    header, *lines = path.read_text().splitlines()
    assert len(lines) == len(ROWS)
    assert {"peak_bytes", "forward_flops", "whole_seconds_median", "torch_version", "threads"} <= set(
        header.split(",")
    )
    assert [line.split(",")[5] for line in lines] == ["measured", "measured", "predicted", "failed"]


def test_writing_replaces_the_file_and_leaves_no_other(tmp_path: Path) -> None:
    path = tmp_path / "costs.csv"
    path.write_text("old")
    write_costs(path, ROWS[:1], HERE)
    assert read_costs(path)[0] == ROWS[:1]
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(OptionError, match=r"cannot be written .*: name another folder"):
        write_costs(tmp_path / "taken" / "costs.csv", ROWS, HERE)


def test_tables_stand_in_order_with_shares_of_full_training() -> None:
    memory = [line.split() for line in printed(memory_table([cost(4), cost(1)]))]
    assert memory[-2:] == [
        ["1", "of", "4", "8", "1,000", "4.00", "1.00", "0.00", "1.00", "6.00", "0.67"],
        ["4", "of", "4", "8", "4,000", "4.00", "4.00", "0.00", "1.00", "9.00", "1.00"],
    ]
    time = printed(time_table([cost(4), cost(1)]))[-2:]
    assert "10.00 ±0.50" in time[0]  # half the distance between quartiles
    assert time[0].split()[-4:] == ["0.50", "0.50", "2.000", "1.000"]  # 15 of 30 ms, 3 of 6 GFLOP


def test_without_full_training_there_are_no_shares() -> None:
    assert printed(memory_table([cost(1)]))[-1].split()[-1] == "6.00"
    assert printed(time_table([cost(1)]))[-1].split()[-2:] == ["2.000", "1.000"]
    # A measured time is no share of a predicted one.
    mixed = printed(time_table([cost(1), cost(4, is_measured=False)]))
    assert "0.50" not in mixed[2].split()[-3:]


def test_a_failed_step_has_a_line_of_its_own_and_none_in_the_tables() -> None:
    assert failure_lines(ROWS) == ['4 of 4 layers, batch 32: MemoryError: no "room", at all']
    assert len(printed(memory_table(ROWS))) == 2 + 3
    assert "failed: MemoryError" in progress_line(FAILED)


def test_a_line_of_progress_says_what_is_known() -> None:
    assert "6.0 MiB at the peak, 3.000 GFLOP, 15.00 ±1.00 ms" in progress_line(cost(1))
    assert progress_line(cost(1, is_measured=False)).endswith("predicted")


def test_a_page_needs_nothing_else_and_holds_every_figure_once() -> None:
    page = cost_page(ROWS, replace(HERE, task="<tiny>"))
    assert "&lt;tiny&gt;" in page
    assert "<tiny>" not in page
    assert "no &#34;room&#34;" in page
    assert "src=" not in page.split("plotly.js v")[0]
    assert 'src="http' not in page
    headings = ("Peak memory of a step", "Time of a step", "FLOPs of a step")
    for heading in (*headings, "Memory by kind, batch size 8", "Memory by kind, batch size 32"):
        assert page.count(f"<h2>{heading}</h2>") == 1
    assert page.count('<script type="application/json">') == 5
    assert page.count("plotly.js v") == 1


def test_a_page_of_predictions_has_no_figure_of_time() -> None:
    assert "Time of a step" not in cost_page([cost(1, is_measured=False)], HERE)


def test_a_page_where_everything_failed_says_so() -> None:
    page = cost_page([FAILED], HERE)
    assert "Steps that failed" in page
    assert "plotly" not in page


def test_circumstances_are_those_of_this_process() -> None:
    here = Circumstances.here("tiny", device=torch.device("cpu"), precision="float32")
    assert here.torch_version == torch.__version__
    assert here.threads == torch.get_num_threads()
    assert str(here).startswith("tiny: cpu")
