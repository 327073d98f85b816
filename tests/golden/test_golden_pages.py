"""Pinned: what every page says, and what the commands print of layers, ladders and recorded tables."""

from __future__ import annotations

import csv
import dataclasses
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.distributions import FloatDistribution
from rich.console import Console

import frostline
from frostline.audit.audit import audit_of
from frostline.audit.console_tables import correlation_table, ladder_comparison_table
from frostline.audit.csv_table import read_table, write_table
from frostline.audit.recommendation import recommend
from frostline.audit.shifts import shifts
from frostline.report.audits.audit_page import audit_page
from frostline.report.searches.search_page import search_page
from frostline.run.execution.options import TrainingOptions
from tests.cli.command_line import run
from tests.golden.exact_task import make
from tests.golden.golden_files import FLOAT32, HERE, MASK, TABLES, GoldenFiles, masked, rounded, visible_text
from tests.report.cases import landscape, search_record

TASK = f"{HERE / 'exact_task.py'}:task"
# Who runs a page says on what: the processor, its threads and torch's version.
MACHINE = (r"cpu [\w.]+(?=[,:; ])", r"\d+ threads", r"torch [\w.+]+", r'(?<="torch": ")[\w.+]+')

SEARCHES: dict[str, dict[str, Any]] = {
    "finished": {"diverged": 2, "failed": 1},
    "running": {"rungs_done": 2},
    "maximised": {"direction": "maximize", "configurations": 9},
    "against": {"against": "bytes"},
}
AUDITS: dict[str, dict[str, Any]] = {
    "plain": {"noise": 0.1},
    "maximised": {"direction": "maximize", "diverged": 2, "repeats": 0},
}


@pytest.mark.parametrize("case", SEARCHES)
def test_the_page_of_a_search_says(case: str, golden: GoldenFiles) -> None:
    golden.check_text(f"pages/search-{case}.txt", visible_text(search_page(search_record(**SEARCHES[case]))))


@pytest.mark.parametrize("case", AUDITS)
def test_the_page_of_an_audit_says(case: str, golden: GoldenFiles) -> None:
    found = landscape(configurations=12, layers=(1, 4), **AUDITS[case])
    page = audit_page(
        found,
        audit_of(found, resamples=50),
        recommendation=recommend(found, configurations=9),
        shifts=shifts(found, resamples=20),
        source="A test",
    )
    golden.check_text(f"pages/audit-{case}.txt", visible_text(page))


