"""The notebooks say what their pages say, and run."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest

from tools.notebooks import PAGES, notebook_of


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_notebook_is_its_page(page: Path) -> None:
    assert page.with_suffix(".ipynb").read_text() == notebook_of(page), "write it: python -m tools.documentation"


@pytest.fixture(scope="module")
def notebooks(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Any]:
    """The notebooks as they are when they have been run, in one kernel, which forgets all names and files in between."""
    read = {page: nbformat.read(page.with_suffix(".ipynb"), as_version=4) for page in PAGES}
    whole = nbformat.v4.new_notebook()
    for notebook in read.values():
        begin = f"%reset -f\n%cd -q {tmp_path_factory.mktemp('notebook')}"
        whole.cells += [nbformat.v4.new_code_cell(begin), *notebook.cells]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning, module="jupyter_client")
        nbclient.NotebookClient(whole, timeout=120, kernel_name="python3").execute()
    return read


@pytest.mark.slow
@pytest.mark.multiprocess
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_notebook_runs(page: Path, notebooks: dict[Path, Any]) -> None:
    notebook = notebooks[page]
    results = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert results
    assert not any(output.output_type == "error" for output in results)
