"""The loop: what it hands to executors, when it decides again, and how a search that eliminates nobody ends."""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from multiprocessing.context import BaseContext
from pathlib import Path
from random import Random

import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState

from frostline import Configuration, Evaluation, Fidelity, Ladder, SearchPlan, SearchSpace, Workload
from frostline.errors import OptionError, RequestError, SearchFailedError
from frostline.protocols import Executor
from frostline.records import Cost, Job, Request, Status
from frostline.run.execution.local import local_executor
from frostline.run.execution.simulated import SimulatedExecutor
from frostline.run.ledger import MemoryLedger
from frostline.run.loop import Observer, climb
from frostline.run.tuning import search_function
from frostline.search.algorithms.grid import Grid
from frostline.search.algorithms.halving import AsynchronousHalving, SuccessiveHalving
from frostline.search.history import History
from frostline.search.proposals.sampling import RANDOM, Draws
from frostline.store.backends.storage import open_storage
from frostline.store.reading import read_study
from tests.executing import Watching

LADDER = Ladder.diagonal(num_layers=10, full_samples=1000)
SPACE = SearchSpace(distributions={"rate": FloatDistribution(0.0, 1.0)})


def score(configuration: Configuration, fidelity: Fidelity) -> float:
    rate = configuration["rate"]
    assert isinstance(rate, float)
    return (rate - 0.3) ** 2 + 1 / fidelity.samples


def evaluate(job: Job) -> Evaluation:
    return Evaluation(
        number=job.configuration.number,
        rung=job.rung,
        fidelity=job.fidelity,
        status=Status.FINISHED,
        score=score(job.configuration, job.fidelity),
        cost=Cost(seconds=job.fidelity.samples / 100, samples=job.fidelity.samples),
    )


def draws() -> Draws:
    return Draws(space=SPACE, sampling=RANDOM, root_seed=0, direction="minimize")


class Asked:
    """A search in whose place every request is noted with how much was known when it was made."""

    def __init__(self, search: AsynchronousHalving | SuccessiveHalving) -> None:
        self.search = search
        self.known_at: list[tuple[int, Request]] = []

    ladder = LADDER
    fingerprint = "asked"

    def next_requests(self, history: History, *, capacity: int) -> Sequence[Request]:
        requests = self.search.next_requests(history, capacity=capacity)
        self.known_at += [(history.num_evaluations, request) for request in requests]
        return requests


def test_asynchronous_halving_decides_again_after_every_evaluation() -> None:
    asked = Asked(AsynchronousHalving(ladder=LADDER, configurations=27))
    ledger = MemoryLedger("minimize")
    climb(ledger, asked, draws(), SimulatedExecutor(evaluate, workers=4))
    # Four begin; then whoever ends makes room for one, and the first to be promoted climbs while others are at the bottom.
    assert [known for known, _ in asked.known_at][:8] == [0, 0, 0, 0, 1, 2, 3, 4]
    first_promotion = next(known for known, request in asked.known_at if request.rung == 1)
    assert first_promotion == 3
    assert max(known for known, request in asked.known_at if request.rung == 0) > first_promotion


class NeverAsked(SuccessiveHalving):
    def eliminated(self, history: History) -> list[int]:
        raise AssertionError("nobody hears of it")


def test_a_search_in_memory_is_not_asked_whose_climb_is_over() -> None:
    ledger = MemoryLedger("minimize")
    search = NeverAsked(ladder=LADDER, configurations=27)
    climb(ledger, search, draws(), SimulatedExecutor(evaluate, workers=4))
    assert [ledger.history.rung(rung).num_ended for rung in range(len(LADDER.rungs))] == [27, 9, 3]


def test_no_worker_is_none() -> None:
    with pytest.raises(OptionError, match="workers is 0, but at least 1 must work"):
        SimulatedExecutor(evaluate, workers=0)


class RandomCells:
    """Picks a configuration of its own and a cell of a grid for it, by a rule that follows from the history alone."""

    fingerprint = "random cells"

    def __init__(self, ladder: Grid, *, num_evaluations: int) -> None:
        self.ladder = ladder
        self.num_evaluations = num_evaluations

    def next_requests(self, history: History, *, capacity: int) -> Sequence[Request]:
        requests: list[Request] = []
        number = len(history.configurations)
        while len(requests) < min(capacity, self.num_evaluations - number - len(requests)):
            random = Random(f"{number + len(requests)}")
            cell = random.randrange(len(self.ladder.rungs))
            requests.append(Request(number + len(requests), cell, {"rate": random.random()}))
        return requests


def random_cells(*, ladder: Ladder, configurations: int) -> RandomCells:
    grid = Grid.product([2, 10], [100, ladder.full_samples])
    return RandomCells(grid, num_evaluations=configurations)


