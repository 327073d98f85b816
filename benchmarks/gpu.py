"""The first minutes on a GPU: what was only rehearsed and predicted is run and measured, within eight minutes.

    python3 benchmarks/gpu.py [--device cuda] [--parts memory,figure] [--folder FOLDER] [--tiny]

On a bare machine: no network, nothing installed but torch from 2.6 on; what other packages are there is said first, and
parts that need one which is not are left out. Each part is a process of its own with its own time limit, and prints as it
goes. After every part ``gpu-NAME-OF-CARD.json`` is written: one that fails or runs out of time keeps the rows it has.
``--device cpu --tiny`` makes small models run through the same lines in about a minute, and says nothing of any speed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

# By what they are imported as, and what they are installed as where that is another word.
TASKS = ("torch", "numpy", "optuna", "safetensors", "pydantic")
SEARCHES = (*TASKS, "rich")
TESTS = (*SEARCHES, "pytest", "hypothesis", "filelock", "transformers")
DISTRIBUTIONS = {"sklearn": "scikit-learn"}
WANTED = (*TESTS, "sklearn")
"""Without scikit-learn, which has the digits, searches are made on random data."""


@dataclass(frozen=True)
class Part:
    """Units: ``limit`` counts seconds; ``needs`` names modules."""

    says: str
    limit: int
    needs: Collection[str]


# First what says whether the rest can be believed.
PARTS: dict[str, Part] = {
    "machine": Part("the card and its driver", 20, ("torch",)),
    "gpu_tests": Part("tests that are marked for a GPU", 90, TESTS),
    "synchronisation": Part("training steps in which waiting for the card is an error", 25, SEARCHES),
    "memory": Part("bytes of a step as predicted and as allocated", 75, TASKS),
    "figure": Part("the paper's figure 2: at least 3 times less memory and 4 times faster", 45, TASKS),
    "populations": Part("populations against one by one and the limit by FLOPs", 105, SEARCHES),
    "freezing": Part("seconds and bytes of a step at every number of trained layers", 35, SEARCHES),
    "switches": Part("pinned batches, weights copied ahead and compiled steps, off and on", 25, SEARCHES),
    "search": Part("a whole search with populations off, on and captured", 35, SEARCHES),
    "beside_optuna": Part("the same search beside Optuna's TPE and Hyperband for the same seconds", 25, SEARCHES),
}


def versions() -> dict[str, str | None]:
    """Return the version of each package that is wanted; None of one that is not there."""
    found: dict[str, str | None] = {}
    for name in WANTED:
        try:
            found[name] = metadata.version(DISTRIBUTIONS.get(name, name))
        except metadata.PackageNotFoundError:
            found[name] = "unknown" if importlib.util.find_spec(name) else None
    return found


def left_out(part: Part, there: Mapping[str, str | None]) -> str | None:
    """Return why a part cannot be run with the packages that are there, or None."""
    missing = [name for name in part.needs if there[name] is None]
    return f"needs {', '.join(missing)}" if missing else None


def run_part(name: str, device: str, tiny: bool) -> dict[str, Any]:
    """Run a part in a process of its own, and return what came of it: its rows, too, as far as it got."""
    part = PARTS[name]
    command = [sys.executable, __file__, "--part", name, "--device", device, *(["--tiny"] if tiny else [])]
    paths = filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
    print(f"\n{name}: {part.says} (at most {part.limit} s)", flush=True)
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows"
        # A session of its own, so that what the part starts ends with it.
        process = subprocess.Popen(
            [*command, "--rows", str(file)], env=environment, cwd=ROOT, start_new_session=True
        )
        try:
            status = process.wait(part.limit)
            ended = "ended" if status == 0 else f"failed with status {status}"
        except subprocess.TimeoutExpired:
            ended = "out of time"
        finally:
            end(process)
        lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    seconds = time.perf_counter() - begin
    # The last line may be cut short.
    rows = [json.loads(line) for line in lines if line.endswith("\n")]
    print(f"{name}: {ended}, {len(rows)} rows in {seconds:.0f} s", flush=True)
    return {"status": ended, "seconds": seconds, "limit": part.limit, "rows": rows}


def end(process: subprocess.Popen[bytes]) -> None:
    """Let nothing run on that the process started, nor the process itself."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def write(results: Mapping[str, Any], folder: Path) -> Path:
    """Write the results as a whole or not at all, and return where."""
    name = re.sub(r"[^A-Za-z0-9]+", "-", results["machine"]["name"]).strip("-")
    path, unfinished = folder / f"gpu-{name}.json", folder / f"gpu-{name}.json.tmp"
    unfinished.write_text(json.dumps(results, indent=1) + "\n")
    unfinished.replace(path)
    return path


def run_all(device: str, parts: Collection[str], folder: Path, tiny: bool) -> int:
    """Run the parts and return the exit status: 0 if all that could be run came to their ends."""
    there = versions()
    names = (f"{name} {version or 'MISSING'}" for name, version in there.items())
    print(f"wanted: {', '.join(names)}; Python {sys.version.split()[0]}", flush=True)
    if there["torch"] is None or sys.version_info < (3, 11):
        print(
            "nothing can be run: torch 2.6 and Python 3.11, or later, are needed; make gpu PYTHON=/path/to/python"
        )
        return 2
    machine = run_part("machine", device, tiny)
    if machine["status"] != "ended":
        return 2
    results: dict[str, Any] = {"machine": machine["rows"][0], "packages": there, "tiny": tiny, "parts": {}}
    folder.mkdir(parents=True, exist_ok=True)
    for name in parts:
        reason = left_out(PARTS[name], there)
        if reason:
            print(f"\n{name} is left out: {reason}", flush=True)
            results["parts"][name] = {"status": f"left out: {reason}", "rows": []}
        else:
            results["parts"][name] = run_part(name, device, tiny)
        path = write(results, folder)
    print(f"\n{path}", flush=True)
    bad = [f"{name}: {trouble}" for name, part in results["parts"].items() for trouble in troubles(part)]
    print("\n".join(bad) or "every part that could be run came to its end")
    return int(bool(bad))


def troubles(part: Mapping[str, Any]) -> list[str]:
    """Return what went wrong in a part; a part or a row that was left out is not among it."""
    status = [] if part["status"] == "ended" or part["status"].startswith("left out") else [part["status"]]
    return status + [row["failed"] for row in part["rows"] if "failed" in row]


def main() -> int:
    chosen = [name for name in PARTS if name != "machine"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--parts", default=",".join(chosen))
    parser.add_argument("--folder", type=Path, default=ROOT / "benchmarks" / "results", help="where the JSON goes")
    parser.add_argument("--tiny", action="store_true", help="small models: whether it runs, and not how fast")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        from gpu_parts.rows import write_rows  # with it torch, which the caller does not need

        from frostline.errors import OptionError

        try:
            write_rows(options.part, options.rows, device=options.device, tiny=options.tiny)
        except OptionError as error:
            sys.exit(f"{error}")  # no such device
        return 0
    parts = options.parts.split(",")
    unknown = [name for name in parts if name not in chosen]
    if unknown:
        parser.error(f"--parts names {unknown[0]!r}, but may name {', '.join(chosen)}")
    return run_all(options.device, parts, options.folder, options.tiny)


if __name__ == "__main__":
    sys.exit(main())
