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
KINDS = [pytest.param("*.whl", id="wheel"), pytest.param("*.tar.gz", id="sdist")]
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


def empty_environment(folder: Path) -> list[str | Path]:
    """Make an environment with nothing in it; return the words of a command that installs into it."""
    venv.create(folder, with_pip=False)
    return [sys.executable, "-m", "pip", "--python", folder, "install", "--quiet"]


def check_it_runs(programs: Path, folder: Path) -> None:
    """Tune an objective and a built-in task, and ask the commands, with nothing but ``programs`` in an empty folder."""
    (folder / "search.py").write_text(SCRIPT)
    place, score = run(programs / "python", "search.py", folder=folder).splitlines()
    assert Path(place).is_relative_to(programs.parent)
    assert float(score) < 1
    assert run(programs / "frostline", "--version", folder=folder) == f"{frostline.__version__}\n"
    assert "configuration" in run(programs / "frostline", "best", "packaged", folder=folder)
    assert (folder / "report.html").stat().st_size > 1_000_000
    tune = ("tune", "digits-mlp", "--study", "digits", "--configurations", "9", "--set", "full_images=256")
    run(programs / "frostline", *tune, folder=folder)
    assert "digits-mlp" in run(programs / "frostline", "status", "digits", folder=folder)


@pytest.mark.slow
@pytest.mark.multiprocess
def test_the_wheel_runs_beside_what_it_depends_on(released: Path, tmp_path: Path) -> None:
    environment, folder = tmp_path / "environment", tmp_path / "empty"
    folder.mkdir()
    install = empty_environment(environment)
    site = environment / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    # Of a folder that is named in a .pth file no .pth file is read: the repository's own, installed in place, stays out.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (wheel,) = released.glob("*.whl")  # made from the source distribution
    run(*install, "--no-deps", "--no-index", wheel, folder=folder)
    check_it_runs(environment / "bin", folder)


@pytest.mark.torture
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_released_needs_nothing_that_it_does_not_declare(
    kind: str, released: Path, tmp_path: Path
) -> None:
    environment, folder = tmp_path / "environment", tmp_path / "empty"
    folder.mkdir()
    (file,) = released.glob(kind)
    install = empty_environment(environment)
    run(*install, "--no-compile", "-c", ROOT / "constraints.txt", file, folder=folder)
    check_it_runs(environment / "bin", folder)


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


def test_the_pythons_that_are_declared_are_those_that_make_tests() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = [found[1] for line in project["classifiers"] if (found := re.fullmatch(r".*:: (3\.\d+)", line))]
    (others,) = re.findall(r"^PYTHONS \?= (.+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert [project["requires-python"].removeprefix(">="), *others.split()] == declared


def test_the_version_has_a_section_in_the_changelog() -> None:
    sections = re.findall(r"^## (\d\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert sections[0] == frostline.__version__