@pytest.mark.parametrize("kind", ["sqlite", "journal", "memory"])
def test_a_search_may_name_configuration_and_fidelity(kind: str, tmp_path) -> None:
    place = {"sqlite": f"sqlite:///{tmp_path}/s.db", "journal": f"{tmp_path}/s.log", "memory": ":memory:"}[kind]
    plan = SearchPlan(search=random_cells, configurations=20)
    workloads: list[Workload] = []

    def executor(workload: Workload) -> Executor:
        workloads.append(workload)
        return local_executor(workload)

    result = search_function(score, SPACE, LADDER, study="s", plan=plan, storage=place, executor=executor)
    history = result.history
    # What is to be trained are the cells, and not the rungs of the ladder.
    assert workloads[0].ladder == random_cells(ladder=LADDER, configurations=20).ladder
    assert [history.configurations[n]["rate"] for n in range(20)] == [rate_of(n) for n in range(20)]
    assert {evaluation.rung for evaluation in history.evaluations()} == {0, 1, 2, 3}
    assert all(len(history.evaluations_of(number)) == 1 for number in range(20))
    assert result.best.fidelity == Fidelity(trainable_layers=10, samples=1000)
    assert "19" not in f"{result.summary.rungs[0].expected}"
    if kind == "memory":
        return
    storage = open_storage(place)
    trials = storage.get_all_trials(storage.get_study_id_from_name("s"))
    full = {evaluation.number for evaluation in history.evaluations() if evaluation.rung == 3}
    states = {trial.number: trial.state for trial in trials}
    assert states == {n: TrialState.COMPLETE if n in full else TrialState.PRUNED for n in range(20)}


def rate_of(number: int) -> float:
    random = Random(f"{number}")
    random.randrange(4)
    return random.random()


@dataclass(kw_only=True)
class Scripted:
    """Asks for one list of requests after the other, whatever comes of them."""

    ladder: Ladder
    configurations: int
    script: Sequence[Sequence[tuple[int, int]]]
    fingerprint = "scripted"
    num_asked = 0

    def next_requests(self, history: History, *, capacity: int) -> Sequence[Request]:
        self.num_asked += 1
        requests = self.script[self.num_asked - 1] if self.num_asked <= len(self.script) else ()
        return [Request(number, rung) for number, rung in requests]


@dataclass(kw_only=True)
class Regretting(Scripted):
    """One that names its first configuration as eliminated."""

    def evaluations_per_rung(self) -> Sequence[int]:
        return (1, 0, 0)

    def started_per_rung(self) -> Sequence[int]:
        return (1, 0, 0)

    def eliminated(self, history: History) -> Sequence[int]:
        return [0] if history.num_evaluations and 0 not in history.eliminated else []


FULL_LAST = "but its full training, rung 2, comes last: let it ask for nothing of a configuration after that."
ONCE = "let it ask for every rung of a configuration once."


@pytest.mark.parametrize(
    ("script", "words"),
    [
        # The first of them is claimed before the second is looked at.
        ([[(0, 2)], [(0, 1)]], f"configuration 0 at rung 1, {FULL_LAST}"),
        ([[(0, 2), (0, 0)]], f"configuration 0 at rung 0, {FULL_LAST}"),
        (
            [[(0, 0), (0, 2)]],
            "configuration 0 at rung 2, its full training, while another rung of it is under way: let",
        ),
        ([[(0, 0)], [(0, 0)]], f"configuration 0 at rung 0, which has ended: {ONCE}"),
        ([[(0, 0), (1, 0), (1, 0)]], f"configuration 1 at rung 0, which is under way: {ONCE}"),
        ([[(0, 3)]], "configuration 0 at rung 3, but its rungs are 0 to 2: let it ask for one of them."),
        ([[(0, -1)]], "configuration 0 at rung -1, but its rungs are 0 to 2: let it ask for one of them."),
        (
            [[(0, 0), (2, 0)]],
            "configuration 2 at rung 0, but the next new configuration is 1: let it number new ones",
        ),
        ([[(0, 0)], [(-1, 1)]], "configuration -1 at rung 1, but the next new configuration is 1: let it number"),
    ],
)
@pytest.mark.parametrize("storage", ["memory", "sqlite"])
def test_a_search_that_asks_for_what_it_may_not_is_stopped(
    script: Sequence[Sequence[tuple[int, int]]], words: str, storage: str, tmp_path: Path
) -> None:
    assert "\n" not in refusal(Scripted, script, words, storage=storage, folder=tmp_path)


def test_nothing_more_is_asked_for_of_the_eliminated(tmp_path: Path) -> None:
    words = (
        "configuration 0 at rung 1, but that configuration was ended: let it ask for nothing of one that it named as "
        "eliminated."
    )
    for storage in ("memory", "sqlite"):
        refusal(Regretting, [[(0, 0)], [(0, 1)]], words, storage=storage, folder=tmp_path)


