"""Who has died of what: the evaluations during which a worker's process ended without a word.

A segmentation fault, ``os._exit`` and the kernel's out-of-memory killer leave nothing behind but a claim. Whether it was
the evaluation or somebody's ``kill -9`` nobody knows; two such ends in one evaluation, with nothing else under way, are
taken for its own doing. Where several were under way, as in a population, none is blamed: from the second time on each is
evaluated alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frostline.records import Cost, Evaluation, Fidelity, Request, Status
from frostline.wording import died_twice

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from frostline.store.access import Attribute

_DEATHS = "frostline:deaths "
_MOST = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Deaths:
    """The workers that died while they evaluated one rung of a configuration."""

    alone: tuple[str, ...] = ()
    """Those that had nothing else under way."""
    together: tuple[str, ...] = ()

    def with_worker(self, worker: str, *, was_alone: bool) -> Deaths:
        """Return these and ``worker``, which may be counted already."""
        if worker in (*self.alone, *self.together):
            return self
        if was_alone:
            return Deaths(alone=(*self.alone, worker), together=self.together)
        return Deaths(alone=self.alone, together=(*self.together, worker))

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
        return f"{_DEATHS}{rung}", {"alone": list(self.alone), "together": list(self.together)}


def deaths_in(trial: FrozenTrial, rung: int) -> Deaths:
    """Return who died of a rung of a trial."""
    record: Mapping[str, Any] = trial.system_attrs.get(f"{_DEATHS}{rung}", {})
    return Deaths(alone=tuple(record.get("alone", ())), together=tuple(record.get("together", ())))


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
