"""Two nodes on this machine: the search is that of one process, whoever dies, and what is wrong is said in one line."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import frostline
from frostline.costs.capacity import Capacity
from frostline.errors import ModelError, NotEnoughMemoryError, OptionError
from frostline.folders.local_folder import LocalFolder
from frostline.integrations import RayExecutor
from frostline.integrations.ray import ray_cluster
from frostline.integrations.ray.cluster_executor import ClusterExecutor
from frostline.integrations.ray.node_shares import PROCESS_BYTES, Share
from frostline.records import Configuration, Evaluation, Job, Progress, Request, Status
from frostline.run.execution.in_process import in_process_executor
from frostline.run.execution.workload import TaskTraining, Workload
from frostline.run.plan import SearchPlan
from frostline.run.tuning import search_function
from frostline.search.history import History
from frostline.training.machine.threads import Threads
from tests.cli.command_line import run
from tests.executing import Watching, evaluations_by
from tests.folders.object_store import LACKING, objects, s3_server
from tests.integrations.ray import ray_tasks
from tests.integrations.ray.ray_tasks import everything, search
from tests.run import side_tasks
from tests.run.execution.test_side_by_side import assert_same_bits, by_number, job
from tests.run.test_faults import LADDER as SOME_LADDER
from tests.run.test_faults import SPACE, bowl

ray = pytest.importorskip("ray", reason="Ray is not installed")
Cluster = pytest.importorskip("ray.cluster_utils").Cluster

pytestmark = [pytest.mark.multiprocess, pytest.mark.xdist_group("ray")]

ROOT = Path(__file__).parents[3]
MIB = 2**20


PROGRESS: list[Progress] = []


def node(memory: int, **changes: Any) -> dict[str, Any]:
    # Each process of Ray's own that nobody needs here would load Ray.
    kept_small = {"object_store_memory": 80 * MIB, "include_log_monitor": False}
    return {"num_cpus": 1, "memory": memory, **kept_small, **changes}


@contextmanager
def cluster_of(*memories: int, **options: Any) -> Iterator[Any]:
    """A head and other nodes on this machine."""
    found = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([f"{ROOT / 'src'}", f"{ROOT}", *found]))
    first, *others = memories
    # A node that is killed is missed after a second.
    health = {
        "health_check_initial_delay_ms": 0,
        "health_check_period_ms": 300,
        "health_check_failure_threshold": 3,
        # Workers that nobody asked for are started otherwise, as many as there are cores.
        "prestart_worker_first_driver": False,
        "enable_worker_prestart": False,
    }
    head = {**node(first, **options), "include_dashboard": False, "no_monitor": True, "_system_config": health}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    for memory in others:
        cluster.add_node(**node(memory, **options))
    yield cluster
    cluster.shutdown()


def memory_for(layers: int) -> int:
    """What a node has that holds a training of so many layers of the wide task."""
    return PROCESS_BYTES + round(1.1 * Capacity(ray_tasks.wide_task()).required(layers))


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, str]]:
    """What leads nodes and driver to an S3 of this machine's own; nothing where its packages are not installed."""
    if LACKING:
        yield {}
        return
    with s3_server() as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield environment


@pytest.fixture(scope="module")
def two(s3: dict[str, str]) -> Iterator[Any]:
    """Nodes that hold the last two layers of the wide task, and all: they and their workers take seconds to start."""
    with cluster_of(memory_for(2), memory_for(6)) as cluster:
        yield cluster


def workload_of(folder: Path) -> Workload:
    options = frostline.TrainingOptions(device="cpu", runs=folder, engine="shared", threads=1)
    training = TaskTraining(task=ray_tasks.wide_task(), options=options, study="study", seed=0)
    return Workload(training=training, ladder=ray_tasks.LADDER, progress=PROGRESS.append)


def alone(folder: Path, jobs: Sequence[Job]) -> dict[int, Evaluation]:
    """What one process makes of the jobs."""
    return by_number(evaluations_by(in_process_executor(workload_of(folder), Threads.as_they_are()), jobs))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> frostline.TuneResult:
    return search(tmp_path_factory.mktemp("local"))


