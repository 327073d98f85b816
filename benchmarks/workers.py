"""How many evaluations a second several processes make that share one study, by storage, and by how long one takes.

    python benchmarks/workers.py [--storages sqlite,journal,postgresql] [--postgresql URL] [--processes 1,2,4]
                                 [--milliseconds 1,50] [--configurations 500] [--filled 0] [--json FILE]

Evaluations sleep, so that few cores suffice. The processes begin together, once all have loaded what they need, and end
together, when the search does or after ``--seconds``. With ``--filled`` the study holds so many evaluated configurations
already: how long it takes to read such a study is left out, for each process waits until all have.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from rich.console import Console
from rich.table import Table

from frostline.records import Configuration, Evaluation, Fidelity
from frostline.run.execution.executors import SerialExecutor
from frostline.run.loop import Observer, climb, job_of
from frostline.run.outcome.summary import expected_of
from frostline.run.plan import SearchPlan
from frostline.search.algorithms.halving import AsynchronousHalving, SuccessiveHalving
from frostline.search.history import History
from frostline.search.ladder import Ladder
from frostline.search.proposals.sampling import RANDOM
from frostline.search.spaces.space import SearchSpace
from frostline.store.backends.storage import opened
from frostline.store.study import SearchStudy
from frostline.store.terms import Terms
from frostline.training.black_box import BlackBox

DISTRIBUTIONS: dict[str, BaseDistribution] = {f"x{i}": FloatDistribution(1e-5, 1.0, log=True) for i in range(5)}
SPACE = SearchSpace(distributions=DISTRIBUTIONS)
LADDER = Ladder.diagonal(num_layers=10, full_samples=1000)
SEARCHES = {"halving": SuccessiveHalving, "asynchronous": AsynchronousHalving}
STUDY = "workers"


@dataclass(frozen=True, kw_only=True)
class Case:
    storage: str
    search: str
    milliseconds: float
    configurations: int
    filled: int
    seconds: float

    @property
    def plan(self) -> SearchPlan:
        return SearchPlan(search=SEARCHES[self.search], configurations=self.configurations, sampling=RANDOM)


@dataclass(frozen=True, kw_only=True)
class Row:
    case: Case
    processes: int
    evaluations: int
    seconds: float
    cpu_seconds: float

    @property
    def per_second(self) -> float:
        return self.evaluations / self.seconds


class Train:
    """Sleeps, and ends the process's work when the time is up."""

    def __init__(self, milliseconds: float) -> None:
        self.seconds = milliseconds / 1e3
        self.ends = float("inf")

    def __call__(self, configuration: Configuration, fidelity: Fidelity) -> float:
        if time.time() > self.ends:
            raise KeyboardInterrupt
        time.sleep(self.seconds)
        return score_of(configuration)


class Count(Observer):
    """Counts evaluations, and knows when the last one ended: what comes after, when others leave, is not measured."""

    num_evaluations, seconds, cpu_seconds = 0, 0.0, 0.0

    def ended(self, evaluation: Evaluation, history: History) -> None:
        self.num_evaluations += 1
        self.seconds, self.cpu_seconds = time.time(), time.process_time()


def score_of(configuration: Configuration) -> float:
    return sum(float(value) for value in configuration.values())  # type: ignore[arg-type]


@contextmanager
def study_of(case: Case, place: str) -> Iterator[SearchStudy]:
    search = case.plan.search_on(LADDER)
    terms = Terms(
        task="benchmark", data="", space=SPACE.fingerprint, rungs=LADDER.rungs, num_layers=10, search=search.fingerprint,
        is_sweep=False, sampler=RANDOM.name, seed=0, direction="minimize", sample_unit="samples",
        expected=tuple(expected_of(search)),
    )  # fmt: skip
    with opened(place) as kept:
        study = SearchStudy.open(kept, STUDY, terms=terms, space=SPACE)
        try:
            yield study
        finally:
            study.close()


