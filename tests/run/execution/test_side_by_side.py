"""Workers side by side give the numbers of one process, and outlive neither a death among them nor their parent."""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import frostline
from frostline.errors import OptionError
from frostline.records import Configuration, Evaluation, Fidelity, Job, Progress, Status
from frostline.run.execution import in_process, side_by_side
from frostline.run.execution.executors import PopulationExecutor
from frostline.run.execution.in_process import in_process_executor
from frostline.run.execution.local import local_executor
from frostline.run.execution.side_by_side import SideBySideExecutor, WorkerError
from frostline.run.execution.workload import TaskTraining, Workload
from frostline.training.machine.threads import Threads
from tests.executing import evaluations_by
from tests.forks import Fork
from tests.forks import frostline as frostline_command
from tests.run import side_tasks
from tests.run.test_faults import everything_in

pytestmark = [pytest.mark.multiprocess, pytest.mark.usefixtures("processes")]

ROOT = Path(__file__).parents[3]
LADDER = frostline.Ladder.explicit([(2, 512), (6, 1024)], num_layers=6, full_samples=1024)
PROGRESS: list[Progress] = []


def workload_of(folder: Path, *, task: Any = side_tasks.task, **changes: Any) -> Workload:
    options = frostline.TrainingOptions(
        **{"device": "cpu", "runs": folder, "engine": "shared", "threads": 1, "workers": 2, **changes}
    )
    training = TaskTraining(task=task, options=options, study="study", seed=0)
    return Workload(training=training, ladder=LADDER, progress=PROGRESS.append)


def job(number: int, *, fate: str = "none", layers: int = 2) -> Job:
    values = {"learning_rate": 1e-3 * (number + 1), "optimizer": "Adam", "fate": fate}
    fidelity = Fidelity(trainable_layers=layers, samples=512)
    return Job(configuration=Configuration(number=number, hyperparameters=values), rung=0, fidelity=fidelity)


@pytest.fixture(scope="module")
def executor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SideBySideExecutor]:
    """Two workers for all tests: each takes seconds to start."""
    made = local_executor(workload_of(tmp_path_factory.mktemp("runs")))
    assert isinstance(made, SideBySideExecutor)
    yield made
    made.close()


def by_number(evaluations: Sequence[Evaluation] | Iterator[Evaluation]) -> dict[int, Evaluation]:
    return {evaluation.number: evaluation for evaluation in evaluations}


def alone(folder: Path, jobs: Sequence[Job]) -> dict[int, Evaluation]:
    """What one process makes of the jobs."""
    one = in_process_executor(workload_of(folder), Threads.as_they_are())
    return by_number(evaluations_by(one, jobs))


def assert_same_bits(some: dict[int, Evaluation], others: dict[int, Evaluation]) -> None:
    assert some.keys() == others.keys()
    for number, evaluation in some.items():
        assert evaluation.status is others[number].status
        assert evaluation.curve == others[number].curve
        assert evaluation.cost.samples == others[number].cost.samples


def test_both_train_and_the_numbers_are_those_of_one_process(executor: SideBySideExecutor, tmp_path: Path) -> None:
    PROGRESS.clear()
    jobs = [*(job(number) for number in range(6)), job(6, layers=6), job(7, layers=6)]
    together = by_number(evaluations_by(executor, jobs))
    assert_same_bits(together, alone(tmp_path, jobs))
    # On a loaded machine one of them may train everything before the other has started: then there is more to do.
    more = itertools.count(100, step=2)
    while (trained := {progress.worker for progress in PROGRESS}) != {0, 1} and (number := next(more)) < 1000:
        by_number(evaluations_by(executor, [job(number), job(number + 1)]))
    assert trained == {0, 1}
    # What it told of itself in between was true: two processes, of which each had its own share of the jobs.
    stations = executor.stations()
    assert {station.pid for station in stations} == {worker.process.pid for worker in executor._workers}
    assert all(station.used_bytes and station.used_bytes > 2**20 for station in stations)
    executor.submit([job(2000), job(2001)])
    asked = [request.number for station in executor.stations() for request in station.requests]
    assert asked
    assert {*asked} <= {2000, 2001}
    assert sorted(executor.next_ended().number for _ in range(2)) == [2000, 2001]
    assert [station.requests for station in executor.stations()] == [(), ()]
    assert max(evaluation.cost.population for evaluation in together.values()) > 1


def test_a_training_that_raises_fails_alone(executor: SideBySideExecutor) -> None:
    ended = by_number(evaluations_by(executor, [job(0), job(1, fate="raise"), job(2)]))
    assert [ended[number].status for number in range(3)] == [Status.FINISHED, Status.FAILED, Status.FINISHED]
    assert f"{ended[1].reason}".startswith("ValueError: it was to raise (side_tasks.py:")
    # The traceback comes along, as text: an exception of the user's need not survive the way.
    assert ended[1].failure is not None
    assert 'raise ValueError("it was to raise")' in ended[1].failure.traceback
    assert ended[1].failure.exception is None


