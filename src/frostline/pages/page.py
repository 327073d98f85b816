"""The page itself, written by templates: one file that holds its own style and script, and asks nothing of a network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from frostline.pages.parts import Figure, Multiples, SortableTable

if TYPE_CHECKING:
    from types import UnionType

    from frostline.pages.parts import Part, Section

CLOSING = "Made by frostline; this page needs no network."


def page(title: str, opening: Iterable[Part], sections: Sequence[Section], *, closing: str = CLOSING) -> str:
    """Return the whole HTML page; ``opening`` stands before the first section, ``closing`` at its end.

    Every text is escaped, whatever it holds.
    """
    # Slow to import, and wanted by few commands.
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("frostline.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("page.html").render(
        title=title,
        opening=opening,
        sections=sections,
        closing=closing,
        plotly_script=_plotly_script() if _holds(sections, Figure | Multiples) else "",
        has_tables=_holds(sections, SortableTable),
    )


def _holds(sections: Iterable[Section], kind: type | UnionType) -> bool:
    return any(isinstance(part, kind) for section in sections for part in section.parts)


def _plotly_script() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())
