"""Synthetic functions of hyperparameters at two fidelities, and landscapes drawn from them: the answer is known.

A level is how far up an axis an evaluation is: 0 at the fewest layers or samples, 1 at all of them.
Axes: N points, D hyperparameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from frostline.audit.landscape import Array

Formula = Callable[["Array", float, float], "Array"]
"""Maps points (N, D), the level of layers and the level of samples to values (N,)."""

_HARTMANN_ALPHA = np.array([1.0, 1.2, 3.0, 3.2])
_HARTMANN_A = {
    3: np.array([[3, 10, 30], [0.1, 10, 35], [3, 10, 30], [0.1, 10, 35]]),
    6: np.array(
        [
            [10, 3, 17, 3.5, 1.7, 8],
            [0.05, 10, 17, 0.1, 8, 14],
            [3, 3.5, 1.7, 10, 17, 8],
            [17, 8, 0.05, 10, 0.1, 14],
        ]
    ),
}
_HARTMANN_P = {
    3: 1e-4 * np.array([[3689, 1170, 2673], [4699, 4387, 7470], [1091, 8732, 5547], [381, 5743, 8828]]),
    6: 1e-4
    * np.array(
        [
            [1312, 1696, 5569, 124, 8283, 5886],
            [2329, 4135, 8307, 3736, 1004, 9991],
            [2348, 1451, 3522, 2883, 3047, 6650],
            [4047, 8828, 8732, 5743, 1091, 381],
        ]
    ),
}
_HARTMANN_MINIMUM = {3: -3.86278, 6: -3.32237}
_HARTMANN_MINIMIZER = {
    3: (0.114614, 0.555649, 0.852547),
    6: (0.20169, 0.150011, 0.476874, 0.275332, 0.311652, 0.6573),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoAxisFunction:
    """A function to minimise over a box, whose cheap fidelities are biased, noisy, or have their optimum elsewhere.

    With ``shift`` d, the first hyperparameter's best value lies d (1 - level of layers) of its range higher than in full
    training, as a learning rate's does when few layers are trained. ``noise`` is the standard deviation at the lowest
    cell; at levels u and v of layers and samples it is noise ((1 - u) + (1 - v)) / 2, plus ``full_noise`` everywhere.
    """

    name: str
    formula: Formula
    low: tuple[float, ...]
    high: tuple[float, ...]
    minimum: float
    minimizer: tuple[float, ...]
    """One of them, at full fidelity."""
    shift: float = 0.0
    noise: float = 0.0
    full_noise: float = 0.0

    def __call__(self, points: Array, *, layers_level: float = 1.0, samples_level: float = 1.0) -> Array:
        """Return the values of ``points`` (N, D) without noise, (N,)."""
        moved = np.array(points, dtype=np.float64)
        moved[:, 0] -= self.shift * (1.0 - layers_level) * (self.high[0] - self.low[0])
        return self.formula(moved, layers_level, samples_level)

    def noise_at(self, *, layers_level: float = 1.0, samples_level: float = 1.0) -> float:
        """Return the standard deviation of the noise."""
        return self.noise * ((1.0 - layers_level) + (1.0 - samples_level)) / 2 + self.full_noise

    def shifted(self, shift: float) -> TwoAxisFunction:
        """Return the function with another ``shift``."""
        return replace(self, shift=shift)


def hartmann(
    num_hyperparameters: int, *, bias: float = 0.5, noise: float = 0.1, shift: float = 0.0, full_noise: float = 0.0
) -> TwoAxisFunction:
    """Return Hartmann's function of 3 or 6 hyperparameters, flattened by a bias that falls in both axes.

    f(x) = - sum_i (α_i - bias b(u, v)) exp(- sum_j A_ij (x_j - P_ij)^2) on the unit cube, with
    b(u, v) = ((1 - u)^2 + (1 - v)^2) / 2 at levels u of layers and v of samples. Where α_i falls below the bias, a basin
    becomes a hill. With one axis, b = (1 - u)^2 and noise 1 - u, these are mf-prior-bench's (arXiv:2306.12370): 0.5 and 0.1
    by default there, from 2.5 and 2 ("good") to 4 and 5 ("terrible"). α, A and P are those of Surjanovic and Bingham's
    Virtual Library of Simulation Experiments.
    """
    weights, centres = _HARTMANN_A[num_hyperparameters], _HARTMANN_P[num_hyperparameters]

    def formula(points: Array, layers_level: float, samples_level: float) -> Array:
        lost = bias * ((1.0 - layers_level) ** 2 + (1.0 - samples_level) ** 2) / 2
        basins = np.exp(-(weights * np.square(points[:, None, :] - centres)).sum(axis=2))
        values: Array = -(basins * (_HARTMANN_ALPHA - lost)).sum(axis=1)
        return values

    return TwoAxisFunction(
        name=f"hartmann-{num_hyperparameters}",
        formula=formula,
        low=(0.0,) * num_hyperparameters,
        high=(1.0,) * num_hyperparameters,
        minimum=_HARTMANN_MINIMUM[num_hyperparameters],
        minimizer=_HARTMANN_MINIMIZER[num_hyperparameters],
        shift=shift,
        noise=noise,
        full_noise=full_noise,
    )


def augmented_hartmann(*, shift: float = 0.0) -> TwoAxisFunction:
    """Return BoTorch's AugmentedHartmann: Hartmann-6 whose α_1 is 1 - 0.1 (1 - x_7).

    Its one fidelity x_7 is the mean of the two levels. Source: BoTorch's test functions; Wu et al. 2019, arXiv:1903.04703.
    """
    weights, centres = _HARTMANN_A[6], _HARTMANN_P[6]

    def formula(points: Array, layers_level: float, samples_level: float) -> Array:
        alpha = _HARTMANN_ALPHA - np.array([0.1 * (1.0 - (layers_level + samples_level) / 2), 0.0, 0.0, 0.0])
        basins = np.exp(-(weights * np.square(points[:, None, :] - centres)).sum(axis=2))
        values: Array = -(basins * alpha).sum(axis=1)
        return values

    return TwoAxisFunction(
        name="augmented-hartmann",
        formula=formula,
        low=(0.0,) * 6,
        high=(1.0,) * 6,
        minimum=_HARTMANN_MINIMUM[6],
        minimizer=_HARTMANN_MINIMIZER[6],
        shift=shift,
    )


def augmented_branin(*, shift: float = 0.0) -> TwoAxisFunction:
    """Return BoTorch's AugmentedBranin: Branin's parabola opened by a fidelity x_3, the mean of the two levels.

    f(x) = (x_2 - (b - 0.1 (1 - x_3)) x_1^2 + c x_1 - 6)^2 + 10 (1 - t) cos x_1 + 10 on [-5, 10] × [0, 15], with
    b = 5.1 / (4 π^2), c = 5 / π and t = 1 / (8 π). Source: as for ``augmented_hartmann``.
    """

    def formula(points: Array, layers_level: float, samples_level: float) -> Array:
        first, second = points[:, 0], points[:, 1]
        opening = 5.1 / (4 * math.pi**2) - 0.1 * (1.0 - (layers_level + samples_level) / 2)
        parabola = second - opening * first**2 + 5 / math.pi * first - 6
        values: Array = parabola**2 + 10 * (1 - 1 / (8 * math.pi)) * np.cos(first) + 10
        return values

    return TwoAxisFunction(
        name="augmented-branin",
        formula=formula,
        low=(-5.0, 0.0),
        high=(10.0, 15.0),
        minimum=0.397887,
        minimizer=(-math.pi, 12.275),
        shift=shift,
    )


def augmented_rosenbrock(num_hyperparameters: int = 2, *, shift: float = 0.0) -> TwoAxisFunction:
    """Return BoTorch's AugmentedRosenbrock, which has two fidelities of its own: the levels of layers u and samples v.

    f(x) = sum_i 100 (x_(i+1) - x_i^2 + 0.1 (1 - u))^2 + (x_i - 1 + 0.1 (1 - v)^2)^2 on [-5, 10]^D. Source: as for
    ``augmented_hartmann``.
    """

    def formula(points: Array, layers_level: float, samples_level: float) -> Array:
        here, following = points[:, :-1], points[:, 1:]
        valley = following - here**2 + 0.1 * (1.0 - layers_level)
        slope = here - 1 + 0.1 * (1.0 - samples_level) ** 2
        values: Array = (100 * valley**2 + slope**2).sum(axis=1)
        return values

    return TwoAxisFunction(
        name="augmented-rosenbrock",
        formula=formula,
        low=(-5.0,) * num_hyperparameters,
        high=(10.0,) * num_hyperparameters,
        minimum=0.0,
        minimizer=(1.0,) * num_hyperparameters,
        shift=shift,
    )