@pytest.fixture(scope="class")
def executor(two: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterExecutor]:
    """A worker on each of the nodes."""
    made = RayExecutor(address=two.address)(workload_of(tmp_path_factory.mktemp("runs")))
    while made._placement.num_free < 2:
        made._listen()
    yield made
    made.close()


class TestSharesOfNodes:
    def test_rungs_go_to_the_smallest_nodes_that_hold_them_and_the_numbers_are_those_of_one_process(
        self, executor: ClusterExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        begun: dict[int, Share] = {}
        begin = executor._placement.begin

        def spy(share: Share, requests: Sequence[Request]) -> None:
            begun.update((request.number, share) for request in requests)
            begin(share, requests)

        monkeypatch.setattr(executor._placement, "begin", spy)
        jobs = [*(job(number) for number in range(6)), job(6, layers=6), job(7, layers=6)]
        together = by_number(evaluations_by(executor, jobs))
        assert_same_bits(together, alone(tmp_path, jobs))
        small, large = sorted(share.memory_bytes for share in executor._workers)
        assert {begun[number].memory_bytes for number in (6, 7)} == {large}
        assert {share.memory_bytes for share in begun.values()} == {small, large}

    def test_who_takes_two_workers_along_has_failed_and_nobody_else(
        self, executor: ClusterExecutor, tmp_path: Path
    ) -> None:
        jobs = [job(0), job(1, fate="exit"), job(2), job(3, fate=f"once {tmp_path}/marker"), job(4, fate="raise")]
        ended = by_number(evaluations_by(executor, jobs))
        assert ended[1].reason == "the process that trained it ended without a word, and did so twice"
        assert {number for number, each in ended.items() if each.status is Status.FINISHED} == {0, 2, 3}
        assert f"{ended[4].reason}".startswith("ValueError: it was to raise (side_tasks.py:")

    def test_two_drivers_on_one_study_do_not_compete(
        self, executor: ClusterExecutor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ray_cluster, "_SECONDS_TO_VANISH", 0.5)
        with pytest.raises(
            OptionError, match=r"another driver on this cluster searches the study 'study': wait for its end"
        ):
            RayExecutor(address="auto")(executor._workload)

    def test_a_rung_that_fits_nowhere_is_refused_by_name(self, two: Any, tmp_path: Path) -> None:
        some = f"{memory_for(2)}B"
        with pytest.raises(
            NotEnoughMemoryError, match=r"^rung 2 of fateful \(6 layers\) needs .* largest share .*, on \d"
        ):
            search(tmp_path, task=ray_tasks.wide_task(), memory=some, executor=RayExecutor(address=two.address))

    def test_the_plan_is_shown_before(self, two: Any, capsys: pytest.CaptureFixture[str]) -> None:
        task = f"{Path(ray_tasks.__file__)}:wide_task"
        code, out, err = run(f"fit {task} --cluster --address {two.address} --ladder 2:256,2:512,6:1024", capsys)
        assert (code, err) == (0, "")
        rungs = [line.split() for line in out.splitlines() if re.match(r" +[012] ", line)]
        assert [row[:3] for row in rungs] == [["0", "2", "256"], ["1", "2", "512"], ["2", "6", "1,024"]]
        assert [" ".join(row[5:10]) for row in rungs] == [
            "2 workers on 2 nodes,",
            "2 workers on 2 nodes,",
            "1 worker on 1 node,",
        ]
        code, _, err = run(f"fit {task} --cluster --address {two.address} --ladder diagonal", capsys)
        assert (code, err) == (0, "")


class Killing(frostline.Observer):
    """Has a node die, and another one join, once something has ended."""

    def __init__(self, cluster: Any, victim: Any) -> None:
        self.cluster = cluster
        self.victim = victim

    def ended(self, evaluation: Evaluation, history: History) -> None:
        if history.num_evaluations == 1:
            self.cluster.remove_node(self.victim, allow_graceful=False)
            self.cluster.add_node(**node(memory_for(6)))


def test_a_node_that_dies_costs_time_alone_and_one_that_joins_trains(
    two: Any, tmp_path: Path, undisturbed: frostline.TuneResult
) -> None:
    (victim,) = two.worker_nodes
    executor = RayExecutor(address=two.address)
    result = search(tmp_path, executor=executor, observer=Killing(two, victim))
    assert everything(result) == everything(undisturbed)
    assert not list(tmp_path.rglob("*.pt")), "checkpoints of ended configurations are left behind"


@pytest.mark.torture
def test_a_driver_that_is_killed_goes_on_with_the_same_command(
    two: Any, tmp_path: Path, undisturbed: frostline.TuneResult
) -> None:
    command = [sys.executable, "-m", "tests.integrations.ray.ray_tasks", two.address, f"{tmp_path}"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        for line in driver.stdout:
            if line == "ended 4\n":
                break
        os.kill(driver.pid, signal.SIGKILL)
    ended: list[Evaluation] = []
    result = search(
        tmp_path,
        executor=RayExecutor(address=two.address),
        storage=f"sqlite:///{tmp_path}/study.db",
        observer=Watching(ended=ended.append),
    )
    assert everything(result) == everything(undisturbed)
    assert len(ended) <= len(everything(undisturbed)) - 4


class TestBucket:
    """Nodes that share nothing but a bucket: they write and read there themselves."""

    @pytest.fixture(autouse=True)
    def _bucket(self, s3: dict[str, str]) -> None:
        if not s3:
            pytest.skip(f"no {', '.join(LACKING)}")

    def test_a_search_keeps_all_that_it_keeps_in_the_bucket(
        self,
        two: Any,
        s3: dict[str, str],
        undisturbed: frostline.TuneResult,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        there, here = (
            search(tmp_path, executor=RayExecutor(address=two.address), runs="s3://bucket/ray"),
            undisturbed,
        )
        # The samples of each with them: those of a rung above are what goes on from the checkpoint of the one below.
        assert everything(there) == everything(here)
        assert {each.cost.samples for each in there.history.evaluations() if each.request.rung == 1} == {256}
        assert {Path(key).suffix or Path(key).name[:17] for key in objects(s3, "ray/")} == {
            ".safetensors",
            ".frostline-shared",
        }
        assert not (tmp_path / "frostline-runs").exists()
        kept, expected = (
            result.load_model(side_tasks.network(result.configuration)).state_dict() for result in (there, here)
        )
        assert all(kept[name].equal(expected[name]) for name in expected)
        with pytest.raises(ModelError, match="no file of this machine"):
            _ = there.weights

    def test_a_node_that_sees_another_bucket_of_the_same_name_is_refused(self, two: Any, tmp_path: Path) -> None:
        with s3_server() as elsewhere:
            bad = two.add_node(**node(PROCESS_BYTES + 100 * MIB, env_vars={**elsewhere}))
            try:
                assert re.match(
                    r"the folder 's3://bucket/two' is not shared: the node .* does not see what",
                    refusal(two, tmp_path, runs="s3://bucket/two"),
                )
            finally:
                two.remove_node(bad)


def test_an_objective_travels_with_its_script(two: Any, tmp_path: Path) -> None:
    rate = 0.1

    def objective(trial: frostline.Trial) -> float:
        trial.freeze(side_tasks.network(Configuration(number=0, hyperparameters={})))
        return (trial.suggest_float("x", -10, 10) - rate) ** 2 + 1 / trial.samples

    searched = partial(
        frostline.tune, objective, samples=90, study="s", storage=":memory:", configurations=9, runs=tmp_path
    )
    there, here = searched(executor=RayExecutor(address=two.address)), searched()
    assert everything(there) == everything(here)


@pytest.mark.torture
def test_a_function_travels_with_its_script(two: Any) -> None:
    rate = 0.1
    functions = [
        search_function(
            lambda configuration, fidelity: rate * bowl(configuration, fidelity),
            SPACE, SOME_LADDER, study="f", storage=":memory:", plan=SearchPlan(configurations=9), **executor,
        )
        for executor in ({"executor": RayExecutor(address=two.address)}, {})
    ]  # fmt: skip
    assert everything(functions[0]) == everything(functions[1])


def refusal(two: Any, folder: Path, **changes: Any) -> str:
    with pytest.raises(OptionError) as refused:
        search(folder, executor=RayExecutor(address=two.address), **changes)
    assert "\n" not in f"{refused.value}"
    return f"{refused.value}"


def test_tasks_take_one_device(two: Any, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="devices_per_trial is 2, but fateful is a task, whose populations are "):
        search(tmp_path, executor=RayExecutor(address=two.address, devices_per_trial=2))


def test_what_cannot_be_sent_names_its_attribute(two: Any, tmp_path: Path) -> None:
    said = refusal(two, tmp_path, task=side_tasks.make(model=ray_tasks.Locked()))
    assert said.startswith("the task fateful cannot be sent to other machines, because of its attribute 'model' (")
    assert "lock" in said


SHADOWS = {
    "has no frostline: install frostline": {"frostline/__init__.py": "raise ImportError"},
    "has frostline 9.9, and the driver": {"frostline/__init__.py": "__version__ = '9.9'"},
    "is not shared: the node": {
        "sitecustomize.py": "import pathlib, os\n"
        "read = pathlib.Path.read_text\n"
        "def blind(path, *a, **k):\n"
        "    if path.name == '.frostline-shared': raise FileNotFoundError(path)\n"
        "    return read(path, *a, **k)\n"
        "pathlib.Path.read_text = blind\n"
    },
}


# Each joins a node and asks all of them anew: that of another bucket is enough, but for ``make torture``.
@pytest.mark.torture
@pytest.mark.parametrize("said", SHADOWS)
def test_a_node_that_cannot_take_part_is_named(two: Any, tmp_path: Path, said: str) -> None:
    for name, code in SHADOWS[said].items():
        file = tmp_path / "shadow" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(code)
    path = f"{tmp_path / 'shadow'}{os.pathsep}{os.environ['PYTHONPATH']}"
    bad = two.add_node(**node(PROCESS_BYTES + 100 * MIB, env_vars={"PYTHONPATH": path}))
    try:
        assert said in refusal(two, tmp_path)
    finally:
        two.remove_node(bad)


def test_what_a_node_says_of_itself_is_compared_with_the_driver(two: Any, tmp_path: Path) -> None:
    cluster = ray_cluster.RayCluster(two.address, runs=LocalFolder(path=tmp_path), study="s")
    try:
        node = cluster.nodes()[0]
        facts = cluster.facts(cluster.ask(node))
        assert cluster.why_not(node, facts) is None
        without = cluster.why_not(node, replace(facts, versions={"frostline": None, "torch": None}))
        other = cluster.why_not(node, replace(facts, versions=facts.versions | {"frostline": "9.9"}))
    finally:
        cluster.leave()
    version = frostline.__version__
    assert without == f"the node {node.name} has no frostline: install frostline {version} there."
    assert f"{other}".startswith(
        f"the node {node.name} has frostline 9.9, and the driver {version}: install the same"
    )


def test_an_address_that_nobody_answers_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = time.monotonic()
    for address, said in {
        "127.0.0.1:9": r"^nobody answers at '127.0.0.1:9' \(.*\): start a cluster there",
        "ray://here": r"^address is 'ray://here', but must be auto, local or HOST:PORT\.$",
    }.items():
        with pytest.raises(OptionError, match=said):
            search(tmp_path, executor=RayExecutor(address=address))
    assert time.monotonic() - begin < 10
    monkeypatch.setattr(ray, "init", nobody)
    with pytest.raises(OptionError, match=r"^there is no Ray cluster at 'auto' \(Could not find"):
        search(tmp_path, executor=RayExecutor())


def nobody(**options: Any) -> None:
    raise ConnectionError("Could not find any running Ray instance.")


def test_without_ray_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(OptionError, match=r"^Ray is not installed: pip install 'frostline\[ray\]'\.$"):
        search(tmp_path, executor=RayExecutor())
