"""By how much hyperparameters have to be moved at a cell so that it ranks the configurations as full fidelity does.

With few trained layers the best learning rate sits elsewhere than with all. A cell that trains the configurations at another
rate than full fidelity would, by the same factor for all, may rank them better. The factor is found from a surrogate of the
cell's response, a Gaussian process, and believed only if it helps configurations that neither saw.

Axes: C configurations, D coordinates, T trainings at a cell, G tried shifts, B resamples of the configurations.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from frostline.audit.agreement import require_enough
from frostline.audit.landscape import distance
from frostline.audit.stored_landscape import configuration_key
from frostline.records import HEAD, Fidelity
from frostline.search.alignment import Alignment, is_of_head
from frostline.search.proposals.surrogate import Coordinates, Response, ranking_shifts
from frostline.statistics.bootstrap import Estimate, estimate_of, resampled_counts
from frostline.statistics.ranks import rank_correlation_replicates

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from frostline.audit.landscape import Landscape
    from frostline.search.interface import Rungs
    from frostline.search.spaces.space import SearchSpace

    Array = NDArray[np.float64]

_FOLDS = 5
_TENTHS = (2, 5, 10)


@dataclass(frozen=True, slots=True, kw_only=True)
class CellShift:
    """How one cell would rank the configurations if it trained them at other values, in decades: 1 stands for ten times."""

    fidelity: Fidelity
    best: Mapping[str, Estimate]
    """The shift of each hyperparameter alone, with its interval over configurations at the surrogate's lengths. That of
    "head.learning_rate" is the head's against the other layers."""
    taken: Mapping[str, float]
    """What the evidence is good enough for, one after the other: the shift's interval does not hold 0, and the gain over
    configurations that were not used has an interval above 0."""
    factors: Mapping[str, float]
    """What ``taken`` comes to in an alignment, whose factors of the head are those of the configuration's own values."""
    unaligned: float
    """Spearman's correlation with full fidelity of what the surrogate expects of configurations it has not seen, as they
    are. What it does not know lowers this below the correlation of the scores themselves."""
    gain: Estimate
    """By how much that rises at what is taken, or, where nothing is, at the best shift of the hyperparameter that gains
    most; with its interval over configurations."""

    @property
    def aligned(self) -> float:
        """``unaligned`` and ``gain``."""
        return self.unaligned + float(self.gain.value)


def shifts(
    landscape: Landscape,
    aligned: Sequence[Landscape] = (),
    *,
    samples: Sequence[int] | None = None,
    resamples: int = 200,
    seed: int = 0,
) -> tuple[CellShift, ...]:
    """Return the shifts of every cell below full fidelity, or of those with one of these ``samples``; fewest layers first.

    ``aligned`` are landscapes of some of its configurations under alignments, which the surrogates learn from too: without,
    nothing is known of values that full training is not searched over, and that may be where few layers train best, nor
    of a head that is trained at other values than the layers before it. A shift is tried up to half the range of its
    hyperparameter: beyond, most configurations would lie where none was trained. Its gain is measured by cross-
    validation over configurations: surrogate and shift are fitted anew to four fifths of them, and judged by the
    others. Without a hyperparameter on a logarithmic range there is nothing to shift, and no cell.
    Raises: AuditError below 5 configurations.
    """
    require_enough(landscape.num_configurations, "the audit has")
    names = tuple(landscape.space.scales)
    if not names:
        return ()
    bench = _Bench.of(landscape, aligned, resamples=resamples, seed=seed)
    cells = []
    for z, layers in enumerate(landscape.layers):
        tried = (*names, *_heads_in(aligned, landscape.space, layers=layers))
        start: Response | None = None
        for s, budget in enumerate(landscape.samples):
            fidelity = Fidelity(trainable_layers=layers, samples=budget)
            if fidelity == landscape.full or (samples is not None and budget not in samples):
                continue
            cell = bench.cell(bench.trained_at(landscape, aligned, (z, s)), start=start)
            start = cell.response
            first = [cell.trial(name, {}) for name in tried]
            taken = cell.climb(first)
            last = taken[-1] if taken else max(first, key=lambda trial: float(trial.gain.value))
            cells.append(
                CellShift(
                    fidelity=fidelity,
                    best={trial.name: trial.shift for trial in first},
                    taken={trial.name: float(trial.shift.value) for trial in taken},
                    factors=_factors(taken, bench.coordinates.of_head),
                    unaligned=float(cell.agreement_unaligned[0]),
                    gain=estimate_of(bench.agreement(last.predicted) - cell.agreement_unaligned),
                )
            )
    return tuple(cells)


