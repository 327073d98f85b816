"""Makes the studies that lie in ``studies``: only for a format that is meant to break with those that people have.

    PYTHONPATH=src:tests python tests/golden/make_stored_studies.py

They were written by 0.1.0, before the package was moved, and are what later code has to read.
"""

from __future__ import annotations

import functools
import re
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

import frostline
from frostline.run.execution.options import TrainingOptions
from frostline.run.tuning import search_function
from frostline.store.terms import TaskReference
from tests.golden.black_boxes import LADDER, SPACE, bowl
from tests.golden.exact_task import make

STUDIES = Path(__file__).parent / "studies"
NUM_EVALUATED = 30


def half_finished(path: Path) -> None:
    """A search that was interrupted in its 31st training, which is claimed and has no record."""
    begun = 0

    @functools.wraps(bowl)
    def stopping(
        configuration: frostline.Configuration, fidelity: frostline.Fidelity
    ) -> Iterator[tuple[int, float]]:
        nonlocal begun
        begun += 1
        if begun > NUM_EVALUATED:
            raise KeyboardInterrupt
        return bowl(configuration, fidelity)

    try:
        search_function(
            stopping,
            SPACE,
            LADDER,
            study="bowl",
            storage=str(path),
            plan=frostline.SearchPlan(configurations=27, seed=5),
        )
    except KeyboardInterrupt:
        _anonymise(path)


def audit(path: Path, runs: Path) -> None:
    task = make()
    frostline.audit_task(
        task,
        frostline.AuditPlan.of(task, configurations=6, layers=(2, 6), budgets=3, repeats=3),
        study="audit",
        storage=str(path),
        plan=frostline.SearchPlan(initial=[dict(task.defaults)]),
        training=frostline.TaskSearch(
            options=TrainingOptions(device="cpu", horizon="full", runs=runs),
            reference=TaskReference(name="exact_task.py:task"),
        ),
    )
    _anonymise(path)


def _anonymise(path: Path) -> None:
    """Take this machine's name out, and the worker's process."""
    text = path.read_text().replace(socket.gethostname(), "elsewhere")
    path.write_text(re.sub(r"elsewhere:\d+", "elsewhere:1", re.sub(r'("pid": ?)\d+', r"\g<1>1", text)))


def main() -> None:
    torch.set_num_threads(1)
    STUDIES.mkdir(exist_ok=True)
    for path in STUDIES.glob("*.log"):
        path.unlink()
    half_finished(STUDIES / "half-finished-search.log")
    with tempfile.TemporaryDirectory() as runs:
        audit(STUDIES / "audit.log", Path(runs))


if __name__ == "__main__":
    main()
