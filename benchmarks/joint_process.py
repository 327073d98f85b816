"""A Gaussian process over losses, jointly over configurations and the layers and samples that they were trained with.

Axes: N evaluations, Q points, D coordinates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.linalg.lapack import dpotri
from scipy.optimize import minimize

Array = NDArray[np.float64]

# Logarithms, at the mode of their priors, of: a coordinate's length; the variances of what configurations alike share at all
# fidelities and at fidelities alike, of what is a configuration's own at all and at fidelities alike, and of noise; how fast
# fidelities become unlike, by the logarithm of layers and of samples. The last two: by how much the spread of losses grows
# with the same logarithms.
LENGTH = np.log(0.7)
OTHERS = np.array([*np.log([0.6, 0.2, 0.05, 0.1, 0.02, 0.5, 0.5]), 0.0, 0.0])
LENGTH_WIDTH = 1.0
OTHER_WIDTHS = np.array([1.2, 1.2, 1.2, 1.2, 1.2, 0.8, 0.8, 0.3, 0.3])
# The variances of a fidelity's mean, in units of the losses': wide, so that it is what the losses say.
MEAN = 4.0
ITERATIONS = 12
FEWEST_FOR_QUARTILES = 4
ROOT = np.sqrt(5.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Evaluations at one fidelity: which configurations, their losses (N,), and the logarithms of its shares (2,)."""

    indices: Sequence[int]
    losses: Array
    fidelity: Array


def winsorised(losses: Array) -> Array:
    """Return the logarithms of ``losses`` (N,), those far above the median moved to where far begins."""
    finite = np.isfinite(losses)
    logarithms = np.log(np.where(finite, losses, 1.0))
    if finite.sum() < FEWEST_FOR_QUARTILES:
        return np.where(finite, logarithms, logarithms[finite].max(initial=0.0))
    lower, median, upper = np.quantile(logarithms[finite], [0.25, 0.5, 0.75])
    far = median + 1.5 * max(upper - lower, 1e-9)
    return np.where(finite, np.minimum(logarithms, far), far)


@dataclass(frozen=True, slots=True, eq=False)
class _Pairs:
    """How far apart two lists of evaluations are: squares by coordinate (N, M, D), fidelities, and who is the same."""

    squares: Array
    layers: Array
    samples: Array
    same: Array
    layer_sums: Array
    sample_sums: Array

    @classmethod
    def of(cls, left: tuple[Array, Array, Array], right: tuple[Array, Array, Array]) -> _Pairs:
        """Return the pairs of two lists, each of points (N, D), fidelities (N, 2) and indices (N,)."""
        (points, fidelities, indices), (others, other_fidelities, other_indices) = left, right
        apart = np.abs(fidelities[:, None] - other_fidelities[None])
        sums = fidelities[:, None] + other_fidelities[None]
        return cls(
            (points[:, None] - others[None]) ** 2,
            apart[..., 0],
            apart[..., 1],
            (indices[:, None] == other_indices[None]).astype(np.float64),
            sums[..., 0],
            sums[..., 1],
        )

    @property
    def means(self) -> Array:
        """The covariance of the means: of each fidelity by itself, beside what fidelities alike share."""
        return MEAN * ((self.layers < 1e-9) & (self.samples < 1e-9))


@dataclass(frozen=True, slots=True, eq=False)
class _Terms:
    """The covariance and what its gradient needs."""

    covariance: Array
    """Of the losses less the means and the noise."""
    alike: Array
    """Of fidelities, 1 where they are the same."""
    smooth: Array
    own: Array
    growth: Array
    slope: Array
    """Of the smooth term by the logarithm of a length, without the squares."""


