"""What every test shares: few threads, and the devices that are there."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import chdir, nullcontext
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from hypothesis import settings
from optuna.storages._rdb.storage import _VersionManager

from frostline import process
from frostline.run import own_objective
from frostline.run.execution import executors
from tests.forks import Fork
from tests.other_libraries import ask_other_libraries

# Two workers on two cores: more threads would only fight each other.
torch.set_num_threads(1)
ROOT = Path(__file__).parents[1]
MANY_MODULES = 20  # what so few hold is looked at in milliseconds
MEMORY = Path("/dev/shm")  # files that never see a disk, where there is such a place
os.environ.setdefault("OMP_NUM_THREADS", "1")
settings.register_profile("frostline", deadline=None, derandomize=True)
settings.load_profile("frostline")


def available_devices() -> list[pytest.ParameterSet]:
    """The devices that tests run on: the CPU, and CUDA where there is one (else a visible skip)."""
    no_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    return [pytest.param("cpu"), pytest.param("cuda", marks=[pytest.mark.gpu, no_cuda])]


def pytest_configure(config: pytest.Config) -> None:
    # Optuna commits every number that it is told, and a commit waits for a disk as long as thousands of others for memory.
    room = shutil.disk_usage(MEMORY).free if os.access(MEMORY, os.W_OK) else 0
    if room > 4 * 2**30:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", f"{MEMORY}")
    # What the modules of tests load stays: none of it is garbage.
    gc.disable()


def pytest_collection_finish() -> None:
    keep_what_is_there()
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Iterator[None]:
    yield
    # What tests load on the way, such as torch's compiler, stays as well. Every search collects at its end, and every
    # training of accelerate's.
    if len(sys.modules) > _kept.num_modules + MANY_MODULES:
        keep_what_is_there()


def keep_what_is_there() -> None:
    # A collection takes a quarter of a second with all that torch and transformers hold: it is not looked at again.
    gc.collect()
    gc.freeze()
    _kept.num_modules = len(sys.modules)


@dataclass(slots=True)
class _Kept:
    num_modules: int = 0


_kept = _Kept()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Property tests run the same lines thousands of times, which the tracer of coverage makes 2.5 times as slow (3.11).
    for item in items:
        if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
            item.add_marker(pytest.mark.no_cover)


@pytest.fixture(scope="session", autouse=True)
def _scripts_of_optuna() -> Iterator[None]:
    """Optuna's scripts for older tables are read once: two to three times for each new database otherwise, 15 ms each."""
    own = _VersionManager._create_alembic_script
    read: list[Any] = []

    def script(manager: _VersionManager) -> Any:
        if not read:
            read.append(own(manager))
        return read[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_VersionManager, "_create_alembic_script", script)
        yield


@pytest.fixture(scope="session", autouse=True)
def _searches_freeze_nothing() -> Iterator[None]:
    """Searches do not ask how much is frozen: each would count it all, in 20 ms."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(executors, "old_objects_passed_over", nullcontext)
        patch.setattr(own_objective, "old_objects_passed_over", nullcontext)
        yield


@pytest.fixture(params=available_devices())
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


# What tests have done in processes of their own, and what of it takes long to load.
LOADED_ONCE = (
    "alembic.command", "cmaes", "optuna.storages", "scipy.stats", "sqlalchemy", "torch._dynamo",
    "frostline.run.execution.in_process", "frostline.store.backends.tables", "frostline.cli.planned_search",
    "frostline.cli.shown_search", "frostline.tasks.loading", "frostline.training.supervised.supervised_task",
    "tests.faults.test_deaths", "tests.faults.test_killed_audits", "tests.faults.test_killed_workers",
    "tests.faults.test_kills", "tests.faults.test_preemptions", "tests.run.side_tasks", "tests.run.test_faults",
    "tests.run.test_loop", "tests.tiny_task", "tests.frozen_parent",
)  # fmt: skip


@pytest.fixture(scope="session")
def processes() -> ForkServerContext:
    """Processes that begin at once: forks of one that has loaded what they need.

    There is one such parent for all tests: whoever asked first, with a list of its own, would leave the others without.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*LOADED_ONCE])
    with chdir(ROOT):  # where it finds the tests
        forkserver.ensure_running()
    return context


@pytest.fixture(scope="session")
def other_libraries(tmp_path_factory: pytest.TempPathFactory, processes: ForkServerContext) -> dict[str, Any]:
    """What torchvision, timm and LitGPT are to the package, asked once for all workers in a process apart."""
    folder = ROOT / os.environ.get("FAMILIES", ".families")
    if not (folder / "litgpt").is_dir():
        pytest.skip(f"the libraries are not installed: make {folder.name}/installed")
    common = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        common = common.parent
    kept = common / "other_libraries.json"
    with FileLock(f"{kept}.lock"):
        if not kept.exists():
            with Fork(processes, ask_other_libraries, folder, kept) as fork:
                ended = fork.ended()
            assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(kept.read_text())
    return found


@pytest.fixture
def nothing_frozen(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a process that leaves the garbage collector to its searches: see ``keep_what_is_there``."""
    for module in (executors, own_objective):
        monkeypatch.setattr(module, "old_objects_passed_over", process.old_objects_passed_over)
    gc.unfreeze()
    yield
    gc.freeze()
