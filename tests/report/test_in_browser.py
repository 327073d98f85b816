"""The pages in a real browser: all is drawn, nothing is asked of a network, and it fits a phone and a sheet of paper."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from frostline.audit.audit import audit_of
from frostline.audit.recommendation import recommend
from frostline.audit.shifts import shifts
from frostline.report.audits.audit_page import audit_page
from frostline.report.searches.search_page import search_page
from tests.report.cases import NASTY, PLAIN, landscape, search_record

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NARROW, WIDE = 360, 1000

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed")


def audited(**changes: Any) -> str:
    found = landscape(**changes)
    return audit_page(
        found,
        audit_of(found, resamples=50),
        recommendation=recommend(found, configurations=9),
        shifts=shifts(found, resamples=50),
        source="A test",
    )


def nasty() -> str:
    distributions = {
        **PLAIN,
        NASTY: FloatDistribution(1e-4, 1e-1, log=True),
        "a_name_that_is_much_too_long_for_a_narrow_screen_" * 2: CategoricalDistribution(
            [NASTY, "plain", "x" * 80]
        ),
    }
    record = search_record(name=NASTY * 3, distributions=distributions, diverged=2, failed=1, direction="maximize")
    return search_page(record)


PAGES = {"nasty": nasty, "thousands": lambda: search_page(search_record(configurations=1000))}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Where tests run as root, chromium's sandbox does not.
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


def opened(browser: Browser, text: str, path: Path, *, troubles: list[str]) -> Page:
    path.write_text(text, encoding="utf-8")
    page = browser.new_page(viewport={"width": NARROW, "height": 800})
    page.on("console", lambda message: troubles.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
    page.on("dialog", lambda dialog: (troubles.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on(
        "request", lambda request: request.url == path.as_uri() or troubles.append(f"request: {request.url[:80]}")
    )
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-drawn]", state="attached")
    return page


SIZES = """() => [...document.querySelectorAll('figure')].map(figure => {
    const svg = figure.querySelector('svg.main-svg');
    const box = svg ? svg.getBoundingClientRect() : {width: 0, height: 0, right: 0};
    const marks = figure.querySelectorAll('.trace, .hm image, .point, .heatmaplayer image').length;
    return {width: box.width, height: box.height, right: box.right, marks};
})"""


# Words of cells, unless they are longer than a phone is wide, that stand on two lines.
BROKEN_WORDS = """() => [...document.querySelectorAll('td, th')].flatMap(cell => {
    const text = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT).nextNode();
    return [...(text ? text.data.matchAll(/(?<![A-Za-z_])[A-Za-z_]{1,30}(?![A-Za-z_])/g) : [])].filter(word => {
        const range = document.createRange();
        range.setStart(text, word.index);
        range.setEnd(text, word.index + word[0].length);
        return new Set([...range.getClientRects()].map(box => box.top)).size > 1;
    }).map(word => word[0]);
})"""

COLUMN = "[...document.querySelectorAll('.sortable tbody tr')].map(row => row.cells[1].dataset.value)"


def check_table(page: Page) -> None:
    heading = page.locator(".sortable th button").nth(1)
    assert heading.text_content() == "configuration"
    for direction in ("ascending", "descending"):
        heading.click()
        numbers = [int(number) for number in page.evaluate(COLUMN)]
        assert numbers == sorted(numbers, reverse=direction == "descending")
        assert page.locator(f".sortable th[aria-sort={direction}]").count() == 1
    with page.expect_download() as saved:
        page.locator(".download").click()
    assert saved.value.suggested_filename.endswith(".csv")
    with Path(saved.value.path()).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["configuration"]) for row in rows] == numbers
    assert all(float(row["learning_rate"]) > 0 for row in rows)


def check_drawn(page: Page, *, count: int) -> None:
    figures = page.evaluate(SIZES)
    assert len(figures) == count
    for figure in figures:
        assert figure["width"] > 100
        assert figure["height"] > 80
        assert figure["marks"] > 0
        assert figure["right"] <= page.viewport_size["width"]
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]


def wait_until_they_fit(page: Page) -> None:
    """Figures follow the window's size a moment later."""
    for _ in range(100):
        # The page's policy forbids evaluating strings, so playwright's own waiting for a function does not work in it.
        widths = page.evaluate(
            "() => [...document.querySelectorAll('figure')].map(one => [one.getBoundingClientRect().width, "
            "one.querySelector('svg.main-svg').getBoundingClientRect().width])"
        )
        if all(abs(whole - drawn) < 2 for whole, drawn in widths):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"figures do not follow the window: {widths}")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_drawn_on_a_phone_and_on_a_desk(name: str, browser: Browser, tmp_path: Path) -> None:
    text = PAGES[name]()
    troubles: list[str] = []
    page = opened(browser, text, tmp_path / "report.html", troubles=troubles)
    count = text.count("<figure")
    assert count >= 2
    check_drawn(page, count=count)
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW
    assert page.evaluate(BROKEN_WORDS) == []
    check_table(page)
    page.set_viewport_size({"width": WIDE, "height": 800})
    wait_until_they_fit(page)
    check_drawn(page, count=count)
    assert troubles == []
    page.close()


def test_an_audit_is_drawn_lets_choose_and_fits_a_sheet(browser: Browser, tmp_path: Path) -> None:
    # One page for all three: most of the time goes into opening it.
    text = audited(layers=(1, 2, 4), samples=tuple(range(100, 1001, 100)))
    troubles: list[str] = []
    page = opened(browser, text, tmp_path / "report.html", troubles=troubles)
    check_drawn(page, count=text.count("<figure"))
    check_choice(page)
    check_print(page)
    assert troubles == []
    page.close()


def check_choice(page: Page) -> None:
    caption = page.locator("#pairs figcaption").first
    before = caption.text_content()
    page.select_option("select", index=9)
    assert "100\u00a0%" in caption.text_content()
    assert caption.text_content() != before
    shown = page.evaluate(
        "[...document.querySelectorAll('#pairs .plot')].map(plot => plot.data.map(trace => trace.visible !== false))"
    )
    assert shown == [[False] * 9 + [True]] * 3


def check_print(page: Page) -> None:
    page.set_viewport_size({"width": WIDE, "height": 800})
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    # What A4 holds between its margins of 14 mm, at 96 pixels an inch.
    page.set_viewport_size({"width": 687, "height": 1000})
    figures = page.evaluate(SIZES)
    assert all(0 < figure["right"] <= 687 for figure in figures)
    assert all(figure["width"] > 250 for figure in figures)
    assert page.evaluate("document.documentElement.scrollWidth") <= 687
    assert page.evaluate("[...document.querySelectorAll('details')].every(one => one.open)")
    page.emulate_media(media="screen")
    page.set_viewport_size({"width": WIDE, "height": 800})
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.evaluate("[...document.querySelectorAll('details')].every(one => !one.open)")
    wait_until_they_fit(page)
    check_drawn(page, count=len(figures))
    assert page.pdf(prefer_css_page_size=True).startswith(b"%PDF")
