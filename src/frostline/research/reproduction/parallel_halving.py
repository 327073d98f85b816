"""Successive halving that fills the memory of one full training with cheap ones: figure 6b, which the paper only draws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from frostline.costs.capacity import Capacity
from frostline.pages.drawing import line_style, new_figure
from frostline.pages.parts import figure_section
from frostline.research.reproduction.reproduced import Finding, Reproduced, held
from frostline.research.reproduction.scales import Scale
from frostline.run.outcome.result import TuneResult
from frostline.run.tuning import search_task
from frostline.search.algorithms.halving import SuccessiveHalving
from frostline.search.ladder import Ladder
from frostline.sizes import format_size
from frostline.training.supervised.task_layers import layers_of

if TYPE_CHECKING:
    from frostline.protocols import Task
    from frostline.research.reproduction.reproduced import Cell
    from frostline.research.reproduction.workbench import Workbench


@dataclass(frozen=True, slots=True, kw_only=True)
class HalvingPlan:
    """The climbs that are compared: one in so many configurations is promoted, over rungs on the diagonal."""

    model: str
    configurations: int
    reduction_factor: int = 4
    num_rungs: int = 3
    full_samples: int | None = None
    """None: the task's own."""


PLANS: Mapping[Scale, HalvingPlan] = {
    Scale.TINY: HalvingPlan(model="resnet", configurations=16),
    Scale.SMALL: HalvingPlan(model="gpt", configurations=32),
    Scale.PAPER: HalvingPlan(model="gpt", configurations=64),
}

WAYS = {
    "samples alone, one by one": ("samples-only", "serial"),
    "layers and samples, one by one": ("diagonal", "serial"),
    "layers and samples, together": ("diagonal", "auto"),
}
"""The ladder and engine of each climb: classical halving, what freezing saves, and what filling the memory saves besides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rung:
    way: str
    rung: int
    layers: int
    samples: int
    configurations: int
    fits: int
    """How many would fit into the memory together, by prediction."""
    together: int
    """The most that were trained together."""
    seconds: float


def figure_6b(bench: Workbench) -> Reproduced:
    """Climb three ladders within the memory of one full training; measure how many configurations go side by side."""
    plan = PLANS[bench.scale]
    task = _task_of(bench, plan)
    capacity = Capacity(task)
    num_layers = layers_of(task).num_layers
    memory = capacity.required(num_layers)
    rungs: list[_Rung] = []
    best = {}
    for way in WAYS:
        bench.say(f"{way}: {plan.configurations} configurations in {format_size(memory)}")
        result = _climbed(bench, plan, task, way=way, memory=memory)
        best[way] = result.score
        rungs += _rungs(way, result, capacity, memory)
    seconds = {way: sum(rung.seconds for rung in rungs if rung.way == way) for way in WAYS}
    rows: list[tuple[Cell, ...]] = [
        (
            rung.way, rung.rung, rung.layers, rung.samples, rung.configurations, rung.fits, rung.together, rung.seconds,
            best[rung.way],
        )
        for rung in rungs
    ]  # fmt: skip
    figure = new_figure(x="rung", y="seconds per configuration")
    for position, way in enumerate(WAYS):
        own = [rung for rung in rungs if rung.way == way]
        each = [rung.seconds / max(1, rung.configurations) for rung in own]
        figure.add_scatter(x=[rung.rung for rung in own], y=each, name=way, **line_style(position))
    figure.update_xaxes(dtick=1)
    figure.update_yaxes(rangemode="tozero")
    return Reproduced(
        name="fig6b",
        title="Figure 6b: successive halving that fills the memory of one full training",
        scale=bench.scale,
        circumstances=(
            f"{task.name}, {plan.configurations} configurations, {task.full_samples:,} {task.sample_unit}, "
            f"{bench.torch_device}, {format_size(memory)}: what full training needs, with its margin"
        ),
        findings=_findings(rungs, seconds, best),
        columns=(
            "way", "rung", "layers", "samples", "configurations", "fit_together", "trained_together", "seconds",
            "best_score",
        ),
        rows=rows,
        drawings=[figure_section("Seconds of one configuration, by rung", figure)],
        notes=("One seed: the scores that the climbs end with say little. Seconds include validation.",),
    )  # fmt: skip


def ladders(task: Task, plan: HalvingPlan) -> dict[str, Ladder]:
    """Return the ladders of the climbs by name: they see the same samples at every rung."""
    num_layers = layers_of(task).num_layers
    make = {"samples-only": Ladder.samples_only, "diagonal": Ladder.diagonal}
    return {
        name: build(num_layers=num_layers, full_samples=task.full_samples, num_rungs=plan.num_rungs)
        for name, build in make.items()
    }


def _task_of(bench: Workbench, plan: HalvingPlan) -> Task:
    task = bench.recipe(plan.model).task()
    return task if plan.full_samples is None else replace(task, full_samples=plan.full_samples)  # type: ignore[type-var]


def _climbed(bench: Workbench, plan: HalvingPlan, task: Task, *, way: str, memory: int) -> TuneResult:
    ladder, engine = WAYS[way]
    bench.out.mkdir(parents=True, exist_ok=True)
    search = SuccessiveHalving(
        ladder=ladders(task, plan)[ladder],
        configurations=plan.configurations,
        reduction_factor=plan.reduction_factor,
    )
    return search_task(
        task,
        search,
        study=f"{bench.scale} fig6b, {way}",
        training=bench.training_of(bench.recipe(plan.model), num_validations=1, engine=engine, memory=f"{memory}"),
        storage=bench.storage,
    )


def _rungs(way: str, result: TuneResult, capacity: Capacity, memory: int) -> list[_Rung]:
    rungs = []
    for summary in result.summary.rungs:
        costs = [evaluation.cost for evaluation in result.history.evaluations() if evaluation.rung == summary.rung]
        layers = summary.fidelity.trainable_layers
        rungs.append(
            _Rung(
                way=way,
                rung=summary.rung,
                layers=layers,
                samples=summary.fidelity.samples,
                configurations=len(costs),
                fits=capacity.population(layers, memory),
                together=max((cost.population for cost in costs), default=0),
                seconds=sum(cost.seconds for cost in costs),
            )
        )
    return rungs


def _findings(rungs: list[_Rung], seconds: Mapping[str, float], best: Mapping[str, float]) -> list[Finding]:
    classical, apart, together = WAYS
    lowest = {rung.way: rung for rung in rungs if rung.rung == 0}
    packed = ", ".join(
        f"{rung.together} of {rung.configurations} together with {rung.layers} layers ({rung.fits} would fit)"
        for rung in rungs
        if rung.way == together
    )
    gain = lowest[classical].seconds / lowest[together].seconds
    return [
        Finding(
            "configurations side by side at each rung",
            "16, 4, 1 drawn",
            packed,
            held(lowest[together].together > 1),
        ),
        Finding(
            "lowest rung: configurations in the time that classical halving takes for one",
            "4 drawn",
            f"{gain:.2f}; freezing alone {lowest[classical].seconds / lowest[apart].seconds:.2f}",
            held(gain > 1),
        ),
        Finding(
            "the whole climb, seconds",
            "as long, with 4 times the configurations",
            ", ".join(f"{way}: {seconds[way]:.1f}" for way in WAYS),
        ),
        Finding("best score at its end", "not shown", ", ".join(f"{way}: {best[way]:.4f}" for way in WAYS)),
    ]
