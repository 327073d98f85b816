"""What is released, installed where no file of the repository is in sight, runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
from pathlib import Path

import pytest

import frostline

ROOT = Path(__file__).parents[1]
SCRIPT = """
import frostline, torch

def objective(trial):
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
    trial.freeze(model)
    optimizer = torch.optim.SGD(trial.parameters, lr=trial.suggest_float("rate", 1e-3, 1e-1, log=True))
    for (inputs,) in trial.batches([(torch.ones(8, 4),)]):
        optimizer.zero_grad()
        model(inputs).square().mean().backward()
        optimizer.step()
    return model(inputs).square().mean().item()

print(frostline.__file__)
result = frostline.tune(objective, samples=160, study="packaged", observer=frostline.SILENT)
frostline.write_report(result, "report.html")  # with its templates
print(result.score)
"""


def run(*words: str | Path, folder: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ended = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the source distribution, and of the wheel that was made from it."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, folder=folder)
    return folder


@pytest.fixture(scope="module")
def environment(released: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the programs of an environment with the wheel in it, and with what frostline depends on."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    site = folder / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    # Of a folder that is named in a .pth file no .pth file is read: the repository's own, installed in place, stays out.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (wheel,) = released.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "--python", folder, "install", "--quiet", "--no-deps", "--no-index", wheel]
    run(*pip, folder=folder)
    return folder / "bin"


@pytest.mark.slow
@pytest.mark.multiprocess
def test_an_objective_is_tuned_and_the_commands_answer(environment: Path, tmp_path: Path) -> None:
    (tmp_path / "search.py").write_text(SCRIPT)
    place, score = run(environment / "python", "search.py", folder=tmp_path).splitlines()
    assert Path(place).is_relative_to(environment.parent)
    assert float(score) < 1
    assert run(environment / "frostline", "--version", folder=tmp_path) == f"{frostline.__version__}\n"
    assert "configuration" in run(environment / "frostline", "best", "packaged", folder=tmp_path)
    assert (tmp_path / "report.html").stat().st_size > 1_000_000


@pytest.mark.slow
def test_the_source_distribution_holds_the_package_and_what_its_page_shows(released: Path) -> None:
    (archive,) = released.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    assert {"README.md", "CHANGELOG.md", "LICENSE", "docs/figures/regret.svg", "src/frostline/py.typed"} <= names
    assert not any(name.startswith(("tests", "benchmarks", "site")) for name in names)


def test_the_oldest_versions_are_those_that_are_declared() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    tested = (ROOT / "tests" / "oldest.txt").read_text().splitlines()
    assert {line.replace(">=", "==") for line in declared} <= set(tested)


def test_the_version_has_a_section_in_the_changelog() -> None:
    sections = re.findall(r"^## (\d\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert sections[0] == frostline.__version__
