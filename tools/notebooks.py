"""The tutorials that are notebooks too: each made from its page, so that there is one text."""

from __future__ import annotations

from pathlib import Path

import jupytext
import nbformat

TUTORIALS = Path(__file__).parents[1] / "docs" / "tutorials"
PAGES = tuple(TUTORIALS / name for name in ("own-task.md", "from-optuna.md"))


def notebook_of(page: Path) -> str:
    """Return the text of the notebook that a page becomes: its Python as cells of code, all else as text."""
    link = f"*This page is also [a notebook]({page.stem}.ipynb).*\n\n"
    notebook = jupytext.reads(page.read_text().replace(link, ""), fmt="md")
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"  # drawn at random otherwise: the same page is the same file
        cell.metadata = {}
    nbformat.validate(notebook)
    return nbformat.writes(notebook) + "\n"


def write_notebooks() -> list[Path]:
    """Write the notebooks that are not what their pages say, and return them."""
    written = []
    for page in PAGES:
        path = page.with_suffix(".ipynb")
        text = notebook_of(page)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            written.append(path)
    return written
