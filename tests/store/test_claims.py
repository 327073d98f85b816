"""Several rungs of one trial under way at once: what is claimed, when the trial ends, and that no record is lost."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from itertools import count
from multiprocessing.context import ForkServerContext
from pathlib import Path
from random import Random
from typing import Any

import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from frostline.errors import StudyError
from frostline.records import Cost, Evaluation, Job, Request, Status
from frostline.run.loop import Loop
from frostline.search.algorithms.sweep import Sweep
from frostline.search.ladder import Ladder
from frostline.search.proposals.sampling import RANDOM, Draws
from frostline.search.spaces.space import SearchSpace
from frostline.store.backends.storage import Storage, open_storage
from frostline.store.reading import read_study
from frostline.store.study import SearchStudy
from frostline.store.terms import Terms
from tests.forks import Fork
from tests.store.dying import KilledError, let_die

LADDER = Ladder.diagonal(num_layers=10, full_samples=1000)
MIXED = Ladder.explicit([(2, 100), (2, 500), (6, 500), (10, 1000)], num_layers=10, full_samples=1000)
SPACE = SearchSpace(distributions={"rate": FloatDistribution(0.0, 1.0)})

Outcome = float | Status


def ended(request: Request, outcome: Outcome, ladder: Ladder = LADDER) -> Evaluation:
    status = outcome if isinstance(outcome, Status) else Status.FINISHED
    return Evaluation(
        number=request.number,
        rung=request.rung,
        fidelity=ladder.rungs[request.rung],
        status=status,
        score=None if isinstance(outcome, Status) else outcome,
        cost=Cost(seconds=1.0, samples=1),
        reason=None if status is Status.FINISHED else f"{status} at rung {request.rung}",
    )


class Worker:
    """One of the workers on a study, whose jobs end when a test says so."""

    def __init__(self, place: str, *, configurations: int = 1, ladder: Ladder = LADDER) -> None:
        self.ladder = ladder
        self.search = Sweep(ladder=ladder, configurations=configurations)
        terms = Terms(
            task="t",
            data="",
            space=SPACE.fingerprint,
            rungs=ladder.rungs,
            num_layers=10,
            search=self.search.fingerprint,
            is_sweep=True,
            sampler=RANDOM.name,
            seed=0,
            direction="minimize",
            sample_unit="samples",
            expected=self.search.evaluations_per_rung(),
        )
        self.study = SearchStudy.open(Storage(place, open_storage(place)), "s", terms=terms, space=SPACE)
        draws = Draws(space=SPACE, sampling=RANDOM, root_seed=0, direction="minimize")
        self.executor = ByHand()
        self.loop = Loop(self.study, self.search, draws, self.executor)

    def take(self, capacity: int = 99) -> list[tuple[int, int]]:
        self.executor.capacity, self.executor.jobs = capacity, []
        self.loop.decide()
        return [(job.configuration.number, job.rung) for job in self.executor.jobs]

    def record(self, number: int, rung: int, outcome: Outcome = 1.0) -> None:
        self.loop.record(ended(Request(number, rung), outcome, self.ladder))

    def newly_over(self) -> list[int]:
        over, self.executor.over = self.executor.over, []
        return over


class ByHand:
    """Takes jobs, and leaves it to a test how they end."""

    def __init__(self) -> None:
        self.capacity = 0
        self.jobs: list[Job] = []
        self.over: list[int] = []

    def room(self) -> int:
        return self.capacity

    def submit(self, jobs: Sequence[Job]) -> None:
        self.jobs += jobs

    def next_ended(self) -> Evaluation:
        raise AssertionError("a test records what has ended")

    def forget(self, number: int) -> None:
        self.over.append(number)

    def close(self) -> None:
        pass


@pytest.fixture(params=["sqlite", "journal"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/study.db" if request.param == "sqlite" else str(tmp_path / "journal.log")


@pytest.fixture
def journal(tmp_path: Path) -> str:
    return str(tmp_path / "journal.log")


def trials_of(place: str) -> list[FrozenTrial]:
    storage = open_storage(place)
    return storage.get_all_trials(storage.get_study_id_from_name("s"))


def rungs_in(trial: FrozenTrial) -> list[int]:
    return sorted(int(key.removeprefix("rung ")) for key in trial.user_attrs if key.startswith("rung "))


def test_each_rung_has_a_claim_of_its_own(place: str) -> None:
    worker = Worker(place, configurations=2)
    assert worker.take(3) == [(0, 0), (0, 1), (1, 0)]
    claims = [
        {key for key in trial.system_attrs if key.startswith("frostline:claim ")} for trial in trials_of(place)
    ]
    assert claims == [{"frostline:claim 0", "frostline:claim 1"}, {"frostline:claim 0"}]
    other = Worker(place, configurations=2)
    assert other.take() == [(1, 1)]
    for study in (worker.study, other.study):
        study.close()
    last = Worker(place, configurations=2)
    assert last.take() == [(0, 0), (0, 1), (1, 0), (1, 1)]
    last.study.close()


def test_a_trial_without_any_claim_is_not_ours(journal: str) -> None:
    worker = Worker(journal)
    worker.take()
    storage = open_storage(journal)
    storage.create_new_trial(storage.get_study_id_from_name("s"))
    with pytest.raises(StudyError, match="trial 1 of the study was not made by frostline"):
        read_study(journal, "s")
    worker.study.close()


@pytest.mark.parametrize(
    ("outcomes", "state", "reason"),
    [
        ([(0, Status.FAILED), (1, 1.0)], TrialState.FAIL, "failed at rung 0"),
        ([(1, Status.FAILED), (0, 1.0)], TrialState.FAIL, "failed at rung 1"),
        ([(0, Status.DIVERGED), (1, Status.FAILED)], TrialState.FAIL, "failed at rung 1"),
        ([(1, Status.DIVERGED), (0, Status.FAILED)], TrialState.FAIL, "failed at rung 0"),
    ],
)
def test_a_trial_ends_when_its_last_rung_under_way_does_and_by_all_of_them(
    outcomes: list[tuple[int, Outcome]], state: TrialState, reason: str, journal: str
) -> None:
    worker = Worker(journal)
    assert worker.take() == [(0, 0), (0, 1)]
    (first, outcome), (second, other) = outcomes
    worker.record(0, first, outcome)
    assert worker.newly_over() == []
    (trial,) = trials_of(journal)
    assert trial.state is TrialState.RUNNING
    assert worker.take() == []
    worker.record(0, second, other)
    assert worker.newly_over() == [0]
    assert worker.take() == []
    assert not worker.study.is_waiting
    (trial,) = trials_of(journal)
    assert (trial.state, trial.value, rungs_in(trial)) == (state, None, [0, 1])
    assert trial.user_attrs["reason"] == reason
    worker.study.close()


@pytest.mark.parametrize(
    ("full", "state", "value"),
    [(2.0, TrialState.COMPLETE, 2.0), (Status.DIVERGED, TrialState.PRUNED, None)],
)
def test_what_diverges_below_is_trained_in_full_all_the_same(
    full: Outcome, state: TrialState, value: float | None, journal: str
) -> None:
    worker = Worker(journal)
    assert worker.take() == [(0, 0), (0, 1)]
    worker.record(0, 0, 1.0)
    worker.record(0, 1, Status.DIVERGED)
    assert worker.take() == [(0, 2)]
    assert trials_of(journal)[0].state is TrialState.RUNNING
    worker.record(0, 2, full)
    assert worker.newly_over() == [0]
    assert worker.take() == []
    (trial,) = trials_of(journal)
    assert (trial.state, trial.value, rungs_in(trial)) == (state, value, [0, 1, 2])
    assert trial.user_attrs.get("reason") == (None if value else "diverged at rung 1")
    worker.study.close()


def test_a_configuration_that_finishes_everywhere_is_complete(place: str) -> None:
    worker = Worker(place)
    for _ in range(2):
        for number, rung in worker.take():
            worker.record(number, rung, float(rung))
    (trial,) = trials_of(place)
    assert (trial.state, trial.value, trial.intermediate_values) == (
        TrialState.COMPLETE,
        2.0,
        {0: 0.0, 1: 1.0, 2: 2.0},
    )
    assert "reason" not in trial.user_attrs
    assert worker.newly_over() == [0]
    worker.study.close()


@pytest.mark.parametrize("late", [1.0, Status.DIVERGED, Status.FAILED])
def test_a_failure_does_not_end_a_trial_of_which_another_worker_evaluates_a_rung(
    place: str, late: Outcome
) -> None:
    """The first worker cannot know of the second's claim: it was alone when it last took anything."""
    first = Worker(place)
    assert first.take(1) == [(0, 0)]
    second = Worker(place)
    assert second.take() == [(0, 1)]
    first.record(0, 0, Status.FAILED)
    assert first.newly_over() == []
    assert trials_of(place)[0].state is TrialState.RUNNING
    assert first.take() == []
    assert first.study.is_waiting
    second.record(0, 1, late)
    # The second one may not know of the failure: whoever takes next ends the trial.
    assert second.take() == first.take() == []
    (trial,) = trials_of(place)
    assert (trial.state, rungs_in(trial)) == (TrialState.FAIL, [0, 1])
    assert trial.user_attrs["reason"] == "failed at rung 0"
    # Both hear of it: each has checkpoints of its own to let go of.
    assert (first.newly_over(), second.newly_over()) == ([0], [0])
    for worker in (first, second):
        assert not worker.study.is_waiting
        worker.study.close()


