"""The rungs that a search climbs, over trainable layers and samples: whole numbers, and never collapsing."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from frostline.errors import LadderError
from frostline.inputs.whole_numbers import LARGEST, shown
from frostline.records import Fidelity
from frostline.text_tables import html_table, text_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# The paper's lowest diagonal rung (one layer of ten, 9 % of the tokens) ranks at 0.26, its second (19 %) at 0.82:
# so, until an audit says better, a ladder starts at a fifth of the layers and of the samples.
_LOWEST_SHARE = 5

_SIEVE_LAYERS = 0.15
_SIEVE_SAMPLES = (0.1, 0.3, 1.0)


MOST_RUNGS = 100
"""A survivor is trained once more at every rung: more of them than make a difference to it only cost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderRow:
    """One rung of a ladder that is climbed. ``cost`` is that of all its configurations, in full trainings."""

    rung: int
    trainable_layers: int
    samples: int
    configurations: int
    cost: float


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Ladder:
    """Rising fidelities: neither axis ever falls, at least one rises at every rung, and the last rung is full.

    Units: ``full_samples`` as in ``Fidelity``: tokens for a language model, examples otherwise.
    Raises: LadderError if it is not such a ladder, or has fewer than two rungs or more than ``MOST_RUNGS``.
    """

    rungs: tuple[Fidelity, ...]
    num_layers: int
    full_samples: int

    def __post_init__(self) -> None:
        full = (self.num_layers, self.full_samples)
        steps = [(rung.trainable_layers, rung.samples) for rung in self.rungs]
        if len(steps) < 2:
            raise LadderError(
                f"a ladder of {len(steps)} rungs climbs nowhere: it must have at least 2; to evaluate only at "
                "full fidelity, take the search 'full'."
            )
        _check_num_rungs(len(steps))
        for (layers, samples), (more_layers, more_samples) in pairwise(steps):
            if more_layers < layers or more_samples < samples or (layers, samples) == (more_layers, more_samples):
                raise LadderError(
                    f"a rung of {more_layers} layers and {more_samples} samples follows one of {layers} layers "
                    f"and {samples} samples: neither may fall and one must rise; sort the rungs and leave out "
                    "repeated ones."
                )
        if steps[-1] != full:
            raise LadderError(
                f"the last rung is {steps[-1][0]} layers and {steps[-1][1]} samples, but it must be the full "
                f"training: {full[0]} layers and {full[1]} samples; end the ladder there."
            )

    @classmethod
    def diagonal(cls, *, num_layers: int, full_samples: int, num_rungs: int = 3) -> Ladder:
        """Return the ladder on which layers and samples grow together, geometrically, each from a fifth.

        With too few layers for ``num_rungs`` different numbers, some rungs share one and differ in samples alone.
        Raises: LadderError if there are too few samples for the rungs to differ.
        """
        _check_sizes(num_layers, full_samples)
        layers = _rising(_lowest(num_layers), num_layers, num_rungs)
        samples = _strictly_rising(full_samples, num_rungs, unit="samples", instead="")
        return cls._of(zip(layers, samples, strict=True), num_layers, full_samples)

    @classmethod
    def layers_only(cls, *, num_layers: int, full_samples: int, num_rungs: int = 3) -> Ladder:
        """Return the ladder on which every rung sees all samples, and layers grow geometrically from a fifth.

        Raises: LadderError if the model has too few layers for the rungs to differ.
        """
        _check_sizes(num_layers, full_samples)
        layers = _strictly_rising(
            num_layers, num_rungs, unit="layers", instead=", or use a ladder that grows samples too"
        )
        return cls._of(((level, full_samples) for level in layers), num_layers, full_samples)

    @classmethod
    def samples_only(cls, *, num_layers: int, full_samples: int, num_rungs: int = 3) -> Ladder:
        """Return the ladder on which every rung trains all layers, and samples grow geometrically from a fifth.

        Raises: LadderError if there are too few samples for the rungs to differ.
        """
        _check_sizes(num_layers, full_samples)
        samples = _strictly_rising(full_samples, num_rungs, unit="samples", instead="")
        return cls._of(((num_layers, level) for level in samples), num_layers, full_samples)

    @classmethod
    def sieve(cls, *, num_layers: int, full_samples: int) -> Ladder:
        """Return the ladder that sorts out with few layers, and chooses with all of them.

        A seventh of the layers on a tenth of the samples; then all layers on as many, on three tenths, and on to the end.
        Few layers tell the bad two thirds from the good third and no more, so they are asked once, where that is cheapest
        (docs/benchmarks/contest.md). A model of one layer has the samples alone. Rungs that fall together become one.
        Raises: LadderError if there are too few samples for two rungs to differ.
        """
        _check_sizes(num_layers, full_samples)
        few = max(1, round(num_layers * _SIEVE_LAYERS))
        steps = [(few, _SIEVE_SAMPLES[0]), *((num_layers, share) for share in _SIEVE_SAMPLES)]
        rungs = [(layers, max(1, round(full_samples * share))) for layers, share in steps]
        if len(dict.fromkeys(rungs)) < 2:
            raise LadderError(
                f"{full_samples} samples leave a single rung, but a ladder must have at least 2: use more samples."
            )
        return cls._of(dict.fromkeys(rungs), num_layers, full_samples)

    @classmethod
    def explicit(cls, rungs: Sequence[tuple[int, int]], *, num_layers: int, full_samples: int) -> Ladder:
        """Return the ladder of the given (trainable layers, samples), lowest first, the last one full.

        Raises: LadderError if they do not rise, or the last is not full; FidelityError if a number is below 1.
        """
        return cls._of(rungs, num_layers, full_samples)

    @classmethod
    def _of(cls, steps: Iterable[tuple[int, int]], num_layers: int, full_samples: int) -> Ladder:
        rungs = tuple(Fidelity(trainable_layers=layers, samples=samples) for layers, samples in steps)
        return cls(rungs=rungs, num_layers=num_layers, full_samples=full_samples)

    @property
    def fingerprint(self) -> str:
        """A string that changes when any rung, the number of layers or the full budget does."""
        rungs = ",".join(f"{rung.trainable_layers}x{rung.samples}" for rung in self.rungs)
        return f"rungs {rungs} of {self.num_layers}x{self.full_samples}"

    @property
    def lowest_whole(self) -> int:
        """The lowest rung of all layers."""
        whole = self.num_layers
        return next(rung for rung, fidelity in enumerate(self.rungs) if fidelity.trainable_layers == whole)

    def relative_cost(self, fidelity: Fidelity) -> float:
        """Return what a training from scratch at ``fidelity`` costs, in full trainings.

        A layer's forward pass counts 1 and its backward pass 2; n layers of which z are trained so take n + 2z of
        3n for each sample. This assumes that the layers cost alike and leaves validation out; ``frostline.costs``
        measures.
        """
        layers, samples = fidelity.trainable_layers, fidelity.samples
        return (self.num_layers + 2 * layers) * samples / (3 * self.num_layers * self.full_samples)

    def continues(self, rung: int) -> bool:
        """Return whether climbing to ``rung`` goes on with the training of the rung below: they train as many layers."""
        return rung > 0 and self.rungs[rung - 1].trainable_layers == self.rungs[rung].trainable_layers

    def climbing_cost(self, rung: int) -> float:
        """Return what it costs, in full trainings, to climb to ``rung`` from the one below.

        With equal layers training continues, so only the further samples cost; with more layers it starts from
        scratch.
        """
        here = self.rungs[rung]
        if not self.continues(rung):
            return self.relative_cost(here)
        return self.relative_cost(here) - self.relative_cost(self.rungs[rung - 1])

    def rows(
        self, configurations_per_rung: Sequence[int], *, started_per_rung: Sequence[int] | None = None
    ) -> tuple[LadderRow, ...]:
        """Return a row for every rung, given how many configurations are evaluated there.

        ``started_per_rung`` says how many of them begin their climb there, and so continue nothing. By default
        these are as few as possible: those that exceed the rung below.
        Raises: LadderError if there is not one number for every rung.
        """
        if len(configurations_per_rung) != len(self.rungs):
            raise LadderError(
                f"{len(configurations_per_rung)} numbers of configurations were given for {len(self.rungs)} "
                "rungs: give one for every rung."
            )
        if started_per_rung is None:
            below = (0, *configurations_per_rung)
            started_per_rung = [
                max(0, here - there) for here, there in zip(configurations_per_rung, below, strict=False)
            ]
        counts = zip(configurations_per_rung, started_per_rung, strict=True)
        costs = [
            started * self.relative_cost(rung) + (count - started) * self.climbing_cost(index)
            for index, (rung, (count, started)) in enumerate(zip(self.rungs, counts, strict=True))
        ]
        return rows_of(self.rungs, configurations_per_rung, costs)

    def table(
        self,
        configurations_per_rung: Sequence[int],
        *,
        started_per_rung: Sequence[int] | None = None,
        sample_unit: str = "samples",
    ) -> str:
        """Return ``rows`` as a table in plain text, with a last line for the whole; samples go by ``sample_unit``."""
        return rows_table(self.rows(configurations_per_rung, started_per_rung=started_per_rung), sample_unit)

    def single_table(self, *, sample_unit: str = "samples") -> str:
        """Return the rungs as a table in plain text, with the cost of one training from scratch at each."""
        return text_table(self._cells(sample_unit))

    def __str__(self) -> str:
        return self.single_table()

    def __repr__(self) -> str:
        return f"{self}"

    def _repr_html_(self) -> str:
        return html_table(self._cells("samples"))

    def _cells(self, sample_unit: str) -> list[tuple[str, ...]]:
        cells = [
            (str(index), str(rung.trainable_layers), f"{rung.samples:,}", f"{self.relative_cost(rung):.3f}")
            for index, rung in enumerate(self.rungs)
        ]
        return [("rung", "layers", sample_unit, "cost in full trainings"), *cells]


