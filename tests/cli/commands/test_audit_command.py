"""`frostline audit`, and `frostline tune` on the ladder of an audit."""

from __future__ import annotations

import contextlib
import csv
import io
import shlex
import shutil
from pathlib import Path

import pytest

from frostline.audit.csv_table import read_table
from frostline.audit.stored_landscape import read_landscape
from frostline.cli.main import main
from frostline.search.alignment import Alignment
from frostline.store.backends.storage import DEFAULT_STORAGE
from frostline.store.reading import read_study
from tests.cli.command_line import run

TASK = f"{Path(__file__).parents[2] / 'tiny_task.py'}:task"
AUDIT = f"audit {TASK} --configurations 6 --layers 1,3,6 --budgets 4 --repeats 5 --device cpu"


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def folder_of_the_audit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audit")
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()), pytest.raises(SystemExit) as ended:
        main(shlex.split(AUDIT))
    assert ended.value.code == 0
    return folder


@pytest.fixture
def audited(folder_of_the_audit: Path, tmp_path: Path) -> None:
    """The audit that ``AUDIT`` makes is there already, in the test's own folder."""
    shutil.copytree(folder_of_the_audit, tmp_path, dirs_exist_ok=True)


def test_an_audit_says_what_ranks_and_which_ladder_follows_and_a_search_climbs_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, out, err = run(f"{AUDIT} --table table.csv", capsys)
    assert (code, err) == (0, "")
    assert "6 configurations × 1, 3, 6 layers × 4 budgets of up to 1,024 examples: 23 trainings." in out
    assert "rank correlation (Spearman) with full fidelity, 6 configurations:" in out
    table = [line.split() for line in out.splitlines()]
    assert ["layers", "25%", "50%", "75%", "100%", "cost"] in table
    assert next(row for row in table if row[:1] == ["6"] and len(row) == 6)[-2:] == ["1.00", "1.00"]
    assert "recommended" in out
    assert "frostline tune" in out.splitlines()[-1]
    assert "--ladder 'audit:tiny audit'" in out

    landscape = read_table(tmp_path / "table.csv")
    assert landscape.scores.shape == (6, 3, 4)
    with (tmp_path / "table.csv").open() as file:
        assert next(file).startswith("# {")
        rows = list(csv.DictReader(file))
    assert len(rows) == 6 * 3 * 4 + 5

    code, out, err = run(f"tune {TASK} --ladder 'audit:tiny audit' --device cpu", capsys)
    assert (code, err) == (0, "")
    assert "6 of the configurations are the audit's: their evaluations are not made again." in out
    assert "best: configuration" in out
    code, again, _ = run(f"tune {TASK} --ladder 'audit:tiny audit' --device cpu", capsys)
    assert code == 0
    assert again.splitlines()[-8:] == out.splitlines()[-8:]
    assert DEFAULT_STORAGE in out