def _terms(theta: Array, pairs: _Pairs) -> _Terms:
    num = pairs.squares.shape[-1]
    shared, changing, own, own_changing = np.exp(theta[num : num + 4])
    layer_rate, sample_rate = np.exp(theta[num + 5 : num + 7])
    distance = np.sqrt(np.maximum(pairs.squares @ np.exp(-2 * theta[:num]), 1e-18))
    decay = np.exp(-ROOT * distance)
    matern = (1 + ROOT * distance + 5 / 3 * distance**2) * decay
    alike = np.exp(-layer_rate * pairs.layers - sample_rate * pairs.samples)
    growth = np.exp(theta[num + 7] * pairs.layer_sums + theta[num + 8] * pairs.sample_sums)
    of_own = (own + own_changing * alike) * pairs.same
    of_smooth = shared + changing * alike
    slope = growth * of_smooth * (5 / 3) * (1 + ROOT * distance) * decay
    return _Terms(growth * (matern * of_smooth + of_own), alike, matern, of_own, growth, slope)


@dataclass(frozen=True, slots=True, eq=False)
class JointProcess:
    """The process, fitted: the most probable hyperparameters, given losses in the mean 0 and in the spread 1."""

    evaluations: tuple[Array, Array, Array]
    """Points (N, D), fidelities (N, 2) and indices (N,)."""
    theta: Array
    factor: Array
    """Cholesky's, lower, of the covariance of the evaluations (N, N)."""
    weights: Array
    """(N,)."""

    @classmethod
    def fit(cls, seen: Sequence[Seen], points: Array, *, start: JointProcess | None = None) -> JointProcess:
        """Return the process of what was ``seen`` of configurations at ``points`` (C, D).

        With the hyperparameters of ``start``, if it is given.
        """
        indices = np.concatenate([each.indices for each in seen]).astype(int)
        fidelities = np.concatenate([np.tile(each.fidelity, (len(each.indices), 1)) for each in seen])
        losses = np.concatenate([winsorised(each.losses) for each in seen])
        losses = (losses - losses.mean()) / max(float(losses.std()), 1e-9)
        evaluations = (points[indices], fidelities, indices)
        pairs = _Pairs.of(evaluations, evaluations)
        theta = _fitted(pairs, losses) if start is None else start.theta
        factor = cholesky(_whole(theta, pairs), lower=True)
        return cls(evaluations, theta, factor, cho_solve((factor, True), losses))

    def expected(self, points: Array, indices: Sequence[int]) -> Array:
        """Return what is expected of full trainings at ``points`` (Q, D), (Q,): less is better."""
        expected: Array = self._covariance(points, np.zeros((len(points), 2)), indices) @ self.weights
        return expected

    def moved_by(self, points: Array, fidelities: Array, indices: Sequence[int], rivals: Sequence[int]) -> Array:
        """Return by how much an evaluation moves what is expected of it, less what is expected of its rival, (Q,).

        In the spread; of ``indices``, each at one of ``fidelities`` (Q, 2), beside its one of ``rivals``: both say where in
        ``points`` (C, D) they are. What all have in common, such as the mean of full trainings, chooses none of them.
        """
        known, own = (
            self._left_over(points[who], where, who)
            for who, where in ((indices, fidelities), (indices, np.zeros_like(fidelities)))
        )
        two = [*dict.fromkeys(rivals)]
        full = np.zeros((len(two), 2))
        of_two = self._left_over(points[two], full, two)
        pairs = _Pairs.of((points[two], full, np.array(two)), (points[indices], fidelities, np.array(indices)))
        with_two = _prior(self.theta, pairs) - of_two.T @ known
        with_rival = with_two[[two.index(rival) for rival in rivals], np.arange(len(indices))]
        together, alone = _prior_of_one(self.theta[points.shape[1] :], fidelities)
        noise = np.exp(self.theta[points.shape[1] + 4])
        variance = alone - (known**2).sum(axis=0) + noise
        moved: Array = np.abs(together - (own * known).sum(axis=0) - with_rival) / np.sqrt(variance)
        return moved

    def _left_over(self, points: Array, fidelities: Array, indices: Sequence[int]) -> Array:
        """Return the factor's solution for the covariance with the evaluations, (N, Q)."""
        solution: Array = solve_triangular(
            self.factor, self._covariance(points, fidelities, indices).T, lower=True
        )
        return solution

    def _covariance(self, points: Array, fidelities: Array, indices: Sequence[int]) -> Array:
        return _prior(self.theta, _Pairs.of((points, fidelities, np.array(indices)), self.evaluations))


