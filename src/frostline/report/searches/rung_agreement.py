"""Whether neighbouring rungs of a search order the configurations that both have alike."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from frostline.audit.agreement import rank_correlation, survivor_agreement
from frostline.audit.rung_watch import UNMEASURED, losses_at
from frostline.errors import AuditError
from frostline.pages.parts import Note, Section, Table
from frostline.run.outcome.sentences import rung_lines
from frostline.wording import counted

if TYPE_CHECKING:
    from frostline.report.study_record import StudyRecord
    from frostline.search.history import History

# Over all configurations a lower rung should agree with the next by at least so much. Of survivors it is not known.
_POOR = 0.5


def agreement_section(record: StudyRecord) -> tuple[Section, list[str]]:
    """Return how well neighbouring rungs agree on the order of the configurations that both have, and warnings."""
    heading = "Do neighbouring rungs agree?"
    everyone = record.terms.is_sweep
    last = len(record.terms.rungs) - 1
    if not any(record.history.rung(rung).num_ended for rung in range(last)):
        text = "No configuration was trained at a lower rung, so there is nothing to agree with."
        return Section(heading, [Note(text)]), []
    pairs = [_Pair.of(record.history, rung, everyone=everyone) for rung in range(last)]
    warnings = rung_lines(record.history, record.terms)
    warnings += [pair.warning for pair in pairs if pair.disagrees]
    doubts = [pair.doubt for pair in pairs if pair.is_doubtful]
    if doubts:
        warnings.append(
            f"Whether the lower rungs promoted the right configurations cannot be told here: {'; '.join(doubts)}. The "
            f"answer is the best of those that were trained in full; what was left behind may be better."
        )
    text = (
        "Spearman's rank correlation ρ between the scores at two neighbouring rungs, of the configurations that both have, "
        "with its 95 % bootstrap interval. Survivors of a selection are alike, so their correlation is smaller than it "
        "would be among all, and is not to be compared with an audit's."
    )
    if everyone:
        text = "Spearman's rank correlation between the scores at two neighbouring rungs, over all configurations."
    header = ("rungs", "both have", "ρ", "95 % interval", "of whom")
    return Section(heading, [Note(text), Table(header, [pair.row for pair in pairs], words=(4,))]), warnings


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """How two neighbouring rungs agree on the configurations that both have."""

    rung: int
    num_both: int
    everyone: bool
    """Whether nobody was selected: then an interval is the audit's business."""
    value: float | None
    """None where fewer than five have both."""
    low: float = math.nan
    high: float = math.nan
    whose: str = "fewer than five configurations"

    @classmethod
    def of(cls, history: History, rung: int, *, everyone: bool) -> _Pair:
        """Compare a rung with the next one."""
        lower, upper = (losses_at(history, at) for at in (rung, rung + 1))
        both = ~np.isnan(lower) & ~np.isnan(upper)
        pair = cls(rung=rung, num_both=int(both.sum()), everyone=everyone, value=None)
        try:
            if everyone:
                return replace(pair, value=rank_correlation(lower[both], upper[both]), whose="among all")
            survivors = survivor_agreement(lower, upper)
        except AuditError:
            return pair
        return replace(pair, value=survivors.value, low=survivors.low, high=survivors.high, whose=survivors.label)

    @property
    def row(self) -> tuple[str, ...]:
        """What a table says of it."""
        value = "not told" if self.value is None else f"{self.value:.2f}"
        return f"{self.rung} and {self.rung + 1}", f"{self.num_both}", value, self._interval, self.whose

    @property
    def disagrees(self) -> bool:
        """Whether the order is another one."""
        if self.value is None:
            return False
        # Of a few survivors any order may be chance: then it is in doubt, and not known to be another one.
        return self.value < _POOR if self.everyone else self.high < UNMEASURED

    @property
    def is_doubtful(self) -> bool:
        """Whether the order that a selection rested on may be chance."""
        if self.everyone or self.disagrees or not self.num_both:
            return False
        return self.value is None or self.low <= 0

    @property
    def warning(self) -> str:
        """What is said if it disagrees."""
        return (
            f"Rungs {self.rung} and {self.rung + 1} order the {self.num_both} configurations that both have quite "
            f"differently (rank correlation {self.value:.2f}, {self.whose}): what rung {self.rung} promoted may not have "
            f"been the best. Try a ladder that starts higher, or measure one with `frostline audit`."
        )

    @property
    def doubt(self) -> str:
        """What is said if it is doubtful."""
        shared = f"rungs {self.rung} and {self.rung + 1} share {counted(self.num_both, 'configuration')}"
        return (
            shared
            if self.value is None
            else f"{shared}, whose orders agree at ρ = {self.value:.2f} ({self._interval})"
        )

    @property
    def _interval(self) -> str:
        return "" if math.isnan(self.low) else f"{self.low:.2f} to {self.high:.2f}"
