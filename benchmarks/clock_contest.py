"""The default search against what people use, on the clock: real trainings, nothing recorded or simulated.

    OMP_NUM_THREADS=1 python benchmarks/clock_contest.py [--tasks digits-mlp,byte-retention]
        [--methods "Optuna, TPE|Ray Tune, ASHA"] [--seeds 20] [--budget 8] [--results FILE] [--json FILE]

In an environment of its own, made by ``pip install -e '.[tasks]' neural-pipeline-search 'ray[tune]'``. All search the task's
own space, on one thread. frostline goes first, with each of its budgets in full trainings; every other method has as many
seconds as the largest of them took, and what it finds then is its answer: the best configuration that was trained in full
by that time. All begin with the task's defaults; they are PriorBand's prior, and what frostline draws near, where it is told
to. The seconds begin with the first training, once everything is loaded; Ray's own processes and PriorBand's files count.
Trainings go on where a method lets them.

Each run is written as it ends: the same command goes on where it was stopped. Intervals are of 95 %, from the bootstrap
over seeds. *Times less* is how much less time the default needs for the mean of the best rival, read between its budgets.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from frostline.process import prepare_process

prepare_process()

import numpy as np
import optuna
from matching import cost_for
from numpy.typing import NDArray
from rivals import OPTIONS, RIVALS, TASKS, Bench, Clock, TimeUp, warm_up

from frostline.records import Evaluation, Fidelity
from frostline.run.loop import Observer
from frostline.run.plan import SearchPlan
from frostline.run.tuning import own_configuration, tune_task
from frostline.search.history import History
from frostline.search.proposals.sampling import RANDOM, Sampling, near
from frostline.store.backends.storage import MEMORY
from frostline.tasks.loading import load_task
from frostline.text_tables import text_table
from frostline.training.supervised.task_layers import layers_of

Array = NDArray[np.float64]

DEFAULT, NEAR = "default", "default, near one's own"
BUDGETS = (4.0, 6.0)  # beside the largest, for the time that is needed to match


@dataclass(frozen=True, kw_only=True)
class Run:
    """One method's search of one task."""

    task: str
    method: str
    seed: int
    budget: float
    seconds: float
    full_trainings: int
    best: list[tuple[float, float]]

    @property
    def loss(self) -> float:
        """Of the answer; infinite without one."""
        return self.best[-1][1] if self.best else math.inf


@dataclass(frozen=True)
class Noting(Observer):
    clock: Clock
    full: Fidelity

    def ended(self, evaluation: Evaluation, history: History) -> None:
        if evaluation.fidelity == self.full and evaluation.score is not None:
            self.clock.trained(evaluation.score)


def frostline_search(bench: Bench, budget: float, sampling: Sampling) -> None:
    task = bench.task
    full = Fidelity(trainable_layers=layers_of(task).num_layers, samples=task.full_samples)
    with tempfile.TemporaryDirectory() as runs:
        bench.clock.look()
        tune_task(
            task,
            study="search",
            storage=MEMORY,
            plan=SearchPlan(budget=budget, seed=bench.seed, sampling=sampling),
            training=replace(OPTIONS, runs=Path(runs)),
            observer=Noting(bench.clock, full),
        )


OURS: dict[str, Callable[[Bench, float], None]] = {
    DEFAULT: partial(frostline_search, sampling=RANDOM),
    NEAR: lambda bench, budget: frostline_search(bench, budget, near(bench.own)),
}


def run_of(name: str, method: str, seed: int, *, budget: float, limit: float) -> Run:
    bench = Bench(name=name, task=TASKS[name](), seed=seed, clock=Clock(limit=limit))
    with suppress(TimeUp):
        OURS[method](bench, budget) if method in OURS else RIVALS[method](bench)
    clock = bench.clock
    best = [(second, loss) for second, loss in clock.best if second <= limit]
    return Run(
        task=name,
        method=method,
        seed=seed,
        budget=budget,
        seconds=min(clock.seconds, limit),
        full_trainings=clock.full_trainings,
        best=best,
    )


