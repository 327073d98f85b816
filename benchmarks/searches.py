"""Searches compared by training for real: how long each takes to a configuration as good as the best of a recorded table.

    OMP_NUM_THREADS=1 python benchmarks/searches.py digits-mlp [--seeds 20] [--configurations 27] [--results FOLDER]

Every method begins with the same seed and draws until one of its full trainings scores within the seed noise of the best
configuration of `benchmarks/tables/TASK.csv.gz`; a search that ends before is begun again with other configurations, up
to `--runs` times. All train under the horizon "full". The two recommended ladders come from that table and from the aligned
one, of other configurations than are searched here; what such an audit costs is not in the times, and is told.

Times are seconds of the processor, on one thread, of everything that the method does: so they are those of a free core even
where others use the machine. Each run is written as it ends: the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from frostline.process import prepare_process

prepare_process()

import numpy as np
import optuna
import torch
from full_trainings import validations
from optuna.pruners import HyperbandPruner
from optuna.samplers import TPESampler
from optuna.trial import TrialState
from record_table import FOLDER, OPTIONS

from frostline.audit.csv_table import read_table
from frostline.audit.landscape import Landscape
from frostline.audit.noise import seed_noise
from frostline.audit.recommendation import recommend
from frostline.records import Evaluation, Fidelity, loss_sign
from frostline.research.replay.comparison import median_seconds, ratio_of_medians
from frostline.research.replay.recorded import goal_of
from frostline.run.execution.options import TrainingOptions
from frostline.run.loop import Observer
from frostline.run.plan import SearchPlan
from frostline.run.task_search import TaskSearch
from frostline.run.tuning import search_task
from frostline.search.algorithms.halving import SuccessiveHalving
from frostline.search.algorithms.hyperband import Hyperband
from frostline.search.algorithms.realigned import RealignedSearch
from frostline.search.algorithms.sweep import FullFidelity
from frostline.search.alignment import IDENTITY, Alignment
from frostline.search.history import History
from frostline.search.interface import Search
from frostline.search.ladder import Ladder
from frostline.seeding import derive_seed
from frostline.store.backends.storage import MEMORY
from frostline.tasks.loading import load_task
from frostline.training.supervised.supervised_task import SupervisedTask

VALIDATIONS = 10
RANDOM, OPTUNA = "random search, full trainings", "Optuna's Hyperband pruner with TPE"


class Reached(Exception):
    """The goal was met: nothing more is trained."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What is searched, from which seed on, and up to which loss."""

    task: SupervisedTask
    target: float
    configurations: int
    runs: int
    device: str = "cpu"

    def options(self, **changes: Any) -> TrainingOptions:
        return TrainingOptions(device=self.device, horizon="full", num_validations=VALIDATIONS, **changes)

    def stop_if_good(self, score: float | None) -> None:
        """Raise Reached if this score of a full training meets the goal."""
        if score is not None and loss_sign(self.task.direction) * score <= self.target:
            raise Reached


@dataclass(frozen=True, kw_only=True)
class Method:
    """A search of frostline's."""

    search: Search
    alignment: Alignment = IDENTITY

    def run(self, bench: Bench, seed: int) -> None:
        """Search once."""
        with tempfile.TemporaryDirectory() as runs:
            search_task(
                bench.task,
                self.search,
                study="search",
                storage=MEMORY,
                plan=SearchPlan(seed=seed),
                training=TaskSearch(
                    options=bench.options(runs=Path(runs), memory="2GiB"), alignment=self.alignment
                ),
                observer=_UntilGood(bench, self.search.ladder.rungs[-1]),
            )


@dataclass(frozen=True)
class _UntilGood(Observer):
    """Ends a search as soon as a full training was good enough."""

    bench: Bench
    full: Fidelity

    def ended(self, evaluation: Evaluation, history: History) -> None:
        if evaluation.fidelity == self.full:
            self.bench.stop_if_good(evaluation.score)


@dataclass(frozen=True, kw_only=True)
class OptunaMethod:
    """Optuna's pruner and sampler around a training that is validated at ten equal shares."""

    def run(self, bench: Bench, seed: int) -> None:
        """Search once."""
        for score in islice(self.scores(bench, seed), bench.configurations):
            bench.stop_if_good(score)

    def scores(self, bench: Bench, seed: int) -> Iterator[float | None]:
        """Yield the score of one configuration after the other, for ever; None of one that was pruned or diverged."""
        study = optuna.create_study(
            direction=bench.task.direction,
            study_name=f"{seed}",
            sampler=TPESampler(seed=seed % 2**32),
            pruner=HyperbandPruner(min_resource=1, max_resource=VALIDATIONS, reduction_factor=3),
        )
        while True:
            trial = study.ask(dict(bench.task.space.distributions))
            score = trained(trial, bench, seed)
            if score is None:
                study.tell(trial, state=TrialState.PRUNED)
            else:
                study.tell(trial, score)
            yield score


