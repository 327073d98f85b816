"""Pinned: all that a search writes into its study, and that studies which lie on somebody's disk are read and continued."""

from __future__ import annotations

import dataclasses
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

import frostline
from frostline import SearchPlan
from frostline.run.execution.options import TrainingOptions
from frostline.run.loop import SILENT
from frostline.run.tuning import search_function
from frostline.search.algorithms.realigned import RealignedSearch
from frostline.search.algorithms.watched import WatchedHalving
from frostline.search.proposals.sampling import CMA_ES, GP, QMC, RANDOM, TPE, Sampling, grid
from frostline.store.backends.storage import close_storage, open_storage
from tests.cli.command_line import run
from tests.executing import Watching
from tests.golden.black_boxes import LADDER, SCALES, SPACE, bowl, failing
from tests.golden.exact_task import make
from tests.golden.golden_files import HERE, GoldenFiles, dump, masked, visible_text

HALF_FINISHED = HERE / "studies" / "half-finished-search.log"
AUDIT = HERE / "studies" / "audit.log"
NUM_EVALUATED = 30
TOTAL = 27


def journal(path: Path) -> JournalStorage:
    return JournalStorage(JournalFileBackend(str(path)))


def realigned(*, ladder: frostline.Ladder, configurations: int) -> RealignedSearch:
    plain = frostline.SuccessiveHalving(ladder=ladder, configurations=configurations)
    return RealignedSearch(search=plain, space=SPACE)


SEARCHES = {
    "halving": frostline.SuccessiveHalving,
    "halving-by-2": partial(frostline.SuccessiveHalving, reduction_factor=2),
    "hyperband": partial(frostline.Hyperband, reduction_factor=2),
    "asynchronous": frostline.AsynchronousHalving,
    "full": frostline.FullFidelity,
    "sweep": frostline.Sweep,
    "watched": partial(WatchedHalving, least_agreement=(0.9, 0.5, 0.5)),
    "realigned": realigned,
}
SHORT = frostline.Ladder.explicit([(1, 300), (4, 900)], num_layers=4, full_samples=900)
CONFIGURATIONS = {"full": 5, "sweep": 5, "hyperband": 31, "halving-by-2": 9}


@pytest.mark.parametrize("search", SEARCHES)
def test_a_journal_holds_what_each_search_wrote_of_every_trial(
    search: str, folder: Path, golden: GoldenFiles
) -> None:
    ladder = SHORT if search == "realigned" else LADDER
    found = search_function(
        bowl,
        SPACE,
        ladder,
        study="pinned",
        storage=str(folder / "study.log"),
        plan=SearchPlan(
            search=SEARCHES[search],
            configurations=CONFIGURATIONS.get(search, 27),
            initial=[{"rate": 0.03, "momentum": 0.5, "width": 16, "optimizer": "SGD"}],
            seed=1,
        ),
    )
    record = dump(journal(folder / "study.log"), "pinned")
    golden.check(f"dumps/search-{search}.json", record)
    assert record["trials"][found.best.number]["values"] == [pytest.approx(found.score, rel=1e-9)]


# Where points come from floating-point algebra (a Cholesky factor, an eigenvector), another machine's last bits come
# back multiplied: the Gaussian process's by the flatness of what it maximises.
SAMPLERS: dict[str, tuple[Sampling, float]] = {
    "random": (RANDOM, 0.0),
    "qmc": (QMC, 0.0),
    "tpe": (TPE, 1e-9),
    "gp": (GP, 1e-3),
    "cma-es": (CMA_ES, 1e-6),
    "grid": (grid(SPACE, num_points=3), 0.0),
}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_each_sampler_draws_the_configurations_that_it_drew(
    sampler: str, folder: Path, golden: GoldenFiles
) -> None:
    sampling, rel = SAMPLERS[sampler]
    if sampler == "cma-es":
        pytest.importorskip("cmaes")
    seen: list[list[Any]] = []
    search_function(
        bowl,
        SCALES if sampler == "gp" else SPACE,
        SHORT,
        study="pinned",
        storage=str(folder / "study.log"),
        plan=SearchPlan(sampling=sampling, configurations=14, seed=2),
        observer=Watching(lambda one: seen.append([one.number, one.rung, one.status.value, one.score])),
    )
    record = dump(journal(folder / "study.log"), "pinned")
    golden.check(f"dumps/sampler-{sampler}.json", {**record, "order of evaluations": seen}, rel=rel)


def test_a_database_holds_the_same_as_a_journal_and_failures_to_maximise_are_kept_with_their_reasons(
    folder: Path, golden: GoldenFiles
) -> None:
    plan = SearchPlan(direction="maximize", configurations=5, seed=4)
    search = partial(search_function, failing, SPACE, SHORT, study="pinned", plan=plan)
    search(storage="study.log")
    search(storage="sqlite:///study.db")
    record = dump(journal(folder / "study.log"), "pinned")
    golden.check("dumps/maximised-with-failures.json", record)
    database = open_storage("sqlite:///study.db")
    assert dump(database, "pinned") == record
    close_storage(database)


def continued(storage: str, *, observer: frostline.Observer = SILENT) -> frostline.TuneResult:
    """The search of the stored study, as it was begun."""
    plan = SearchPlan(configurations=TOTAL, seed=5)
    return search_function(bowl, SPACE, LADDER, study="bowl", storage=storage, plan=plan, observer=observer)