def runs_of(tasks: list[str], methods: list[str], seeds: int, budget: float, file: Path) -> Iterator[Run]:
    """Yield all runs, those in the file first; new ones are added to it."""
    known = [Run(**json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []
    runs = {(each.task, each.method, each.seed, each.budget): each for each in known}
    wanted = [(DEFAULT, each) for each in (*BUDGETS, budget) if each <= budget]
    wanted += [(method, budget) for method in (NEAR, *methods)]
    for seed in range(seeds):
        for name in tasks:
            limit = math.inf
            for method, of in wanted:
                key = (name, method, seed, of)
                if key not in runs:
                    runs[key] = run_of(name, method, seed, budget=of, limit=limit)
                    with file.open("a") as lines:
                        lines.write(json.dumps(asdict(runs[key])) + "\n")
                    told = f"{runs[key].loss:.4f} in {runs[key].seconds:.1f} s, {runs[key].full_trainings} in full"
                    print(f"{name} {method} seed {seed} budget {of:g}: {told}", flush=True)
                if (method, of) == (DEFAULT, budget):
                    limit = runs[key].seconds
                yield runs[key]


def interval(values: Array) -> tuple[float, float]:
    """Return the 95 % interval of a mean."""
    drawn = np.random.default_rng(0).choice(values, size=(4000, len(values))).mean(axis=1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(low), float(high)


def summed_up(runs: list[Run], budget: float) -> dict[str, Any]:
    """Return a task's figures: the answers of each method, and how much less time the default needs for the best rival's."""
    finite = [each.loss for each in runs if math.isfinite(each.loss)]
    groups: dict[tuple[str, float], list[Run]] = {}
    for run in sorted(runs, key=lambda each: each.seed):
        groups.setdefault((run.method, run.budget), []).append(run)
    losses = {key: np.minimum([each.loss for each in of], max(finite)) for key, of in groups.items()}
    seconds = {key: fmean(each.seconds for each in of) for key, of in groups.items()}
    ours = losses[DEFAULT, budget]
    rows = [
        {
            "method": method,
            "budget": of,
            "loss": float(losses[method, of].mean()),
            "median": float(np.median(losses[method, of])),
            "seconds": seconds[method, of],
            "less_the_default": None if method == DEFAULT else float((losses[method, of] - ours).mean()),
            "interval": None if method == DEFAULT else interval(losses[method, of] - ours),
            "full_trainings": fmean(each.full_trainings for each in groups[method, of]),
            "without_an_answer": sum(not each.best for each in groups[method, of]),
        }
        for method, of in groups
    ]
    rivals = {method: losses[method, of].mean() for method, of in groups if method not in OURS}
    best = min(rivals, key=lambda method: rivals[method])
    budgets = sorted(of for method, of in groups if method == DEFAULT)
    reached = [float(losses[DEFAULT, of].mean()) for of in budgets]
    times = [seconds[DEFAULT, of] for of in budgets]
    needed = cost_for(float(rivals[best]), times, reached)
    return {
        "seeds": len(ours),
        "methods": rows,
        "best_rival": best,
        "times_less": None if needed is None else times[-1] / needed,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--methods", default="|".join(RIVALS), help="the rivals, separated by |")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--budget", type=float, default=8.0)
    parser.add_argument(
        "--results",
        type=Path,
        default=Path(__file__).parent / "results" / "clock-contest.jsonl",
        help="where runs are kept",
    )
    parser.add_argument("--json", type=Path)
    words = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.disable(logging.WARNING)
    warnings.filterwarnings("ignore")
    warm_up()
    small = load_task("digits-mlp", {"full_images": 1280})
    for sampling in (RANDOM, near(own_configuration(small))):  # load what searches and their storage are made with
        frostline_search(Bench(name="", task=small, seed=0, clock=Clock(limit=math.inf)), 3.0, sampling)
    found: dict[str, list[Run]] = {}
    for run in runs_of(words.tasks.split(","), words.methods.split("|"), words.seeds, words.budget, words.results):
        found.setdefault(run.task, []).append(run)
    record = {
        "budget": words.budget,
        "tasks": {name: summed_up(runs, words.budget) for name, runs in found.items()},
    }
    for name, one in record["tasks"].items():
        print(
            f"\n{name}, {one['seeds']} seeds; the best rival is {one['best_rival']}, times less: {one['times_less']}"
        )
        print(text_table([tuple(one["methods"][0]), *(tuple(map(shown, row.values())) for row in one["methods"])]))
    if words.json is not None:
        words.json.write_text(json.dumps(record, indent=1) + "\n")


def shown(value: object) -> str:
    """Return a figure as it is printed."""
    if isinstance(value, tuple):
        return " to ".join(f"{each:+.3f}" for each in value)
    return f"{value:.3f}" if isinstance(value, float) else "" if value is None else f"{value}"


if __name__ == "__main__":
    main()
