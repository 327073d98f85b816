"""Evaluations that an audit has made already: a search that asks for one of them is answered at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.audit.stored_landscape import configuration_key
from frostline.records import Cost, Evaluation, Status

if TYPE_CHECKING:
    from frostline.records import Configuration, Fidelity, Job
    from frostline.search.history import History
    from frostline.store.terms import Terms


class AuditedEvaluations:
    """The evaluations in an audit's history, to be asked by job. Seconds are those that the audit measured.

    Under the horizon "full" a rung is a point on the way of the full training, and known where that was validated after
    exactly as many samples; one that diverged on its way is not known, and will diverge again.
    """

    def __init__(self, terms: Terms, history: History) -> None:
        self._full_samples = terms.rungs[-1].samples
        self._nested = terms.training is not None and terms.training.horizon == "full"
        self._evaluations: dict[tuple[object, int, int], Evaluation] = {}
        for evaluation in history.evaluations():
            key = configuration_key({**history.configurations[evaluation.number], **evaluation.trained_with})
            fidelity = evaluation.fidelity
            self._evaluations[key, fidelity.trainable_layers, fidelity.samples] = evaluation

    def __call__(self, job: Job) -> Evaluation | None:
        """Return the evaluation that ``job`` asks for, or None if the audit did not make it."""
        reached = self._reached(job.configuration, job.fidelity)
        if reached is None:
            return None
        # A job that continues the rung below pays for the rest of the way alone.
        before = [self._reached(job.configuration, fidelity) for fidelity in job.continued_from[-1:]]
        done = [cost for cost in before if cost is not None]
        seconds = reached.cost.seconds - sum(evaluation.cost.seconds for evaluation in done)
        samples = reached.cost.samples - sum(evaluation.cost.samples for evaluation in done)
        cost = Cost(
            seconds=max(0.0, seconds),
            samples=max(0, samples),
            peak_bytes=reached.cost.peak_bytes,
            population=reached.cost.population,
        )
        return Evaluation(
            number=job.configuration.number,
            rung=job.rung,
            fidelity=job.fidelity,
            status=reached.status,
            score=reached.score,
            cost=cost,
            curve=reached.curve,
            reason=reached.reason,
        )

    def _reached(self, configuration: Configuration, fidelity: Fidelity) -> Evaluation | None:
        """Return the audit's training up to ``fidelity``, as an evaluation of its own."""
        key = configuration_key(configuration.trained_values)
        exact = self._evaluations.get((key, fidelity.trainable_layers, fidelity.samples))
        if exact is not None or not self._nested:
            return exact if exact is None or exact.status is not Status.FAILED else None
        whole = self._evaluations.get((key, fidelity.trainable_layers, self._full_samples))
        if whole is None:
            return None
        curve = tuple(point for point in whole.curve if point.samples <= fidelity.samples)
        if not curve or curve[-1].samples != fidelity.samples:
            return None
        share = fidelity.samples / max(1, whole.cost.samples)
        return Evaluation(
            number=whole.number,
            rung=whole.rung,
            fidelity=fidelity,
            status=Status.FINISHED,
            score=curve[-1].score,
            cost=Cost(
                seconds=whole.cost.seconds * share,
                samples=fidelity.samples,
                peak_bytes=whole.cost.peak_bytes,
                population=whole.cost.population,
            ),
            curve=curve,
        )