@pytest.fixture
def half_finished(folder: Path) -> str:
    return str(shutil.copy(HALF_FINISHED, folder / "studies.log"))


@pytest.fixture
def audit(folder: Path) -> str:
    return str(shutil.copy(AUDIT, folder / "studies.log"))


def test_a_stored_search_is_continued_to_what_an_undisturbed_one_finds(
    half_finished: str, folder: Path, golden: GoldenFiles
) -> None:
    before = dump(journal(Path(half_finished)), "bowl")
    golden.check("stored/half-finished.json", before)
    seen: list[tuple[int, int]] = []
    found = continued(half_finished, observer=Watching(lambda one: seen.append((one.number, one.rung))))
    evaluated = {
        (trial["number"], int(key.removeprefix("rung ")))
        for trial in before["trials"]
        for key in trial["user_attrs"]
        if key.startswith("rung ")
    }
    assert len(evaluated) == NUM_EVALUATED
    assert not evaluated & set(seen), "what had ended is not trained again"
    undisturbed = continued("undisturbed.log")
    records = [dump(journal(Path(path)), "bowl") for path in (half_finished, "undisturbed.log")]
    for record in records:
        record.pop("workers")
    assert records[0] == records[1]
    assert (found.configuration, found.score) == (undisturbed.configuration, undisturbed.score)
    golden.check("stored/continued.json", records[0])


def test_a_stored_search_is_continued_under_its_own_terms_alone(half_finished: str) -> None:
    with pytest.raises(
        frostline.FrostlineError, match="the study 'bowl' was made with seed 5, and this run has 6"
    ):
        search_function(
            bowl,
            SPACE,
            LADDER,
            study="bowl",
            storage=half_finished,
            plan=SearchPlan(configurations=TOTAL, seed=6),
        )


@pytest.mark.parametrize(
    "command",
    ["status bowl", "best bowl", "best bowl --json"],
    ids=["status", "best", "best-as-json"],
)
def test_the_commands_print_of_a_stored_search(
    command: str, half_finished: str, golden: GoldenFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(f"{command} --storage studies.log", capsys)
    assert (code, err) == (0, "")
    golden.check_text(f"printed/{command.replace(' ', '-').replace('--', '')}-half-finished.txt", out)
    continued(half_finished)
    code, out, err = run(f"{command} --storage studies.log", capsys)
    assert (code, err) == (0, "")
    # What it cost is measured anew; where a width follows from a time, so do the blanks around it.
    shown = "\n".join(" ".join(line.split()) for line in out.splitlines())
    shown = masked(shown, r"as much as [\d.]+|[\d.]+ times|(?<=\d )\d+\.\d\d \d+\.\d(?= )")
    golden.check_text(f"printed/{command.replace(' ', '-').replace('--', '')}-continued.txt", shown)


def test_the_report_of_a_stored_search_says(
    half_finished: str, folder: Path, golden: GoldenFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("report bowl --storage studies.log --out report.html", capsys) == (0, "in report.html\n", "")
    golden.check_text("pages/stored-search.txt", visible_text((folder / "report.html").read_text()))


AUDIT_COMMAND = (
    f"audit {HERE / 'exact_task.py'}:task --study audit --storage studies.log -n 6 --layers 2,6 --budgets 3 --repeats 3 "
    "--device cpu"
)


def test_a_stored_audit_is_read_and_its_command_trains_nothing_again(
    audit: str, golden: GoldenFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    before = dump(journal(Path(audit)), "audit")
    golden.check("stored/audit.json", before)
    code, out, err = run(AUDIT_COMMAND, capsys)
    assert (code, err) == (0, "")
    golden.check_text("printed/audit.txt", out.replace(str(HERE), "FOLDER"))
    after = dump(journal(Path(audit)), "audit")
    for record in (before, after):
        record.pop("workers")
        # Where the task lies and what is known of it beside are written anew.
        for name in ("reference", "has_own", "source"):
            record["user_attrs"]["frostline"].pop(name, None)
    assert after == before


@pytest.mark.parametrize("command", ["status audit", "best audit", "best audit --json"])
def test_the_commands_print_of_a_stored_audit(
    command: str, audit: str, golden: GoldenFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(f"{command} --storage studies.log", capsys)
    assert (code, err) == (0, "")
    golden.check_text(f"printed/{command.replace(' ', '-').replace('--', '')}.txt", out)


def test_the_report_of_a_stored_audit_says(
    audit: str, folder: Path, golden: GoldenFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("report audit --storage studies.log --out report.html", capsys) == (0, "in report.html\n", "")
    golden.check_text("pages/stored-audit.txt", visible_text((folder / "report.html").read_text()))


def test_a_stored_audit_grows(audit: str, folder: Path) -> None:
    trained: set[int] = set()
    task = make()
    grow = partial(
        frostline.audit_task,
        task,
        study="audit",
        storage=audit,
        training=frostline.TaskSearch(options=TrainingOptions(device="cpu", horizon="full", runs=folder / "runs")),
        observer=Watching(lambda one: trained.add(one.number)),
    )
    plan = frostline.AuditPlan.of(task, configurations=6, layers=(2, 6), budgets=3, repeats=3)
    stored = grow(plan)
    assert trained == set()
    grown = grow(dataclasses.replace(plan, configurations=7))
    assert trained == {6}
    assert grown.scores[:6].tolist() == stored.scores.tolist()
