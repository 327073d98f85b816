"""A page of every kind of part: all of it is escaped, wherever it stands, and nothing else is needed."""

from __future__ import annotations

import json
from collections.abc import Callable
from html.parser import HTMLParser
from importlib.resources import files
from typing import get_args

import pytest

from frostline.pages.drawing import new_figure
from frostline.pages.page import page
from frostline.pages.parts import (
    Answer,
    Bullets,
    Cell,
    Chooser,
    Command,
    Figure,
    Folded,
    Key,
    Mark,
    Multiples,
    Note,
    Paragraph,
    Part,
    Section,
    SortableTable,
    Table,
    Warnings,
    figure_section,
)

NASTY = """</script><b onclick='x'>"&amp;' {{ 7 * 7 }}"""


def drawn(name: str = "line") -> Figure:
    figure = new_figure()
    figure.add_scatter(x=[1], y=[2], name=name)
    return Figure(figure, name, caption=name, captions=[name, "other"])


PARTS: tuple[Part, ...] = (
    Paragraph(NASTY),
    Note(NASTY),
    Bullets([NASTY]),
    Command(NASTY),
    Table([NASTY], [[NASTY]], words=[0], chosen=[0]),
    SortableTable([NASTY], [[Cell(NASTY, NASTY)]], NASTY, words=[0], chosen=[0]),
    Folded(NASTY, Table([NASTY], [[NASTY]]), is_long=True),
    drawn(NASTY),
    Multiples([drawn(NASTY)], is_small=True, name=NASTY),
    Chooser(text=NASTY, choices=[NASTY], chosen=0, name=NASTY),
    Key([Mark(NASTY, NASTY, NASTY)]),
    Answer(NASTY, [Paragraph(NASTY), Table([NASTY], [[NASTY]]), Command(NASTY)]),
    Warnings([NASTY]),
)


@pytest.mark.parametrize("part", [Paragraph, Note, lambda text: Bullets([text]), lambda text: Warnings([text])])
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("run `frostline <tune>` or `x`.", "run <code>frostline &lt;tune&gt;</code> or <code>x</code>."),
        ("a ` too many: `x`", "a ` too many: `x`"),
        ("``", "<code></code>"),
    ],
)
def test_what_stands_between_backticks_is_code(part: Callable[[str], Part], text: str, shown: str) -> None:
    assert f">{shown}<" in page("", [part(text)], [])


class Reader(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def values(self, attribute: str) -> list[str | None]:
        return [attributes[attribute] for _, attributes in self.tags if attribute in attributes]


def test_every_kind_of_part_is_here() -> None:
    assert {type(part) for part in PARTS} == set(get_args(Part))


@pytest.mark.parametrize("part", PARTS, ids=lambda part: type(part).__name__)
def test_no_text_leaves_its_place(part: Part) -> None:
    reader = Reader(page("title", [], [Section("heading", [part])]))
    assert not any(tag == "b" and "onclick" in attributes for tag, attributes in reader.tags)
    assert not any("onclick" in attributes for _, attributes in reader.tags)
    told = [text.strip() for text in reader.texts]
    assert NASTY in told
    for attribute in ("aria-label", "id", "data-for", "data-value", "data-file"):
        assert {*reader.values(attribute)} <= {NASTY}
    for captions in reader.values("data-captions"):
        assert json.loads(captions or "") == [NASTY, "other"]


def test_titles_headings_and_closings_are_text_too() -> None:
    reader = Reader(page(NASTY, [], [Section(NASTY, [])], closing=NASTY))
    assert [text for text in reader.texts if text.strip()].count(NASTY) == 4


def test_plotly_is_there_once_and_only_where_there_is_a_figure() -> None:
    without = page("title", [Note("text")], [Section("heading", [Note("text")])])
    assert "<script" not in without
    assert len(without) < 10_000
    text = page("title", [], [figure_section("one", drawn().plotly), Section("two", [Multiples([drawn()])])])
    assert text.count("plotly.js v") == 1
    assert text.count('<script type="application/json">') == 2


def test_no_warning_is_said_to_be_none() -> None:
    assert "No warning: nothing was found" in page("title", [Warnings([])], [])
    assert "No warning" not in page("title", [Warnings(["a warning"])], [])


def test_templates_are_resources_of_the_package() -> None:
    templates = files("frostline.pages") / "templates"
    assert {entry.name for entry in templates.iterdir()} == {
        "page.html",
        "parts.html",
        "page.css",
        "page.js",
        "tables.js",
    }