def trained(trial: optuna.Trial, bench: Bench, seed: int) -> float | None:
    """Return the score of a full training that the trial watches; None if it was pruned or diverged."""
    steps = validations(bench.task, trial.number, trial.params, bench.options(), seed=seed)
    for step, (score, is_last) in enumerate(steps, start=1):
        if is_last:
            return score
        trial.report(score, step)
        if trial.should_prune():
            return None
    return None


def methods_of(bench: Bench, tables: list[Landscape]) -> dict[str, Method | OptunaMethod]:
    """Return the methods by name, random search first."""
    sizes = {"num_layers": tables[0].layers[-1], "full_samples": bench.task.full_samples}
    count = {"configurations": bench.configurations}
    ninths = Ladder.explicit([(sizes["num_layers"], sizes["full_samples"] // part) for part in (9, 3, 1)], **sizes)
    diagonal = SuccessiveHalving(ladder=Ladder.diagonal(**sizes), **count)
    found: dict[str, Method | OptunaMethod] = {
        RANDOM: Method(search=FullFidelity(ladder=ninths, **count)),
        "halving, samples only from 1/9": Method(search=SuccessiveHalving(ladder=ninths, **count)),
        "Hyperband, samples only from 1/9": Method(search=Hyperband(ladder=ninths, **count)),
        OPTUNA: OptunaMethod(),
        "halving, diagonal": Method(search=diagonal),
        "halving, diagonal, --align auto": Method(search=RealignedSearch(search=diagonal, space=bench.task.space)),
    }
    for table in tables:
        chosen = recommend(table, configurations=bench.configurations).chosen
        climb = SuccessiveHalving(ladder=chosen.ladder, reduction_factor=chosen.reduction_factor, **count)
        name = "recommended by an audit" + ("" if table.alignment.is_identity else ", aligned")
        found[name] = Method(search=climb, alignment=table.alignment)
    return found


def seconds_to_goal(method: Method | OptunaMethod, bench: Bench, seed: int) -> float | None:
    """Return the processor's seconds until the goal was met; None if it was not in so many runs."""
    begin = time.process_time()
    for run in range(bench.runs):
        try:
            method.run(bench, derive_seed(seed, "search", run))
        except Reached:
            return time.process_time() - begin
    return None


def measured(methods: dict[str, Method | OptunaMethod], bench: Bench, file: Path, seeds: int) -> Iterator[dict]:
    """Yield all measurements, those in the file first; new ones are added to it."""
    known = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    yield from (one for one in known if one["seed"] < seeds and one["method"] in methods)
    done = {(one["method"], one["seed"]) for one in known}
    for seed in range(seeds):
        for name, method in methods.items():
            if (name, seed) not in done:
                found = {"method": name, "seed": seed, "seconds": seconds_to_goal(method, bench, seed)}
                with file.open("a") as lines:
                    lines.write(json.dumps(found) + "\n")
                print(found, flush=True)
                yield found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=OPTIONS)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--configurations", type=int, default=27, help="of one run of a search")
    parser.add_argument("--runs", type=int, default=8, help="how often a search is begun before it has missed")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    words = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # A process's first optimizer makes torch import its compiler: nobody's cost.
    torch.optim.SGD([torch.zeros(1)])
    task = load_task(words.task, OPTIONS[words.task])
    paths = (FOLDER / f"{words.task}{suffix}.csv.gz" for suffix in ("", "-aligned"))
    tables = [read_table(path) for path in paths if path.exists()]
    noise = seed_noise(tables[0])
    assert noise is not None, "the table has no repeats"
    goal = goal_of(tables[0], tolerance=noise.tolerance)
    bench = Bench(task=task, target=goal.target, configurations=words.configurations, runs=words.runs)
    methods = methods_of(bench, tables)
    words.results.mkdir(parents=True, exist_ok=True)
    stem = f"searches-{words.task}-{words.configurations}"
    seconds: dict[str, dict[int, float]] = {name: {} for name in methods}
    for one in measured(methods, bench, words.results / f"{stem}.jsonl", words.seeds):
        seconds[one["method"]][one["seed"]] = np.inf if one["seconds"] is None else one["seconds"]
    arrays = {name: np.array([of[seed] for seed in range(words.seeds)]) for name, of in seconds.items()}
    rows = []
    print(f"\n{words.task}: seconds of one core to a loss of {goal.target:.4g}, {words.seeds} seeds")
    for name, found in arrays.items():
        middle, ratio = median_seconds(found), ratio_of_medians(arrays[RANDOM], found)
        row = {"method": name, "median_seconds": asdict(middle), "times_faster_than_random": asdict(ratio)}
        rows.append(row | {"missed": int(np.isinf(found).sum())})
        print(
            f"{name:44} {middle.value:7.1f} ({middle.low:.1f} to {middle.high:.1f}); random over it {ratio.value:5.2f} "
            f"({ratio.low:.2f} to {ratio.high:.2f}); missed {rows[-1]['missed']}"
        )
    record = {"task": words.task, "target": goal.target, "tolerance": noise.tolerance, "seeds": words.seeds}
    record |= {"configurations_of_a_run": words.configurations, "runs": words.runs, "methods": rows}
    (words.results / f"{stem}.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
