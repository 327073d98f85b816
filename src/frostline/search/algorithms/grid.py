"""The grid of an audit: trainings at several numbers of layers and samples, of which none continues another."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from frostline.errors import LadderError
from frostline.records import Fidelity
from frostline.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterable


MOST_CELLS = 2000
"""Each is a training of every configuration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Fidelities in any order, the last one full, each trained from scratch: rungs for a ``Sweep``, not to be climbed.

    Units: ``full_samples`` as in ``Fidelity``.
    Raises: LadderError if the last is not full, one is beyond it, one comes twice, or there are more than ``MOST_CELLS``.
    """

    rungs: tuple[Fidelity, ...]
    num_layers: int
    full_samples: int

    def __post_init__(self) -> None:
        if len(self.rungs) > MOST_CELLS:
            raise LadderError(
                f"the grid has {len(self.rungs):,} cells, but may have {MOST_CELLS:,} at most: give fewer layers or samples."
            )
        full = Fidelity(trainable_layers=self.num_layers, samples=self.full_samples)
        repeated = [rung for rung, times in Counter(self.rungs).items() if times > 1]
        if repeated:
            raise LadderError(f"the grid holds {_text(repeated[0])} twice: give every layers and samples once.")
        for rung in self.rungs:
            if rung.trainable_layers > full.trainable_layers or rung.samples > full.samples:
                raise LadderError(
                    f"the grid holds {_text(rung)}, beyond the full training of {_text(full)}: leave it out."
                )
        if not self.rungs or self.rungs[-1] != full:
            raise LadderError(f"the grid does not end in the full training of {_text(full)}: add it.")

    @classmethod
    def product(cls, layers: Iterable[int], samples: Iterable[int]) -> Grid:
        """Return the grid of all pairs of ``layers`` and ``samples``, whose largest are the full training.

        Raises: LadderError if there are none; FidelityError if a number is below 1.
        """
        rising, budgets = sorted(set(layers)), sorted(set(samples))
        if not rising or not budgets:
            raise LadderError("a grid needs at least one number of layers and one of samples: give them.")
        rungs = tuple(Fidelity(trainable_layers=z, samples=s) for z in rising for s in budgets)
        return cls(rungs=rungs, num_layers=rising[-1], full_samples=budgets[-1])

    def continues(self, _rung: int) -> bool:
        """Return False: every training starts from scratch."""
        return False


def _text(rung: Fidelity) -> str:
    return f"{counted(rung.trainable_layers, 'layer')} and {rung.samples:,} samples"
