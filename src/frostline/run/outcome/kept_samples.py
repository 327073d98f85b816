"""How far the trainings of a search would be gone on with, by the checkpoints that are kept of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from frostline.run.loop import job_of
from frostline.search.alignment import IDENTITY, Alignment

if TYPE_CHECKING:
    from frostline.records import Request
    from frostline.run.execution.workload import Workload
    from frostline.search.history import History


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptSamples:
    """Tells a worker that died of a training where one did before it from one that had come further."""

    workload: Workload
    alignment: Alignment = IDENTITY

    def __call__(self, request: Request, history: History) -> int:
        """Return after how many samples the training of ``request`` goes on; 0: from the start."""
        configuration = history.configurations[request.number]
        job = job_of(configuration, request.rung, self.workload.ladder, history)
        aligned = self.alignment.aligned(configuration, job.fidelity)
        return self.workload.training.samples_kept(replace(job, configuration=aligned))
