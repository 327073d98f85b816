"""The documents name files that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
FOLDERS = (ROOT, ROOT / "src" / "frostline", ROOT / "tests")


@pytest.mark.parametrize("page", sorted(PAGES), ids=lambda page: str(page.relative_to(ROOT)))
def test_modules_and_pages_that_are_named_are_there(page: Path) -> None:
    text = page.read_text()
    modules = re.findall(r"`((?:\w+/)+\w+\.py)`", text)
    assert [name for name in modules if not any((folder / name).is_file() for folder in FOLDERS)] == []
    links = re.findall(r"\]\((?!http)([^)#]+)", text)
    assert [link for link in links if not (page.parent / link).exists()] == []
