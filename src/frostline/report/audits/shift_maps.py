"""Where few layers want other values than full training, and whether a ladder should be aligned by that."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from frostline.pages.drawing import BLACK, BLUE, GREY, VERMILLION, error_bars, new_figure, safe
from frostline.pages.parts import Bullets, Figure, Folded, Note, Section, Table
from frostline.report.audits.shares import share

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from frostline.audit.landscape import Landscape
    from frostline.audit.shifts import CellShift


def shifts_section(landscape: Landscape, shifts: Sequence[CellShift], sentences: Sequence[str]) -> Section:
    """Return the shifts of some cells as a figure and a table, and ``sentences`` about those that are sure."""
    heading = "Would few layers rank better at other values?"
    if not shifts:
        return Section(heading, [Note("Not told: no hyperparameter has a logarithmic range.")])
    text = (
        "For each number of layers: by how many decades a hyperparameter would have to be moved, for all configurations "
        "alike, so that the scores order them as full training does; 1 is ten times. By a Gaussian process over the scores, "
        "with 95 % bootstrap intervals over configurations; one of no width around 0 may belong to a hyperparameter that "
        "does not matter there. What begins with head. is the last layer's alone, against the others. A shift is taken "
        "where its interval leaves out 0 and it helps configurations that were not used to find it: "
        "`frostline tune --align audit:STUDY` trains at those values."
    )
    rows = [
        (
            f"{cell.fidelity.trainable_layers}",
            share(landscape, landscape.samples.index(cell.fidelity.samples)),
            name,
            f"{float(shift.value):+.2f} ({float(shift.low):+.2f} to {float(shift.high):+.2f})",
            f"{cell.factors[name]:.2g} times" if name in cell.taken else "as it is",
            f"{cell.unaligned:.2f}",
            f"{cell.aligned:.2f}" if cell.taken else "",
        )
        for cell in shifts
        for name, shift in cell.best.items()
    ]
    header = ("layers", landscape.sample_unit, "hyperparameter", "shift", "taken", "ρ as it is", "ρ shifted")
    label = "Points: the shift at which few layers rank as full training does, with intervals; the table has the numbers."
    verdict = list(sentences) or ["No shift is sure: all cells are best used as they are."]
    return Section(
        heading,
        [
            Bullets(verdict),
            Note(text),
            Figure(_figure(landscape, shifts), label),
            Folded("All shifts", Table(header, rows, words=(2, 4))),
        ],
    )


def _figure(landscape: Landscape, shifts: Sequence[CellShift]) -> Any:
    """Draw the shifts at the largest budget against the layers, one colour and mark for each hyperparameter."""
    figure = new_figure(x="trained layers", y="shift in decades")
    # With all layers nothing is shifted at the largest budget, which is full fidelity.
    frozen = [cell for cell in shifts if cell.fidelity.trainable_layers < landscape.layers[-1]]
    most = max(cell.fidelity.samples for cell in frozen or shifts)
    cells = [cell for cell in shifts if cell.fidelity.samples == most]
    styles = ((BLUE, "circle"), (VERMILLION, "diamond"), (BLACK, "square"), (GREY, "triangle-up"))
    for position, name in enumerate(dict.fromkeys(name for cell in cells for name in cell.best)):
        colour, symbol = styles[position % len(styles)]
        # The head alone may have been trained otherwise at some numbers of layers only.
        with_name = [cell for cell in cells if name in cell.best]
        low, value, high = (
            np.array([float(getattr(cell.best[name], end)) for cell in with_name])
            for end in ("low", "value", "high")
        )
        figure.add_scatter(
            # Beside each other, not on each other.
            x=[cell.fidelity.trainable_layers + 0.12 * position for cell in with_name],
            y=value.tolist(),
            error_y=error_bars(low, value, high),
            mode="markers",
            name=safe(name),
            marker={"color": colour, "symbol": symbol, "size": 9},
        )
    figure.update_xaxes(tickvals=list(landscape.layers), showgrid=False)
    figure.update_yaxes(zeroline=True, zerolinecolor="#666")
    return figure