def rows_of(rungs: Sequence[Fidelity], counts: Sequence[int], costs: Sequence[float]) -> tuple[LadderRow, ...]:
    """Return a row for every rung, given how many configurations are evaluated there and what they cost together."""
    return tuple(
        LadderRow(
            rung=index,
            trainable_layers=rung.trainable_layers,
            samples=rung.samples,
            configurations=count,
            cost=cost,
        )
        for index, (rung, count, cost) in enumerate(zip(rungs, counts, costs, strict=True))
    )


def rows_table(rows: Sequence[LadderRow], sample_unit: str) -> str:
    """Return rows as a table in plain text, with a last line for the whole."""
    cells = [
        (str(row.rung), str(row.trainable_layers), f"{row.samples:,}", str(row.configurations), f"{row.cost:.3f}")
        for row in rows
    ]
    whole = ("", "", "", str(sum(row.configurations for row in rows)), f"{sum(row.cost for row in rows):.3f}")
    header = ("rung", "layers", sample_unit, "configurations", "cost in full trainings")
    return text_table([header, *cells, whole])


def integer_root(number: int, degree: int) -> int:
    """Return the largest integer whose ``degree``-th power is at most ``number``, exactly."""
    assert number >= 0
    assert degree >= 1
    low, high = 0, 1 << (number.bit_length() // degree + 1)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if middle**degree <= number else (low, middle - 1)
    return low


def _lowest(highest: int) -> int:
    return -(-highest // _LOWEST_SHARE)


def _rising(lowest: int, highest: int, num_levels: int) -> list[int]:
    """Return integers that rise geometrically from ``lowest`` to ``highest``, all different where they can."""
    if num_levels < 2:
        raise LadderError(
            f"num_rungs is {num_levels}, but a ladder must have at least 2: ask for 2 or more rungs."
        )
    _check_num_rungs(num_levels)
    last = num_levels - 1
    levels = [integer_root(lowest ** (last - index) * highest**index, last) for index in range(num_levels)]
    if highest - lowest >= last:
        for index in range(1, last):
            levels[index] = min(max(levels[index], levels[index - 1] + 1), highest - (last - index))
    return levels


def _strictly_rising(highest: int, num_rungs: int, *, unit: str, instead: str) -> list[int]:
    lowest = _lowest(highest)
    most = highest - lowest + 1
    if num_rungs <= most:
        return _rising(lowest, highest, num_rungs)
    if most < 2:
        raise LadderError(
            f"with {unit} from 1 to {highest} a ladder has a single rung, but it must have at least 2: use more "
            f"{unit}{instead}."
        )
    allowed = "2" if most == 2 else f"2 to {most}"
    raise LadderError(
        f"num_rungs is {num_rungs}, but between a fifth of {highest} {unit} and all of them there are only {most} "
        f"numbers, {lowest} to {highest}: ask for {allowed} rungs{instead}."
    )


def _check_num_rungs(num_rungs: int) -> None:
    if num_rungs > MOST_RUNGS:
        raise LadderError(
            f"num_rungs is {shown(num_rungs)}, but a ladder may have {MOST_RUNGS} at most: every survivor is "
            f"trained at each."
        )


def _check_sizes(num_layers: int, full_samples: int) -> None:
    if num_layers < 1 or full_samples < 1:
        raise LadderError(
            f"num_layers is {num_layers} and full_samples is {full_samples}, but both must be at least 1: take "
            "them from the model and its full training."
        )
    if full_samples > LARGEST:
        raise LadderError(
            f"full_samples is {shown(full_samples)}, but shares of more than {LARGEST} samples are not exact: train on "
            f"fewer."
        )
