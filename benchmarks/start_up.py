"""What a command takes beside its work: processor and wall seconds of fresh processes.

    python benchmarks/start_up.py [--repetitions 5] [--before CHECKOUT] [--json FILE]

Every case runs in a process of its own, all cases in turns, so that a busy machine slows all alike; printed are medians.
``--before`` names another checkout of frostline, whose ``src`` is measured in the same turns. A case that a checkout does
not have, or that fails there, has no figures. ``tune`` trains 27 configurations of digits-mlp in a study of its own.

Of every built-in task that needs no download, ``tune`` is run up to where its first population is made: from there on the
model runs, over its data for frozen statistics too. What it takes until then beyond importing torch, with what its first
optimizer loads, and the task's library is frostline's own, and Optuna's.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parents[1]
# As the installed command is run; checkouts from before there was frostline.__main__ have another entry.
RUN = """
import importlib.util
if importlib.util.find_spec("frostline.__main__"): from frostline.__main__ import main
else: from frostline_launcher import main
main()
"""
STUDY = "measured"
UNTIL_TRAINED = f"""
import os
from frostline.populations.population import Population
from frostline.run.execution import workload
Population.__init__ = workload.train_serially = lambda *_, **__: os._exit(0)
{RUN}
"""
# What a task needs beside torch, and its options. text-gpt has a token file: making one of texts is the tokenizer's time.
TASKS = {
    "digits-mlp": ("sklearn.datasets", ""),
    "digits-resnet": ("sklearn.datasets", ""),
    "python-source-gpt": ("tokenizers", ""),
    "text-gpt": ("tokenizers", "--set text=tokens.bin"),
    "random-tokens": ("torch", ""),
    "random-images": ("transformers.models.resnet.modeling_resnet", ""),
}
# torch loads much more for its first optimizer.
OPTIMIZER = "import torch; torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1).zero_grad()"
LIBRARIES = sorted({library for library, _ in TASKS.values()})
STATEMENTS = {
    "import torch": "import torch",
    "import frostline": "import frostline",
    **{f"torch, optimizer, {library}": f"{OPTIMIZER}; import {library}" for library in LIBRARIES},
}
COMMANDS = {
    "--help": "--help",
    "a wrong option": "tune digits-mlp --nonsense",
    "status": f"status {STUDY}",
    "best": f"best {STUDY}",
    "report": f"report {STUDY}",
    "ladder of a study": f"ladder --study {STUDY}",
    "ladder of a task": "ladder digits-mlp",
    "tune": "tune digits-mlp --configurations 27 --study again",
    **{
        f"{task} until it trains": f"tune {task} {options} --configurations 9 --study {task}"
        for task, (_, options) in TASKS.items()
    },
}


@dataclass(frozen=True)
class Row:
    """Median seconds of a case in one checkout; the seconds of training that ``tune`` reports are within them."""

    checkout: str
    case: str
    processor_seconds: float | None
    wall_seconds: float | None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    checkouts = {"now": HERE} | ({"before": options.before.resolve()} if options.before else {})
    seconds: dict[tuple[str, str], list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, checkout in checkouts.items():
            place = Path(folder, name)
            place.mkdir()
            (place / "tokens.bin").write_bytes(bytes(2**20))
            prepare = ("-c", RUN, *shlex.split(f"tune digits-mlp --study {STUDY} --configurations 9"))
            subprocess.run(
                [sys.executable, *prepare],
                env=environment(checkout),
                cwd=place,
                check=True,
                stdout=subprocess.DEVNULL,
            )
        for _ in range(options.repetitions):
            for case in [*STATEMENTS, *COMMANDS]:
                for name, checkout in checkouts.items():
                    taken = measured(case, checkout, Path(folder, name))
                    if taken is not None:
                        seconds.setdefault((name, case), []).append(taken)
    rows = [
        row_of(name, case, seconds.get((name, case), []))
        for name in checkouts
        for case in [*STATEMENTS, *COMMANDS]
    ]
    rows += [beyond(task, name, rows) for name in checkouts for task in TASKS]
    show(rows, list(checkouts))
    if options.json:
        machine = {"processor": platform.processor(), "cores": os.cpu_count(), "python": platform.python_version()}
        options.json.write_text(json.dumps({**machine, "rows": [asdict(row) for row in rows]}, indent=1) + "\n")


def environment(checkout: Path) -> dict[str, str]:
    """The environment in which the package is that of ``checkout``."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPATH": str(checkout / "src")}


def measured(case: str, checkout: Path, folder: Path) -> tuple[float, float] | None:
    """Processor and wall seconds of one process; None if it failed otherwise than it should."""
    code, words = (STATEMENTS[case], []) if case in STATEMENTS else (RUN, shlex.split(COMMANDS[case]))
    if case == "tune":
        words += ["--storage", ":memory:"]
    elif case.endswith("until it trains"):
        # Every repetition begins a study of its own, and leaves its storage behind.
        code, words = UNTIL_TRAINED, [*words, "--storage", f"sqlite:///{time.time_ns()}.db"]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    ended = subprocess.run(
        [sys.executable, "-c", code, *words], env=environment(checkout), cwd=folder, capture_output=True
    )
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if ended.returncode != (2 if case == "a wrong option" else 0):
        return None
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def row_of(checkout: str, case: str, taken: list[tuple[float, float]]) -> Row:
    if not taken:
        return Row(checkout, case, None, None)
    processor, wall = (statistics.median(each) for each in zip(*taken, strict=True))
    return Row(checkout, case, processor, wall)


def beyond(task: str, checkout: str, rows: list[Row]) -> Row:
    """What ``tune`` takes until it trains, without what it has to load."""
    taken = {row.case: row for row in rows if row.checkout == checkout}
    until, loads = taken[f"{task} until it trains"], taken[f"torch, optimizer, {TASKS[task][0]}"]
    pairs = (
        (until.processor_seconds, loads.processor_seconds),
        (until.wall_seconds, loads.wall_seconds),
    )
    own = [None if until is None or loads is None else until - loads for until, loads in pairs]
    return Row(checkout, f"{task}: frostline's own", *own)


def show(rows: list[Row], checkouts: list[str]) -> None:
    """Print a line for each case, with the columns of each checkout."""
    headings = [f"{checkout}: {what}" for checkout in checkouts for what in ("processor s", "wall s")]
    table = Table("", *headings, box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for case in dict.fromkeys(row.case for row in rows):
        cells = [
            "" if value is None else f"{value:.2f}"
            for row in rows
            if row.case == case
            for value in (row.processor_seconds, row.wall_seconds)
        ]
        table.add_row(case, *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
