"""`frostline report`: from a study or a table to a page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from optuna.distributions import FloatDistribution

from frostline.audit.csv_table import write_table
from frostline.cli.commands.report_command import report_command
from frostline.errors import AuditError, StudyError
from frostline.records import Fidelity
from frostline.report.study_page import study_page
from frostline.run.plan import SearchPlan
from frostline.run.tuning import search_function
from frostline.search.algorithms.sweep import Sweep
from frostline.search.ladder import Ladder
from frostline.search.spaces.space import SearchSpace
from tests.report.cases import landscape

SPACE = SearchSpace(distributions={"rate": FloatDistribution(1e-3, 1.0, log=True)})
LADDER = Ladder.diagonal(num_layers=4, full_samples=400)


def score(configuration: dict[str, float], fidelity: Fidelity) -> float:
    return abs(np.log10(configuration["rate"]) + 1) + 1 / fidelity.samples


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> str:
    place = str(tmp_path_factory.mktemp("studies") / "journal.log")
    search_function(score, SPACE, LADDER, study="quick", plan=SearchPlan(configurations=9), storage=place)
    return place


def test_a_study_becomes_a_page(storage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = Path(storage).read_bytes()
    report_command("quick", tmp_path / "new" / "page.html", storage)
    text = (tmp_path / "new" / "page.html").read_text()
    assert "<h1>Search of" in text
    assert "Best: configuration" in text
    assert capsys.readouterr().out.endswith("page.html\n")
    assert Path(storage).read_bytes() == before, "a report writes nothing to the study"


def test_a_study_that_is_not_there_is_named(storage: str) -> None:
    with pytest.raises(StudyError, match=r"there is no study 'slow' in .*; there are: quick"):
        study_page("slow", storage=storage)


def test_a_table_becomes_the_page_of_an_audit(tmp_path: Path) -> None:
    path = tmp_path / "table.csv.gz"
    write_table(landscape(), path)
    text = study_page(str(path), storage="")
    assert "<h1>Audit of my task</h1>" in text
    assert "Recommended ladder" in text


def test_a_table_of_too_few_configurations_says_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    write_table(landscape(configurations=3), path)
    assert "Not everything can be told: the audit has 3 configurations" in study_page(str(path), storage="")
    with pytest.raises(AuditError, match="there is no file"):
        study_page(str(tmp_path / "other.csv"), storage="")


def test_a_study_may_be_called_as_a_table_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    place = str(tmp_path / "journal.log")
    search_function(score, SPACE, LADDER, study="quick.csv", plan=SearchPlan(configurations=9), storage=place)
    assert "<h1>Search of" in study_page("quick.csv", storage=place)
    write_table(landscape(), Path("quick.csv"))
    assert "<h1>Audit of my task</h1>" in study_page("quick.csv", storage=place)


def test_a_sweep_over_a_ladder_is_shown_as_a_search(tmp_path: Path) -> None:
    place = str(tmp_path / "journal.log")
    search_function(
        score, SPACE, LADDER, study="swept", plan=SearchPlan(configurations=6, search=Sweep), storage=place
    )
    text = study_page("swept", storage=place)
    assert "<h1>Search of" in text
    assert "Shown as a search, not as an audit: the study swept 3 rungs" in text


def test_a_sweep_over_a_grid_is_shown_as_an_audit(tmp_path: Path) -> None:
    place = str(tmp_path / "journal.log")
    layers = Ladder.layers_only(num_layers=4, full_samples=400)
    search_function(
        score, SPACE, layers, study="<swept>", plan=SearchPlan(configurations=6, search=Sweep), storage=place
    )
    text = study_page("<swept>", storage=place)
    assert "<h1>Audit of" in text
    assert "How well each fidelity ranks" in text
    assert "Study &#39;&lt;swept&gt;&#39; in" in text
