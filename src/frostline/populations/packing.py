"""Which jobs are trained together: those of one program, in populations that have proven to fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from frostline.populations.footprint import even_share
from frostline.populations.programs import Program
from frostline.records import Configuration, Job


@dataclass(kw_only=True)
class Packing:
    """Packs jobs into populations, and remembers what was too much.

    A job with all ``num_layers`` layers trained has no frozen layers to share: it is trained alone, unless
    ``packs_full`` says otherwise.
    """

    program_of: Callable[[Configuration], Program]
    num_layers: int
    packs_full: bool = False
    _limits: dict[Program, dict[int, int]] = field(default_factory=dict)
    """By the most layers that one of a population trains, how many there may be; no more where more layers are trained."""

    def groups(self, jobs: Sequence[Job]) -> list[list[Job]]:
        """Return the jobs in groups that may be trained together, in the order of their first members; none is lost."""
        groups: dict[object, list[Job]] = {}
        for index, job in enumerate(jobs):
            is_alone = job.fidelity.trainable_layers == self.num_layers and not self.packs_full
            key = index if is_alone else self.program_of(job.configuration)
            groups.setdefault(key, []).append(job)
        return list(groups.values())

    def next(self, waiting: Sequence[Job]) -> list[Job]:
        """Return the jobs of a group, still waiting, that the next population is to hold."""
        limits = self._limits.get(self.program_of(waiting[0].configuration), {})
        size, most_layers, limit = 0, 0, len(waiting)
        for job in waiting:
            most_layers = max(most_layers, job.fidelity.trainable_layers)
            limit = min((limit, *(some for layers, some in limits.items() if layers <= most_layers)))
            if size >= limit:
                break
            size += 1
        return list(waiting[: even_share(len(waiting), most=size)])

    def limit(self, jobs: Sequence[Job], size: int) -> None:
        """Remember that no population that trains as many layers as one of ``jobs`` may be larger than ``size``, or 1."""
        limits = self._limits.setdefault(self.program_of(jobs[0].configuration), {})
        most_layers = max(job.fidelity.trainable_layers for job in jobs)
        limits[most_layers] = min(max(1, size), limits.get(most_layers, len(jobs)))
