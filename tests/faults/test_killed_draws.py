"""A search that is killed anywhere gives the trials of an undisturbed one, whatever draws its configurations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
from optuna.distributions import FloatDistribution

from frostline.records import Cost, Evaluation, Job, Status
from frostline.run.loop import Loop, Observer
from frostline.search.algorithms.halving import AsynchronousHalving, SuccessiveHalving
from frostline.search.algorithms.hyperband import Hyperband
from frostline.search.interface import Search
from frostline.search.ladder import Ladder
from frostline.search.proposals.sampling import CMA_ES, GP, QMC, RANDOM, TPE, Draws, Sampling
from frostline.search.spaces.space import SearchSpace
from frostline.store.backends.storage import close_storage, open_storage, opened
from frostline.store.study import SearchStudy
from frostline.store.terms import Terms
from tests.store.dying import KilledError, let_die

SPACE = SearchSpace(
    distributions={"rate": FloatDistribution(1e-4, 1.0, log=True), "decay": FloatDistribution(0.0, 1.0)}
)
LADDER = Ladder.diagonal(num_layers=10, full_samples=1000)
SEARCHES: dict[str, Search] = {
    "halving": SuccessiveHalving(ladder=LADDER, configurations=27),
    "asynchronous": AsynchronousHalving(ladder=LADDER, configurations=27),
    "hyperband": Hyperband(ladder=LADDER, configurations=27),
}


class Waves:
    """Evaluates what it is given in another order, and takes no more before all has ended, like populations of a task."""

    def __init__(self, size: int, *, dies_after: float) -> None:
        self.size = size
        self.left = dies_after
        self.jobs: list[Job] = []

    def room(self) -> int:
        return 0 if self.jobs else self.size

    def submit(self, jobs: Sequence[Job]) -> None:
        # Those of one kind are trained together: not in the order in which they came.
        self.jobs = sorted(jobs, key=lambda job: (job.configuration.number % 3, job.configuration.number))

    def next_ended(self) -> Evaluation:
        if self.left < 1:
            raise KilledError
        self.left -= 1
        job = self.jobs.pop(0)
        score = score_of(job)
        return Evaluation(
            number=job.configuration.number,
            rung=job.rung,
            fidelity=job.fidelity,
            status=Status.FINISHED if math.isfinite(score) else Status.DIVERGED,
            score=score if math.isfinite(score) else None,
            cost=Cost(seconds=1.0, samples=1),
        )

    def forget(self, number: int) -> None:
        pass

    def close(self) -> None:
        pass


def score_of(job: Job) -> float:
    rate, decay = job.configuration["rate"], job.configuration["decay"]
    assert isinstance(rate, float)
    assert isinstance(decay, float)
    if rate > 0.8:
        return math.nan
    return (math.log10(rate) + 2) ** 2 + decay + math.sin(1e4 * rate) / job.fidelity.trainable_layers


def run(
    place: str, search: Search, sampling: Sampling, *, size: int, evaluations: float = math.inf, writes: int = -1
) -> bool:
    """Work on the search until it is over, or this process dies; return whether it is over."""
    terms = Terms(
        task="t", data="", space=SPACE.fingerprint, rungs=LADDER.rungs, num_layers=10, search=search.fingerprint,
        is_sweep=False, sampler=sampling.name, seed=0, direction="minimize", sample_unit="samples", expected=(),
    )  # fmt: skip
    with opened(place) as storage:
        study = SearchStudy.open(storage, "s", terms=terms, space=SPACE)
        if writes >= 0:
            let_die(study, writes)
        draws = Draws(space=SPACE, sampling=sampling, root_seed=0, direction="minimize")
        try:
            Loop(study, search, draws, Waves(size, dies_after=evaluations)).run(Observer())
        except KilledError:
            return False
        finally:
            study._turn.leave()  # this process lives on: its claims would be kept
    return True


def trials_in(place: str) -> list[Any]:
    storage = open_storage(place)
    found = []
    for trial in storage.get_all_trials(storage.get_study_id_from_name("s")):
        rungs = {key: value for key, value in trial.user_attrs.items() if key.startswith("rung")}
        found.append((trial.number, trial.params, trial.state, trial.values, rungs))
    close_storage(storage)
    return found


ALL = [
    (search, sampling, size)
    for search in SEARCHES
    for sampling in (RANDOM, QMC, TPE, GP, CMA_ES)
    for size in (1, 8)
]
SOME = [("halving", TPE, 8), ("asynchronous", TPE, 8), ("asynchronous", CMA_ES, 1), ("hyperband", QMC, 8)]


@pytest.mark.parametrize(
    ("search", "sampling", "size"),
    [*SOME, *(pytest.param(*case, marks=pytest.mark.torture) for case in ALL if case not in SOME)],
)
def test_a_search_killed_again_and_again_draws_what_an_undisturbed_one_draws(
    search: str, sampling: Sampling, size: int, tmp_path: Path
) -> None:
    killed, undisturbed = str(tmp_path / "killed.log"), str(tmp_path / "undisturbed.log")
    assert run(undisturbed, SEARCHES[search], sampling, size=size)
    moments = Random(7)
    num_kills = 0
    while not run(killed, SEARCHES[search], sampling, size=size, evaluations=moments.randint(1, 6)):
        num_kills += 1
    assert num_kills > 5
    assert trials_in(killed) == trials_in(undisturbed)


@pytest.mark.parametrize("search", ["asynchronous"])
def test_a_search_killed_at_any_write_draws_what_an_undisturbed_one_draws(search: str, tmp_path: Path) -> None:
    undisturbed = str(tmp_path / "undisturbed.log")
    assert run(undisturbed, SEARCHES[search], TPE, size=8)
    expected = trials_in(undisturbed)
    for moment in range(5, 140, 30):
        killed = str(tmp_path / f"{moment}.log")
        assert not run(killed, SEARCHES[search], TPE, size=8, writes=moment)
        assert run(killed, SEARCHES[search], TPE, size=8)
        assert trials_in(killed) == expected, f"killed at write {moment}"
