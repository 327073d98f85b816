"""A recorded table that acts as a task: it answers every evaluation at once, with the scores and costs of real training.

Axes: C configurations, Z numbers of trained layers, S budgets of samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from frostline.errors import AuditError, LadderError
from frostline.records import Cost, Evaluation, Fidelity, Status
from frostline.search.ladder import Ladder

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from frostline.audit.landscape import Array, Landscape
    from frostline.records import Job
    from frostline.search.interface import Rungs


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RecordedTask:
    """The configurations of a landscape, each of which can be evaluated at every cell of its grid.

    Costs are those recorded: where configurations were trained together, each one's share, whatever the search that is
    replayed would have packed together. Under the horizon "full" a promotion at equal layers goes on with the training
    of the rung below and costs what it adds to that; every other evaluation starts from scratch.
    Raises: AuditError if there is no configuration, or seconds are not known.
    """

    landscape: Landscape
    own: int | None = None
    """Which configuration every search begins with, as people begin with the one they have; None: none in particular."""

    def __post_init__(self) -> None:
        seconds = self.landscape.seconds
        if self.own is not None and not 0 <= self.own < self.landscape.num_configurations:
            raise AuditError(
                f"own is {self.own}, but the table has configurations 0 to {self.landscape.num_configurations - 1}."
            )
        if not self.landscape.configurations:
            raise AuditError("a table without configurations cannot be replayed: record at least one.")
        unknown = ~(np.isfinite(seconds) & (seconds > 0))
        if unknown.any():
            raise AuditError(
                f"{int(unknown.sum())} of {seconds.size} cells of {self.landscape.task} have no seconds above 0, so no "
                "search over them can be timed: record the table again."
            )

    @property
    def num_configurations(self) -> int:
        """C."""
        return self.landscape.num_configurations

    @property
    def full(self) -> Fidelity:
        """The full training."""
        return self.landscape.full

    @property
    def full_seconds(self) -> float:
        """What one full training takes, in the mean over the configurations."""
        return float(self.landscape.seconds[:, -1, -1].mean())

    def check(self, ladder: Rungs) -> None:
        """Raise LadderError unless every rung of ``ladder`` is a cell of the table."""
        for rung in ladder.rungs:
            layers, samples = self.landscape.layers, self.landscape.samples
            if rung.trainable_layers not in layers or rung.samples not in samples:
                raise LadderError(
                    f"a rung of {rung.trainable_layers} layers and {rung.samples} {self.landscape.sample_unit} was not "
                    f"recorded; there are layers {list(layers)} and {self.landscape.sample_unit} {list(samples)}: use "
                    "these, or `snapped`."
                )

    def snapped(self, ladder: Ladder) -> Ladder:
        """Return ``ladder`` with every rung moved to the cell nearest to it by the logarithms of both its axes.

        Rungs that fall together become one.
        Raises: LadderError if fewer than two are left.
        """
        cells = (self.landscape.nearest_cell(rung) for rung in ladder.rungs)
        rungs = [self.landscape.fidelity(cell) for cell, _ in groupby(cells)]
        return Ladder.explicit(
            [(rung.trainable_layers, rung.samples) for rung in rungs],
            num_layers=self.full.trainable_layers,
            full_samples=self.full.samples,
        )

    def evaluate(self, job: Job, index: int) -> Evaluation:
        """Return how ``job`` ends if its configuration is the one at ``index``."""
        z, s = self._cell(job.fidelity)
        seconds = float(self.landscape.seconds[index, z, s])
        samples = job.fidelity.samples
        below = job.continued_from[-1] if job.continued_from else None
        if below is not None and self.landscape.horizon == "full":
            assert below.trainable_layers == job.fidelity.trainable_layers, f"{job.fidelity} continues {below}"
            seconds = max(0.0, seconds - float(self.landscape.seconds[(index, *self._cell(below))]))
            samples -= below.samples
        score = float(self.landscape.scores[index, z, s])
        finished = math.isfinite(score)
        return Evaluation(
            number=job.configuration.number,
            rung=job.rung,
            fidelity=job.fidelity,
            status=Status.FINISHED if finished else Status.DIVERGED,
            score=score if finished else None,
            cost=Cost(seconds=seconds, samples=samples),
        )

    def _cell(self, fidelity: Fidelity) -> tuple[int, int]:
        layers, samples = self.landscape.layers, self.landscape.samples
        return layers.index(fidelity.trainable_layers), samples.index(fidelity.samples)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Goal:
    """What a search is after: a configuration whose full training is among the good ones of its table.

    Shapes: ``qualities`` and ``met`` (C,). The loss of full training, in the mean over the seeds that were recorded.
    """

    qualities: Array
    best: float
    """The lowest quality; where some were trained under several seeds, of those: one lucky score would beat any mean."""
    target: float
    """Up to which quality a configuration is good."""

    @property
    def met(self) -> NDArray[np.bool_]:
        """Which configurations are good."""
        return self.qualities <= self.target


def goal_of(landscape: Landscape, *, tolerance: float = 0.0, share: float = 0.0) -> Goal:
    """Return the goal to be within ``tolerance`` of the best loss, or among the best ``share`` of the configurations.

    The wider of the two counts; with both 0 it is exactly the best. A tolerance of twice the standard deviation over
    seeds is "within the seed noise" (``frostline.audit.noise``).
    Raises: AuditError if one of them is negative, or every full training diverged.
    """
    if not 0 <= tolerance < math.inf or not 0 <= share <= 1:
        raise AuditError(
            f"tolerance is {tolerance} and share is {share}: a tolerance is a finite loss of at least 0, a share is "
            "between 0 and 1."
        )
    losses = np.vstack([landscape.full_losses, landscape.repeated_losses])
    qualities: Array = np.nanmean(losses, axis=0)
    repeated = ~np.isnan(landscape.repeated_losses).all(axis=0)
    best = float(qualities[repeated].min() if repeated.any() else qualities.min())
    if not math.isfinite(best):
        raise AuditError(
            f"every full training of {landscape.task} diverged, so there is nothing to find: record it with lower "
            "learning rates."
        )
    position = max(0, math.ceil(share * len(qualities)) - 1)
    target = max(best + tolerance, float(np.sort(qualities)[position]) if share > 0 else best)
    return Goal(qualities=qualities, best=best, target=target)


def with_typical_seconds(landscape: Landscape, *, level: float = 0.25) -> Landscape:
    """Return ``landscape`` with the seconds of every finished evaluation replaced by a quantile over the configurations.

    For a table recorded on a machine that others used too: their load can only add to the time, and hits some trainings and
    not others. Hyperparameters hardly change what a training costs, so a low quantile at each cell is what it takes
    undisturbed; where they do, as a batch size does, use the seconds as recorded. A training that diverged, and so may
    have ended early, keeps its own where these are less.
    Raises: AuditError if ``level`` is no quantile.
    """
    if not 0 <= level <= 1:
        raise AuditError(f"level is {level}, but a quantile is between 0 and 1: use 0.25, or 0.5 for the median.")
    seconds = landscape.seconds
    finished = np.isfinite(landscape.scores)
    # Where everything diverged there is nothing else to go by.
    counted = np.where(finished | ~finished.any(axis=0), seconds, np.nan)
    typical = np.nanquantile(counted, level, axis=0)
    return replace(landscape, seconds=np.where(finished, typical, np.minimum(seconds, typical)))
