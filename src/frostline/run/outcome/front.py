"""What a search found that weighs its score against what the model costs: the configurations that no other beats in both."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from frostline.inputs.model_costs import BYTES, FLOPS, SECONDS
from frostline.records import loss_sign
from frostline.run.outcome.sentences import score_name
from frostline.search.fronts import fronts
from frostline.sizes import format_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.records import Configuration
    from frostline.search.history import History
    from frostline.store.terms import Terms

_PREFIXES = ("", "k", "M", "G", "T", "P")


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontMember:
    """A configuration that no other beats in both score and cost."""

    configuration: Configuration
    score: float
    cost: float
    """What its model costs: bytes, FLOPs of a forward pass for one example, or seconds for one sample; or as told."""


def front_at(history: History, rung: int) -> tuple[FrontMember, ...]:
    """Return the front of a rung, the best score first; () where no evaluation tells what its model costs.

    Of several that are equal in both it holds the one of the lowest number.
    """
    evaluations = {number: history.evaluation(number, rung) for number in history.rung(rung).ranking}
    points = {
        number: (loss_sign(history.direction) * evaluation.score, evaluation.model_cost)
        for number, evaluation in evaluations.items()
        if evaluation is not None and evaluation.score is not None and evaluation.model_cost is not None
    }
    first = fronts(points)[0] if points else []
    lowest = {points[number]: number for number in reversed(first)}
    found = (evaluations[number] for number in lowest.values())
    members = [
        FrontMember(configuration=history.configuration_of(each), score=each.score, cost=each.model_cost)
        for each in found
        if each is not None and each.score is not None and each.model_cost is not None
    ]
    return tuple(reversed(members))


def best_front(history: History, terms: Terms) -> tuple[FrontMember, ...]:
    """Return the front of the highest rung that has a score; () where the score alone counts, or there is none."""
    if terms.against is None:
        return ()
    return next((found for rung in reversed(range(history.num_rungs)) if (found := front_at(history, rung))), ())


def front_rows(front: Sequence[FrontMember], terms: Terms) -> list[tuple[str, ...]]:
    """Return a header and a row for each member of a front: its number, score, cost and hyperparameters."""
    assert terms.against is not None
    names = [*front[0].configuration] if front else []
    rows = [("configuration", score_name(terms.metric), terms.against, *names)]
    for member in front:
        values = (member.configuration.get(name) for name in names)
        rows.append(
            (
                f"{member.configuration.number}",
                f"{member.score:.5g}",
                cost_words(member.cost, terms.against),
                *(f"{value:.5g}" if isinstance(value, float) else f"{value}" for value in values),
            )
        )
    return rows


def front_words(front: Sequence[FrontMember], terms: Terms) -> str:
    """Return what a front is, above its table."""
    assert terms.against is not None
    which = "one configuration" if len(front) == 1 else f"{len(front)} configurations"
    # Of an objective only bytes are counted here.
    is_told = terms.training is None and terms.against != BYTES
    cost = f"{terms.against} of the model, as the objective told" if is_told else _PER[terms.against]
    return f"front: {which} that no other beats in both {score_name(terms.metric)} and {cost}"


def cost_words(cost: float, against: str) -> str:
    """Return what a model costs with its unit, such as "1.5 MiB", "2.1 MFLOPs" and "130 µs"."""
    if against == BYTES:
        return format_size(round(cost))
    if against == FLOPS:
        power = min(int(math.log10(cost) // 3), len(_PREFIXES) - 1) if cost >= 1 else 0
        return f"{cost / 1000**power:.3g} {_PREFIXES[power]}FLOPs"
    for unit, factor in (("s", 1.0), ("ms", 1e3)):
        if cost * factor >= 1:
            return f"{cost * factor:.3g} {unit}"
    return f"{cost * 1e6:.3g} µs"


_PER = {
    BYTES: "bytes of the model",
    FLOPS: "FLOPs of a forward pass for one example",
    SECONDS: "seconds for one sample, measured on the machine that searched",
}