def work_until_killed(place: str, how: str) -> None:
    """Take two rungs of trial 0 and end one of them, then wait to be killed; "fail" says how it ends."""
    worker = Worker(place)
    sys.stdout.write(f"{worker.take()}\n")
    if how != "nothing":
        worker.record(0, 1, Status.FAILED if how == "fail" else 1.0)
    sys.stdout.write("recorded\n")
    time.sleep(600)


@pytest.fixture
def kill(place: str, processes: ForkServerContext) -> Iterator[Any]:
    """Two functions: one starts a worker and returns what it took, the other kills it."""
    workers: list[Fork] = []

    def start(how: str) -> str:
        workers.append(Fork(processes, work_until_killed, place, how))
        taken = workers[-1].stdout.readline().strip()
        assert workers[-1].stdout.readline() == "recorded\n"
        return taken

    def end() -> None:
        while workers:
            with workers.pop() as worker:
                worker.kill()

    yield start, end
    end()


@pytest.mark.multiprocess
@pytest.mark.parametrize("place", ["journal"], indirect=True)
def test_of_a_killed_worker_the_record_is_kept_and_the_rung_under_way_is_done_again(place: str, kill: Any) -> None:
    start, end = kill
    assert start("finish") == "[(0, 0), (0, 1)]"
    other = Worker(place)
    assert other.take() == []
    assert other.study.is_waiting
    end()
    assert other.take() == [(0, 0)]
    other.record(0, 0)
    assert other.take() == [(0, 2)]
    other.record(0, 2)
    (trial,) = trials_of(place)
    assert (trial.state, rungs_in(trial)) == (TrialState.COMPLETE, [0, 1, 2])
    other.study.close()


