"""Imports run one way; the half that decides knows no torch, and the half that trains knows no search."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import frostline

PACKAGE = Path(__file__).parents[1] / "src" / "frostline"

# From the ground up: a room imports only rooms of lower floors. What is on one floor does not see its neighbours.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("seeding", "records", "sizes", "resampling"),
    ("layers", "search", "protocols"),
    ("storage", "workers", "training", "summary", "pages"),
    ("study", "display", "costs"),
    ("audit",),
    ("tasks", "task_loading", "packing", "replay", "report"),
    ("execution",),
    ("running",),
    ("tuner",),
    ("auditor",),
    ("audited_search",),
    ("cli_arguments", "__init__"),
    ("reproduction",),
    ("cost_commands", "audit_commands", "report_commands", "reproduce_commands"),
    ("tune_command",),
    ("cli",),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    """The rooms of frostline that a module imports at run time, in functions too; type-only imports are left out."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            module = node.module.split(".")
            assert node.level == 0, f"{path}: relative import"
            if module[0] == "frostline":
                names |= {module[1]} if len(module) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("frostline.")}
    return names


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_downwards(path: Path) -> None:
    room = room_of(path)
    assert room in FLOOR_OF, f"{room} is on no floor: give it one here"
    for target in imports_of(path) - {room}:
        assert FLOOR_OF.get(target, 0) < FLOOR_OF[room], (
            f"{path.name} of {room} imports {target}, which is not below it"
        )


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules, sep='\\n')"
    return set(
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    )


@pytest.mark.parametrize("path", sorted((PACKAGE / "search").glob("*.py")), ids=lambda path: path.stem)
def test_search_knows_no_torch_disk_or_clock(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not {name.split(".")[0] for name in names} & {
            "torch",
            "os",
            "pathlib",
            "time",
            "datetime",
            "shutil",
        }


@pytest.mark.multiprocess
def test_importing_frostline_loads_nothing_that_is_slow_to_import() -> None:
    heavy = {
        "transformers",
        "torchvision",
        "timm",
        "sklearn",
        "tokenizers",
        "plotly",
        "typer",
        "sqlalchemy",
        "scipy",
    }
    assert not heavy & loaded_by("import frostline")


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_holds_one_idea(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 450
    assert not {"utils", "common", "core", "base", "helpers"} & set(path.with_suffix("").parts)


def test_the_public_names_are_these() -> None:
    assert frostline.__all__ == [
        "AsynchronousHalving",
        "AuditPlan",
        "Configuration",
        "Evaluation",
        "Fidelity",
        "Freezing",
        "FrostlineError",
        "FullFidelity",
        "Hyperband",
        "Ladder",
        "Layer",
        "LayerStack",
        "SearchSpace",
        "SuccessiveHalving",
        "SupervisedTask",
        "Sweep",
        "Task",
        "TuneResult",
        "audit_task",
        "build_deferred",
        "freeze",
        "inspect_freezing",
        "split_layers",
        "tune",
        "tune_task",
    ]
    assert all(hasattr(frostline, name) for name in frostline.__all__)
