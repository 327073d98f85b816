"""Imports run one way, of every kind: at the top, inside functions and for types alone.

The rules, from the ground up:

1. `errors`, then the small modules beside it, know nothing of the rest; `process` is loaded before anything heavy.
2. `layers` (what a model is), `search` (what to evaluate next) and `pages` (how a page is written) never see each other.
3. `search` knows no torch, disk or clock; it meets the half that trains in `records` and `protocols` alone.
4. `training` (one configuration) knows of neither `populations` (many) nor `objectives` (the user's own), nor of decisions.
5. `store` (a history kept) and `costs` (a price known before) stand beside each other.
6. `run` drives the one loop over all of these; `audit` is a run that measures, `report` a page about what ran.
7. `tasks` are examples of what is tuned: of the product only the command line loads them.
8. Nothing of the product imports `research`; the command line loads it when it is called.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import frostline

PACKAGE = Path(__file__).parents[1] / "src" / "frostline"
MODULES = sorted(PACKAGE.rglob("*.py"))

# A room (a folder, or a module beside them) imports only rooms of lower floors: it does not see its neighbours.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors", "process"),
    ("inputs",),
    ("atomic", "seeding", "records", "sizes", "text_tables", "wording", "statistics"),
    ("folders", "layers", "pages", "search"),
    ("protocols",),
    ("training",),
    ("populations", "objectives"),
    ("costs", "store"),
    ("run",),
    ("audit", "tasks", "integrations"),
    ("report",),
    ("__init__",),
    ("research",),
    ("cli",),
    ("__main__",),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
MOST_ENTRIES_AT_THE_ROOT = 12
MOST_MODULES_IN_A_FOLDER = 20


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {name_of(path) for path in MODULES}


def imports_of(path: Path) -> Iterator[tuple[str, int]]:
    """The modules of frostline that a module imports, wherever in it, and on which line."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names if node.module.split(".")[0] == "frostline" else ():
                inner = f"{node.module}.{alias.name}"
                yield (inner if inner in NAMES else node.module), node.lineno
        elif isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names if alias.name in NAMES)


def room_of(module: str) -> str:
    _, _, inner = module.partition(".")
    return inner.split(".")[0] or "__init__"


def sub_room_of(module: str) -> str | None:
    """The folder within a room that a module lies in, as ``room/folder``; nothing where it lies in the room itself."""
    parts = module.split(".")[1:3]
    return "/".join(parts) if len(parts) == 2 and PACKAGE.joinpath(*parts).is_dir() else None


def ids(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", MODULES, ids=ids)
def test_imports_run_downwards(path: Path) -> None:
    room = room_of(name_of(path))
    assert room in FLOOR_OF, f"{room} is on no floor: give it one here"
    for target, line in imports_of(path):
        if room_of(target) != room:
            assert FLOOR_OF[room_of(target)] < FLOOR_OF[room], (
                f"{ids(path)}:{line} imports {target}, which is not below {room}"
            )


def test_no_modules_import_each_other_in_a_circle() -> None:
    try:
        TopologicalSorter(
            {name_of(path): {target for target, _ in imports_of(path)} for path in MODULES}
        ).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' -> '.join(error.args[1])}")


def test_frostline_does_not_import_the_plugin_that_imports_it() -> None:
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not any(name.startswith("hydra_plugins") for name in names), f"{ids(path)}:{node.lineno}"


def test_folders_stand_beside_few_modules() -> None:
    beside = [entry.name for entry in PACKAGE.iterdir() if entry.is_file()]
    assert len(beside) <= MOST_ENTRIES_AT_THE_ROOT


def test_folders_hold_no_more_modules_than_can_be_looked_over() -> None:
    sizes = Counter(path.parent for path in MODULES if path.stem != "__init__")
    assert {ids(folder): size for folder, size in sizes.items() if size > MOST_MODULES_IN_A_FOLDER} == {}


def test_sub_rooms_import_each_other_one_way() -> None:
    seen: defaultdict[str, set[str]] = defaultdict(set)
    for path in MODULES:
        mine = sub_room_of(name_of(path))
        for theirs in {sub_room_of(target) for target, _ in imports_of(path)} - {mine, None}:
            if mine is not None and theirs is not None:
                seen[mine].add(theirs)
    try:
        TopologicalSorter(seen).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' -> '.join(error.args[1])}")


def test_no_two_modules_share_a_name() -> None:
    stems = Counter(path.stem for path in MODULES if path.stem != "__init__")
    assert [stem for stem, times in stems.items() if times > 1] == []


def test_the_page_on_the_architecture_says_the_same() -> None:
    page = (PACKAGE.parents[1] / "docs" / "architecture.md").read_text()
    assert __doc__ is not None
    assert re.findall(r"^\d\. .+", page, re.MULTILINE) == re.findall(r"^\d\. .+", __doc__, re.MULTILINE)
    picture = page.partition("```mermaid")[2].partition("```")[0]
    floors = [tuple(label.split(" · ")) for label in re.findall(r'\["(.+?)"\]', picture)]
    assert floors == list(reversed(FLOORS))


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules, sep='\\n')"
    return set(
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    )


@pytest.mark.parametrize("path", sorted((PACKAGE / "search").rglob("*.py")), ids=lambda path: path.stem)
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
        "torch",
        "numpy",
        "optuna",
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
    loaded = loaded_by("import frostline")
    assert not heavy & loaded
    # Nothing of ours either: a name is loaded when it is used.
    assert {name for name in loaded if name.split(".")[0] == "frostline"} == {"frostline"}


@pytest.mark.multiprocess
def test_using_frostline_loads_no_library_that_only_some_need() -> None:
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
    loaded = loaded_by("import frostline; [getattr(frostline, name) for name in frostline.__all__]")
    assert "torch" in loaded
    assert not heavy & loaded


@pytest.mark.parametrize("path", MODULES, ids=ids)
def test_a_module_holds_one_idea(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 450
    assert not {"utils", "common", "core", "base", "helpers"} & set(path.with_suffix("").parts)


def test_the_public_names_are_these() -> None:
    assert frostline.__all__ == [
        "SILENT",
        "AsynchronousHalving",
        "AuditPlan",
        "Configuration",
        "Evaluation",
        "Executor",
        "Fidelity",
        "Freezing",
        "FrostlineError",
        "FullFidelity",
        "Hyperband",
        "Ladder",
        "Landscape",
        "Layer",
        "LayerStack",
        "Observer",
        "SearchPlan",
        "SearchSpace",
        "SuccessiveHalving",
        "SupervisedTask",
        "Sweep",
        "Task",
        "TaskSearch",
        "TrainingOptions",
        "Trial",
        "TuneResult",
        "Workload",
        "audit_task",
        "build_deferred",
        "freeze",
        "inspect_freezing",
        "sampling",
        "split_layers",
        "tune",
        "tune_task",
        "write_report",
    ]
    assert all(hasattr(frostline, name) for name in frostline.__all__)