def alignment_of_ladder(cells: Sequence[CellShift], ladder: Rungs) -> Alignment:
    """Return the alignment that the shifts of a landscape imply for a ladder.

    Factors go with the layers, so those of rungs with equal layers are what the lowest of them wants: there most is decided.
    A rung between cells takes those of the nearest, by the logarithms of layers and samples.
    """
    factors: dict[int, Mapping[str, float]] = {}
    for rung in ladder.rungs:
        layers = rung.trainable_layers
        if layers in factors or layers == ladder.num_layers or not cells:
            continue
        nearest = min(cells, key=lambda cell: distance(cell.fidelity, rung))
        factors[layers] = nearest.factors
    return Alignment(factors=factors)


def some_budgets(landscape: Landscape) -> tuple[int, ...]:
    """Return the budgets nearest to a fifth, a half and all of the samples: shifts change little between them."""
    full = landscape.full
    wanted = (
        Fidelity(trainable_layers=full.trainable_layers, samples=max(1, full.samples * n // 10)) for n in _TENTHS
    )
    return tuple(sorted({landscape.samples[landscape.nearest_cell(fidelity)[1]] for fidelity in wanted}))


def shift_sentences(cells: Sequence[CellShift], landscape: Landscape) -> list[str]:
    """Return a sentence for every number of layers that would rank better at other values, where that is sure."""
    sentences = []
    for layers in landscape.layers:
        sure = [cell for cell in cells if cell.taken and cell.fidelity.trainable_layers == layers]
        if sure:
            cell = max(sure, key=lambda cell: float(cell.gain.value))
            factors = " and ".join(f"{factor:.2g} times the {name}" for name, factor in cell.factors.items())
            sentences.append(
                f"With {layers} of {landscape.layers[-1]} layers trained on {cell.fidelity.samples:,} "
                f"{landscape.sample_unit}, {factors} would rank better: by the surrogate, ρ {cell.aligned:.2f} instead of "
                f"{cell.unaligned:.2f} over configurations it has not seen (95 % interval of the gain: "
                f"{cell.gain.low:.2f} to {cell.gain.high:.2f})."
            )
    return sentences


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Trial:
    """One hyperparameter, moved at a cell on top of what is moved already."""

    name: str
    shift: Estimate
    of_folds: tuple[float, ...]
    predicted: Array
    """(C,): of each configuration, by the surrogate and at the shift that were fitted without it."""
    gain: Estimate

    @property
    def is_sure(self) -> bool:
        return float(self.gain.low) > 0 and not float(self.shift.low) <= 0 <= float(self.shift.high)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Trained:
    """All trainings at one cell, T of them: of the configurations as they are, and under alignments."""

    positions: Array
    """(T, D)."""
    losses: Array
    """(T,)."""
    owners: NDArray[np.intp]
    """(T,), whose training it is: the index of the configuration."""


def _factors(taken: Sequence[_Trial], of_head: Sequence[str]) -> dict[str, float]:
    shifts = {trial.name: float(trial.shift.value) for trial in taken}
    return {
        name: 10 ** (shift + (shifts.get(name.removeprefix(HEAD), 0.0) if name in of_head else 0.0))
        for name, shift in shifts.items()
    }


def _heads_in(aligned: Sequence[Landscape], space: SearchSpace, *, layers: int | None = None) -> tuple[str, ...]:
    """Return the hyperparameters that some landscapes, at these ``layers`` or at any, have the head alone train with."""
    names = {
        name
        for other in aligned
        for at, factors in other.alignment.factors.items()
        for name in factors
        if is_of_head(name, space) and layers in (None, at)
    }
    return tuple(sorted(names))


def _holds(landscape: Landscape, fidelity: Fidelity) -> bool:
    return fidelity.trainable_layers in landscape.layers and fidelity.samples in landscape.samples


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Bench:
    """What all cells of a landscape share: positions, folds and resamples are the same, so that cells are paired."""

    coordinates: Coordinates
    positions: Array
    """(C, D)."""
    full: Array
    counts: Array
    folds: tuple[NDArray[np.intp], ...]
    """The configurations that are left out of each."""

    @classmethod
    def of(cls, landscape: Landscape, aligned: Sequence[Landscape], *, resamples: int, seed: int) -> _Bench:
        number = landscape.num_configurations
        coordinates = Coordinates(space=landscape.space, of_head=_heads_in(aligned, landscape.space))
        order = np.random.default_rng(seed).permutation(number)
        return cls(
            coordinates=coordinates,
            positions=coordinates.of(landscape.configurations),
            full=landscape.full_losses,
            counts=resampled_counts(number, resamples=resamples, seed=seed),
            folds=tuple(np.sort(part) for part in np.array_split(order, min(_FOLDS, number))),
        )

    def trained_at(self, landscape: Landscape, aligned: Sequence[Landscape], cell: tuple[int, int]) -> _Trained:
        """Return all trainings at one cell."""
        fidelity = landscape.fidelity(cell)
        index_of = {configuration_key(own): index for index, own in enumerate(landscape.configurations)}
        trained = list(landscape.configurations)
        losses = [landscape.losses[:, *cell]]
        owners = list(range(landscape.num_configurations))
        for other in aligned:
            if fidelity.trainable_layers not in other.alignment.factors or not _holds(other, fidelity):
                continue
            here = [index for index, its in enumerate(other.configurations) if configuration_key(its) in index_of]
            configurations = [other.configurations[index] for index in here]
            trained += [other.alignment.aligned(configuration, fidelity) for configuration in configurations]
            owners += [index_of[configuration_key(configuration)] for configuration in configurations]
            place = other.layers.index(fidelity.trainable_layers), other.samples.index(fidelity.samples)
            losses.append(other.losses[here, *place])
        return _Trained(
            positions=self.coordinates.of(trained),
            losses=np.concatenate(losses),
            owners=np.array(owners, dtype=np.intp),
        )

    def agreement(self, predicted: Array) -> Array:
        """Return Spearman's correlation of what is expected of each configuration with full fidelity, (1 + B,)."""
        return rank_correlation_replicates(predicted, self.full, self.counts)

    def cell(self, trained: _Trained, *, start: Response | None) -> _Cell:
        response = Response.fit(trained.positions, trained.losses, start=start)
        everyone = np.arange(len(self.full))
        of_folds = []
        for left_out in self.folds:
            rest = ~np.isin(trained.owners, left_out)
            of_rest = Response.fit(trained.positions[rest], trained.losses[rest], start=response)
            of_folds.append((np.setdiff1d(everyone, left_out), of_rest))
        return _Cell(bench=self, response=response, owners=trained.owners, of_folds=tuple(of_folds))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Cell:
    """The surrogates of one cell: of all configurations, and of all but those of each fold."""

    bench: _Bench
    response: Response
    owners: NDArray[np.intp]
    of_folds: tuple[tuple[NDArray[np.intp], Response], ...]

    @cached_property
    def agreement_unaligned(self) -> Array:
        """Of the configurations as they are, (1 + B,)."""
        return self.bench.agreement(self.predicted({}))

    def predicted(self, shifts_of_folds: Mapping[str, Sequence[float]]) -> Array:
        """Return what is expected of each configuration by the surrogate without it, at its fold's shifts, (C,)."""
        expected = np.empty(len(self.bench.full))
        for fold, (left_out, (_, response)) in enumerate(zip(self.bench.folds, self.of_folds, strict=True)):
            moved = {name: shifts[fold] for name, shifts in shifts_of_folds.items()}
            expected[left_out] = response.at(self.bench.coordinates.moved(self.bench.positions[left_out], moved))
        return expected

    def trial(self, name: str, before: Mapping[str, _Trial]) -> _Trial:
        """Return how ``name`` is best moved, on top of the trials ``before``."""
        bench = self.bench
        moved = {other: float(trial.shift.value) for other, trial in before.items()}
        points = bench.coordinates.moved(bench.positions, moved)
        replicates = ranking_shifts(
            self.response, bench.coordinates, name, points, bench.full, bench.counts, bench.counts[:, self.owners]
        )
        of_folds = []
        for fold, (rest, response) in enumerate(self.of_folds):
            moved = {other: trial.of_folds[fold] for other, trial in before.items()}
            points = bench.coordinates.moved(bench.positions[rest], moved)
            once = np.ones((1, len(rest)))
            (shift,) = ranking_shifts(response, bench.coordinates, name, points, bench.full[rest], once)
            of_folds.append(float(shift))
        shifts_of_folds = {other: trial.of_folds for other, trial in before.items()} | {name: tuple(of_folds)}
        predicted = self.predicted(shifts_of_folds)
        below = bench.agreement(list(before.values())[-1].predicted) if before else self.agreement_unaligned
        return _Trial(
            name=name,
            shift=estimate_of(replicates),
            of_folds=tuple(of_folds),
            predicted=predicted,
            gain=estimate_of(bench.agreement(predicted) - below),
        )

    def climb(self, first: Sequence[_Trial]) -> list[_Trial]:
        """Return what is moved: the surest hyperparameter, then the surest of the others, until none is sure."""
        taken: dict[str, _Trial] = {}
        trials = list(first)
        while sure := [trial for trial in trials if trial.is_sure]:
            surest = max(sure, key=lambda trial: float(trial.gain.low))
            taken[surest.name] = surest
            trials = [self.trial(trial.name, taken) for trial in trials if trial.name not in taken]
        return list(taken.values())