@pytest.mark.multiprocess
@pytest.mark.parametrize("place", ["journal"], indirect=True)
def test_a_trial_that_failed_is_ended_when_the_worker_of_its_other_rung_was_killed(place: str, kill: Any) -> None:
    start, end = kill
    start("fail")
    assert trials_of(place)[0].state is TrialState.RUNNING
    other = Worker(place)
    assert other.take() == []
    assert other.study.is_waiting
    end()
    assert other.take() == []
    assert not other.study.is_waiting
    assert other.newly_over() == [0]
    (trial,) = trials_of(place)
    assert (trial.state, rungs_in(trial)) == (TrialState.FAIL, [1])
    other.study.close()


def outcome_of(request: Request) -> Outcome:
    """Of four configurations the first finishes, the others end otherwise at different rungs."""
    bad = {
        Request(1, 0): Status.FAILED,
        Request(2, 0): Status.DIVERGED,
        Request(2, 2): Status.FAILED,
        Request(3, 3): Status.DIVERGED,
    }
    return bad.get(request, float(request.number + request.rung))


def run_to_the_end(worker: Worker, capacity: int) -> None:
    while requests := worker.take(capacity):
        # The last to be asked for ends first.
        for number, rung in reversed(requests):
            worker.record(number, rung, outcome_of(Request(number, rung)))


def check_ended(place: str, *, num_configurations: int) -> None:
    """Every trial ended, in the state that follows from its records, and what finished has all of them."""
    trials = trials_of(place)
    assert [trial.number for trial in trials] == list(range(num_configurations))
    for trial in trials:
        records = {rung: trial.user_attrs[f"rung {rung}"] for rung in rungs_in(trial)}
        outcomes = [outcome_of(Request(trial.number, rung)) for rung in records]
        for rung, record in records.items():
            outcome = outcome_of(Request(trial.number, rung))
            assert record["status"] == (outcome if isinstance(outcome, Status) else Status.FINISHED)
        scores = {rung: record["score"] for rung, record in records.items() if record["score"] is not None}
        assert trial.intermediate_values == scores
        if Status.FAILED in outcomes:
            assert trial.state is TrialState.FAIL
        elif Status.DIVERGED in outcomes:
            assert trial.state is TrialState.PRUNED
        else:
            assert trial.state is TrialState.COMPLETE
            assert list(records) == [0, 1, 2, 3]
            assert trial.value == scores[3]
        assert ("reason" in trial.user_attrs) == (trial.state is not TrialState.COMPLETE)


