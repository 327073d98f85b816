"""A Hydra application swept by frostline and by Optuna's sweeper, for the same time on the clock.

    python -m venv /tmp/sweeper
    /tmp/sweeper/bin/pip install torch scikit-learn hydra-optuna-sweeper "hydra-core<1.4" "sqlalchemy<2" "alembic<1.13"
    python benchmarks/hydra_sweepers.py --optuna /tmp/sweeper/bin/python [--seeds 5] [--budget 8] [--json FILE]

Hydra's sweeper for Optuna wants a version of Optuna from before 3, and so an environment of its own. frostline's goes
first, with a budget in full trainings; then Optuna's has as many seconds, starting included, with TPE and no end of trials.
Printed is the lowest validation loss of a configuration that was trained in full.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

from rich.console import Console
from rich.table import Table

from frostline.store.reading import read_study

APP = Path(__file__).parent / "hydra_digits" / "app.py"
SPACE = (
    "rate=tag(log, interval(1e-5, 1.0))",
    "weight_decay=tag(log, interval(1e-4, 1.0))",
    "momentum=interval(0.5, 0.99)",
    "dropout=interval(0.0, 0.6)",
)
FROSTLINE, OPTUNA = "frostline", "Optuna's sweeper, TPE"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    sweeper: str
    seed: int
    score: float
    seconds: float
    jobs: int


def by_frostline(seed: int, budget: float, folder: Path) -> Outcome:
    storage = f"sqlite:///{folder}/frostline.db"
    options = (
        "hydra/sweeper=frostline",
        f"hydra.sweeper.budget={budget}",
        f"hydra.sweeper.storage={storage}",
        f"hydra.sweeper.seed={seed}",
        "hydra.sweeper.study=digits",
    )
    begin = time.perf_counter()
    subprocess.run([sys.executable, str(APP), *options, *SPACE, *_common(seed, folder)], check=True)
    seconds = time.perf_counter() - begin
    history = read_study(storage, "digits").history
    scores = [each.score for each in history.evaluations() if each.rung == history.num_rungs - 1]
    best = min(score for score in scores if score is not None)
    return Outcome(sweeper=FROSTLINE, seed=seed, score=best, seconds=seconds, jobs=len([*history.evaluations()]))


def by_optuna(python: Path, seed: int, seconds: float, folder: Path) -> Outcome:
    database = folder / "optuna.db"
    options = (
        "hydra/sweeper=optuna",
        "hydra/sweeper/sampler=tpe",
        f"hydra.sweeper.sampler.seed={seed}",
        f"hydra.sweeper.storage=sqlite:///{database}",
        "hydra.sweeper.study_name=digits",
        "hydra.sweeper.n_trials=100000",
        "hydra.sweeper.n_jobs=1",
    )
    begin = time.perf_counter()
    command = [str(python), str(APP), *options, *SPACE, *_common(seed, folder)]
    with subprocess.Popen(command, start_new_session=True) as process:
        try:
            process.wait(seconds)
            raise SystemExit("Optuna's sweeper ended before its time")
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
    took = time.perf_counter() - begin
    with closing(sqlite3.connect(database)) as connection:
        scores = [row[0] for row in connection.execute("select value from trial_values")]
    best = min(scores, default=float("inf"))
    return Outcome(sweeper=OPTUNA, seed=seed, score=best, seconds=took, jobs=len(scores))


def _common(seed: int, folder: Path) -> tuple[str, ...]:
    return (f"seed={seed}", f"hydra.sweep.dir={folder}/jobs")


def table(outcomes: list[Outcome]) -> Table:
    shown = Table("sweeper", "best loss", "each seed", "seconds", "jobs")
    for sweeper in (FROSTLINE, OPTUNA):
        rows = [each for each in outcomes if each.sweeper == sweeper]
        shown.add_row(
            sweeper,
            f"{fmean(each.score for each in rows):.3f}",
            " ".join(f"{each.score:.3f}" for each in rows),
            f"{fmean(each.seconds for each in rows):.0f}",
            f"{fmean(each.jobs for each in rows):.0f}",
        )
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--optuna", type=Path, required=True, metavar="PYTHON")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--budget", type=float, default=8.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    outcomes: list[Outcome] = []
    for seed in range(options.seeds):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            outcomes.append(by_frostline(seed, options.budget, folder))
            print(outcomes[-1], flush=True)
            outcomes.append(by_optuna(options.optuna, seed, outcomes[-1].seconds, folder))
            print(outcomes[-1], flush=True)
    Console().print(table(outcomes))
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(each) for each in outcomes], indent=1) + "\n")


if __name__ == "__main__":
    main()
