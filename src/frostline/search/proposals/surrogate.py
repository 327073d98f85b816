"""How the score responds to the hyperparameters at one fidelity, as a Gaussian process over ranks.

Axes: C configurations, D coordinates, Q points, G tried shifts, B resamples of the configurations.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from frostline.records import HEAD
from frostline.search.spaces.unit_cube import num_coordinates, unit_points
from frostline.statistics.ranks import rank_correlations

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from frostline.records import Configuration
    from frostline.search.spaces.space import SearchSpace

    Array = NDArray[np.float64]

# Bounds of what is fitted, in units of the ranges and of the scores' spread: no hyperparameter matters within a twentieth
# of its range alone, and one with twenty times its range matters nowhere.
_LENGTHS = (0.05, 20.0)
_AMPLITUDES = (0.01, 100.0)
_NOISES = (1e-4, 1.0)
# Stands for a configuration that a resample leaves out.
_NEVER = 1e9

_STEP = 0.125
"""Decades between two shifts that are tried: a third more, or a quarter less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coordinates:
    """Where configurations of a space lie in the unit cube: logarithms where the range is logarithmic, choices one-hot."""

    space: SearchSpace
    of_head: tuple[str, ...] = ()
    """Hyperparameters of the head alone, such as "head.learning_rate": the last coordinates, by how much the head's value
    differs from that of the other layers."""

    def of(self, configurations: Sequence[Configuration]) -> Array:
        """Return the coordinates of ``configurations``, (C, D)."""
        columns = [unit_points(self.space, configurations)]
        for name in self.of_head:
            differences = [
                _decades_apart(configuration, name.removeprefix(HEAD)) for configuration in configurations
            ]
            columns.append(np.array(differences)[:, None] / self.decades(name))
        return np.concatenate(columns, axis=1)

    def moved(self, points: Array, shifts: Mapping[str, float]) -> Array:
        """Return ``points`` (Q, D) with hyperparameters moved by so many decades."""
        moved = points.copy()
        for name, shift in shifts.items():
            moved[:, self.column(name)] += shift / self.decades(name)
        return moved

    def decades(self, name: str) -> float:
        """Return over how many decades a hyperparameter is searched; that of the head as that of all layers."""
        return self.space.scales[name.removeprefix(HEAD) if name in self.of_head else name]

    def column(self, name: str) -> int:
        """Return the column of a hyperparameter that is no choice."""
        names = [*self.space.distributions]
        before = names if name in self.of_head else names[: names.index(name)]
        position = sum(num_coordinates(self.space, other) for other in before)
        return position + self.of_head.index(name) if name in self.of_head else position


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Response:
    """A Gaussian process over the normal scores of losses, Matérn 5/2 with a length for each coordinate.

    Of ranks, because a training that diverged has a rank and no loss, and because ranks are all that a rung decides by.
    """

    positions: Array
    """(C, D)."""
    scores: Array
    """(C,), less is better."""
    kernel: Any
    """scikit-learn's, fitted, without the noise."""
    noise: float
    """The variance of the noise."""

    @classmethod
    def fit(cls, positions: Array, losses: Array, *, start: Response | None = None) -> Response:
        """Return the response to ``positions`` (C, D) that ``losses`` (C,), which may be infinite, tell of.

        The fit begins at that of ``start``, if it is given: faster, and the same where there is one maximum.
        """
        # Slow to import, and wanted by audits and aligned searches alone.
        from scipy.special import ndtri
        from scipy.stats import rankdata
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

        scores = ndtri((rankdata(losses) - 0.5) / len(losses))
        if start is None:
            smooth = ConstantKernel(1.0, _AMPLITUDES) * Matern(np.ones(positions.shape[1]), _LENGTHS, nu=2.5)
            noise = 0.1
        else:
            smooth, noise = start.kernel, start.noise
        process = GaussianProcessRegressor(smooth + WhiteKernel(noise, _NOISES))
        with warnings.catch_warnings():
            # A length at its bound says that a hyperparameter does not matter, which is no trouble.
            warnings.simplefilter("ignore", ConvergenceWarning)
            process.fit(positions, scores)
        return cls(
            positions=positions,
            scores=scores,
            kernel=process.kernel_.k1,
            noise=float(process.kernel_.k2.noise_level),
        )

    @property
    def lengths(self) -> Array:
        """Over how much of its range each coordinate matters, (D,): a small one matters much."""
        lengths: Array = np.atleast_1d(self.kernel.k2.length_scale)
        return lengths

    def at(self, points: Array) -> Array:
        """Return the expected scores at ``points`` (Q, D), (Q,)."""
        expected: Array = self.resampled(points, np.ones((1, len(self.scores))))[0]
        return expected

    def resampled(self, points: Array, counts: Array) -> Array:
        """Return the expected scores at ``points`` (Q, D) by every resample ``counts`` (B, C), (B, Q).

        The lengths and the noise stay those of all configurations.
        """
        noises = np.where(counts > 0, self.noise / np.maximum(counts, 1.0), _NEVER)
        covariances = self.kernel(self.positions)[None] + noises[:, :, None] * np.eye(len(self.scores))
        weights = np.linalg.solve(covariances, np.broadcast_to(self.scores[:, None], (*counts.shape, 1)))[..., 0]
        expected: Array = weights @ self.kernel(points, self.positions).T
        return expected


def ranking_shifts(
    response: Response,
    coordinates: Coordinates,
    name: str,
    points: Array,
    losses: Array,
    counts: Array,
    of_trainings: Array | None = None,
) -> Array:
    """Return by how many decades ``name`` is to be moved so that ``response`` ranks ``points`` as ``losses`` do, (B,).

    ``points`` (C, D) and ``losses`` (C,) are of configurations, and ``counts`` (B, C) resamples of these; ``of_trainings``
    (B, ...) are the same resamples of what the response was fitted to, if it is to be resampled too. Shifts are tried up to
    half the range of the hyperparameter: beyond, most configurations would lie where none was trained.
    """
    tried = _tried(coordinates.decades(name))
    moved = np.concatenate([coordinates.moved(points, {name: shift}) for shift in tried])
    if of_trainings is None:
        expected = np.broadcast_to(response.at(moved), (len(counts), len(moved)))
    else:
        expected = response.resampled(moved, of_trainings)
    expected = expected.reshape(len(counts), len(tried), len(points))
    # The smallest of equally good ones comes first.
    best = [
        _agreements(of_shifts, losses, drawn).argmax() for of_shifts, drawn in zip(expected, counts, strict=True)
    ]
    shifts: Array = np.array(tried)[best]
    return shifts


def _tried(decades: float) -> list[float]:
    """Return the shifts that are tried over a range of so many decades, 0 first, then by size."""
    most = int(decades / 2 / _STEP)
    return sorted((_STEP * step for step in range(-most, most + 1)), key=abs)


def _agreements(expected: Array, losses: Array, drawn: Array) -> Array:
    """Return Spearman's correlation of ``expected`` (G, C) with ``losses`` (C,) over those ``drawn`` (C,), (G,)."""
    members = np.repeat(np.arange(len(losses)), drawn.astype(int))
    # Rounding must not make one of equals the best.
    return np.round(rank_correlations(expected[:, members], losses[members]), 9)


def _decades_apart(configuration: Configuration, name: str) -> float:
    own = configuration[name]
    head = configuration.head.get(name, own)
    assert isinstance(own, float | int), f"{name} is {own!r}"
    assert isinstance(head, float | int), f"{name} of the head is {head!r}"
    return math.log10(head / own)
