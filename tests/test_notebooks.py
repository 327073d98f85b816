"""The notebooks say what their pages say, and run."""

from __future__ import annotations

from pathlib import Path

import nbclient
import nbformat
import pytest

from tools.notebooks import PAGES, notebook_of


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_notebook_is_its_page(page: Path) -> None:
    assert page.with_suffix(".ipynb").read_text() == notebook_of(page), "write it: python -m tools.documentation"


@pytest.mark.slow
@pytest.mark.multiprocess
@pytest.mark.filterwarnings("ignore::DeprecationWarning:jupyter_client")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_notebook_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(page.with_suffix(".ipynb"), as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3", resources=resources).execute()
    results = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert results
    assert not any(output.output_type == "error" for output in results)
