"""Whether neighbouring rungs of a search agree on the configurations that both have, while it runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from frostline.audit.agreement import survivor_agreement
from frostline.records import Status, loss_sign
from frostline.statistics.ranks import FEWEST

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from frostline.audit.agreement import SurvivorAgreement
    from frostline.search.history import History

UNMEASURED = 0.0
"""What is assumed of rungs that no audit has measured: that survivors are not in the reverse order at the lower one."""


@dataclass(kw_only=True)
class AgreementWatch:
    """Compares each rung of a search with the one below, once it has seen as many evaluations as it expects.

    ``least`` is the agreement among survivors that each rung but the last should have with the next: what an audit leads to
    expect (``audit/expectation.py``), or None where there was none.
    """

    expected: Callable[[History], Sequence[int]]
    """Returns how many evaluations each rung will see, as far as that is decided."""
    least: Sequence[float] | None = None
    agreements: dict[int, SurvivorAgreement] = field(default_factory=dict)
    """By the lower rung. Where fewer than five configurations have both, nothing is computed."""

    def news(self, history: History) -> list[str]:
        """Return a sentence for every pair of rungs that has newly turned out to agree less than it should."""
        sentences = []
        expected = self.expected(history)
        for lower, upper in pairwise(range(len(expected))):
            ended = history.rung(upper).num_ended
            if lower in self.agreements or ended < max(FEWEST, expected[upper]):
                continue
            agreement = agreement_of_rungs(history, lower, upper)
            if agreement is None:
                continue
            self.agreements[lower] = agreement
            if self._is_news(agreement, lower):
                sentences.append(self._warning(lower, agreement))
        return sentences

    def _is_news(self, agreement: SurvivorAgreement, lower: int) -> bool:
        # Of a few survivors any order may be chance; what an audit leads to expect has that in it.
        return agreement.high < UNMEASURED if self.least is None else agreement.value < self.least[lower]

    def _warning(self, lower: int, agreement: SurvivorAgreement) -> str:
        what = f"rungs {lower} and {lower + 1} rank their {agreement.num_configurations} common configurations differently: "
        value = f"Spearman {agreement.value:.2f} [{agreement.low:.2f}, {agreement.high:.2f}] {agreement.label}"
        if self.least is None:
            return f"{what}{value}. The lower rung may mislead: `frostline audit` measures whether it does."
        return f"{what}{value}, where the audit led to expect at least {self.least[lower]:.2f}. The lower rung may mislead."


def agreement_of_rungs(history: History, lower: int, upper: int) -> SurvivorAgreement | None:
    """Return how two rungs of a search agree on the configurations that both have; None if these are fewer than five."""
    first, second = (losses_at(history, rung) for rung in (lower, upper))
    if np.count_nonzero(~np.isnan(first) & ~np.isnan(second)) < FEWEST:
        return None
    return survivor_agreement(first, second)


def losses_at(history: History, rung: int) -> NDArray[np.float64]:
    """Return every configuration's loss at a rung, (C,): infinite where it diverged, NaN where it failed or has none."""
    sign = loss_sign(history.direction)
    losses = np.full(len(history.configurations), np.nan)
    for number in range(len(losses)):
        evaluation = history.evaluation(number, rung)
        if evaluation is not None and evaluation.status is not Status.FAILED:
            losses[number] = np.inf if evaluation.score is None else sign * evaluation.score
    return losses
