"""What lies where in an Optuna trial, so that Optuna and its dashboard read a study as it is.

- A trial's parameters are the configuration, its number the configuration's: as long as nothing was tried once more
  (``store.retries``), for which a trial is made that takes the place of another.
- The score of a finished rung is its intermediate value at that rung; everything else that is known of the evaluation is
  the user attribute ``rung N``, which is written last and is what a resumed search believes.
- COMPLETE: evaluated at full fidelity. PRUNED: not promoted, or diverged. FAIL: its training raised (user attribute
  ``reason``). RUNNING: may still climb, or something of it is under way.
- Claims and samplers' notes are system attributes. Rung N is under way if the worker of ``frostline:claim N`` is alive and
  there is no ``rung N``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import optuna
from optuna.distributions import distribution_to_json
from optuna.trial import FrozenTrial, TrialState

from frostline.errors import StudyError
from frostline.records import Configuration, Cost, CurvePoint, Evaluation, Failure, Fidelity, Status
from frostline.store.parsing import (
    LONGEST_RANGE,
    parse_claim,
    parse_configuration,
    parse_evaluation,
    parse_ranges,
    parse_state,
    rungs_in,
)

if TYPE_CHECKING:
    from frostline.search.history import History
    from frostline.search.spaces.space import SearchSpace

_CLAIM = "frostline:claim "
SAMPLER = "frostline:sampler"
RUNG = "rung "


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """That a worker evaluates a rung of a trial."""

    rung: int
    worker: str
    num_ended: int
    """How many evaluations of the study had ended when it was claimed; -1 where that was not kept."""


def claim_of(claim: Claim) -> tuple[str, dict[str, Any]]:
    """Return the system attribute of a trial, name and value, that says ``claim``."""
    return f"{_CLAIM}{claim.rung}", {"worker": claim.worker, "ended": claim.num_ended}


def claims_in(trial: FrozenTrial, *, num_rungs: int) -> list[Claim]:
    """Return the last claim of each rung of a trial that was ever claimed.

    Raises: StudyError if one is none, or of a rung that the study does not have.
    """
    claims = [
        (rung, parse_claim(trial.number, rung, claim))
        for rung, claim in rungs_in(trial.number, trial.system_attrs, _CLAIM, num_rungs=num_rungs)
    ]
    return [Claim(rung=rung, worker=claim["worker"], num_ended=claim.get("ended", -1)) for rung, claim in claims]


class _HandedOver(FrozenTrial):
    """A trial whose parts a storage may keep as they are: whoever made it does not hold it any more."""

    def __deepcopy__(self, memo: object) -> FrozenTrial:
        # Optuna's storage in memory (5.0) copies what it is given with all distributions, which takes as long as all else.
        kept = FrozenTrial.__new__(FrozenTrial)
        vars(kept).update(vars(self))
        return kept


def new_trial(configuration: Configuration, space: SearchSpace, claims: Iterable[Claim]) -> FrozenTrial:
    """Return the trial of a configuration of which rungs are claimed: to be written once, in one transaction."""
    trial = optuna.trial.create_trial(
        state=TrialState.RUNNING,
        params=dict(configuration.hyperparameters),
        distributions=dict(space.distributions),
        system_attrs={**dict(map(claim_of, claims)), SAMPLER: dict(configuration.sampler_state)},
    )
    trial.__class__ = _HandedOver
    return trial


def read_trial(trial: FrozenTrial, history: History, rungs: Sequence[Fidelity]) -> None:
    """Add a trial's configuration, the next one, and its evaluations on a ladder of ``rungs`` to ``history``.

    The lowest rung comes first. Raises: StudyError if it is not frostline's, or damaged.
    """
    if not claims_in(trial, num_rungs=len(rungs)):
        raise StudyError(
            f"trial {trial.number} of the study was not made by frostline: use another study name, or delete the trial."
        )
    state = trial.system_attrs.get(SAMPLER, {})
    values = parse_configuration(trial.number, trial.params)
    number = len(history.configurations)
    history.add_configuration(
        Configuration(number=number, hyperparameters=values, sampler_state=parse_state(trial.number, state))
    )
    evaluations = [
        evaluation_of(number, rung, record, rungs)
        for rung, record in rungs_in(trial.number, trial.user_attrs, RUNG, num_rungs=len(rungs))
    ]
    for evaluation in sorted(evaluations, key=lambda evaluation: evaluation.rung):
        history.finish(evaluation)


def outcome_of(
    evaluations: Sequence[Evaluation], *, last_rung: int
) -> tuple[TrialState, float | None, str | None]:
    """Return the final state of a trial, its score unless it failed or diverged, and why it did, from the lowest rung."""
    last = evaluations[-1]
    if last.rung == last_rung and last.status is Status.FINISHED:
        return TrialState.COMPLETE, last.score, None
    for status, state in ((Status.FAILED, TrialState.FAIL), (Status.DIVERGED, TrialState.PRUNED)):
        for evaluation in evaluations:
            if evaluation.status is status:
                return state, None, evaluation.reason
    return TrialState.PRUNED, last.score, None


def record_of(evaluation: Evaluation) -> tuple[str, dict[str, Any]]:
    """Return the user attribute, name and value, that an evaluation is read from."""
    record = {
        "status": str(evaluation.status),
        "score": evaluation.score,
        "trainable_layers": evaluation.fidelity.trainable_layers,
        "samples": evaluation.fidelity.samples,
        "seconds": evaluation.cost.seconds,
        "trained_samples": evaluation.cost.samples,
        "peak_bytes": evaluation.cost.peak_bytes,
        "population": evaluation.cost.population,
        **({"fixed_seconds": evaluation.cost.fixed_seconds} if evaluation.cost.fixed_seconds else {}),
        "curve": [[point.samples, point.score] for point in evaluation.curve],
        "reason": evaluation.reason,
        **({"trained_with": dict(evaluation.trained_with)} if evaluation.trained_with else {}),
        **({"suggested": dict(evaluation.suggested)} if evaluation.suggested else {}),
        **({"ranges": _range_records(evaluation)} if evaluation.ranges else {}),
        **({} if evaluation.model_cost is None else {"model_cost": evaluation.model_cost}),
        **_failure_record(evaluation.failure),
    }
    return f"{RUNG}{evaluation.rung}", record


def evaluation_of(number: int, rung: int, stored: object, rungs: Sequence[Fidelity]) -> Evaluation:
    """Return the evaluation on a ladder of ``rungs`` that a record was written from. Raises: StudyError if it is damaged."""
    record = parse_evaluation(number, rung, stored, rungs)
    return Evaluation(
        number=number,
        rung=rung,
        fidelity=Fidelity(trainable_layers=record["trainable_layers"], samples=record["samples"]),
        status=Status(record["status"]),
        score=record["score"],
        cost=Cost(
            seconds=record["seconds"],
            samples=record["trained_samples"],
            peak_bytes=record["peak_bytes"],
            population=record["population"],
            fixed_seconds=min(record.get("fixed_seconds", 0.0), record["seconds"]),
        ),
        curve=tuple(CurvePoint(samples, score) for samples, score in record["curve"]),
        reason=record["reason"],
        trained_with=record.get("trained_with", {}),
        suggested=record.get("suggested", {}),
        ranges=parse_ranges(number, rung, record.get("ranges", {})),
        failure=Failure(**record["failure"]) if "failure" in record else None,
        model_cost=record.get("model_cost"),
    )


def _range_records(evaluation: Evaluation) -> dict[str, str]:
    texts = {name: distribution_to_json(distribution) for name, distribution in evaluation.ranges.items()}
    # What is longer a report does without.
    return {name: text for name, text in texts.items() if len(text) <= LONGEST_RANGE}


def _failure_record(failure: Failure | None) -> dict[str, Any]:
    if failure is None:
        return {}
    return {"failure": {"error": failure.error, "place": failure.place, "traceback": failure.traceback}}
