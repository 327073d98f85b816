"""Where the best value of each hyperparameter sits at each cell: it moves with the layers, and that reads as a bad ranking.

Axes: C configurations, Z numbers of trained layers, S budgets of samples, B resamples of the configurations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from frostline.audit.agreement import require_enough
from frostline.search.spaces.unit_cube import one_hot
from frostline.statistics.bootstrap import Estimate, estimate_of, fall_probabilities, holm, resampled_counts
from frostline.statistics.replicates import places

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from optuna.distributions import BaseDistribution

    from frostline.audit.landscape import Landscape
    from frostline.records import Value

    Array = NDArray[np.float64]

Scale = Literal["log", "linear", "choice"]

_SHARE_OF_BEST = 4
_FEWEST_BEST = 3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Move:
    """A best value that sits elsewhere than with all layers, or on all samples, beyond chance."""

    axis: Literal["layers", "samples"]
    level: int
    """Layers or samples."""
    shift: float
    """In the units of ``Optimum.shift``, with its 95 % interval: against the highest level of this axis, at equal levels
    of the other one, in the mean over those."""
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Optimum:
    """Where the best value of one hyperparameter sits at each cell, as far as the best configurations tell.

    It is the mean over the best quarter of the configurations, at least three: on the scale of the range, log10 on a
    logarithmic one. Of choices it is the share of the one that is commonest among the best at full fidelity. Where the true
    optimum lies near an end of its range, and where the hyperparameter hardly matters, the figure is drawn to the middle of
    the range, and a shift is understated. Fits of a parabola or a kernel were tried on simulated landscapes: they place such
    optima better, overstate the others by a third where losses rise steeper on one side, and lie anywhere where the
    hyperparameter does not matter.
    Shapes: both estimates (Z, S), with intervals over configurations; those of the shift are paired.
    """

    name: str
    scale: Scale
    choice: Value
    """Of a choice, the one that ``value`` is the share of; None otherwise."""
    value: Estimate
    shift: Estimate
    """Against full fidelity: in decades on a logarithmic scale."""
    moves: tuple[Move, ...]
    """Over the tests of all hyperparameters, the chance that any is false is 5 % (Holm). Layers first."""


def optima(landscape: Landscape, *, resamples: int = 1000, seed: int = 0) -> tuple[Optimum, ...]:
    """Return where the best value of each hyperparameter sits; those with a single choice are left out.

    Raises: AuditError below 5 configurations.
    """
    number = landscape.num_configurations
    require_enough(number, "the audit has")
    num_best = min(number, max(_FEWEST_BEST, number // _SHARE_OF_BEST))
    best_in_full = places(landscape.full_losses, np.ones((1, number)), num_best)[0]
    scales = [
        scale
        for name, distribution in landscape.space.distributions.items()
        if (scale := _scale_of(landscape, name, distribution, best_in_full)) is not None
    ]
    if not scales:
        return ()
    positions = np.stack([scale.positions for scale in scales], axis=1)
    counts = resampled_counts(number, resamples=resamples, seed=seed)
    losses = np.moveaxis(landscape.losses, 0, -1)
    replicates = np.empty((*losses.shape[:-1], len(counts), len(scales)))
    for cell in np.ndindex(losses.shape[:-1]):
        replicates[cell] = places(losses[cell], counts, num_best) @ positions / num_best
    replicates = np.moveaxis(replicates, (-2, -1), (0, 1))
    moves = _moves(landscape, replicates)
    return tuple(
        Optimum(
            name=scale.name,
            scale=scale.kind,
            choice=scale.choice,
            value=estimate_of(replicates[:, index]),
            shift=estimate_of(replicates[:, index] - replicates[:, index, -1:, -1:]),
            moves=moves[index],
        )
        for index, scale in enumerate(scales)
    )


def move_sentences(optimum: Optimum, landscape: Landscape) -> tuple[str, ...]:
    """Return a sentence for each axis along which the best value moves beyond chance."""
    sentences = []
    for axis in ("layers", "samples"):
        moves = [move for move in optimum.moves if move.axis == axis]
        if not moves:
            continue
        most = max(moves, key=lambda move: abs(move.shift))
        if axis == "layers":
            where, than = f"with {most.level} of {landscape.layers[-1]} layers trained", "with all of them"
        else:
            where = f"on {most.level:,} of {landscape.samples[-1]:,} {landscape.sample_unit}"
            than = "on all of them"
        others = ", ".join(f"{move.level:,}" for move in moves if move is not most)
        also = f" (it moves {where.split()[0]} {others} too)" if others else ""
        sentences.append(f"{where} {_moved(optimum, most)} than {than}{also}.")
    return tuple(sentence[0].upper() + sentence[1:] for sentence in sentences)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Positions:
    """Where each configuration lies on the scale of one hyperparameter, (C,)."""

    name: str
    kind: Scale
    choice: Value
    positions: Array


def _scale_of(
    landscape: Landscape, name: str, distribution: BaseDistribution, best_in_full: Array
) -> _Positions | None:
    values = [configuration[name] for configuration in landscape.configurations]
    if isinstance(distribution, CategoricalDistribution):
        if len(distribution.choices) < 2:
            return None
        choices = one_hot(distribution, values)
        commonest = int((choices @ best_in_full).argmax())
        return _Positions(
            name=name, kind="choice", choice=distribution.choices[commonest], positions=choices[commonest]
        )
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    numbers = np.array(values, dtype=np.float64)
    return _Positions(
        name=name,
        kind="log" if distribution.log else "linear",
        choice=None,
        positions=np.log10(numbers) if distribution.log else numbers,
    )


def _moves(landscape: Landscape, replicates: Array) -> list[tuple[Move, ...]]:
    """Test every hyperparameter (1 + B, H, Z, S) at every level of either axis against the highest, at equal others."""
    by_layers = (replicates - replicates[:, :, -1:, :]).mean(axis=3)[:, :, :-1]
    by_samples = (replicates - replicates[:, :, :, -1:]).mean(axis=2)[:, :, :-1]
    shifts = np.concatenate([by_layers, by_samples], axis=2)
    levels: list[tuple[Literal["layers", "samples"], int]] = [
        *(("layers", level) for level in landscape.layers[:-1]),
        *(("samples", level) for level in landscape.samples[:-1]),
    ]
    flat = shifts.reshape(len(shifts), -1)
    estimates = estimate_of(flat)
    probabilities = np.minimum(1.0, 2 * np.minimum(fall_probabilities(flat), fall_probabilities(-flat)))
    excluded = (estimates.low > 0) | (estimates.high < 0)
    real = (holm(probabilities) & excluded).reshape(shifts.shape[1:])
    values, lows, highs = (array.reshape(real.shape) for array in (estimates.value, estimates.low, estimates.high))
    return [
        tuple(
            Move(
                axis=levels[index][0],
                level=levels[index][1],
                shift=float(values[number, index]),
                low=float(lows[number, index]),
                high=float(highs[number, index]),
            )
            for index in np.flatnonzero(real[number])
        )
        for number in range(len(real))
    ]


def _moved(optimum: Optimum, move: Move) -> str:
    direction = "higher" if move.shift > 0 else "lower"
    low, high = sorted((abs(move.low), abs(move.high)))
    if optimum.scale == "choice":
        more = "more" if move.shift > 0 else "less"
        return (
            f"{optimum.name} {optimum.choice} is {more} common among the best configurations, by {abs(move.shift):.0%} "
            f"[{low:.0%}, {high:.0%}] of them,"
        )
    if optimum.scale == "log":
        return (
            f"the best {optimum.name} sits {abs(move.shift):.1f} decades [{low:.1f}, {high:.1f}] {direction}, "
            f"{10 ** abs(move.shift):.1f} times,"
        )
    return f"the best {optimum.name} sits {abs(move.shift):.3g} [{low:.3g}, {high:.3g}] {direction}"
