"""How `frostline worker` shares a study on PostgreSQL: seconds, lock waits, and whether anything is done twice or lost.

    python -m benchmarks.joined_workers --postgresql URL [--workers 1,4,16] [--configurations 81]
                                        [--json benchmarks/results/joined_workers.json]

Each worker is a process that runs the command; what it imports is loaded before, and all begin together. Every step of a
training waits 50 ms, as for a device of its own, so that few cores suffice. Seconds go from the beginning to the last
evaluation. Lock waits are read from the server (pg_stat_activity, every 10 ms): seconds that sessions waited for another
one's lock, of all workers together.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import threading
import time
from contextlib import redirect_stdout, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.workers import database
from frostline.cli.main import main as command
from frostline.store.reading import read_study

TASK = Path(__file__).with_name("waiting_task.py")
PRELOADED = (
    "frostline.run.execution.in_process",
    "frostline.cli.shown_search",
    "frostline.tasks.loading",
    "torch._dynamo",
)
_SECONDS_BETWEEN_LOOKS = 0.01


@dataclass(frozen=True, kw_only=True)
class Row:
    workers: int
    evaluations: int
    expected: int
    twice: int
    """Evaluations that were made once more."""
    lost: int
    seconds: float
    cpu_seconds: float
    """Of all workers together."""
    lock_seconds: float
    """For which sessions waited for a lock, of all workers together."""
    most_waiting: int
    """Sessions that waited for a lock at once."""
    deadlocks: int
    load: float
    """Processes of the whole machine that wanted a core at the end, the mean of a minute."""
    is_same: bool
    """Whether every score is that of the first row."""

    @property
    def per_second(self) -> float:
        return self.evaluations / self.seconds


class LockWatch(threading.Thread):
    """Looks again and again how many sessions of a database wait for a lock, until it is told that it is over."""

    def __init__(self, place: str) -> None:
        from sqlalchemy import create_engine

        super().__init__(daemon=True)
        self.engine = create_engine(place, isolation_level="AUTOCOMMIT")
        self.is_over = threading.Event()
        self.seconds, self.most, self.deadlocks = 0.0, 0, 0

    def run(self) -> None:
        from sqlalchemy import text

        waiting = text(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        with self.engine.connect() as connection:
            before = time.perf_counter()
            while not self.is_over.wait(_SECONDS_BETWEEN_LOOKS):
                count = connection.execute(waiting).scalar_one()
                now = time.perf_counter()
                self.seconds, self.most, before = self.seconds + count * (now - before), max(self.most, count), now
            query = text("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
            self.deadlocks = connection.execute(query).scalar_one()

    def stop(self) -> None:
        self.is_over.set()
        self.join()
        self.engine.dispose()


def work(folder: str, place: str, number: int, barrier: Any) -> None:
    os.chdir(folder)
    words = [
        "worker",
        "s",
        "--storage",
        place,
        "--engine",
        "serial",
        "--workers",
        "1",
        "--threads",
        "1",
        "--device",
        "cpu",
    ]
    with Path(f"told-{number}").open("w", buffering=1) as told, redirect_stdout(Stamped(told)):  # type: ignore[type-var]
        barrier.wait()
        try:
            command(words)
        finally:
            told.write(f"{time.time()} cpu {time.process_time()}\n")


class Stamped(io.TextIOBase):
    """Writes every line with the time before it."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self.begins = True

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError("this is no binary file")  # what the command line asks by writing one
        for line in text.splitlines(keepends=True):
            self.file.write(f"{time.time()} {line}" if self.begins else line)
            self.begins = line.endswith("\n")
        return len(text)

    def flush(self) -> None:
        self.file.flush()

    def isatty(self) -> bool:
        return False


def measure(place: str, folder: str, num_workers: int, configurations: int, context: Any) -> tuple[Row, list[Any]]:
    os.chdir(folder)
    shutil.copy(TASK, "waiting_task.py")
    begin_study(place, configurations)
    barrier = context.Barrier(num_workers + 1)
    processes = [
        context.Process(target=work, args=(folder, place, number, barrier)) for number in range(num_workers)
    ]
    for process in processes:
        process.start()
    watch = LockWatch(place)
    watch.start()
    barrier.wait()
    begin = time.time()
    for process in processes:
        process.join()
    watch.stop()
    study = read_study(place, "s")
    scores = [(one.number, one.rung, one.score) for one in study.history.evaluations()]
    lines = [line.split() for told in Path().glob("told-*") for line in told.read_text().splitlines()]
    ended = [line for line in lines if line[1:2] == ["rung"] and line[3] == "configuration"]
    row = Row(
        workers=num_workers,
        evaluations=len(scores),
        expected=sum(study.terms.expected),
        twice=len(ended) - len({(line[2], line[4]) for line in ended}),
        lost=sum(study.terms.expected) - len(scores),
        seconds=max(float(line[0]) for line in ended) - begin,
        cpu_seconds=sum(float(line[2]) for line in lines if line[1:2] == ["cpu"]),
        lock_seconds=watch.seconds,
        most_waiting=watch.most,
        deadlocks=watch.deadlocks,
        load=os.getloadavg()[0],
        is_same=True,
    )
    return row, sorted(scores)


def begin_study(place: str, configurations: int) -> None:
    words = ["tune", "waiting_task.py:task", "--study", "s", "-n", f"{configurations}", "--storage", place]
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), suppress(SystemExit):
        command([*words, "--for-workers"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--postgresql", default=os.environ.get("FROSTLINE_TEST_DATABASE", ""))
    parser.add_argument("--workers", default="1,4,16")
    parser.add_argument("--configurations", type=int, default=81)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    kept = None if arguments.json is None else arguments.json.absolute()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*PRELOADED, __name__])
    rows: list[Row] = []
    first: list[Any] = []
    for num_workers in map(int, arguments.workers.split(",")):
        with (
            tempfile.TemporaryDirectory() as folder,
            database("postgresql", arguments.postgresql, folder) as place,
        ):
            row, scores = measure(place, folder, num_workers, arguments.configurations, context)
            os.chdir("/")
        first = first or scores
        rows.append(Row(**asdict(row) | {"is_same": scores == first}))
        print(rows[-1], flush=True)
    if kept is not None:
        kept.write_text(
            json.dumps([asdict(row) | {"per_second": row.per_second} for row in rows], indent=1) + "\n"
        )


if __name__ == "__main__":
    sys.exit(main())
