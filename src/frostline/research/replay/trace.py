"""What a replayed search did, and when its answer was good enough."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from frostline.records import loss_sign

if TYPE_CHECKING:
    from frostline.records import Direction, Evaluation, Fidelity
    from frostline.research.replay.recorded import Goal


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """An evaluation that ended. ``index`` is its configuration's in the table.

    Units: ``seconds`` on the simulated clock when it ended; ``cost`` the seconds it took one worker. A ``loss`` is lower
    if better, and infinite if the training diverged.
    """

    seconds: float
    run: int
    index: int
    fidelity: Fidelity
    loss: float
    cost: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What a search did, in the order of the simulated clock. Units: ``run_ends`` in seconds."""

    steps: tuple[Step, ...]
    full: Fidelity
    run_ends: tuple[float, ...]
    """When each run ended: the first search, and those it was restarted as."""

    @property
    def seconds(self) -> float:
        """When the last evaluation ended."""
        return self.steps[-1].seconds

    @property
    def work(self) -> float:
        """The seconds that all workers trained, in sum."""
        return sum(step.cost for step in self.steps)

    def incumbents(self) -> tuple[Step, ...]:
        """Return the full trainings that were the best so far when they ended: what the search would answer from then on."""
        found: list[Step] = []
        best = math.inf
        for step in self.steps:
            if step.fidelity == self.full and step.loss < best:
                found.append(step)
                best = step.loss
        return tuple(found)

    def incumbent_at(self, seconds: float) -> Step | None:
        """Return the best full training that had ended by ``seconds``, None before the first."""
        return next((step for step in reversed(self.incumbents()) if step.seconds <= seconds), None)

    def time_to(self, target: float) -> float:
        """Return when a full training first reached a loss of at most ``target``; infinite if none did."""
        return next((step.seconds for step in self.incumbents() if step.loss <= target), math.inf)

    def time_to_goal(self, goal: Goal) -> float:
        """Return when the search's answer was first one of the goal's good configurations; infinite if it never was."""
        met = goal.met
        return next((step.seconds for step in self.incumbents() if met[step.index]), math.inf)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a search is restarted: until ``goal`` is met and ``seconds`` are over, or the table is exhausted."""

    goal: Goal
    seconds: float = 0.0

    def is_over(self, trace: Trace) -> bool:
        """Return whether ``trace`` has met the goal and lasted long enough."""
        return trace.seconds >= self.seconds and math.isfinite(trace.time_to_goal(self.goal))


def step_of(evaluation: Evaluation, *, seconds: float, run: int, index: int, direction: Direction) -> Step:
    """Return the step that an evaluation of the configuration at ``index`` of the table is, ended at ``seconds``."""
    score = evaluation.score
    return Step(
        seconds=seconds,
        run=run,
        index=index,
        fidelity=evaluation.fidelity,
        loss=math.inf if score is None else loss_sign(direction) * score,
        cost=evaluation.cost.seconds,
    )
