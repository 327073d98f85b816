"""Who has died of what: the evaluations during which a worker's process ended without a word.

A segmentation fault, ``os._exit`` and the kernel's out-of-memory killer leave nothing behind but a claim. Whether it was
the evaluation or somebody's ``kill -9`` nobody knows; two such ends at one place of an evaluation, with nothing else under
way, are taken for its own doing. Where several were under way, as in a population, none is blamed: from the second time on
each is evaluated alone. A training that had come further than at the last death, by what was kept of it, is not where that
was: a machine that is taken away now and then ends nothing that keeps checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from frostline.records import Cost, Evaluation, Fidelity, Request, Status
from frostline.store.parsing import parse_deaths
from frostline.wording import died_twice

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from frostline.search.history import History
    from frostline.store.backends.access import Attribute

SamplesKept = Callable[["Request", "History"], int]
"""Returns after how many samples the training of a request would be gone on with, 0 for from the start."""

_DEATHS = "frostline:deaths "
_MOST = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Deaths:
    """The workers that died while they evaluated one rung of a configuration, at the place that it had come to."""

    alone: tuple[str, ...] = ()
    """Those that had nothing else under way."""
    together: tuple[str, ...] = ()
    samples: int = 0
    """That place: after how many samples it is gone on with."""

    def with_worker(self, worker: str, *, was_alone: bool, samples: int) -> Deaths:
        """Return these and ``worker``, which may be counted already; it alone, if ``samples`` are kept, more than before."""
        if worker in (*self.alone, *self.together):
            return self
        before = self if samples <= self.samples else Deaths(samples=samples)
        if was_alone:
            return replace(before, alone=(*before.alone, worker))
        return replace(before, together=(*before.together, worker))

    @property
    def is_suspect(self) -> bool:
        """Whether the evaluation is to be made alone, so that it is known what a worker dies of."""
        return len(self.alone) + len(self.together) >= _MOST

    @property
    def is_proven(self) -> bool:
        """Whether workers die of it."""
        return len(self.alone) >= _MOST

    def attribute(self, rung: int) -> Attribute:
        """Return the system attribute of a trial that says so."""
        record = {"alone": list(self.alone), "together": list(self.together), "samples": self.samples}
        return f"{_DEATHS}{rung}", record


def deaths_in(trial: FrozenTrial, rung: int) -> Deaths:
    """Return who died of a rung of a trial. Raises: StudyError if what is kept of that is damaged."""
    if (record := trial.system_attrs.get(f"{_DEATHS}{rung}")) is None:
        return Deaths()
    deaths = parse_deaths(trial.number, rung, record)
    return Deaths(
        alone=tuple(deaths["alone"]), together=tuple(deaths["together"]), samples=deaths.get("samples", 0)
    )


def nothing_kept(request: Request, history: History) -> int:  # noqa: ARG001
    """Return 0: every training begins anew."""
    return 0


def set_aside(request: Request, fidelity: Fidelity) -> Evaluation:
    """Return the evaluation of a request that workers die of: it has failed."""
    return Evaluation(
        number=request.number,
        rung=request.rung,
        fidelity=fidelity,
        status=Status.FAILED,
        score=None,
        cost=Cost(seconds=0.0, samples=0),
        reason=died_twice("without a word"),
    )
