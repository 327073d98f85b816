"""The package for OptunaHub's registry is loaded from its folder, and does what its page shows."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import optuna
import optunahub
import pytest
import yaml

import frostline

REGISTRY = Path(__file__).parents[1] / "registry" / "package"
PACKAGE = REGISTRY / "samplers" / "frozen_layers"
README = (PACKAGE / "README.md").read_text()


def test_the_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    local = partial(optunahub.load_local_module, registry_root=str(REGISTRY))
    monkeypatch.setattr(optunahub, "load_module", local)  # which downloads
    names: dict[str, object] = {"__name__": "example"}
    exec(compile((PACKAGE / "example.py").read_text(), "example.py", "exec"), names)
    study, result = names["study"], names["result"]
    assert isinstance(study, optuna.Study)
    assert isinstance(result, frostline.TuneResult)
    assert study.best_value == result.score < 2
    assert f"{study.best_value} {study.best_params}" in capsys.readouterr().out


def test_the_page_has_what_the_registry_asks_for() -> None:
    _, front, body = README.split("---\n", 2)
    said = yaml.safe_load(front)
    assert set(said) == {"author", "title", "description", "tags", "optuna_versions", "license"}
    assert "sampler" in said["tags"]  # of all that stand in samplers/
    headings = re.findall(r"^## (.+)$", body, re.MULTILINE)
    assert headings == ["Abstract", "Class or Function Names", "Installation", "Example"]
    (example,) = re.findall(r"```python\n(.*?)```", body, re.DOTALL)
    assert (PACKAGE / "example.py").read_text().endswith(example)