def test_auto_makes_a_small_audit_first(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(f"tune {TASK} --ladder auto --configurations 20 --device cpu", capsys)
    assert (code, err) == (0, "")
    assert "a small audit first, in study 'tiny audit':" in out
    assert "12 configurations × 1, 3, 6 layers × 10 budgets" in out
    assert "12 of the configurations are the audit's" in out
    code, again, _ = run("status 'tiny audit'", capsys)
    assert code == 0
    assert "12/12" in again


@pytest.mark.usefixtures("audited")
def test_auto_takes_the_audit_that_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(f"tune {TASK} --ladder auto --device cpu", capsys)
    assert (code, err) == (0, "")
    assert "there is an audit already, in study 'tiny audit': its ladder is taken." in out
    assert "6 of the configurations are the audit's" in out


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (
            "audit {task} --configurations 3",
            "3 configurations were asked for, but a rank correlation over fewer than 5",
        ),
        ("audit {task} --layers 1,x", "--layers '1,x': write whole numbers, such as 1,2,4."),
        ("audit {task} --layers 9", "layers are 6, 9, but tiny has 6 layers"),
        ("audit {task} --table t.txt", "--table t.txt: name a file that ends in .csv or .csv.gz."),
        ("audit {task} --horizon long", "horizon is 'long'"),
        ("tune {task} --ladder audit:none", "there is no storage sqlite:///frostline.db"),
        ("tune {task} --ladder auto --storage :memory:", "--ladder auto reads its audit from the storage"),
    ],
)
def test_what_cannot_be_audited_is_one_line(command: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(command.format(task=TASK), capsys)
    assert code == 1
    assert words in err
    assert err.count("\n") == 1


@pytest.mark.usefixtures("audited")
def test_the_horizon_is_the_audits(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(f"tune {TASK} --ladder 'audit:tiny audit' --horizon rung", capsys)
    assert code == 1
    assert "--horizon is rung, but the audit measured its ladder under full" in err
    code, _, err = run(f"tune {TASK} --set size=128 --ladder 'audit:tiny audit'", capsys)
    assert "takes no options" in err


def test_a_search_may_align_by_hand_or_by_an_audit_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    # With one budget a ladder can begin with few layers alone, whatever the clock said of so small trainings.
    audit = f"audit {TASK} --configurations 6 --layers 1,6 --budgets 1 --repeats 5 --device cpu"
    assert run(audit, capsys)[0] == 0
    code, out, err = run(f"{audit} --align 1:learning_rate=10", capsys)
    assert (code, err) == (0, "")
    assert "study 'tiny audit, 1:learning_rate=10'" in out
    assert "6 configurations × 1, 6 layers" in out
    assert "--ladder 'audit:tiny audit, 1:learning_rate=10'" in out.splitlines()[-1]

    code, out, err = run(f"tune {TASK} --ladder 'audit:tiny audit, 1:learning_rate=10' --device cpu", capsys)
    assert (code, err) == (0, "")
    assert "aligned: with 1 of 6 layers trained, learning_rate × 10" in out
    code, _, err = run(
        f"tune {TASK} --ladder 'audit:tiny audit, 1:learning_rate=10' --align 1:learning_rate=3 --device cpu",
        capsys,
    )
    assert code == 1
    assert "measured its ladder under 1:learning_rate=10" in err

    code, out, err = run(f"tune {TASK} --study sure --align 'audit:tiny audit' -n 9 --device cpu", capsys)
    assert (code, err) == (0, "")
    assert "the audit 'tiny audit' gives no sure shift" in out
    code, _, err = run(f"tune {TASK} --study other --align 1:optimizer=3 --device cpu", capsys)
    assert code == 1
    assert "multiplies optimizer, but only floats on a logarithmic range can be" in err
    assert "head.NAME: learning_rate here" in err


@pytest.mark.usefixtures("audited")
def test_an_audit_may_draw_the_heads_factors_to_learn_from(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(f"{AUDIT} --align 3:head.learning_rate=0.3..30 --table drawn.csv", capsys)
    assert (code, err) == (0, "")
    assert "each configuration had factors of its own; what the audit 'tiny audit' tells with them:" in out
    assert "No cell would rank better" in out.splitlines()[-1]
    assert "rank correlation" not in out
    drawn = read_table(Path("drawn.csv"))
    assert drawn.alignment == Alignment.parse("3:head.learning_rate=0.3..30")
    records = read_study(DEFAULT_STORAGE, "tiny audit, 3:head.learning_rate=0.3..30").history
    for configuration in records.configurations:
        of_three = [
            one for one in records.evaluations_of(configuration.number) if one.fidelity.trainable_layers == 3
        ]
        factors = {one.trained_with["head.learning_rate"] / configuration["learning_rate"] for one in of_three}
        assert len(factors) == 1
        assert 0.3 <= factors.pop() <= 30
    plain = read_landscape(DEFAULT_STORAGE, "tiny audit")
    assert (drawn.scores[:, 1] != plain.scores[:, 1]).all()
    code, _, err = run(f"tune {TASK} --align 3:head.learning_rate=0.3..30 --device cpu", capsys)
    assert code == 1
    assert "draws factors for each configuration, which is for `frostline audit`" in err
    code, _, err = run(
        f"tune {TASK} --ladder 'audit:tiny audit, 3:head.learning_rate=0.3..30' --device cpu", capsys
    )
    assert code == 1
    assert "so that its scores rank nothing" in err
    code, _, err = run(
        f"tune {TASK} --align 'audit:tiny audit, 3:head.learning_rate=0.3..30' --device cpu", capsys
    )
    assert code == 1
    assert "draws factors" in err
    code, out, err = run("report 'tiny audit, 3:head.learning_rate=0.3..30' --out drawn.html", capsys)
    assert code == 0
    assert "so that its scores rank nothing" in Path("drawn.html").read_text()


def test_a_study_goes_on_under_its_own_alignment_alone(capsys: pytest.CaptureFixture[str]) -> None:
    tune = f"tune {TASK} --ladder 1:256,6:1024 -n 6 --device cpu"
    code, first, _ = run(f"{tune} --align 1:learning_rate=10", capsys)
    assert code == 0
    code, again, _ = run(f"{tune} --align 1:learning_rate=10", capsys)
    assert code == 0
    assert again.splitlines()[-8:] == first.splitlines()[-8:]
    code, _, err = run(tune, capsys)
    assert code == 1
    assert "alignment=1:learning_rate=10" in err


def test_a_search_may_learn_how_its_rungs_are_to_be_read_and_its_report_says_how_it_did(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    tune = f"tune {TASK} --study learned --ladder 1:512,6:1024 -n 27 --align auto --device cpu"
    code, out, err = run(tune, capsys)
    assert (code, err) == (0, "")
    assert "rung 0 (1 of 6 layers trained) was read as" in out
    assert run("report learned --out learned.html", capsys)[0] == 0
    assert "How rungs of few layers were read" in (tmp_path / "learned.html").read_text()
    code, out, err = run(f"tune {TASK} --study small -n 9 --align auto --device cpu", capsys)
    assert (code, err) == (0, "")
    assert "no rung of few layers promotes enough configurations to learn how it is to be read." in out
    code, _, err = run(f"tune {TASK} --study all --search full -n 9 --align auto --device cpu", capsys)
    assert code == 1
    assert "--align auto goes with --search halving, hyperband or asynchronous" in err


def test_alignment_is_learnt_over_a_number_of_configurations_if_nobody_says_how_many(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, err = run(f"tune {TASK} --align auto --device cpu", capsys)
    assert (code, err) == (0, "")
    assert "budget" not in out
    assert ["0", "2", "205", "27"] in [line.split()[:4] for line in out.splitlines()]
    assert "rung 0 (2 of 6 layers trained)" in out
    assert (run(f"tune {TASK} --study b --align auto --search halving --device cpu", capsys))[0] == 0
    code, _, err = run("tune nothing --align auto --budget 6", capsys)
    assert code == 1
    assert "leave out --align auto, or the budget" in err


def test_factors_are_for_layers_that_a_rung_trains(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(f"tune {TASK} --align 2:learning_rate=3 --device cpu", capsys)
    assert code == 1
    assert "aligned" not in out
    assert (
        "no rung trains 2 of the 6 layers; the rungs of this ladder train 1 or all: give factors for those" in err
    )
    code, _, err = run(f"tune {TASK} --ladder samples-only -n 9 --align 2:learning_rate=3 --device cpu", capsys)
    assert code == 1
    assert "the rungs of this ladder all train all" in err


BEFORE_THE_AUDIT = {
    "--budget 6": "an audit's ladder is for a number of configurations",
    "--align auto": "--align auto does not go with --ladder auto",
    "--align 1:learning_rat=3": "how many layers the rungs of --ladder auto train is known after its audit alone",
    "--align 'audit:nothing'": "there is no study 'nothing'",
}


@pytest.mark.usefixtures("audited")
@pytest.mark.parametrize("options", BEFORE_THE_AUDIT)
def test_what_contradicts_an_audit_is_refused_before_it_is_made(
    options: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(f"tune {TASK} --study new --ladder auto {options} --device cpu", capsys)
    assert code == 1
    assert BEFORE_THE_AUDIT[options] in err
    assert "audit first" not in out
