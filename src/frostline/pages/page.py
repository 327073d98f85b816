"""The page itself: headings, tables, figures and one copy of plotly's script, in one file that asks nothing of a network.

Whatever is given as text is escaped here; what is called HTML is put down as it is.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

# Nothing may be fetched or sent, whatever a study's names hold: the browser itself sees to it.
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:"

# A figure's data stand in such a script.
_DATA = '<script type="application/json">'

_WORDS, _CHOSEN = ' class="words"', ' class="chosen"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A heading, as text, and what stands below it, as HTML."""

    heading: str
    parts: tuple[str, ...]


def page(title: str, opening: Iterable[str], sections: Iterable[Section], *, closing: str) -> str:
    """Return the whole HTML page; ``opening`` is HTML before the first section, ``closing`` text at its end."""
    title = html.escape(title)
    parts = [
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title>',
        f"<style>{_resource('page.css')}</style></head><body><main><h1>{title}</h1>",
        *opening,
    ]
    for section in sections:
        parts += [f"<section><h2>{html.escape(section.heading)}</h2>", *section.parts, "</section>"]
    parts.append(f"</main><footer>{html.escape(closing)}</footer>")
    if any(_DATA in part for part in parts):
        from plotly.offline import get_plotlyjs

        parts.append(f"<script>{get_plotlyjs()}</script><script>{_resource('page.js')}</script>")
    return "\n".join([*parts, "</body></html>\n"])


def figures_page(
    title: str,
    remark: str,
    drawings: Iterable[tuple[str, str, Any]],
    *,
    opening: Iterable[str] = (),
    sections: Iterable[Section] = (),
) -> str:
    """Return a page of plotly figures: ``drawings`` are each a heading, a note and a figure.

    ``remark`` stands below the title, then ``opening``, HTML; ``sections`` come last.
    """
    of_figures = (
        Section(heading=heading, parts=(*([note(text)] if text else []), drawn(figure, heading)))
        for heading, text, figure in drawings
    )
    closing = "Made by frostline; this page needs no network."
    return page(title, [note(remark), *opening], [*of_figures, *sections], closing=closing)


def paragraph(text: str, *, kind: str = "") -> str:
    """Return a paragraph of text as HTML."""
    return f'<p class="{kind}">{html.escape(text)}</p>' if kind else f"<p>{html.escape(text)}</p>"


def note(text: str) -> str:
    """Return a paragraph that says how to read what stands beside it, as HTML."""
    return paragraph(text, kind="note")


def bullets(sentences: Iterable[str]) -> str:
    """Return a list of sentences as HTML."""
    return f"<ul>{''.join(f'<li>{html.escape(sentence)}</li>' for sentence in sentences)}</ul>"


def answer(headline: str, parts: Iterable[str]) -> str:
    """Return the box that says first what the page is about: a headline, as text, and HTML below it."""
    return f'<div class="answer">{paragraph(headline, kind="headline")}{"".join(parts)}</div>'


def warnings_box(sentences: Sequence[str]) -> str:
    """Return the warnings as HTML, or that there is none."""
    if not sentences:
        return note("No warning: nothing was found that speaks against reading these figures as they are.")
    return f'<div class="warnings"><h2>Warnings</h2>{bullets(sentences)}</div>'


def command(text: str) -> str:
    """Return a command of the shell as HTML."""
    return f"<pre>{html.escape(text)}</pre>"


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    words: Sequence[int] = (),
    chosen: Sequence[int] = (),
) -> str:
    """Return a table as HTML; columns in ``words`` are text rather than numbers, rows in ``chosen`` stand out."""

    def cells(kind: str, values: Sequence[str]) -> str:
        return "".join(
            f"<{kind}{_WORDS if column in words else ''}>{html.escape(value)}</{kind}>"
            for column, value in enumerate(values)
        )

    body = "".join(
        f"<tr{_CHOSEN if index in chosen else ''}>{cells('td', row)}</tr>" for index, row in enumerate(rows)
    )
    return f'<div class="table"><table><thead><tr>{cells("th", header)}</tr></thead><tbody>{body}</tbody></table></div>'


def folded(summary: str, content: str, *, is_long: bool = False) -> str:
    """Return HTML that is shown when its summary is clicked, and in print unless it ``is_long``."""
    kind = ' class="long"' if is_long else ""
    return f"<details{kind}><summary>{html.escape(summary)}</summary>{content}</details>"


def drawn(figure: Any, label: str, *, caption: str = "", captions: Sequence[str] = ()) -> str:
    """Return a plotly figure as HTML. ``label`` says in words what it shows, ``caption`` stands above it.

    ``captions`` are those that take its place when a choice of ``chooser`` is made.
    """
    title = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    choices = f' data-captions="{html.escape(json.dumps(list(captions)))}"' if captions else ""
    # plotly writes <, > and / of strings as \u escapes, so that no name can end the script.
    return (
        f'<figure{choices}>{title}<div class="plot" role="img" aria-label="{html.escape(label)}"></div>'
        f"{_DATA}{figure.to_json()}</script></figure>"
    )


def multiples(figures: Iterable[str], *, small: bool = False, name: str = "") -> str:
    """Return figures, HTML each, side by side as many as fit; ``name`` is what a ``chooser`` calls them."""
    identity = f' id="{html.escape(name)}"' if name else ""
    return f'<div class="multiples{" small" if small else ""}"{identity}>{"".join(figures)}</div>'


def chooser(text: str, choices: Sequence[str], *, chosen: int, name: str) -> str:
    """Return, as HTML, a choice of which traces the ``multiples`` called ``name`` show."""
    options = "".join(
        f'<option value="{index}"{" selected" if index == chosen else ""}>{html.escape(choice)}</option>'
        for index, choice in enumerate(choices)
    )
    select = f'<select data-for="{html.escape(name)}">{options}</select>'
    return f'<p class="choice"><label>{html.escape(text)} {select}</label></p>'


def key(entries: Iterable[tuple[str, str, str]]) -> str:
    """Return the key to marks in figures as HTML: each a symbol, its colour, and what it means."""
    shown = (
        f'<span><b style="color:{html.escape(colour)}">{html.escape(symbol)}</b> {html.escape(meaning)}</span>'
        for symbol, colour, meaning in entries
    )
    return f'<p class="key">{"".join(shown)}</p>'


def _resource(name: str) -> str:
    return files("frostline.pages").joinpath(name).read_text(encoding="utf-8")
