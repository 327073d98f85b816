"""The tests that are marked for a GPU."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from gpu_parts.rows import Measurement, Row, Setting

# What the first group knows of a card is the most; each has so many seconds.
GROUPS = (
    (("tests/rehearsal/test_on_card.py", "tests/rehearsal/test_weights_on_card.py"), 40),
    (("tests/rehearsal/test_captured_on_card.py", "tests/rehearsal/test_streams_on_card.py"), 15),
    ((
        "tests/training", "tests/tasks", "tests/costs/test_measurement.py", "tests/layers/freezing/test_freeze.py",
        "tests/populations/prefix/test_prefix_cache.py", "tests/run/execution/test_executors.py",
    ), 20),
)  # fmt: skip
TINY = ((("tests/training/machine/test_memory.py",), 30),)
SECONDS_TO_END = 5


def measurements(setting: Setting) -> list[Measurement]:
    return [
        Measurement(labels={"tests": paths[0]}, measure=partial(outcomes, paths, limit))
        for paths, limit in (TINY if setting.tiny else GROUPS)
    ]


def outcomes(paths: Sequence[str], limit: int) -> Iterable[Row]:
    """Yield how many tests there were and which failed, of those that ``limit`` seconds were enough for."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        # The project's own options, and its limits of time, are for plugins that a bare machine lacks.
        options = ["-q", "--import-mode=importlib", "--continue-on-collection-errors", "-o", "addopts="]
        options += ["-p", "no:cacheprovider", "-W", "ignore::pytest.PytestConfigWarning", f"--junit-xml={report}"]
        process = subprocess.Popen([sys.executable, "-m", "pytest", "-m", "gpu and not torture", *options, *paths])
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)  # upon which pytest writes what it has
            process.wait(SECONDS_TO_END)
        finally:
            process.kill()
        suite = next(ET.parse(report).iter("testsuite"))
    failing = [
        f"{case.get('classname')}.{case.get('name')}"
        for case in suite.iter("testcase")
        if case.find("failure") is not None or case.find("error") is not None
    ]
    counts = {name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}
    # 0 is that all passed, 5 that there was none to run; 2 that it was interrupted, by errors in collecting them as well.
    failed = {} if process.returncode in (0, 5) else {"failed": f"pytest ended with status {process.returncode}"}
    yield {"counts": counts, "failing": failing, **failed}
