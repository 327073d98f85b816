"""What the search itself costs, without any training, beside Optuna's own ask and tell: same sampler, storage and space.

    python benchmarks/search_overhead.py [--sizes 100,1000] [--storages memory,journal,sqlite] [--json FILE]

Both sides handle the same number of configurations, in turns, one by one, in one process, so that a busy disk or core
slows both alike. Printed are milliseconds per configuration, over all and over
the last tenth (the growth), and the ratio frostline / Optuna, which is to stay below 1.5.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from rich.console import Console
from rich.table import Table

from frostline.records import Cost, Evaluation, Job, Status
from frostline.run.loop import Observer, climb
from frostline.search.algorithms.halving import AsynchronousHalving, SuccessiveHalving
from frostline.search.algorithms.sweep import FullFidelity
from frostline.search.history import History
from frostline.search.interface import Search
from frostline.search.ladder import Ladder
from frostline.search.proposals.sampling import RANDOM, TPE, Draws, Sampling
from frostline.search.spaces.space import SearchSpace
from frostline.store.backends.storage import open_storage, opened
from frostline.store.study import SearchStudy
from frostline.store.terms import Terms

DISTRIBUTIONS: dict[str, BaseDistribution] = {f"x{i}": FloatDistribution(1e-5, 1.0, log=True) for i in range(5)}
LADDER = Ladder.diagonal(num_layers=10, full_samples=100_000)
SAMPLERS: dict[str, tuple[Sampling, type[optuna.samplers.BaseSampler]]] = {
    "random": (RANDOM, optuna.samplers.RandomSampler),
    "tpe": (TPE, optuna.samplers.TPESampler),
}
SEARCHES = {"full": FullFidelity, "halving": SuccessiveHalving, "asynchronous": AsynchronousHalving}


@dataclass(frozen=True)
class Row:
    storage: str
    sampler: str
    search: str
    configurations: int
    evaluations: int
    optuna_ms: float
    optuna_last_tenth_ms: float
    frostline_ms: float
    frostline_last_tenth_ms: float

    @property
    def ratio(self) -> float:
        return self.frostline_ms / self.optuna_ms


class InstantExecutor:
    """Answers every job at once with a score of the configuration alone; beside every new one Optuna asks and tells."""

    def __init__(self, study: optuna.Study) -> None:
        self._study = study
        self._jobs: list[Job] = []
        self.optuna_seconds: list[float] = []

    def room(self) -> int:
        return 1 - len(self._jobs)

    def submit(self, jobs: Sequence[Job]) -> None:
        self._jobs += jobs

    def next_ended(self) -> Evaluation:
        job = self._jobs.pop()
        if job.configuration.number == len(self.optuna_seconds):
            begin = time.perf_counter()
            trial = self._study.ask(DISTRIBUTIONS)
            self._study.tell(trial, score_of(trial.params))
            self.optuna_seconds.append(time.perf_counter() - begin)
        return Evaluation(
            number=job.configuration.number,
            rung=job.rung,
            fidelity=job.fidelity,
            status=Status.FINISHED,
            score=score_of(job.configuration.hyperparameters),
            cost=Cost(seconds=0.0, samples=job.fidelity.samples),
        )

    def forget(self, number: int) -> None:
        pass

    def close(self) -> None:
        pass


class Marks(Observer):
    """The clock after each evaluation, without Optuna's part."""

    def __init__(self, executor: InstantExecutor) -> None:
        self._executor = executor
        self._begin = time.perf_counter()
        self._optuna_total, self._optuna_counted = 0.0, 0
        self.seconds: list[float] = []

    def ended(self, evaluation: Evaluation, history: History) -> None:
        self._optuna_total += sum(self._executor.optuna_seconds[self._optuna_counted :])
        self._optuna_counted = len(self._executor.optuna_seconds)
        self.seconds.append(time.perf_counter() - self._begin - self._optuna_total)


