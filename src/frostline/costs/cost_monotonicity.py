"""Whether training more layers costs more: the first of the two conditions on a fidelity.

Source: Carstensen et al. 2025, arXiv:2504.10735: z1 < z2 implies cost(f(λ, z1)) < cost(f(λ, z2)).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from frostline.sizes import format_size

if TYPE_CHECKING:
    from frostline.costs.step_cost import StepCost


@dataclass(frozen=True, slots=True)
class _Quantity:
    name: str
    of: Callable[[StepCost], int]
    shown: Callable[[int], str]


_QUANTITIES = (
    _Quantity("FLOPs", lambda cost: cost.flops, lambda flops: f"{flops:,}"),
    _Quantity("Peak bytes", lambda cost: cost.memory.peak, format_size),
    _Quantity("Trained parameters", lambda cost: cost.trainable_parameters, lambda number: f"{number:,}"),
)


def cost_violations(costs: Iterable[StepCost]) -> tuple[str, ...]:
    """Return a sentence for every cost that falls from one number of layers to the next, and where none rises.

    Costs are FLOPs, the peak of memory and trained parameters. One that stays is no violation while another rises: training
    an embedding takes memory and no FLOPs. Seconds, where measured, must not fall by more than the larger of the two
    spreads. Batch sizes, and measured and predicted costs, are not compared with each other.
    """
    return tuple(sentence for lower, higher in _neighbours(costs) for sentence in _between(lower, higher))


def rise_words(costs: Iterable[StepCost]) -> str:
    """Return how far costs rise of which ``cost_violations`` says nothing."""
    pairs = [*_neighbours(costs)]
    if not pairs:
        return "Nothing was compared: that takes two numbers of trained layers."
    stay = [each.name for each in _QUANTITIES if any(each.of(lower) == each.of(higher) for lower, higher in pairs)]
    if not stay:
        return "Every cost rises with the number of trained layers."
    return (
        f"No cost falls with the number of trained layers, and one rises each time; not always: {', '.join(stay)}."
    )


def _neighbours(costs: Iterable[StepCost]) -> Iterator[tuple[StepCost, StepCost]]:
    """Yield the costs of two neighbouring numbers of layers that can be compared with each other, the lower one first."""
    groups: dict[tuple[int, bool], list[StepCost]] = {}
    for cost in costs:
        groups.setdefault((cost.batch_size, cost.seconds is None), []).append(cost)
    for group in groups.values():
        yield from pairwise(sorted(group, key=lambda cost: cost.trainable_layers))


def _between(lower: StepCost, higher: StepCost) -> list[str]:
    layers, batch = (lower.trainable_layers, higher.trainable_layers), f"batch size {lower.batch_size}"
    sentences = []
    for quantity in _QUANTITIES:
        before, after = quantity.of(lower), quantity.of(higher)
        if before > after:
            sentences.append(
                f"{quantity.name} fall from {layers[0]} to {layers[1]} trained layers, {batch}: by "
                f"{quantity.shown(before - after)} from {quantity.shown(before)}."
            )
    if all(quantity.of(lower) == quantity.of(higher) for quantity in _QUANTITIES):
        sentences.append(
            f"{layers[1]} trained layers cost what {layers[0]} cost, {batch}: one of the two is enough."
        )
    if lower.seconds is not None and higher.seconds is not None:
        slower, faster = lower.seconds.whole, higher.seconds.whole
        if slower.median - faster.median > max(slower.spread, faster.spread):
            sentences.append(
                f"Seconds fall from {layers[0]} to {layers[1]} trained layers, {batch}: from {1e3 * slower.median:.3g} to "
                f"{1e3 * faster.median:.3g} ms, beyond their spread."
            )
    return sentences
