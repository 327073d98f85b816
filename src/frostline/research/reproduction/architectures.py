"""How many parameters are trained at each fidelity, of several architectures: figure 2, right."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

from frostline.errors import TaskError
from frostline.pages.drawing import line_style, new_figure
from frostline.pages.parts import figure_section
from frostline.research.reproduction.reproduced import Finding, Reproduced
from frostline.tasks.loading import load_task
from frostline.training.supervised.task_layers import layers_of

if TYPE_CHECKING:
    from frostline.research.reproduction.reproduced import Cell
    from frostline.research.reproduction.workbench import Workbench

ARCHITECTURES = (
    *((model, "random-tokens", {"model": model}) for model in ("14M", "600M", "Pythia-1.4B", "Pythia-6.9B")),
    *((model, "random-images", {"model": model}) for model in ("resnet-18", "resnet-50", "resnet-152", "vit-b")),
)
"""Names, tasks and their options: models that are looked at as shapes alone, at every scale."""


def figure_2_right(bench: Workbench) -> Reproduced:
    """The share of parameters that is trained against the share of layers."""
    rows: list[tuple[Cell, ...]] = []
    notes, findings = [], []
    figure = new_figure(x="% of layers trained", y="% of parameters trained")
    for position, (name, reference, options) in enumerate(ARCHITECTURES):
        try:
            stack = layers_of(load_task(reference, options))
        except TaskError as error:
            notes.append(f"{name} is left out: {error}")
            continue
        bench.say(name)
        trained = list(accumulate(layer.num_parameters for layer in reversed(stack.layers)))
        shares = [number / stack.num_parameters for number in trained]
        rows += [
            (name, z, stack.num_layers, number, share)
            for z, (number, share) in enumerate(zip(trained, shares, strict=True), start=1)
        ]
        figure.add_scatter(
            x=[100 * z / stack.num_layers for z in range(1, stack.num_layers + 1)],
            y=[100 * share for share in shares],
            name=name,
            **line_style(position),
        )
        half = shares[stack.num_layers // 2 - 1]
        findings.append(
            Finding(
                f"{name}: {stack.num_parameters / 1e6:,.1f} million parameters, {stack.num_layers} layers",
                "unevenly over the layers",
                f"one layer trains {shares[0]:.0%}, two {shares[1]:.0%}, half of the layers {half:.0%}",
            )
        )
    return Reproduced(
        name="fig2-right",
        title="Figure 2, right: trained parameters at each fidelity",
        scale=bench.scale,
        circumstances="counted, at every scale alike",
        findings=findings,
        columns=("architecture", "layers", "num_layers", "trained_parameters", "share"),
        rows=rows,
        drawings=[figure_section("Share of parameters that is trained", figure)],
        notes=notes,
    )