def score_of(values: Mapping[str, Any]) -> float:
    return sum(values.values())


def side_by_side(place: Callable[[str], str], sampler: str, search: Search) -> tuple[list[float], list[float]]:
    """Return Optuna's seconds for each configuration, and ours for each evaluation."""
    sampling, optuna_sampler = SAMPLERS[sampler]
    space = SearchSpace(distributions=DISTRIBUTIONS)
    terms = Terms(
        task="benchmark", data="", space=space.fingerprint, rungs=LADDER.rungs, num_layers=10, search="", is_sweep=False,
        sampler=sampling.name, seed=0, direction="minimize", sample_unit="samples", expected=(),
    )  # fmt: skip
    storage = open_storage(place("optuna"))
    executor = InstantExecutor(
        optuna.create_study(storage=storage, sampler=optuna_sampler(seed=0), study_name="o")
    )
    draws = Draws(space=space, sampling=sampling, root_seed=0, direction="minimize")
    with opened(place("frostline")) as kept:
        study = SearchStudy.open(kept, "frostline", terms=terms, space=space)
        marks = Marks(executor)
        climb(study, search, draws, executor, marks)
        study.close()
    ours = [after - before for before, after in zip([0.0, *marks.seconds], marks.seconds, strict=False)]
    return executor.optuna_seconds, ours


def measure(storage: str, sampler: str, search: str, configurations: int) -> Row:
    plan = SEARCHES[search](ladder=LADDER, configurations=configurations)
    # How often all that is loaded is looked at for garbage depends on how much it is, and with torch it takes 0.1 s.
    gc.collect()
    gc.freeze()
    with tempfile.TemporaryDirectory() as folder:
        place = {
            "memory": lambda side: ":memory:",
            "journal": lambda side: f"{folder}/{side}.log",
            "sqlite": lambda side: f"sqlite:///{folder}/{side}.db",
        }[storage]
        theirs, ours = side_by_side(place, sampler, plan)
    return Row(
        storage=storage,
        sampler=sampler,
        search=search,
        configurations=configurations,
        evaluations=len(ours),
        optuna_ms=1e3 * statistics.fmean(theirs),
        optuna_last_tenth_ms=1e3 * statistics.fmean(theirs[-len(theirs) // 10 :]),
        frostline_ms=1e3 * sum(ours) / configurations,
        frostline_last_tenth_ms=1e3 * statistics.fmean(ours[-len(ours) // 10 :]) * len(ours) / configurations,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="100,1000")
    parser.add_argument("--storages", default="memory,journal,sqlite")
    parser.add_argument("--samplers", default="random")
    parser.add_argument("--searches", default="full,halving,asynchronous")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    rows = []
    table = Table(
        "storage", "sampler", "search", "configurations", "evaluations", "Optuna ms", "last tenth", "frostline ms",
        "last tenth", "ratio", title=f"{platform.processor() or platform.machine()}, Optuna {optuna.__version__}",
    )  # fmt: skip
    for storage in arguments.storages.split(","):
        for size in map(int, arguments.sizes.split(",")):
            for sampler in arguments.samplers.split(","):
                for search in arguments.searches.split(","):
                    row = measure(storage, sampler, search, size)
                    rows.append(row)
                    print(f"{storage} {sampler} {search} {size}: ratio {row.ratio:.2f}", flush=True)
                    figures = (
                        row.optuna_ms,
                        row.optuna_last_tenth_ms,
                        row.frostline_ms,
                        row.frostline_last_tenth_ms,
                    )
                    table.add_row(
                        storage, sampler, search, f"{size:,}", f"{row.evaluations:,}", *(f"{ms:.3f}" for ms in figures),
                        f"{row.ratio:.2f}",
                    )  # fmt: skip
    Console(width=140).print(table)
    if arguments.json:
        arguments.json.write_text(
            json.dumps([asdict(row) | {"ratio": row.ratio} for row in rows], indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
