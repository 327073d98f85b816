"""Which jobs are trained together: those of one program, in populations that have proven to fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from frostline.populations.footprint import even_share
from frostline.populations.programs import Program
from frostline.records import Configuration, Job

Kind = tuple[Program, tuple[int, ...]]
"""A program and the numbers of layers that are trained: populations of one kind need as much memory."""


@dataclass(kw_only=True)
class Packing:
    """Packs jobs into populations, and remembers what was too much.

    A job with all ``num_layers`` layers trained has no frozen layers to share: it is trained alone, unless
    ``packs_full`` says otherwise.
    """

    program_of: Callable[[Configuration], Program]
    num_layers: int
    packs_full: bool = False
    _limits: dict[Kind, int] = field(default_factory=dict)

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
        limit = self._limits.get(self._kind(waiting), len(waiting))
        return list(waiting[: even_share(len(waiting), most=limit)])

    def limit(self, jobs: Sequence[Job], size: int) -> None:
        """Remember that no population like one of ``jobs`` may be larger than ``size``, or 1."""
        self._limits[self._kind(jobs)] = max(1, size)

    def _kind(self, jobs: Sequence[Job]) -> Kind:
        layers = tuple(sorted({job.fidelity.trainable_layers for job in jobs}))
        return self.program_of(jobs[0].configuration), layers
