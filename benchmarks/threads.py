"""What a search takes with so many threads and workers, on a quiet machine and beside a process that never rests.

    python benchmarks/threads.py [--repetitions 3] [--tasks digits-mlp,python-source-gpt] [--configurations 27] [--json FILE]

Every case runs ``frostline tune`` in a process of its own, with a study in memory. All cases run in turns, quiet and busy,
so that whatever else the machine does slows all alike; printed are medians, with the fastest and the slowest run. The busy
process spins on whichever core it gets. How many cores anybody else keeps busy is measured in the second before each run, so
that a table made on a shared machine says so. The tasks are small: digits-mlp as it is, and python-source-gpt with a sixth
of its tokens.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parents[1]
RESULTS = HERE / "benchmarks" / "results" / "threads-cpu.json"
TASKS = {
    "digits-mlp": "digits-mlp",
    "python-source-gpt": "python-source-gpt --set full_tokens=65536 --set corpus_bytes=1000000",
}
WAYS = {
    "1 thread": "--threads 1 --workers 1",
    "2 threads": "--threads 2 --workers 1",
    "threads auto": "--threads auto --workers 1",
    "auto": "--threads auto --workers auto",
    "2 workers": "--threads 1 --workers 2",
}
SPIN = "while True: pass"
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Run:
    """Wall-clock of one command, and how many cores others kept busy before it."""

    task: str
    way: str
    is_busy: bool
    seconds: float
    others: float
    score: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--configurations", type=int, default=27)
    parser.add_argument("--json", type=Path, default=RESULTS)
    options = parser.parse_args()
    runs: list[Run] = []
    for _ in range(options.repetitions):
        for task in options.tasks.split(","):
            for is_busy in (False, True):
                for way in WAYS:
                    runs.append(measured(task, way, is_busy, options.configurations))
                    print(runs[-1], flush=True)
                    options.json.write_text(
                        json.dumps(circumstances() | {"runs": [asdict(run) for run in runs]}, indent=1) + "\n"
                    )
    show(runs)


def circumstances() -> dict[str, str | int | None]:
    return {
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def measured(task: str, way: str, is_busy: bool, configurations: int) -> Run:
    others = cores_taken()
    with tempfile.TemporaryDirectory() as folder, beside(is_busy):
        command = (
            f"-m frostline tune {TASKS[task]} --configurations {configurations} {WAYS[way]} --storage :memory:"
        )
        began = time.perf_counter()
        ended = subprocess.run(
            [sys.executable, *shlex.split(command)],
            env={**os.environ, "PYTHONPATH": str(HERE / "src")},
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
        seconds = time.perf_counter() - began
    score = re.search(r"score (\S+) at full fidelity", ended.stdout)
    assert score is not None, ended.stdout
    return Run(task=task, way=way, is_busy=is_busy, seconds=seconds, others=others, score=score[1])


@contextmanager
def beside(is_busy: bool) -> Iterator[None]:
    """Let a process spin for the time of the context, if asked for."""
    process = subprocess.Popen([sys.executable, "-c", SPIN]) if is_busy else None
    try:
        yield
    finally:
        if process is not None:
            process.kill()
            process.wait()


def cores_taken() -> float:
    """How many cores are kept busy, over one second."""
    before, began = busy_seconds(), time.perf_counter()
    time.sleep(1)
    return (busy_seconds() - before) / (time.perf_counter() - began)


def busy_seconds() -> float:
    """Seconds that all cores together have worked."""
    user, nice, system, _idle, _waiting, interrupts, soft, *_ = Path("/proc/stat").read_text().split()[1:]
    return sum(map(int, (user, nice, system, interrupts, soft))) / CLOCK_TICKS


def show(runs: list[Run]) -> None:
    """Print a line for each task and way: median, fastest and slowest seconds, quiet and busy, and the other load."""
    table = Table("", "", "quiet s", "others", "beside a busy process s", "others", box=None)
    for column in table.columns[2:]:
        column.justify = "right"
    for task, way in dict.fromkeys((run.task, run.way) for run in runs):
        cells = []
        for is_busy in (False, True):
            some = [run for run in runs if (run.task, run.way, run.is_busy) == (task, way, is_busy)]
            seconds = [run.seconds for run in some]
            cells.append(
                f"{statistics.median(seconds):.1f} ({min(seconds):.1f} to {max(seconds):.1f})" if some else ""
            )
            cells.append(f"{statistics.mean(run.others for run in some):.1f}" if some else "")
        table.add_row(task, way, *cells)
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