@pytest.mark.parametrize(
    ("command", "page"),
    [
        ("cost {} --predict --check --layers 2,6", "costs"),
        ("fit {} --device-memory 1MiB,35KiB --margin 50% --layers 6", "fit"),
    ],
    ids=["cost", "fit"],
)
def test_costs_and_what_fits_are_predicted_printed_and_drawn(
    command: str, page: str, folder: Path, golden: GoldenFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(command.format(TASK), capsys)
    assert (code, err) == (0, "")
    golden.check_text(f"printed/{page}.txt", masked(out, *MACHINE))
    written = folder / "frostline-costs" / "exact"
    text = visible_text((written / f"{page}.html").read_text())
    golden.check_text(f"pages/{page}.txt", masked(text, *MACHINE))
    rows = list(csv.DictReader(StringIO((written / f"{page}.csv").read_text())))
    for row in rows:
        row |= {name: MASK for name in ("device", "torch_version", "threads") if name in row}
    golden.check(f"tables/{page}.json", [list(row.items()) for row in rows])


def test_a_figure_of_the_paper_from_a_table_is_printed_drawn_and_written(
    folder: Path, golden: GoldenFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    write_table(landscape(configurations=12, samples=(200, 400, 600, 800, 1000)), folder / "made.csv")
    code, out, err = run("reproduce fig7 --table resnet=made.csv --out there --device cpu", capsys)
    assert (code, err) == (0, "")
    golden.check_text("printed/reproduce-fig7.txt", masked(out, *MACHINE))
    page = (folder / "there" / "tiny" / "fig7.html").read_text()
    golden.check_text("pages/reproduce-fig7.txt", masked(visible_text(page), *MACHINE))
    golden.check_text("tables/fig7.csv", masked((folder / "there" / "tiny" / "fig7.csv").read_text(), *MACHINE))


@pytest.mark.parametrize(
    "command",
    [
        "layers {}",
        "layers digits-resnet",
        "ladder {}",
        "ladder {} --ladder samples-only --rungs 4 --configurations 81",
        "ladder {} --ladder layers-only --search hyperband",
        "ladder {} --ladder 2:200,2:500,6:1024 --search asynchronous --configurations 9",
        "ladder digits-mlp --search full --configurations 5",
    ],
)
def test_layers_and_ladders_are_printed(
    command: str, golden: GoldenFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(command.format(TASK), capsys)
    assert (code, err) == (0, "")
    name = command.format("exact").replace(" ", "-").replace("--", "-").replace(":", "x").replace(",", "-")
    golden.check_text(f"printed/{name}.txt", out)


def printed(*tables: Any) -> str:
    text = StringIO()
    for table in tables:
        Console(file=text, width=120).print(table)
    return text.getvalue()


def test_the_ladder_that_a_recorded_table_recommends(golden: GoldenFiles) -> None:
    recorded = read_table(TABLES / "digits-mlp.csv.gz")
    found = recommend(recorded)
    audit = audit_of(recorded, resamples=20)
    text = printed(ladder_comparison_table(found), correlation_table(audit.agreement, recorded))
    golden.check_text("printed/recommended-digits-mlp.txt", text)
    chosen = found.chosen
    golden.check(
        "tables/recommended-digits-mlp.json",
        rounded(
            {
                "rungs": [[rung.trainable_layers, rung.samples] for rung in chosen.ladder.rungs],
                "reduction factor": chosen.reduction_factor,
                "quotas": list(chosen.quotas),
                "seconds": chosen.seconds,
                "chance": chosen.chance,
                "error": chosen.error,
                "tolerance": found.tolerance,
                "reaches": found.reaches,
                "warnings": list(audit.warnings),
            }
        ),
        rel=1e-9,
    )


def test_a_table_is_written_byte_for_byte_and_read_as_it_was(folder: Path, golden: GoldenFiles) -> None:
    found = landscape(configurations=5, diverged=1)
    write_table(found, folder / "made.csv")
    golden.check_text("tables/made.csv", (folder / "made.csv").read_text())
    again = read_table(golden.folder / "tables" / "made.csv")
    assert again.configurations[1].number == found.configurations[1].number
    assert np.allclose(again.scores, found.scores, rtol=1e-8, equal_nan=True)


def test_the_table_of_a_small_audit(folder: Path, golden: GoldenFiles) -> None:
    # At rates of 0.03 and more Adam multiplies the last bits of another processor until the scores are others.
    rates = {"learning_rate": FloatDistribution(1e-4, 1e-2, log=True)}
    task = make()
    space = frostline.SearchSpace(distributions={**task.space.distributions, **rates})
    task = dataclasses.replace(task, space=space)
    audit = frostline.AuditPlan.of(task, configurations=5, layers=(2,), budgets=2, repeats=2)
    options = TrainingOptions(device="cpu", horizon="full", engine="shared", runs=folder / "runs")
    found = frostline.audit_task(
        task,
        audit,
        study="audit",
        storage=":memory:",
        plan=frostline.SearchPlan(seed=1),
        training=frostline.TaskSearch(options=options),
    )
    write_table(found, folder / "audit.csv")
    first, *rest = (folder / "audit.csv").read_text().splitlines()
    rows = list(csv.DictReader(rest))
    for row in rows:
        assert (float(row["seconds"]) > 0) if row["seconds"] else row["seed"] != "1"
        row["seconds"] = row["seconds"] and MASK
    golden.check(
        "tables/audit.json", [first, *([[_number(one) for one in row.values()] for row in rows])], rel=FLOAT32
    )


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