def test_who_takes_its_worker_along_has_failed_and_nobody_else(
    executor: SideBySideExecutor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = [job(number, fate="exit" if number == 2 else "none") for number in range(6)]
    ended = by_number(evaluations_by(executor, jobs))
    guilty = ended.pop(2)
    assert (guilty.status, guilty.score) == (Status.FAILED, None)
    assert guilty.reason == "the process that trained it ended with exit status 3, and did so twice"
    assert_same_bits(ended, alone(tmp_path, [each for each in jobs if each.configuration.number != 2]))
    said = [record for record in caplog.records if "a worker ended with exit status 3" in record.getMessage()]
    assert len(said) == 2


def test_a_worker_that_is_killed_once_costs_time_alone(executor: SideBySideExecutor, tmp_path: Path) -> None:
    jobs = [job(0), job(1), job(2, fate=f"once {tmp_path}/marker"), job(3)]
    ended = by_number(evaluations_by(executor, jobs))
    assert (tmp_path / "marker").exists()
    assert_same_bits(ended, alone(tmp_path, [job(number) for number in range(4)]))


def test_an_idle_worker_that_dies_is_replaced(executor: SideBySideExecutor) -> None:
    for worker in executor._workers:
        worker.process.kill()
        worker.process.join()
    ended = by_number(evaluations_by(executor, [job(0), job(1)]))
    assert [ended[number].status for number in range(2)] == [Status.FINISHED] * 2


def test_there_is_room_until_everybody_is_busy_and_all_begins_anew_after_an_end(
    executor: SideBySideExecutor,
) -> None:
    assert executor.room() == 64
    executor.submit([job(0)])
    assert executor.room() == 63
    executor.submit([job(number, layers=6) for number in range(1, 4)])
    assert executor.room() == 0
    ended = [executor.next_ended() for _ in range(4)]
    assert {evaluation.number for evaluation in ended} == {0, 1, 2, 3}
    executor.submit([job(number) for number in range(4)])
    executor.close()
    assert executor.room() == 64
    (evaluation,) = evaluations_by(executor, [job(5)])
    assert evaluation.status is Status.FINISHED


def test_what_workers_log_is_logged_here(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    workload = workload_of(tmp_path)
    assert isinstance(workload.training, TaskTraining)
    pickled = side_by_side._pickled(workload, workload.training)
    one = SideBySideExecutor(workload=workload, pickled=pickled, num_workers=1)
    list(evaluations_by(one, [job(0), job(1)]))
    one.close()
    assert any("2 configurations together, engine shared" in record.getMessage() for record in caplog.records)


def scores_of(result: frostline.TuneResult) -> list[Any]:
    return sorted((e.request, e.status, e.curve, e.fidelity) for e in result.history.evaluations())


def test_a_whole_search_is_the_same(tmp_path: Path) -> None:
    """Over rungs that continue each other: checkpoints of one worker are gone on from by another."""
    there = side_tasks.search(tmp_path / "two", workers=2)
    here = side_tasks.search(tmp_path / "one", workers=1)
    assert scores_of(there) == scores_of(here)
    assert there.configuration == here.configuration
    assert not list(tmp_path.rglob("*.pt")), "checkpoints of ended configurations are left behind"


def not_at_the_top() -> Any:
    def model(configuration: Configuration) -> Any:
        return side_tasks.network(configuration)

    return side_tasks.make(model=model)


def test_what_cannot_be_sent_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"the task fateful cannot be sent to workers \(.*: let its model and"):
        local_executor(workload_of(tmp_path, task=not_at_the_top()))


def test_workers_that_cannot_load_the_task_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executor = local_executor(workload_of(tmp_path))
    assert isinstance(executor, SideBySideExecutor)
    monkeypatch.setattr(executor, "_pickled", b"cnowhere\nnothing\n.")
    executor.submit([job(0)])
    with pytest.raises(
        WorkerError, match=r"cannot train this task \(ModuleNotFoundError: .*nowhere.*\): use workers 1"
    ):
        executor.next_ended()
    executor.close()


def dies(connection: Any, number: int) -> None:
    os._exit(1)


def test_workers_that_never_begin_are_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "serve", dies)
    executor = local_executor(workload_of(tmp_path))
    executor.submit([job(0)])
    with pytest.raises(
        WorkerError, match=r'end before they begin, with exit status 1: .*`if __name__ == "__main__":`'
    ):
        executor.next_ended()
    executor.close()


SAYS_WHAT_IS_LOADED = """
import sys
from frostline.run.execution import side_by_side

def serve(connection, number):
    connection.send([*sys.modules])

if __name__ == "__main__":
    side_by_side.serve = serve
    worker = side_by_side._Worker.start(0)
    print(*worker.connection.recv(), worker.how_it_ended(), sep="\\n")
"""