@pytest.mark.parametrize("capacity", [2, 8])
def test_a_sweep_killed_at_any_write_to_a_trial_ends_as_an_undisturbed_one(capacity: int, tmp_path: Path) -> None:
    for moment in count():
        place = str(tmp_path / f"{moment}.log")
        worker = Worker(place, configurations=4, ladder=MIXED)
        let_die(worker.study, moment)
        survived = False
        try:
            run_to_the_end(worker, capacity)
            survived = True
        except KilledError:
            pass
        worker.study._turn.leave()
        resumed = Worker(place, configurations=4, ladder=MIXED)
        run_to_the_end(resumed, capacity)
        resumed.study.close()
        check_ended(place, num_configurations=4)
        if survived:
            break
    assert moment > 30, "the sweep should have been killed at each of its writes"


@pytest.mark.parametrize("seed", range(12))
def test_two_workers_that_come_and_go_lose_no_record(seed: int, journal: str) -> None:
    random = Random(seed)
    workers = [Worker(journal, configurations=4, ladder=MIXED) for _ in range(2)]
    jobs: list[list[tuple[int, int]]] = [[], []]
    recorded: set[tuple[int, int]] = set()
    idle = 0
    while idle < 4:
        one = random.randrange(2)
        if random.random() < 0.1:
            workers[one].study.close()  # to the other it is dead, and its claims are void
            workers[one], jobs[one] = Worker(journal, configurations=4, ladder=MIXED), []
            if not jobs[1 - one]:
                jobs[1 - one] = workers[1 - one].take(2)
        elif jobs[one]:
            number, rung = jobs[one].pop(random.randrange(len(jobs[one])))
            assert (number, rung) not in recorded
            workers[one].record(number, rung, outcome_of(Request(number, rung)))
            recorded.add((number, rung))
        else:
            jobs[one] = workers[one].take(random.randint(1, 6))
        idle = 0 if any(jobs) or workers[one].study.is_waiting else idle + 1
    for worker in workers:
        assert worker.take() == []
        assert not worker.study.is_waiting
        worker.study.close()
    check_ended(journal, num_configurations=4)
    kept = {(trial.number, rung) for trial in trials_of(journal) for rung in rungs_in(trial)}
    assert kept == recorded


@pytest.mark.parametrize("place", ["journal", "sqlite"], indirect=True)
def test_the_trials_are_read_once_and_again_when_a_worker_is_gone(place: str) -> None:
    before = Worker(place, configurations=2)
    before.take(1)
    before.study.close()
    first, second = Worker(place, configurations=2), Worker(place, configurations=2)
    reads = {}
    for name, worker in (("first", first), ("second", second)):
        reads[name] = count()
        read = worker.study._access.trials

        def counted(read: Any = read, counter: Any = reads[name]) -> Any:
            next(counter)
            return read()

        worker.study._access.trials = counted  # type: ignore[method-assign]
    for worker in (first, second, first, second, first):
        for number, rung in worker.take(1):
            worker.record(number, rung)
    for worker in (second, first):  # what has ended is told with the next turn
        with worker.study.deciding():
            pass
    assert first.study.history.num_evaluations == sum(len(rungs_in(trial)) for trial in trials_of(place)) >= 4
    assert [next(counter) for counter in reads.values()] == [1, 1]
    second.study.close()
    first.take(1)
    assert next(reads["first"]) == 3
    first.study.close()


def test_what_a_worker_did_that_came_and_went_meanwhile_is_known(journal: str) -> None:
    first = Worker(journal, configurations=3)
    assert first.take(1) == [(0, 0)]
    with first.study.deciding():
        pass  # knows now that it is alone
    second = Worker(journal, configurations=3)
    second.take()
    second.record(0, 1)
    second.study.close()
    first.record(0, 0)
    while first.take():
        pass
    assert [trial.number for trial in trials_of(journal)] == [0, 1, 2]
    assert first.study.history.evaluation(0, 1) is not None
    first.study.close()


def test_beside_what_is_evaluated_by_itself_nothing_begins(tmp_path: Path) -> None:
    worker = Worker(str(tmp_path / "s.log"), configurations=3)
    assert worker.take(capacity=1) == [(0, 0)]
    # As it is when two processes have died of it, and it alone was abandoned.
    worker.study._alone = Request(0, 0)
    assert worker.take() == []
    worker.record(0, 0)
    assert worker.take() != []
