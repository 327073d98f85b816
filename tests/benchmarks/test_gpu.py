"""What measures a first card runs here on the CPU, with small models."""

from __future__ import annotations

import gc
import importlib.util
import json
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing.context import ForkServerContext
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from tests.forks import Fork
from tests.rehearsal.rehearsed import ON_HOST_MEMORY

ROOT = Path(__file__).parents[2]
FILE = ROOT / "benchmarks" / "gpu.py"


def write_parts(device: str, parts: Sequence[str], folder: Path) -> None:
    """Run parts with small models, one after the other, in a process that is left as it is then."""
    sys.path.insert(0, str(FILE.parent))
    if device == "cuda":
        importlib.import_module("tests.rehearsal.plugin")
    else:  # without machine code, which takes longer to make than all else together
        own = torch.compile
        torch.compile = lambda function, options=None, **rest: own(function, backend="aot_eager", **rest)
    rows: Any = importlib.import_module("gpu_parts.rows")
    for part in parts:
        gc.freeze()  # every measurement ends with a collection: what has been loaded is not looked at each time
        rows.write_rows(part, folder / part, device=device, tiny=True)


def rows_of(
    processes: ForkServerContext, parts: Sequence[str], device: str, folder: Path
) -> dict[str, list[dict[str, Any]]]:
    """Run parts with small models, and return the rows of each; no measurement may fail."""
    with Fork(processes, write_parts, device, parts, folder) as fork:
        ended = fork.ended()
    assert ended.returncode == 0, ended.stderr
    rows = {part: [json.loads(line) for line in (folder / part).read_text().splitlines()] for part in parts}
    assert not [row for part in parts for row in rows[part] if "failed" in row]
    return rows


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_benchmark", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_every_part_measures_on_the_cpu(gpu: ModuleType, processes: ForkServerContext, tmp_path: Path) -> None:
    parts = [name for name in gpu.PARTS if name not in ("machine", "gpu_tests")]
    rows = rows_of(processes, parts, "cpu", tmp_path)
    assert len(rows["synchronisation"]) == 12
    on_cuda = "a step is captured on CUDA, not on cpu"
    assert {row["left_out"] for row in rows["synchronisation"]} == {"waiting raises: needs a card", on_cuda}
    assert {row["left_out"] for row in rows["memory"]} == {"allocated bytes: needs a card"}
    assert all(row["predicted_reserved"] >= row["predicted"] > 0 for row in rows["memory"])
    assert all(row["times_less_memory"] > 1 for row in rows["figure"])
    assert {(row["model"], row["members"]) for row in rows["populations"]} == {
        (model, members) for model in ("MLP", "small GPT", "large GPT") for members in (1, 2)
    }
    stacked = {"shared", "updated_each", "updated_at_once"}
    assert all(set(row["times_faster"]) == stacked for row in rows["populations"])
    assert all(row["skipped"] == {"captured": on_cuda} for row in rows["populations"])
    assert [row["switch"] for row in rows["switches"]] == ["pinned"] * 3 + ["ahead", "compiled"]
    assert all(min(row["seconds"].values()) > 0 for row in rows["switches"])
    assert [row["layers"] for row in rows["freezing"] if row["model"] == "ResNet"] == [5, 1, 2, 3, 4]
    assert [row["engine"] for row in rows["search"]] == ["serial", "auto", "captured"]
    assert [row["program"] for row in rows["beside_optuna"]] == ["frostline", "Optuna, TPE and Hyperband"]


@pytest.mark.torture
@ON_HOST_MEMORY
def test_what_needs_a_card_is_rehearsed_on_one_of_host_memory(
    processes: ForkServerContext, tmp_path: Path
) -> None:
    parts = ["machine", "memory", "synchronisation", "search"]
    rows = rows_of(processes, parts, "cuda", tmp_path)
    assert rows["machine"][0]["name"] == "a card of host memory"
    # It has no workspace of cuBLAS and rounds nothing: how far the two are apart says nothing.
    assert all(row["reserved"] >= row["allocated"] > 0 for row in rows["memory"])
    assert all(row["error"] == row["predicted"] / row["allocated"] - 1 for row in rows["memory"])
    assert [row["waits"] for row in rows["synchronisation"]] == [False] * 12
    assert [row["winner"] for row in rows["search"]] == [rows["search"][0]["winner"]] * 3


def test_the_command_writes_what_each_part_had(tmp_path: Path) -> None:
    command = [sys.executable, str(FILE), "--device", "cpu", "--tiny", "--parts", "gpu_tests"]
    ended = subprocess.run([*command, "--folder", str(tmp_path)], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("wanted: torch ")
    (file,) = tmp_path.iterdir()
    results = json.loads(file.read_text())
    assert file.name == "gpu-cpu.json"
    assert results["machine"]["name"] == "cpu"
    part = results["parts"]["gpu_tests"]
    assert (part["status"], part["limit"]) == ("ended", 90)
    assert part["rows"][0]["counts"]["tests"] == 2


def test_a_part_without_its_packages_is_left_out(gpu: ModuleType, capsys: Any) -> None:
    there = dict.fromkeys(gpu.WANTED, "1.0") | {"optuna": None, "rich": None}
    assert gpu.left_out(gpu.PARTS["memory"], there) == "needs optuna"
    assert gpu.left_out(gpu.PARTS["search"], there) == "needs optuna, rich"
    assert gpu.left_out(gpu.PARTS["machine"], there) is None


def test_a_part_that_runs_out_of_time_is_an_entry_with_the_rows_it_has(
    gpu: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    slow = tmp_path / "slow.py"
    slow.write_text(
        "import pathlib, sys, time\n"
        "rows = pathlib.Path(sys.argv[sys.argv.index('--rows') + 1])\n"
        'rows.write_text(\'{"layers": 1}\\n{"lay\')\n'
        "time.sleep(60)\n"
    )
    monkeypatch.setattr(gpu, "__file__", str(slow))
    monkeypatch.setitem(gpu.PARTS, "memory", gpu.Part("slow", 1, ()))
    part = gpu.run_part("memory", "cpu", True)
    assert (part["status"], part["rows"]) == ("out of time", [{"layers": 1}])
    assert gpu.troubles(part) == ["out of time"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_a_card_that_is_not_there_is_said_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, str(FILE), "--folder", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr == "device is 'cuda', but torch finds none here: use one of auto, cpu.\n"
    assert not list(tmp_path.iterdir())


def test_the_limits_come_to_eight_minutes(gpu: ModuleType) -> None:
    assert sum(part.limit for part in gpu.PARTS.values()) <= 480
