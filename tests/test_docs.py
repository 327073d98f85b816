"""The documents name files, pages, commands and names that are there, and tables that were measured."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

import frostline
from frostline.cli.main import application
from tools.command_reference import command_reference
from tools.documentation import PLACE, TABLES, with_tables
from tools.result_tables import RESULTS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
GENERATED = DOCS / "reference" / "commands.md"
PAGES = sorted({*ROOT.glob("*.md"), *DOCS.rglob("*.md")} - {GENERATED})
FOLDERS = (ROOT, ROOT / "src" / "frostline", ROOT / "tests")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def navigated(entry: object) -> Iterator[str]:
    """Return the pages that an entry of the navigation leads to."""
    match entry:
        case str():
            yield entry
        case list():
            for part in entry:
                yield from navigated(part)
        case dict():
            for part in entry.values():
                yield from navigated(part)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_modules_and_pages_that_are_named_are_there(page: Path) -> None:
    text = page.read_text()
    modules = re.findall(r"`((?:\w+/)+\w+\.py)`", text)
    assert [name for name in modules if not any((folder / name).is_file() for folder in FOLDERS)] == []
    links = re.findall(r"\]\((?!http)([^)#]+)", text)
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_each_page_stands_once_in_the_navigation() -> None:
    site = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]
    pages = {str(page.relative_to(DOCS)) for page in {*DOCS.rglob("*.md"), GENERATED}}
    assert sorted(navigated(site["nav"])) == sorted(pages)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_tables_are_what_was_measured(page: Path) -> None:
    text = page.read_text()
    assert text == with_tables(text), "write them anew: python -m tools.documentation"


def test_each_table_stands_on_a_page() -> None:
    placed = [place["name"] for page in PAGES for place in PLACE.finditer(page.read_text())]
    assert sorted(placed) == sorted(TABLES)


def test_each_file_of_results_is_a_table_or_named_where_it_is_used() -> None:
    sources = [*(ROOT / "tools").glob("*.py"), *PAGES]
    said = "".join(path.read_text() for path in sources)
    files = [path for path in RESULTS.rglob("*.*") if path.suffix != ".jsonl"]
    assert [path.name for path in files if not is_named(path.stem, said)] == []


def is_named(stem: str, text: str) -> bool:
    return stem in text or (stem.startswith("replay-") and "replay-{task}{kind}-27" in text)


def test_the_readme_is_one_screen_and_holds_the_two_commands() -> None:
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) < 150
    assert all(command in readme for command in ("$ make demo", "$ make test", "$ pip install frostline"))
    assert not re.search(r"\bms\b|millisecond", readme)


def test_the_reference_holds_every_public_name() -> None:
    reference = (DOCS / "reference" / "python.md").read_text()
    assert sorted(re.findall(r"^::: frostline\.(\w+)$", reference, re.MULTILINE)) == sorted(frostline.__all__)


def test_the_reference_holds_every_command_with_all_its_options() -> None:
    page = command_reference()
    for name, command in typer.main.get_command(application).commands.items():
        section = page.partition(f"## `frostline {name}`\n")[2].partition("\n## ")[0]
        options = {word for option in command.params for word in option.opts if word.startswith("--")}
        assert {word for word in options - {"--help-all"} if word not in section} == set(), name


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_that_are_shown_have_options_that_there_are(page: Path) -> None:
    commands = typer.main.get_command(application).commands
    blocks = re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL)
    for line in re.findall(r"^\$ frostline (.*)$", "\n".join(blocks), re.MULTILINE):
        name, *words = shlex.split(re.sub(r"\[(--[^\]]*)\]", r"\1", line), comments=True)
        command = commands[name]
        options = {word: option for option in command.params for word in (*option.opts, *option.secondary_opts)}
        unknown = [word for word in words if word.startswith("-") and word.partition("=")[0] not in options]
        assert unknown == [], line