def work(case: Case, place: str, barrier: Any, answers: Any) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    train, count = Train(case.milliseconds), Count()
    with study_of(case, place) as study:
        with study.deciding():
            pass  # what is there already has been read by now
        barrier.wait()
        begin, cpu = time.time(), time.process_time()
        train.ends = begin + case.seconds
        executor = SerialExecutor(BlackBox(train=train, root_seed=0))
        with suppress(KeyboardInterrupt):
            climb(study, case.plan.search_on(LADDER), case.plan.draws(SPACE, "minimize"), executor, count)
        answers.put((count.num_evaluations, begin, count.seconds, count.cpu_seconds - cpu))


def fill(case: Case, place: str) -> None:
    """Evaluate the first configurations of the search at its lowest rung, at once."""
    search, draws = case.plan.search_on(LADDER), case.plan.draws(SPACE, "minimize")
    evaluate = BlackBox(train=lambda configuration, _: score_of(configuration), root_seed=0)
    with study_of(case, place) as study:
        with study.deciding():
            for _ in range(case.filled):
                study.claim(draws.draw(study.history), 0)
        for configuration in study.history.configurations:
            study.record(evaluate(job_of(configuration, 0, search.ladder, study.history)))
            study.end(search.eliminated(study.history))


def measure(case: Case, place: str, processes: int) -> Row:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["frostline", __name__])
    barrier, answers = context.Barrier(processes), context.Queue()
    if case.filled:
        fill(case, place)
    workers = [context.Process(target=work, args=(case, place, barrier, answers)) for _ in range(processes)]
    for worker in workers:
        worker.start()
    results = [answers.get(timeout=600) for _ in workers]
    for worker in workers:
        worker.join()
    return Row(
        case=case,
        processes=processes,
        evaluations=sum(num for num, _, _, _ in results),
        seconds=max(end for _, _, end, _ in results) - min(begin for _, begin, _, _ in results),
        cpu_seconds=sum(cpu for _, _, _, cpu in results),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--storages", default="sqlite,journal")
    parser.add_argument("--postgresql", default=os.environ.get("FROSTLINE_TEST_DATABASE", ""))
    parser.add_argument("--processes", default="1,2,4")
    parser.add_argument("--milliseconds", default="1,50")
    parser.add_argument("--search", default="halving", choices=SEARCHES)
    parser.add_argument("--configurations", type=int, default=500)
    parser.add_argument("--filled", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    table = Table("storage", "evaluation", "processes", "evaluations", "a second", "of one's", "CPU ms each")
    rows: list[Row] = []
    for storage in arguments.storages.split(","):
        for milliseconds in map(float, arguments.milliseconds.split(",")):
            case = Case(
                storage=storage, search=arguments.search, milliseconds=milliseconds,
                configurations=arguments.configurations, filled=arguments.filled, seconds=arguments.seconds,
            )  # fmt: skip
            alone = 0.0
            for processes in map(int, arguments.processes.split(",")):
                with (
                    tempfile.TemporaryDirectory() as folder,
                    database(storage, arguments.postgresql, folder) as place,
                ):
                    row = measure(case, place, processes)
                rows.append(row)
                alone = alone or row.per_second
                figures = (
                    storage, f"{milliseconds:g} ms", f"{processes}", f"{row.evaluations}", f"{row.per_second:.1f}",
                    f"{row.per_second / alone:.2f}", f"{1e3 * row.cpu_seconds / row.evaluations:.1f}",
                )  # fmt: skip
                table.add_row(*figures)
                print(" ".join(figures), flush=True)
    Console(width=110).print(table)
    if arguments.json:
        records = [asdict(row) | {"per_second": row.per_second} for row in rows]
        arguments.json.write_text(json.dumps(records, indent=1) + "\n")


@contextmanager
def database(storage: str, server: str, folder: str) -> Iterator[str]:
    """Return the place of an empty study; on a server in a database of its own, which is dropped again."""
    if storage != "postgresql":
        yield {"sqlite": f"sqlite:///{folder}/study.db", "journal": f"{folder}/study.log"}[storage]
        return
    from sqlalchemy import create_engine, make_url, text

    name = f"frostline_{uuid.uuid4().hex[:8]}"
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield make_url(server).set(database=name).render_as_string(hide_password=False)
    finally:
        with engine.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        engine.dispose()


if __name__ == "__main__":
    main()
