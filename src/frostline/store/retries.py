"""Evaluations that failed, tried once more: for each such configuration a new trial, which takes the old one's place.

A trial of Optuna's that has ended cannot be opened again. So the configuration gets another, as in Optuna's own
``RetryFailedTrialCallback``: with the same parameters, with the records of all that did not fail, and with claims of what
failed whose worker is gone, so that whoever goes on with the study begins with those. The system attribute
``frostline:retries`` names the old trial, which stays as it is and does not count any more. Each is made in one write: a
process that is killed between two of them leaves the rest to the next retry.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import TrialState

from frostline.errors import StudyError
from frostline.store.parsing import parse_retried, rungs_in
from frostline.store.trials import RUNG, SAMPLER, Claim, claim_of, claims_in

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

_RETRIES = "frostline:retries"

# The worker of what is to be tried once more: one that was never there, and so is gone.
_NOBODY = "frostline retry"


def counting_trials(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return of ``trials`` those that count, each at the index that is its configuration's number.

    Of trials that try one configuration again and again it is the last. Raises: StudyError if the study is damaged.
    """
    counting: list[FrozenTrial] = []
    configuration_of: dict[int, int] = {}
    for trial in trials:
        if _RETRIES not in trial.system_attrs:
            configuration_of[trial.number] = len(counting)
            counting.append(trial)
            continue
        retried = parse_retried(trial.number, trial.system_attrs[_RETRIES])
        if retried not in configuration_of:
            raise StudyError(
                f"trial {trial.number} of the study tries trial {retried} once more, which is not there."
            )
        configuration_of[trial.number] = configuration_of[retried]
        counting[configuration_of[retried]] = trial
    return counting


def retrials(
    trials: Sequence[FrozenTrial], *, num_rungs: int, is_alive: Callable[[str], bool], every: bool = False
) -> dict[int, FrozenTrial]:
    """Return what is to be made of ``trials`` so that what failed is tried once more, by the configurations' numbers.

    What ran out of memory, and what workers died of, comes again only with ``every``. A configuration that a living worker
    evaluates is left alone.
    """
    found = {}
    for number, trial in enumerate(counting_trials(trials)):
        records = dict(rungs_in(trial.number, trial.user_attrs, RUNG, num_rungs=num_rungs))
        again = [rung for rung, record in records.items() if _is_failed(record, every=every)]
        under_way = any(
            claim.rung not in records and is_alive(claim.worker) for claim in claims_in(trial, num_rungs=num_rungs)
        )
        if again and not under_way:
            kept = {rung: record for rung, record in records.items() if rung not in again}
            found[number] = _retrial(trial, kept, again, num_rungs=num_rungs)
    return found


def has_only_failed(trials: Sequence[FrozenTrial]) -> bool:
    """Return whether evaluations have ended, and every one of them because its training raised."""
    records = [
        record
        for trial in counting_trials(trials)
        for name, record in trial.user_attrs.items()
        if name.startswith(RUNG)
    ]
    return bool(records) and all(_is_failed(record, every=False) for record in records)


def _is_failed(record: Any, *, every: bool) -> bool:
    return isinstance(record, dict) and record.get("status") == "failed" and (every or "failure" in record)


def _retrial(trial: FrozenTrial, kept: dict[int, Any], again: Sequence[int], *, num_rungs: int) -> FrozenTrial:
    claims = {claim.rung: claim for claim in claims_in(trial, num_rungs=num_rungs)}
    claims |= {rung: Claim(rung=rung, worker=_NOBODY, num_ended=-1) for rung in again}
    return optuna.trial.create_trial(
        state=TrialState.RUNNING,
        params=dict(trial.params),
        distributions=dict(trial.distributions),
        user_attrs={"retries": trial.number, **{f"{RUNG}{rung}": record for rung, record in kept.items()}},
        system_attrs={
            **dict(map(claim_of, claims.values())),
            SAMPLER: trial.system_attrs.get(SAMPLER, {}),
            _RETRIES: trial.number,
        },
        intermediate_values={
            rung: record["score"] for rung, record in kept.items() if record["score"] is not None
        },
    )
