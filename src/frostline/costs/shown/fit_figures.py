"""The largest batch, and the largest population, against the number of trained layers, for each device's memory.

In the manner of figure 6a of Carstensen et al. 2025, arXiv:2504.10735.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from frostline.pages.drawing import layers_figure, line_style
from frostline.pages.page import page
from frostline.pages.parts import Note, figure_section
from frostline.sizes import format_size

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from frostline.costs.capacity import Fit
    from frostline.costs.shown.cost_tables import Circumstances


def fit_page(fits: Sequence[Fit], circumstances: Circumstances, *, margin: float) -> str:
    """Return an HTML page of figures with a line for each device's memory; what does not fit has no point."""
    remark = f"With {100 * margin:g} % kept free. Where there is no point, not even one fits."
    sections = []
    if any(fit.largest_batch is not None for fit in fits):
        figure = _figure(fits, "examples in a batch", lambda fit: fit.largest_batch)
        sections.append(figure_section("Largest batch of one configuration", figure, note=remark))
    figure = _figure(fits, "configurations together", lambda fit: fit.population)
    heading = f"Largest population, batch size {fits[0].batch_size}"
    sections.append(figure_section(heading, figure, note=f"{remark} All layers are trained one by one."))
    return page(f"What of {circumstances.task} fits where", [Note(f"{circumstances}")], sections)


def _figure(fits: Sequence[Fit], unit: str, number: Callable[[Fit], int | None]) -> Any:
    figure = layers_figure(unit, [fit.trainable_layers for fit in fits])
    # Decades alone are numbered: on a narrow screen more numbers would be in each other's way.
    figure.update_yaxes(type="log", rangemode="normal", dtick=1, tickformat=",")
    for position, memory in enumerate(sorted({fit.device_memory for fit in fits})):
        of_device = sorted(
            (fit for fit in fits if fit.device_memory == memory), key=lambda fit: fit.trainable_layers
        )
        figure.add_scatter(
            x=[fit.trainable_layers for fit in of_device],
            # A logarithm knows no 0: the line ends there.
            y=[number(fit) or None for fit in of_device],
            name=format_size(memory),
            **line_style(position),
        )
    return figure
