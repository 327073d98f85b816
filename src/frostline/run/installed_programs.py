"""How the programs that frostline names are called from where the user stands, so that what is printed can be typed."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path


def program(name: str) -> str | None:
    """Return how to call a program that is installed beside this Python: its name, or its path where the name is not found.

    None if it is not installed.
    """
    # Not resolved: a virtual environment's Python is a link to the system's.
    folder = Path(sys.executable).parent
    found = shutil.which(name)
    if found is not None and Path(found).resolve().parent == folder.resolve():
        return name
    beside = shutil.which(name, path=str(folder))
    if beside is None:
        return None if found is None else name
    here = Path.cwd()
    return str(Path(beside).relative_to(here)) if Path(beside).is_relative_to(here) else beside


def frostline_program() -> str:
    """Return how to call the ``frostline`` command, quoted for a shell."""
    name = program("frostline")
    return shlex.quote(name) if name is not None else f"{shlex.quote(sys.executable)} -m frostline"
