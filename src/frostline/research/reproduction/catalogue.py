"""All that can be made again: figures 2 to 12, table 3, and comparisons the paper does not make."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from frostline.audit.auditor import predicted_costs
from frostline.costs.predicted.prediction import predict_step
from frostline.errors import OptionError, PredictionError
from frostline.research.reproduction import parallel_halving
from frostline.research.reproduction.architectures import ARCHITECTURES, figure_2_right
from frostline.research.reproduction.choices import DTYPE, FIGURE_12, HORIZON, STATISTICS, TIED, horizon_choice
from frostline.research.reproduction.curves import figure_7, figure_8
from frostline.research.reproduction.joint import figure_5, figure_10, table_3
from frostline.research.reproduction.layers_alone import BOTH, figure_3, figure_4, figure_11
from frostline.research.reproduction.steps import FIGURE_2, FIGURE_9, figure_2_left, figure_9
from frostline.research.reproduction.weak_devices import MEMORIES, MODEL, figure_6a, numbers_of_layers
from frostline.research.reproduction.workbench import plan_of
from frostline.sizes import format_size

if TYPE_CHECKING:
    from frostline.research.reproduction.choices import Choice
    from frostline.research.reproduction.reproduced import Reproduced
    from frostline.research.reproduction.workbench import Workbench


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure or table: what makes it, the landscapes that it reads, and what else it needs, in words."""

    name: str
    title: str
    run: Callable[[Workbench], Reproduced]
    models: tuple[str, ...] = ()
    others: Callable[[Workbench], Sequence[str]] = lambda _: ()

    def plan(self, bench: Workbench) -> list[str]:
        """Return, line by line, what would be trained and measured, and what that is predicted to cost; nothing runs.

        Raises: OptionError and TaskError as the tasks do.
        """
        lines = [line for model in self.models for line in _landscape_plan(bench, model)]
        return [*lines, *self.others(bench)]


def figure_named(name: str) -> Figure:
    """Return the figure called ``name``.

    Raises: OptionError if there is none.
    """
    for figure in FIGURES:
        if figure.name == name:
            return figure
    raise OptionError(
        f"there is no figure {name!r}: choose one of {', '.join(figure.name for figure in FIGURES)}."
    )


def _landscape_plan(bench: Workbench, model: str) -> list[str]:
    if model in bench.tables:
        return [f"{model}: read from {bench.tables[model]}"]
    recipe = bench.recipe(model)
    task = recipe.planned_task()
    plan = plan_of(recipe, task)
    rates = {z: cost.flops_per_sample for z, cost in predicted_costs(task, plan.layers).items()}
    full = plan.samples[-1]
    lines = [
        f"{model}: {recipe.words}",
        f"  {plan.configurations} configurations"
        f"{'' if recipe.grid is None else ', the whole grid'}, layers {plan.layers[0]} to {plan.layers[-1]}, "
        f"{full:,} {task.sample_unit} each, validated {plan.num_validations} times: {plan.trainings():,} trainings",
    ]
    if rates:
        whole = plan.configurations * full * sum(rates.values())
        lines.append(
            f"  {whole:.3g} FLOPs one by one, {whole / (rates[plan.layers[-1]] * full):.1f} full trainings of "
            f"{rates[plan.layers[-1]] * full:.3g} each, by prediction; less where frozen layers are shared"
        )
    try:
        peaks = [predict_step(task, trainable_layers=z).memory.peak for z in (1, plan.layers[-1])]
        lines.append(
            f"  memory of a step, by prediction: {format_size(peaks[0])} with one layer, {format_size(peaks[1])} with all"
        )
    except PredictionError as error:
        lines.append(f"  {error}")
    if recipe.missing:
        lines.append(f"  its data must be named: {recipe.missing}")
    return lines


def _halving_plan(bench: Workbench) -> list[str]:
    plan = parallel_halving.PLANS[bench.scale]
    recipe = bench.recipe(plan.model)
    task = recipe.planned_task()
    lines = [f"{recipe.words}: {plan.configurations} configurations, one in {plan.reduction_factor} promoted"]
    ladders = parallel_halving.ladders(task, plan)
    for way, (ladder, engine) in parallel_halving.WAYS.items():
        rungs = ", ".join(f"{rung.trainable_layers} layers on {rung.samples:,}" for rung in ladders[ladder].rungs)
        lines.append(f"  {way} (engine {engine}): {rungs} {task.sample_unit}")
    return lines


def _devices_plan(bench: Workbench) -> list[str]:
    count = numbers_of_layers(bench.scale)
    layers = "every number of layers" if count is None else f"{count} numbers of layers"
    return [f"{MODEL}: {layers}, on {', '.join(map(format_size, MEMORIES))}, predicted"]


def _step_times(bench: Workbench) -> list[str]:
    return [f"the steps of {' and '.join(BOTH)}, timed on {bench.torch_device}"]


def _choice(choice: Choice, run: Callable[[Workbench], Reproduced] | None = None) -> Figure:
    return Figure(name=choice.name, title=choice.summary, run=run or choice.compared, models=choice.models)


FIGURES: tuple[Figure, ...] = (
    Figure(
        name="fig2-left",
        title="memory and time of a step of Pythia 1.4B at every fidelity",
        run=figure_2_left,
        others=lambda bench: [f"{case}" for case in FIGURE_2[bench.scale]],
    ),
    Figure(
        name="fig2-right",
        title="trained parameters at every fidelity, of several architectures",
        run=figure_2_right,
        others=lambda _: [f"counted: {', '.join(name for name, _, _ in ARCHITECTURES)}"],
    ),
    Figure(
        name="fig3", title="score and time of a step against layers", run=figure_3, models=BOTH, others=_step_times
    ),
    Figure(name="fig4", title="rank correlation against the share of layers", run=figure_4, models=BOTH),
    Figure(name="fig5", title="layers and tokens together, the GPT", run=figure_5, models=("gpt",)),
    Figure(name="fig6a", title="the largest batch by fidelity and device", run=figure_6a, others=_devices_plan),
    Figure(
        name="fig6b",
        title="successive halving in the memory of one full training",
        run=parallel_halving.figure_6b,
        others=_halving_plan,
    ),
    Figure(name="fig7", title="low fidelity against full, the ResNet", run=figure_7, models=("resnet",)),
    Figure(name="fig8", title="scores over epochs by layers, the ResNet", run=figure_8, models=("resnet",)),
    Figure(
        name="fig9",
        title="memory and time of a step by batch size, several architectures",
        run=figure_9,
        others=lambda bench: [f"{case}" for case in FIGURE_9[bench.scale]],
    ),
    Figure(name="fig10", title="layers and epochs together, the ResNet", run=figure_10, models=("resnet",)),
    Figure(name="fig11", title="losses by layers, the GPT", run=figure_11, models=("gpt",)),
    _choice(FIGURE_12),
    Figure(name="table3", title="the diagonal climb against tokens alone", run=table_3, models=("gpt",)),
    _choice(TIED),
    _choice(STATISTICS),
    _choice(HORIZON, horizon_choice),
    _choice(DTYPE),
)