def refusal(
    search: type[Scripted], script: Sequence[Sequence[tuple[int, int]]], words: str, *, storage: str, folder: Path
) -> str:
    """What a search over ``script`` raises; what had ended before is kept."""
    place = ":memory:" if storage == "memory" else f"sqlite:///{folder}/s.db"
    plan = SearchPlan(search=partial(search, script=script), configurations=3)
    ended: list[Request] = []
    with pytest.raises(RequestError, match=re.escape(f"the search {search.__name__} asks for {words}")) as caught:
        search_function(
            score,
            SPACE,
            LADDER,
            study="s",
            plan=plan,
            storage=place,
            executor=lambda workload: SimulatedExecutor(workload.evaluate, workers=3),
            observer=Watching(ended=lambda evaluation: ended.append(evaluation.request)),
        )
    if storage == "sqlite":
        assert [evaluation.request for evaluation in read_study(place, "s").history.evaluations()] == ended
    return f"{caught.value}"


FAILED = "The first one failed: KeyError: 'no such thing' (test_loop.py:"


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ([], "the search asked for none. Let it ask for rung 2, the last."),
        ([[(0, 0), (1, 1)]], "the search asked for none. Let it ask for rung 2, the last."),
        (
            [[(n, 0) for n in range(5)]],
            f"1 of 5 evaluations failed or diverged, and the search asked for none. {FAILED}",
        ),
        (
            [[(0, 0), (1, 0), (2, 0), (3, 2)]],
            f"1 of 4 evaluations failed or diverged. {FAILED}",
        ),
    ],
)
def test_a_search_without_a_full_training_says_why(
    script: Sequence[Sequence[tuple[int, int]]], words: str
) -> None:
    plan = SearchPlan(search=partial(Scripted, script=script), configurations=5)
    words = f"no configuration was evaluated at full fidelity: {words}"
    with pytest.raises(SearchFailedError, match=re.escape(words)) as caught:
        search_function(fails_at_times, SPACE, LADDER, study="s", plan=plan, storage=":memory:")
    assert "\n" not in f"{caught.value}"


class ProcessPool:
    """Evaluates jobs in a pool of processes."""

    def __init__(self, workload: Workload, *, workers: int = 2) -> None:
        self._evaluate = workload.evaluate
        self._workers = workers
        context = get_context("forkserver")
        self._pool = ProcessPoolExecutor(workers, mp_context=context)
        self._futures: set[Future[Evaluation]] = set()
        self.closed = False

    def room(self) -> int:
        return self._workers - len(self._futures)

    def submit(self, jobs: Sequence[Job]) -> None:
        self._futures |= {self._pool.submit(self._evaluate, job) for job in jobs}

    def next_ended(self) -> Evaluation:
        done, _ = wait(self._futures, return_when=FIRST_COMPLETED)
        future = done.pop()
        self._futures.remove(future)
        return future.result()

    def forget(self, number: int) -> None:
        pass

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        self.closed = True


def fails_at_times(configuration: Configuration, fidelity: Fidelity) -> float:
    if configuration.number == 3:
        raise KeyError("no such thing")
    return score(configuration, fidelity)


@pytest.mark.multiprocess
def test_an_executor_of_ones_own_evaluates_in_other_processes(processes: BaseContext) -> None:
    pools: list[ProcessPool] = []

    def pool(workload: Workload) -> ProcessPool:
        pools.append(ProcessPool(workload))
        return pools[-1]

    plan = SearchPlan(configurations=9)
    there = search_function(fails_at_times, SPACE, LADDER, study="s", plan=plan, storage=":memory:", executor=pool)
    here = search_function(fails_at_times, SPACE, LADDER, study="s", plan=plan, storage=":memory:")
    assert pools[0].closed
    assert there.configuration == here.configuration
    ends = [
        sorted((e.request, e.status, e.score) for e in result.history.evaluations()) for result in (there, here)
    ]
    assert ends[0] == ends[1]
    (failed,) = [e for e in there.history.evaluations() if e.status is Status.FAILED]
    assert failed.reason is not None
    assert failed.reason.startswith("KeyError: 'no such thing'")


class Interrupting(Observer):
    def ended(self, evaluation: Evaluation, history: History) -> None:
        if history.num_evaluations == 5:
            raise KeyboardInterrupt


def test_an_executor_is_closed_whatever_happens() -> None:
    closed = []

    class Executor(SimulatedExecutor):
        def close(self) -> None:
            closed.append(True)

    def simulated(workload: Workload) -> Executor:
        return Executor(workload.evaluate)

    with pytest.raises(KeyboardInterrupt):
        search_function(
            score,
            SPACE,
            LADDER,
            study="s",
            storage=":memory:",
            executor=simulated,
            observer=Interrupting(),
        )
    assert closed == [True]
