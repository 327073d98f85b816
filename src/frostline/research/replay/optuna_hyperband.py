"""Optuna's own Hyperband pruner with its own TPE sampler on a recorded table: what its users have today."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

import optuna
from optuna.pruners import HyperbandPruner
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import TrialState

from frostline.errors import AuditError, OptionError
from frostline.research.replay.simulation import Step, Trace
from frostline.research.replay.unused import Unused
from frostline.search.mirror import private_storage
from frostline.seeding import derive_seed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

    from frostline.audit.landscape import Landscape
    from frostline.research.replay.recorded import RecordedTask
    from frostline.research.replay.simulation import Patience

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
    if workers < 1:
        raise OptionError(f"workers is {workers}, but at least 1 must work: ask for 1 or more.")
    resources = _resources(landscape.samples)
    suggesting = TPESampler(seed=derive_seed(seed, "optuna") % _NUM_SEEDS)
    sampler = _NearestRecorded(suggesting, landscape, Unused(landscape, seed=seed))
    # The pruner divides trials among its brackets by the name of the study, so every seed has a name of its own.
    name = f"replay {seed}"
    study = optuna.load_study(
        study_name=name,
        storage=private_storage(landscape.direction, name=name),
        sampler=sampler,
        pruner=HyperbandPruner(
            min_resource=resources[0],
            max_resource=resources[-1],
            reduction_factor=reduction_factor,
        ),
    )
    trials = _Trials(task, study, sampler, resources)
    trials.run(configurations, workers, patience)
    return trials.trace()


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


@dataclass(frozen=True, slots=True)
class _UnderWay:
    trial: Trial
    index: int
    budget: int
    """The index of the budget that the training reaches next."""


class _Trials:
    """The trials of one study on the simulated clock."""

    def __init__(
        self, task: RecordedTask, study: Study, sampler: _NearestRecorded, resources: Sequence[int]
    ) -> None:
        self._task = task
        self._study = study
        self._sampler = sampler
        self._resources = resources
        self._seconds = 0.0
        self._steps: list[Step] = []
        self._run_ends: list[float] = []
        self._num_asked = 0
        self._num_ended = 0
        # Whoever reports first comes first, and of those the one that began first.
        self._under_way: list[tuple[float, int, _UnderWay]] = []
        self._order = count()

    def run(self, configurations: int, workers: int, patience: Patience | None) -> None:
        """Ask until there were ``configurations``, and on until ``patience`` is over; let every trial end."""
        while True:
            while len(self._under_way) < workers and self._may_ask(configurations, patience):
                trial = self._study.ask(dict(self._task.landscape.space.distributions))
                self._num_asked += 1
                self._train(_UnderWay(trial, self._sampler.taken, 0))
            if not self._under_way:
                return
            self._seconds, _, reported = heapq.heappop(self._under_way)
            self._report(reported, run=self._num_ended // configurations)
            if len(self._run_ends) < self._num_ended // configurations:
                self._run_ends.append(self._seconds)

    def trace(self) -> Trace:
        """Return what happened."""
        ends = tuple(self._run_ends)
        last = self._steps[-1].seconds
        return Trace(
            steps=tuple(self._steps),
            full=self._task.full,
            run_ends=ends if ends and ends[-1] == last else (*ends, last),
        )

    def _may_ask(self, configurations: int, patience: Patience | None) -> bool:
        if not self._sampler.unused:
            return False
        if self._num_asked < configurations:
            return True
        return patience is not None and bool(self._steps) and not patience.is_over(self.trace())

    def _train(self, next_report: _UnderWay) -> None:
        ends = self._seconds + self._cost(next_report)
        heapq.heappush(self._under_way, (ends, next(self._order), next_report))

    def _cost(self, next_report: _UnderWay) -> float:
        seconds = self._task.landscape.seconds[next_report.index, -1]
        before = float(seconds[next_report.budget - 1]) if next_report.budget else 0.0
        return max(0.0, float(seconds[next_report.budget]) - before)

    def _report(self, reached: _UnderWay, *, run: int) -> None:
        landscape, index, budget = self._task.landscape, reached.index, reached.budget
        score = float(landscape.scores[index, -1, budget])
        self._steps.append(
            Step(
                seconds=self._seconds,
                run=run,
                index=index,
                fidelity=landscape.fidelity((len(landscape.layers) - 1, budget)),
                loss=float(landscape.losses[index, -1, budget]),
                cost=self._cost(reached),
            )
        )
        reached.trial.report(score, self._resources[budget])
        is_last = budget == len(landscape.samples) - 1
        if not math.isfinite(score) or (not is_last and reached.trial.should_prune()):
            self._study.tell(reached.trial, state=TrialState.PRUNED)
        elif is_last:
            self._study.tell(reached.trial, score)
        else:
            self._train(_UnderWay(reached.trial, index, budget + 1))
            return
        self._num_ended += 1
