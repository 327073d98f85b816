from __future__ import annotations

import math

import numpy as np
import optuna
import pytest
from optuna.pruners import HyperbandPruner
from optuna.samplers import TPESampler

from frostline.errors import AuditError, OptionError
from frostline.research.replay.optuna_hyperband import _NearestRecorded, replay_optuna
from frostline.research.replay.recorded import RecordedTask, goal_of
from frostline.research.replay.trace import Patience
from frostline.research.replay.unused import Unused
from frostline.search.proposals.mirror import private_storage
from frostline.seeding import derive_seed
from tests.research.replay.tables import table

SAMPLES = tuple(range(10, 101, 10))


def recorded(count: int = 40, *, diverging: float = 0.0) -> RecordedTask:
    random = np.random.default_rng(1)
    scores = random.random(count)[:, None, None] + 0.3 * random.random((count, 2, 10))
    scores[random.random(count) < diverging, 1, 4:] = np.nan
    return RecordedTask(landscape=table(scores, samples=SAMPLES))


def test_every_trial_pays_for_all_layers_up_to_where_it_stopped() -> None:
    task = recorded(diverging=0.2)
    trace = replay_optuna(task, configurations=40, seed=0)
    assert sorted({step.index for step in trace.steps}) == list(range(40))
    for index in range(40):
        steps = [step for step in trace.steps if step.index == index]
        assert [step.fidelity.samples for step in steps] == list(SAMPLES[: len(steps)])
        assert {step.fidelity.trainable_layers for step in steps} == {2}
        assert sum(step.cost for step in steps) == task.landscape.seconds[index, 1, len(steps) - 1]
        assert [step.loss for step in steps] == task.landscape.losses[index, 1, : len(steps)].tolist()
        # What diverged stops at once.
        assert all(math.isfinite(step.loss) for step in steps[:-1])
    lengths = [sum(step.index == index for step in trace.steps) for index in range(40)]
    assert 10 in lengths
    assert min(lengths) < 5
    assert trace.seconds == pytest.approx(trace.work)


@pytest.mark.parametrize("samples", [SAMPLES, (10, 30, 90)], ids=["ten budgets", "a rung at the last budget"])
def test_one_worker_does_what_optunas_own_loop_does(samples) -> None:
    """What reached the last budget is complete: there is nothing left to prune."""
    scores = recorded(diverging=0.1).landscape.scores[:, :, -len(samples) :]
    task = RecordedTask(landscape=table(scores, samples=samples))
    landscape = task.landscape
    trace = replay_optuna(task, configurations=40, seed=7)
    sampler = _NearestRecorded(
        TPESampler(seed=derive_seed(7, "optuna") % 2**32), landscape, Unused(landscape, seed=7)
    )
    study = optuna.load_study(
        study_name="replay 7",
        storage=private_storage("minimize", name="replay 7"),
        sampler=sampler,
        pruner=HyperbandPruner(min_resource=1, max_resource=samples[-1] // 10, reduction_factor=3),
    )
    trained = []

    def objective(trial: optuna.Trial) -> float:
        for name, distribution in landscape.space.distributions.items():
            trial._suggest(name, distribution)
        assert trial.params == dict(landscape.configurations[sampler.taken])
        for budget, score in zip(samples, landscape.scores[sampler.taken, 1], strict=True):
            trained.append((sampler.taken, budget))
            trial.report(score, budget // 10)
            if math.isnan(score) or (budget < samples[-1] and trial.should_prune()):
                raise optuna.TrialPruned
        return score

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study.optimize(objective, n_trials=40)
    finally:
        optuna.logging.set_verbosity(optuna.logging.INFO)
    assert [(step.index, step.fidelity.samples) for step in trace.steps] == trained


def test_seeds_and_workers() -> None:
    task = recorded()
    first = replay_optuna(task, configurations=30, seed=0)
    assert first == replay_optuna(task, configurations=30, seed=0)
    assert first.steps[0].index != replay_optuna(task, configurations=30, seed=1).steps[0].index
    shared = replay_optuna(task, configurations=30, seed=0, workers=3)
    assert len({step.index for step in shared.steps}) == 30
    assert shared.work / 3 <= shared.seconds < shared.work
    assert all(one.seconds <= other.seconds for one, other in zip(shared.steps, shared.steps[1:], strict=False))


def test_it_goes_on_until_the_goal_is_met_or_the_table_is_exhausted() -> None:
    task = recorded()
    goal = goal_of(task.landscape)
    ends = set()
    for seed in range(10):
        trace = replay_optuna(task, configurations=10, seed=seed, patience=Patience(goal=goal))
        trained = len({step.index for step in trace.steps})
        met = math.isfinite(trace.time_to_goal(goal))
        assert met or trained == 40
        assert len(trace.run_ends) == math.ceil(trained / 10)
        for run, end in enumerate(trace.run_ends):
            steps = [step for step in trace.steps if step.run == run]
            assert steps[-1].seconds == end
            assert len({step.index for step in steps}) == min(10, trained - 10 * run)
        if met and trained > 10:
            assert trace.time_to_goal(goal) == trace.seconds
        ends.add(met)
    # At least one of the seeds finds it.
    assert True in ends


def test_budgets_that_end_with_a_batch_are_pruned_at_as_those_they_stand_for() -> None:
    scores = recorded().landscape.scores
    in_batches = (20480, 40960, 59392, 79872, 98304, 118784, 139264, 157696, 178176, 196608)
    pruned_at = []
    for samples in (SAMPLES, in_batches):
        trace = replay_optuna(RecordedTask(landscape=table(scores, samples=samples)), configurations=40, seed=0)
        pruned_at.append([(step.index, samples.index(step.fidelity.samples)) for step in trace.steps])
    assert pruned_at[0] == pruned_at[1]


def test_budgets_of_any_size_are_told_apart() -> None:
    task = RecordedTask(landscape=table(recorded().landscape.scores[:, :, :3], samples=(10, 11, 90)))
    lengths = np.bincount([step.index for step in replay_optuna(task, configurations=40, seed=0).steps])
    # The first rung is at 10; the next one, at 30 and more, is reached with the last budget alone.
    assert set(lengths) == {1, 3}


def test_what_cannot_be_replayed_is_refused() -> None:
    with pytest.raises(AuditError, match="of the horizon 'rung', but a pruner watches one training"):
        replay_optuna(RecordedTask(landscape=table(np.zeros(4), horizon="rung")), configurations=4, seed=0)
    with pytest.raises(OptionError, match="workers is 0"):
        replay_optuna(recorded(), configurations=4, seed=0, workers=0)
