"""Whatever comes in at the command line, it does its work or says in one sentence why not: no traceback, hang or password.

A few inputs always, 10,000 with ``make torture``. One again: ``FUZZ=1234 pytest tests/faults/test_fuzz.py``.
"""

from __future__ import annotations

import io
import os
import shutil
import signal
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from frostline.cli.main import main
from tests.faults.fuzzed_inputs import KINDS, KNOWN_JOURNAL, PASSWORD, FuzzedInput, fuzzed

# Of processor time: other processes make none of these slower. Whoever waits for nothing is found by the clock.
LONGEST_SECONDS, LONGEST_WAIT = 10, 60
NUM_QUICK, NUM_ALL = 60, 10_000


class Hang(BaseException):
    """An input took too long."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a command."""

    code: object
    out: str
    err: str
    seconds: float
    hung: bool

    def complaint(self, folder: Path) -> str | None:
        """Return what should not have been."""
        lines = self.err.splitlines()
        files = (file for file in folder.rglob("*") if file.is_file() and file.name not in {"odd.log", "made.log"})
        if self.hung:
            return "it hangs"
        if self.code not in (0, 1, 2):
            return f"it ended with {self.code!r}"
        if "Traceback" in self.out + self.err:
            return "a traceback"
        if self.code == 0 and lines:
            return "words on the error stream of a success"
        if self.code != 0 and (len(lines) != 1 or not self.err.startswith("frostline: ")):
            # Without a command there is the help alone.
            return None if self.out.startswith("\n Usage:") and not lines else "not one sentence"
        if self.err.startswith("frostline: unexpected"):
            return "an unexpected error"
        if not all(line.isprintable() for line in [*lines, *self.out.splitlines()]):
            return "what is printed moves the cursor"
        if PASSWORD in self.out + self.err or any(PASSWORD.encode() in file.read_bytes() for file in files):
            return "a password is repeated"
        return None


@contextmanager
def limited() -> Iterator[None]:
    """Raise Hang after ``LONGEST_SECONDS`` of processor time, or ``LONGEST_WAIT`` by the clock."""

    def stop(number: int, frame: object) -> None:
        raise Hang

    timers = (
        (signal.ITIMER_PROF, signal.SIGPROF, LONGEST_SECONDS),
        (signal.ITIMER_REAL, signal.SIGALRM, LONGEST_WAIT),
    )
    before = [signal.signal(number, stop) for _, number, _ in timers]
    for timer, _, seconds in timers:
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for (timer, number, _), handler in zip(timers, before, strict=True):
            signal.setitimer(timer, 0)
            signal.signal(number, handler)


def run(given: FuzzedInput, folder: Path) -> Outcome:
    """Run a command in ``folder``, in this process, and leave the process as it was."""
    for name, contents in given.files.items():
        (folder / name).write_bytes(contents)
    shutil.copy(KNOWN_JOURNAL, folder)
    modules, path = dict(sys.modules), list(sys.path)
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    err.reconfigure(errors="backslashreplace")
    code, hung, begin = None, False, time.process_time()
    before = Path.cwd()
    os.chdir(folder)
    try:
        with warnings.catch_warnings(), redirect_stdout(out), redirect_stderr(err), limited():
            warnings.simplefilter("default", UserWarning)
            main(given.words)
    except SystemExit as ended:
        code = ended.code
    except Hang:
        hung = True
    except Exception as error:
        code = error
    finally:
        os.chdir(before)
        sys.path[:] = path
        for name in [name for name, module in sys.modules.items() if name not in modules]:
            if str(folder) in str(getattr(sys.modules[name], "__file__", "")):
                del sys.modules[name]
    texts = [stream.buffer.getvalue().decode("utf-8") for stream in (out, err)]  # type: ignore[attr-defined]
    return Outcome(code, *texts, time.process_time() - begin, hung)


def failures_of(numbers: range, folder: Path) -> tuple[list[str], str]:
    """Run the inputs of these numbers; return what was wrong, with the numbers to try again, and the counts."""
    counts: Counter[tuple[str, str]] = Counter()
    failures, slowest = [], 0.0
    for number in numbers:
        kind, given = fuzzed(number)
        place = folder / "here" / f"{number}"
        place.mkdir(parents=True)
        outcome = run(given, place)
        complaint = outcome.complaint(place)
        beside = [entry.name for entry in folder.iterdir() if entry.name != "here"]
        if complaint is None and beside:
            complaint = f"{beside} lies outside of its folder"
        slowest = max(slowest, outcome.seconds)
        counts[kind, "success" if outcome.code == 0 else "one sentence"] += complaint is None
        if complaint is not None:
            failures.append(f"{number}: {complaint}: {given.words!r:.600}\n    {outcome.err.strip()[:600]}")
        shutil.rmtree(place)
    lines = [
        f"{kind:<14} {counts[kind, 'success']:>6} successes {counts[kind, 'one sentence']:>6} sentences"
        for kind in KINDS
    ]
    lines.append(
        f"{len(numbers)} inputs, {len(failures)} failures, the slowest took {slowest:.1f} s of processor time"
    )
    return failures, "\n".join(lines)


@pytest.mark.timeout(120)
def test_a_few_inputs(tmp_path: Path) -> None:
    one = os.environ.get("FUZZ")
    numbers = range(NUM_QUICK) if one is None else range(int(one), int(one) + 1)
    failures, _ = failures_of(numbers, tmp_path)
    assert failures == []


@pytest.mark.torture
@pytest.mark.timeout(4 * 3600)
def test_ten_thousand_inputs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failures, counts = failures_of(range(NUM_ALL), tmp_path)
    with capsys.disabled():
        sys.stdout.write(f"\n{counts}\n")
    assert failures == []