def _fitted(pairs: _Pairs, losses: Array) -> Array:
    num = pairs.squares.shape[-1]
    mode = np.concatenate([np.full(num, LENGTH), OTHERS])
    widths = np.concatenate([np.full(num, LENGTH_WIDTH), OTHER_WIDTHS])
    theta: Array = minimize(
        improbability,
        mode,
        args=(pairs, losses, mode, widths),
        jac=True,
        method="L-BFGS-B",
        bounds=np.stack([mode - 4 * widths, mode + 4 * widths], axis=1),
        options={"maxiter": ITERATIONS},
    ).x
    return theta


def _prior(theta: Array, pairs: _Pairs) -> Array:
    terms = _terms(theta, pairs)
    return terms.covariance + pairs.means + MEAN * terms.alike


def _prior_of_one(others: Array, fidelities: Array) -> tuple[Array, Array]:
    """Return for one configuration the covariance of ``fidelities`` (Q, 2) with full trainings, and their variance."""
    shared, changing, own, own_changing = np.exp(others[:4])
    alike = np.exp(-(np.abs(fidelities) @ np.exp(others[5:7])))
    growth = np.exp(fidelities @ others[7:9])
    is_full = (np.abs(fidelities) < 1e-9).all(axis=1)
    together = growth * (shared + own + (changing + own_changing) * alike) + MEAN * (alike + is_full)
    alone = growth**2 * (shared + own + changing + own_changing) + 2 * MEAN
    return together, alone


def _whole(theta: Array, pairs: _Pairs) -> Array:
    noise = np.exp(theta[pairs.squares.shape[-1] + 4]) + 1e-6
    whole: Array = _prior(theta, pairs) + noise * np.eye(len(pairs.same))
    return whole


def improbability(theta: Array, pairs: _Pairs, losses: Array, mode: Array, widths: Array) -> tuple[float, Array]:
    """Return the negative logarithm of the posterior of ``theta``, but for a constant, and its gradient."""
    num, off = pairs.squares.shape[-1], (theta - mode) / widths
    terms = _terms(theta, pairs)
    lower = cholesky(_whole(theta, pairs), lower=True)
    inverse = np.tril(dpotri(lower, lower=1)[0])
    inverse += np.tril(inverse, -1).T
    weights = inverse @ losses
    value = 0.5 * losses @ weights + np.log(np.diag(lower)).sum() + 0.5 * (off**2).sum()
    outer = 0.5 * (inverse - np.outer(weights, weights))
    grown = outer * terms.growth
    shared, changing, own, own_changing, noise, layer_rate, sample_rate = np.exp(theta[num : num + 7])
    by_alike = (grown * (changing * terms.smooth + own_changing * pairs.same) + MEAN * outer) * terms.alike
    scaled = outer * terms.covariance
    gradient = np.array([
        *((outer * terms.slope).ravel() @ pairs.squares.reshape(-1, num) * np.exp(-2 * theta[:num])),
        shared * (grown * terms.smooth).sum(),
        changing * (grown * terms.smooth * terms.alike).sum(),
        own * (grown * pairs.same).sum(),
        own_changing * (grown * terms.alike * pairs.same).sum(),
        noise * np.trace(outer),
        -layer_rate * (by_alike * pairs.layers).sum(),
        -sample_rate * (by_alike * pairs.samples).sum(),
        (scaled * pairs.layer_sums).sum(),
        (scaled * pairs.sample_sums).sum(),
    ])  # fmt: skip
    return float(value), gradient + off / widths
