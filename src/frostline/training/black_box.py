"""A training as a plain function of a configuration and a fidelity, whatever it does with them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
import torch

from frostline.errors import FrostlineError
from frostline.records import Configuration, Cost, CurvePoint, Evaluation, Fidelity, Job, Status
from frostline.seeding import derive_seed
from frostline.training.machine.randomness import seeded

TrainFunction = Callable[[Configuration, Fidelity], float | Iterator[tuple[int, float]]]
"""Trains one configuration at one fidelity; returns its score, or yields ``(samples so far, score)`` as it goes."""


class TrainFunctionError(FrostlineError, TypeError):
    """A training function that gave something other than a score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlackBox:
    """Evaluates jobs by calling ``train``.

    Every call begins with torch's, NumPy's and Python's global generators in the same state, derived from ``root_seed``,
    so that all configurations start from one initialisation and a resumed search gives the same numbers; afterwards the
    generators are as they were. A score that is not finite ends the evaluation as diverged.
    Raises: whatever ``train`` raises; TrainFunctionError if what it gives is no score.
    """

    train: TrainFunction
    root_seed: int

    @property
    def name(self) -> str:
        """The function's name."""
        return getattr(self.train, "__qualname__", type(self.train).__qualname__)

    def in_study(self, identity: str) -> BlackBox:  # noqa: ARG002
        """Return itself: nothing is kept."""
        return self

    @property
    def place(self) -> None:
        """Nowhere."""

    @property
    def models(self) -> None:
        """Nowhere: what the function trains it does not show."""

    def samples_kept(self, job: Job) -> int:  # noqa: ARG002
        """Return 0: nothing is kept."""
        return 0

    def forget(self, number: int) -> None:
        """Nothing is kept."""

    def __call__(self, job: Job) -> Evaluation:
        """Return the evaluation of ``job``."""
        begin = time.perf_counter()
        with seeded(derive_seed(self.root_seed, "initialisation")):
            curve = _curve_of(self.train(job.configuration, job.fidelity), job.fidelity)
        return evaluation_by(curve, job, Cost(seconds=time.perf_counter() - begin, samples=curve[-1].samples))


def evaluation_by(curve: Sequence[CurvePoint], job: Job, cost: Cost) -> Evaluation:
    """Return the evaluation of ``job`` whose scores were ``curve``: the last one counts, and has diverged if not finite."""
    final = curve[-1]
    finite = math.isfinite(final.score)
    return Evaluation(
        number=job.configuration.number,
        rung=job.rung,
        fidelity=job.fidelity,
        status=Status.FINISHED if finite else Status.DIVERGED,
        score=final.score if finite else None,
        cost=cost,
        curve=tuple(point for point in curve if math.isfinite(point.score)),
        reason=None if finite else f"the score after {final.samples} samples is {final.score}",
    )


def _curve_of(result: object, fidelity: Fidelity) -> list[CurvePoint]:
    """Return the curve behind what a training function returned; it stops at the first score that is not finite."""
    score = score_of(result)
    if score is not None:
        return [CurvePoint(fidelity.samples, score)]
    if not isinstance(result, Iterator):
        raise TrainFunctionError(
            f"the training function returned {result!r:.60}: return a score (a number), or yield (samples, score) pairs."
        )
    curve = []
    for item in result:
        match item:
            case (samples, given) if isinstance(samples, Integral) and (score := score_of(given)) is not None:
                curve.append(CurvePoint(int(samples), score))
            case _:
                raise TrainFunctionError(
                    f"the training function yielded {item!r:.60}: yield pairs of a number of samples and a score."
                )
        if not math.isfinite(curve[-1].score):
            break
    if not curve:
        raise TrainFunctionError(
            "the training function ended without a score: yield (samples, score) at least once."
        )
    return curve


def score_of(result: object) -> float | None:
    """Return the score that ``result`` is, or None: whether something is true, or complex, ranks nothing."""
    if isinstance(result, torch.Tensor):
        result = result.detach()
        is_number = result.numel() == 1 and not result.is_complex() and result.dtype != torch.bool
    elif isinstance(result, np.ndarray):
        is_number = result.size == 1 and result.dtype.kind in "iuf"
    else:
        is_number = isinstance(result, Real) and not isinstance(result, bool | np.bool_)
    return float(result) if is_number else None  # type: ignore[arg-type]
