"""Run tests on a card of host memory, in a process of their own, and tell which lines that name a device were run.

``python -m tests.rehearsal.rehearsed`` (``make rehearse``) runs every test that is marked for a GPU.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from coverage import CoverageData

ROOT = Path(__file__).parents[2]
HOUSE = ROOT / "src" / "frostline"
ROOMS = ("training", "populations", "layers")
_WORDS = frozenset(
    ["device", "devices", "cuda", "mps", "is_cuda", "own_device", "non_blocking", "pin_memory", "map_location"]
) | {"accelerator", "Generator", "synchronise", "peak_bytes", "reset_peak_bytes", "device_of", "device_plan"}


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class DeviceLine:
    """A statement that names a device: where it is, and its first line."""

    path: str
    first: int
    last: int
    text: str


# What torch's C++ half is told lies where it does in this version; a real card is better than one of host memory.
ON_HOST_MEMORY = pytest.mark.skipif(
    sys.platform != "linux" or torch.version.cuda is not None or not torch.__version__.startswith("2.13."),
    reason="the card of host memory is for a CPU build of torch 2.13 on Linux",
)

PYTEST = ("-p", "tests.rehearsal.plugin", "-p", "no:cacheprovider", "-n", "0", "-q")
# Of the tests around it, these would divide its tests or count its lines.
_OF_OTHERS = ("PYTEST_", "COV_")


def rehearse(*arguments: str, covered: Path) -> subprocess.CompletedProcess[str]:
    """Run pytest on the card with these arguments; ``covered`` is the file for the lines that were run."""
    rooms = ",".join(f"{HOUSE}/{room}/*" for room in ROOMS)
    coverage = ["coverage", "run", "--rcfile=/dev/null", f"--data-file={covered}", f"--include={rooms}"]
    command = [sys.executable, "-m", *coverage, "-m", "pytest", *PYTEST, *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_OF_OTHERS)}
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)


def rehearse_here(*arguments: str) -> None:
    """Run pytest on a card that this process gets, which is a fork, and end with its status."""
    for name in [name for name in os.environ if name.startswith(_OF_OTHERS)]:
        del os.environ[name]
    os.chdir(ROOT)
    sys.exit(pytest.main([*PYTEST, *arguments]))


def device_lines() -> list[DeviceLine]:
    """Return every statement in a function of the rooms that train which names a device."""
    paths = [path for room in ROOMS for path in sorted((HOUSE / room).rglob("*.py"))]
    return [line for path in paths for line in _lines_of(path)]


def _lines_of(path: Path) -> Iterator[DeviceLine]:
    text = path.read_text()
    for function in ast.walk(ast.parse(text)):
        if not isinstance(function, ast.FunctionDef):
            continue
        for statement in _statements(function.body):
            if any(_names_a_device(node) for node in _own_nodes(statement)):
                last = statement.end_lineno or statement.lineno
                body = getattr(statement, "body", None)
                if body:
                    last = max(statement.lineno, body[0].lineno - 1)
                words = text.splitlines()[statement.lineno - 1].strip()
                yield DeviceLine(path=str(path.relative_to(HOUSE)), first=statement.lineno, last=last, text=words)


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield all statements below, but not those of functions and classes within: they are functions of their own."""
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            continue
        yield statement
        for name in ("body", "orelse", "finalbody"):
            yield from _statements(getattr(statement, name, []))
        for handler in getattr(statement, "handlers", []):
            yield from _statements(handler.body)


def _own_nodes(statement: ast.stmt) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(statement):
        if not isinstance(child, ast.stmt | ast.excepthandler):
            yield from ast.walk(child)


def _names_a_device(node: ast.AST) -> bool:
    names = (getattr(node, "id", None), getattr(node, "attr", None), getattr(node, "arg", None))
    return any(name in _WORDS for name in names)


def not_run(covered: Path) -> list[DeviceLine]:
    """Return the device lines that no test of a rehearsal ran."""
    data = CoverageData(str(covered))
    data.read()
    run = {path: set(data.lines(str(HOUSE / path)) or ()) for path in {line.path for line in device_lines()}}
    return [line for line in device_lines() if not run[line.path].intersection(range(line.first, line.last + 1))]


def cannot_be_rehearsed() -> dict[str, list[str]]:
    """Return the lines that no card of host memory can run, by file."""
    with Path(__file__).with_name("cannot.toml").open("rb") as file:
        return {str(path): [str(line) for line in lines] for path, lines in tomllib.load(file).items()}


def report(covered: Path) -> tuple[str, list[DeviceLine]]:
    """Return what to print of the lines that name a device, and those that were not run and are not known for it."""
    left, known = not_run(covered), cannot_be_rehearsed()
    unknown = [line for line in left if line.text not in known.get(line.path, ())]
    lines = device_lines()
    told = [f"{len(lines) - len(left)} of {len(lines)} statements that name a device were run"]
    told += [
        f"  {'NOT RUN' if line in unknown else 'cannot be'} {line.path}:{line.first}: {line.text}" for line in left
    ]
    return "\n".join(told), unknown


def main() -> int:
    """Rehearse every test for a GPU; return the process's status."""
    with tempfile.TemporaryDirectory() as folder:
        covered = Path(folder) / "covered"
        ended = rehearse("-m", "gpu", *sys.argv[1:], covered=covered)
        words, unknown = report(covered)
    sys.stdout.write(f"{ended.stdout}{ended.stderr}\n{words}\n")
    return ended.returncode or bool(unknown)


if __name__ == "__main__":
    sys.exit(main())