def test_what_every_worker_needs_is_loaded_before_it_begins(tmp_path: Path) -> None:
    if "forkserver" not in multiprocessing.get_all_start_methods():
        pytest.skip("here each worker loads all by itself")
    # In a process of its own: tests before this one may have begun the parent of workers here, and it outlives them.
    (tmp_path / "script.py").write_text(SAYS_WHAT_IS_LOADED)
    command = [sys.executable, f"{tmp_path / 'script.py'}"]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    *loaded, ending = ended.stdout.splitlines()
    assert {"torch", "torch._dynamo", "frostline.run.execution.in_process"} <= {*loaded}
    assert ending == "with exit status 0"


def test_memory_is_shared_out_and_bounds_the_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shares: list[int] = []

    def refuse(task: Any, *, trainable_layers: int, available: int) -> None:
        shares.append(available)
        assert trainable_layers == 6
        if available < 3000:
            raise frostline.errors.NotEnoughMemoryError("too little")

    monkeypatch.setattr(side_by_side, "require_memory", refuse)
    monkeypatch.setattr(in_process, "require_memory", lambda *_, **__: None)
    made = local_executor(workload_of(tmp_path, workers=4, memory="6400B", prefix_cache="1000B"))
    assert isinstance(made, SideBySideExecutor)
    assert (made._num_workers, shares) == (2, [1600, 2133, 3200])
    own = side_by_side.pickle.loads(made._pickled).training.options
    assert (own.memory, own.prefix_cache, own.workers, own.threads) == ("3200", "500", 1, 1)
    one = local_executor(workload_of(tmp_path, workers=4, memory="2900B"))
    assert isinstance(one, PopulationExecutor)


def test_an_accelerator_is_not_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from frostline.training.machine import devices

    monkeypatch.setattr(devices, "resolve_device", lambda _: torch.device("cuda"))
    with pytest.raises(OptionError, match="they share the cores of a CPU, and fateful is trained on cuda"):
        local_executor(workload_of(tmp_path))


def in_session(session: int) -> list[int]:
    """The processes of a session that are alive."""
    alive = []
    for folder in Path("/proc").iterdir():
        try:
            state, _, _, its = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
        except (OSError, ValueError):
            continue
        if int(its) == session and state != "Z":
            alive.append(int(folder.name))
    return alive


def assert_all_end(session: int) -> None:
    """Wait until no process of the session is left."""
    deadline = time.monotonic() + 60
    while in_session(session):
        assert time.monotonic() < deadline, f"left behind: {in_session(session)}"
        time.sleep(0.05)


@contextmanager
def started(processes: Any, function: Callable[..., Any], *arguments: Any, until: str) -> Iterator[Fork]:
    """Start a process in a session of its own, hand it over when it has printed ``until``, and leave none of them behind."""
    with Fork(processes, function, *arguments, own_session=True) as search:
        try:
            seen = []
            for line in search.stdout:
                seen.append(line)
                if until in line:
                    break
            else:
                raise AssertionError("".join(seen) + search.stderr.read())
            yield search
        finally:
            with suppress(ProcessLookupError):
                os.killpg(search.pid, signal.SIGKILL)


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are counted in /proc")


@needs_proc
def test_an_interrupt_ends_all_and_says_one_sentence(tmp_path: Path, processes: Any) -> None:
    options = f"-n 27 --set epochs=100000 --workers 2 --storage sqlite:///{tmp_path}/s.db --runs {tmp_path}"
    words = f"tune {ROOT / 'tests' / 'run' / 'side_tasks.py'}:make {options}".split()
    with started(processes, frostline_command, words, until="rung 0  1") as search:
        os.killpg(search.pid, signal.SIGINT)
        ended = search.ended()
        assert ended.returncode == 130
        assert ended.stderr.startswith("frostline: stopped. Every evaluation that ended is saved; go on with: ")
        assert ended.stderr.count("\n") == 1
        assert_all_end(search.pid)


@pytest.mark.slow
@needs_proc
def test_workers_end_with_a_search_that_is_killed_and_it_gives_the_answer_of_an_undisturbed_one(
    tmp_path: Path, processes: Any
) -> None:
    (tmp_path / "killed").mkdir()
    # Killed again and again in ``test_faults``, where nothing takes seconds to start.
    with started(processes, side_tasks.search_aloud, tmp_path / "killed", until="ended 2") as search:
        assert len(in_session(search.pid)) >= 4, "this one, two workers and their parent"
        time.sleep(random.Random(5).uniform(0, 0.1))
        search.kill()
        search.wait()
        assert_all_end(search.pid)
    places = {name: f"sqlite:///{tmp_path}/{name}.db" for name in ("killed/study", "undisturbed")}
    side_tasks.search(tmp_path / "killed", workers=2, storage=places["killed/study"])
    side_tasks.search(tmp_path / "undisturbed", workers=1, storage=places["undisturbed"])
    assert numbers_in(places["killed/study"]) == numbers_in(places["undisturbed"])


def numbers_in(place: str) -> list[Any]:
    """All that a study says but for what it cost: how many were trained together too."""
    found = everything_in(place)
    for *_, rungs in found:
        for record in rungs.values():
            del record["population"]
    return found
