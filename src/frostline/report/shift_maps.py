"""Where few layers want other values than full training, and whether a ladder should be aligned by that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.pages.drawing import BLACK, BLUE, GREY, VERMILLION, new_figure
from frostline.pages.page import Section, bullets, drawn, folded, note, table
from frostline.report.maps import share

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from frostline.audit.landscape import Landscape
    from frostline.audit.shifts import CellShift

_HEADING = "Would few layers rank better at other values?"


def shifts_section(landscape: Landscape, found: Sequence[CellShift], sentences: Sequence[str]) -> Section:
    """Return the shifts of some cells as a figure and a table, and ``sentences`` about those that are sure."""
    if not found:
        return Section(heading=_HEADING, parts=(note("Not told: no hyperparameter has a logarithmic range."),))
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
        for cell in found
        for name, shift in cell.best.items()
    ]
    header = ("layers", landscape.sample_unit, "hyperparameter", "shift", "taken", "ρ as it is", "ρ shifted")
    label = "Points: the shift at which few layers rank as full training does, with intervals; the table has the numbers."
    verdict = list(sentences) or ["No shift is sure: all cells are best used as they are."]
    figure = _figure(landscape, found)
    return Section(
        heading=_HEADING,
        parts=(
            bullets(verdict),
            note(text),
            drawn(figure, label),
            folded("All shifts", table(header, rows, words=(2, 4))),
        ),
    )


def _figure(landscape: Landscape, found: Sequence[CellShift]) -> Any:
    """Draw the shifts at the largest budget against the layers, one colour and mark for each hyperparameter."""
    figure = new_figure(x="trained layers", y="shift in decades")
    most = max(cell.fidelity.samples for cell in found if cell.fidelity.trainable_layers < landscape.layers[-1])
    cells = [cell for cell in found if cell.fidelity.samples == most]
    styles = ((BLUE, "circle"), (VERMILLION, "diamond"), (BLACK, "square"), (GREY, "triangle-up"))
    for position, name in enumerate(dict.fromkeys(name for cell in cells for name in cell.best)):
        colour, symbol = styles[position % len(styles)]
        # The head alone may have been trained otherwise at some numbers of layers only.
        with_name = [cell for cell in cells if name in cell.best]
        shifts = [cell.best[name] for cell in with_name]
        figure.add_scatter(
            # Beside each other, not on each other.
            x=[cell.fidelity.trainable_layers + 0.12 * position for cell in with_name],
            y=[float(shift.value) for shift in shifts],
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [float(shift.high - shift.value) for shift in shifts],
                "arrayminus": [float(shift.value - shift.low) for shift in shifts],
                "thickness": 1.5,
            },
            mode="markers",
            name=name,
            marker={"color": colour, "symbol": symbol, "size": 9},
        )
    figure.update_xaxes(tickvals=list(landscape.layers), showgrid=False)
    figure.update_yaxes(zeroline=True, zerolinecolor="#666")
    return figure
