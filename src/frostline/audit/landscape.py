"""The landscape: the scores and costs of some configurations over the grid of trained layers × samples.

Axes: C configurations, Z numbers of trained layers, S budgets of samples, R repeats of full training under other seeds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise, product
from typing import TYPE_CHECKING

import numpy as np

from frostline.errors import AuditError
from frostline.records import Fidelity, loss_sign
from frostline.run.outcome.sentences import score_name
from frostline.search.alignment import IDENTITY, Alignment
from frostline.text_tables import html_table, text_table
from frostline.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from frostline.records import Configuration, Direction
    from frostline.search.spaces.space import SearchSpace

    Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCost:
    """What training with one number of layers costs, as it was predicted: of one configuration by itself."""

    flops_per_sample: float
    peak_bytes: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Landscape:
    """Some configurations, each trained and scored at every cell of a grid; the last cell is full fidelity.

    Shapes: ``scores``, ``seconds``, ``peak_bytes`` and ``flops`` (C, Z, S); ``repeats`` (R, C).
    Units: ``samples`` as in ``Fidelity``; ``seconds``, ``peak_bytes`` and ``flops`` are those of one configuration's
    training from scratch up to the cell, with validation in the seconds; where several were trained together, its share
    of the seconds and the bytes of all. Where the device counts no bytes they are those predicted for one configuration by
    itself. NaN in a cost: not known.
    Raises: AuditError if the shapes do not fit, or an axis does not rise.
    """

    task: str
    reference: str
    """What names the task on the command line."""
    space: SearchSpace
    direction: Direction
    sample_unit: str
    horizon: str
    """Of the learning-rate schedule: "full" cuts the full one short at each budget, "rung" compresses it to the budget."""
    seed: int
    configurations: tuple[Configuration, ...]
    layers: tuple[int, ...]
    samples: tuple[int, ...]
    scores: Array
    """NaN: diverged."""
    seconds: Array
    peak_bytes: Array
    flops: Array
    repeats: Array
    """Scores at full fidelity under other seeds. NaN: not repeated; infinite in the worse direction: diverged."""
    alignment: Alignment = IDENTITY
    """What was trained in place of the configurations where few layers were."""
    metric: str | None = None
    """What the scores are called; None: nobody says."""

    def __post_init__(self) -> None:
        shape = (len(self.configurations), len(self.layers), len(self.samples))
        for name in ("scores", "seconds", "peak_bytes", "flops"):
            own_shape = getattr(self, name).shape
            if own_shape != shape:
                raise AuditError(
                    f"{name} has shape {own_shape}, but {shape[0]} configurations, {shape[1]} numbers of layers and "
                    f"{shape[2]} budgets need {shape}."
                )
        if self.repeats.ndim != 2 or self.repeats.shape[1] != shape[0]:
            raise AuditError(f"repeats has shape {self.repeats.shape}, but must be (repeats, {shape[0]}).")
        for name in ("layers", "samples"):
            axis = getattr(self, name)
            if not axis or axis[0] < 1 or any(b <= a for a, b in pairwise(axis)):
                raise AuditError(f"{name} is {axis}, but must be rising numbers, at least one, all at least 1.")

    @property
    def num_configurations(self) -> int:
        """C."""
        return len(self.configurations)

    @property
    def score_name(self) -> str:
        """What a score is called."""
        return score_name(self.metric)

    @property
    def full(self) -> Fidelity:
        """The full training: the last cell."""
        return Fidelity(trainable_layers=self.layers[-1], samples=self.samples[-1])

    @property
    def losses(self) -> Array:
        """The scores with the sign that makes lower better, (C, Z, S); a diverged training is infinitely bad."""
        return _as_losses(self.scores, self.direction, missing=np.inf)

    @property
    def full_losses(self) -> Array:
        """The losses of the full trainings, (C,)."""
        return self.losses[:, -1, -1]

    @property
    def repeated_losses(self) -> Array:
        """``repeats`` with the sign that makes lower better, (R, C); NaN where not repeated."""
        return _as_losses(self.repeats, self.direction, missing=np.nan)

    def rows(self) -> list[tuple[str, ...]]:
        """The landscape as a table, full training in its corner: the best score of every cell, "-" where all diverged."""
        best = np.min(self.losses, axis=0) * loss_sign(self.direction)
        header = ("trained layers", *(f"{samples:,} {self.sample_unit}" for samples in self.samples))
        cells = [[f"{score:.4g}" if np.isfinite(score) else "-" for score in row] for row in best]
        return [header, *((str(layers), *row) for layers, row in zip(self.layers, cells, strict=True))]

    def __repr__(self) -> str:
        return f"{self._title}\n{text_table(self.rows())}"

    def _repr_html_(self) -> str:
        """The table, for notebooks."""
        return html_table(self.rows(), caption=self._title)

    @property
    def _title(self) -> str:
        number = counted(self.num_configurations, "configuration")
        return f"{self.task}: the best {self.score_name} of {number} in every cell"

    def fidelity(self, cell: tuple[int, int]) -> Fidelity:
        """Return what the cell at these indices of ``layers`` and ``samples`` stands for."""
        return Fidelity(trainable_layers=self.layers[cell[0]], samples=self.samples[cell[1]])

    def nearest_cell(self, fidelity: Fidelity) -> tuple[int, int]:
        """Return the indices of the cell nearest to ``fidelity``, the lower at a tie."""
        cells = product(range(len(self.layers)), range(len(self.samples)))
        return min(cells, key=lambda cell: distance(self.fidelity(cell), fidelity))

    def of(self, indices: Sequence[int] | NDArray[np.intp]) -> Landscape:
        """Return the landscape of the configurations at these indices alone, in their order."""
        chosen = np.asarray(indices, dtype=np.intp)
        return replace(
            self,
            configurations=tuple(self.configurations[index] for index in chosen),
            scores=self.scores[chosen],
            seconds=self.seconds[chosen],
            peak_bytes=self.peak_bytes[chosen],
            flops=self.flops[chosen],
            repeats=self.repeats[:, chosen],
        )


def distance(first: Fidelity, second: Fidelity) -> float:
    """Return how far apart two fidelities are, by the logarithms of layers and samples."""
    layers = abs(math.log(first.trainable_layers / second.trainable_layers))
    return layers + abs(math.log(first.samples / second.samples))


def _as_losses(scores: Array, direction: Direction, *, missing: float) -> Array:
    losses: Array = np.where(np.isnan(scores), missing, loss_sign(direction) * scores)
    return losses


def known_mean(of_cells: Array) -> Array:
    """Return the mean over configurations, (Z, S), of those that have a value; NaN where none has."""
    mean: Array = np.ma.masked_invalid(of_cells).mean(axis=0).filled(np.nan)
    return mean
