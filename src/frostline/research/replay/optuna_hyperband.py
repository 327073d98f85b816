"""Optuna's own Hyperband pruner with its own TPE sampler on a recorded table: what its users have today."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import optuna
from optuna.pruners import HyperbandPruner
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import TrialState

from frostline.errors import AuditError
from frostline.records import Fidelity, Request
from frostline.research.replay.trace import Step, Trace, step_of
from frostline.research.replay.unused import Unused
from frostline.run.execution.simulated import SimulatedExecutor
from frostline.run.ledger import MemoryLedger
from frostline.run.loop import Observer, climb
from frostline.search.algorithms.grid import Grid
from frostline.search.proposals.mirror import private_storage
from frostline.seeding import derive_seed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

    from frostline.audit.landscape import Landscape
    from frostline.records import Configuration, Evaluation, Job
    from frostline.research.replay.recorded import RecordedTask
    from frostline.research.replay.trace import Patience
    from frostline.search.history import History

# numpy's legacy generator, which Optuna's samplers use, takes seeds of 32 bits.
_NUM_SEEDS = 2**32


def replay_optuna(
    task: RecordedTask,
    *,
    configurations: int,
    seed: int,
    workers: int = 1,
    patience: Patience | None = None,
    reduction_factor: int = 3,
) -> Trace:
    """Run ``HyperbandPruner`` with ``TPESampler`` over ``configurations`` of the table, and on as ``patience`` asks for.

    A trial trains all layers, reports at every recorded budget, and stops where the pruner says so or where it diverged;
    it has then cost what was recorded up to there. What the sampler suggests is replaced by the nearest recorded
    configuration that is not used yet, and that is what Optuna learns from.
    The runs of the trace are every ``configurations`` trials of the one study: Optuna has nothing to restart.
    Raises: AuditError if the table is of the horizon "rung", where a training on its way was not recorded; OptionError if
    there is no worker.
    """
    landscape = task.landscape
    if landscape.horizon != "full":
        raise AuditError(
            f"the table of {landscape.task} is of the horizon {landscape.horizon!r}, but a pruner watches one training on "
            'its way through the budgets: replay a table of the horizon "full".'
        )
    pruned = _Pruned(task, configurations, patience, seed=seed, reduction_factor=reduction_factor)
    executor = SimulatedExecutor(pruned.evaluate, workers=workers)
    ledger = MemoryLedger(landscape.direction)
    climb(ledger, pruned, pruned, executor, _Stepping(pruned, executor))
    return pruned.trace()


def _study(task: RecordedTask, sampler: BaseSampler, *, seed: int, reduction_factor: int) -> Study:
    resources = _resources(task.landscape.samples)
    # The pruner divides trials among its brackets by the name of the study, so every seed has a name of its own.
    name = f"replay {seed}"
    return optuna.load_study(
        study_name=name,
        storage=private_storage(task.landscape.direction, name=name),
        sampler=sampler,
        pruner=HyperbandPruner(
            min_resource=resources[0], max_resource=resources[-1], reduction_factor=reduction_factor
        ),
    )


def _resources(samples: Sequence[int]) -> tuple[int, ...]:
    """Return the budgets as the pruner counts them: in the lowest one, such as 1 to 10, as its users count epochs.

    Budgets end with a batch, so they are multiples of the lowest only nearly, and its rungs would miss them. Where rounding
    makes two of them one, it is the samples themselves.
    """
    rounded = tuple(round(budget / samples[0]) for budget in samples)
    return rounded if len(set(rounded)) == len(samples) else tuple(samples)


class _NearestRecorded(BaseSampler):
    """Suggests, of all hyperparameters at once, the recorded configuration nearest to what ``suggesting`` suggests."""

    def __init__(self, suggesting: BaseSampler, landscape: Landscape, unused: Unused) -> None:
        self._suggesting = suggesting
        self._landscape = landscape
        self.unused = unused
        self.taken = -1
        """The index of the configuration that was suggested last."""

    def infer_relative_search_space(
        self,
        study: Study,  # noqa: ARG002 - the space is known, however few trials there are
        trial: FrozenTrial,  # noqa: ARG002
    ) -> dict[str, BaseDistribution]:
        return dict(self._landscape.space.distributions)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        together = self._suggesting.infer_relative_search_space(study, trial)
        suggested = self._suggesting.sample_relative(study, trial, together)
        for name, distribution in search_space.items():
            if name not in suggested:
                suggested[name] = self._suggesting.sample_independent(study, trial, name, distribution)
        self.taken = self.unused.take_nearest(suggested)
        return dict(self._landscape.configurations[self.taken])

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        # Optuna asks for a hyperparameter that has a single value alone.
        return self._suggesting.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._suggesting.before_trial(study, trial)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self._suggesting.after_trial(study, trial, state, values)


class _Pruned:
    """Optuna's trials as a search: what is asked for next says the pruner, by the order in which scores arrived.

    Unlike frostline's own searches it is no function of the history alone: Optuna keeps a study of its own.
    """

    fingerprint = "Optuna's Hyperband pruner"

    def __init__(
        self,
        task: RecordedTask,
        configurations: int,
        patience: Patience | None,
        *,
        seed: int,
        reduction_factor: int,
    ) -> None:
        landscape = task.landscape
        suggesting = TPESampler(seed=derive_seed(seed, "optuna") % _NUM_SEEDS)
        self._sampler = _NearestRecorded(suggesting, landscape, Unused(landscape, seed=seed, first=task.own))
        self._study = _study(task, self._sampler, seed=seed, reduction_factor=reduction_factor)
        self.ladder = Grid(
            rungs=tuple(
                Fidelity(trainable_layers=landscape.layers[-1], samples=samples) for samples in landscape.samples
            ),
            num_layers=landscape.layers[-1],
            full_samples=landscape.samples[-1],
        )
        self._task = task
        self._resources = _resources(landscape.samples)
        self._configurations = configurations
        self._patience = patience
        self._trials: list[Trial] = []
        self._indices: list[int] = []
        self._going_on: deque[Request] = deque()
        self._num_ended = 0
        self._steps: list[Step] = []
        self._run_ends: list[float] = []

    def next_requests(self, history: History, *, capacity: int) -> list[Request]:
        """Return what goes on first, then new trials until there were enough."""
        del history
        requests: list[Request] = []
        while len(requests) < capacity and (self._going_on or self._may_ask()):
            requests.append(self._going_on.popleft() if self._going_on else self._asked())
        return requests

    def draw(self, history: History) -> Configuration:
        """Return nothing, ever: every new trial is asked for with its values."""
        raise AssertionError(f"trial {len(history.configurations)} has no values")

    def evaluate(self, job: Job) -> Evaluation:
        """Return the recorded score of a training that goes on from the budget before, and what it adds to the cost."""
        below = self.ladder.rungs[job.rung - 1 : job.rung] if job.rung else ()
        return self._task.evaluate(replace(job, continued_from=below), self._indices[job.configuration.number])

    def report(self, evaluation: Evaluation, *, seconds: float) -> None:
        """Tell Optuna what has ended at ``seconds``, and let the trial go on unless the pruner stops it."""
        number, rung = evaluation.number, evaluation.rung
        run = self._num_ended // self._configurations
        step = step_of(
            evaluation,
            seconds=seconds,
            run=run,
            index=self._indices[number],
            direction=self._task.landscape.direction,
        )
        self._steps.append(step)
        trial, score = self._trials[number], evaluation.score
        trial.report(math.nan if score is None else score, self._resources[rung])
        is_last = rung == len(self.ladder.rungs) - 1
        if score is None or (not is_last and trial.should_prune()):
            self._study.tell(trial, state=TrialState.PRUNED)
        elif is_last:
            self._study.tell(trial, score)
        else:
            self._going_on.append(Request(number, rung + 1))
            return
        self._num_ended += 1
        if len(self._run_ends) < self._num_ended // self._configurations:
            self._run_ends.append(seconds)

    def trace(self) -> Trace:
        """Return what happened."""
        ends = tuple(self._run_ends)
        last = self._steps[-1].seconds
        return Trace(
            steps=tuple(self._steps),
            full=self._task.full,
            run_ends=ends if ends and ends[-1] == last else (*ends, last),
        )

    def _asked(self) -> Request:
        trial = self._study.ask(dict(self._task.landscape.space.distributions))
        self._trials.append(trial)
        self._indices.append(self._sampler.taken)
        values = self._task.landscape.configurations[self._sampler.taken].hyperparameters
        return Request(len(self._trials) - 1, 0, values)

    def _may_ask(self) -> bool:
        if not self._sampler.unused:
            return False
        if len(self._trials) < self._configurations:
            return True
        return self._patience is not None and bool(self._steps) and not self._patience.is_over(self.trace())


class _Stepping(Observer):
    def __init__(self, pruned: _Pruned, executor: SimulatedExecutor) -> None:
        self._pruned = pruned
        self._executor = executor

    def ended(self, evaluation: Evaluation, history: History) -> None:  # noqa: ARG002
        """See ``Observer``."""
        self._pruned.report(evaluation, seconds=self._executor.seconds)
