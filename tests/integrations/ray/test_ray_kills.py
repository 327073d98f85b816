"""Workers, nodes and drivers of a Ray cluster that are killed again and again: the answer is that of an undisturbed search.

``make torture`` kills two hundred; what was counted stands in docs/benchmarks/reliability.md. Nothing is killed before
what the last death has cost is made good: two in a row set a configuration aside, which ``test_ray`` tests.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from random import Random
from typing import Any

import pytest

from frostline.integrations.ray.node_shares import PROCESS_BYTES
from frostline.run.execution.local import local_executor
from frostline.run.loop import SILENT
from tests.integrations.ray.ray_driver import search
from tests.run.test_faults import everything_in

pytest.importorskip("ray", reason="Ray is not installed")
from tests.integrations.ray.test_ray_executor import MIB, ROOT, cluster_of, node

pytestmark = [pytest.mark.multiprocess, pytest.mark.torture, pytest.mark.xdist_group("ray")]

MEMORIES = [PROCESS_BYTES + size * MIB for size in (50, 100, 200, 400)]
CONFIGURATIONS = 729
KILLS = 40


class Driver:
    """A process that searches, and what it says."""

    def __init__(self, address: str, place: Path) -> None:
        command = [
            sys.executable,
            "-m",
            "tests.integrations.ray.ray_driver",
            address,
            f"{place}",
            f"{CONFIGURATIONS}",
        ]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        self.said: SimpleQueue[list[str]] = SimpleQueue()
        self.reading = threading.Thread(target=self._read, daemon=True)
        self.reading.start()

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.end()

    def end(self) -> int:
        status = self.process.wait()
        self.reading.join()
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status

    def skip(self, seconds: float) -> None:
        """Do not listen to what was said before a death was noticed."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            with suppress(Empty):
                self.said.get(timeout=0.05)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("ended "):
                self.said.put(line.split())

    def next_ended(self, deadline: float) -> tuple[int, int] | None:
        """How many have ended and how many are tried once more; None at the end of the process."""
        while True:
            try:
                _, num_ended, num_suspects = self.said.get(timeout=0.2)
                return int(num_ended), int(num_suspects)
            except Empty:
                if self.process.poll() is not None:
                    return None
                assert time.monotonic() < deadline, "the search is not over"


def workers_of(cluster: Any) -> list[int]:
    """The processes that train on the nodes of a cluster."""
    raylets = {each.all_processes["raylet"][0].process.pid for each in cluster.list_all_nodes()}
    pids = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes()
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if words.startswith(b"ray::ShareWorker") and parent in raylets:
            pids.append(int(folder.name))
    return pids


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(5))
def test_a_search_that_is_killed_for_long_is_the_undisturbed_one(seed: int, tmp_path: Path) -> None:
    random, kills = Random(seed), Counter[str]()
    deadline = time.monotonic() + 3000
    with cluster_of(*MEMORIES) as cluster:
        driver, may_kill_driver_at = Driver(cluster.address, tmp_path), 10
        while (news := driver.next_ended(deadline)) is not None:
            num_ended, num_suspects = news
            if num_suspects or kills.total() >= KILLS or random.random() < 0.7:
                continue
            kind = random.choices(("worker", "node", "driver"), (6, 3, 1))[0]
            if kind == "driver" and num_ended >= may_kill_driver_at:
                # What it had claimed has ended before another one dies.
                may_kill_driver_at = num_ended + 130
                driver.kill()
                driver = Driver(cluster.address, tmp_path)
            elif kind == "node":
                victim = random.choice([*cluster.worker_nodes])
                cluster.remove_node(victim, allow_graceful=False)
                cluster.add_node(**node(random.choice(MEMORIES)))
                driver.skip(2.0)
            elif kind == "worker" and (pids := workers_of(cluster)):
                os.kill(random.choice(pids), signal.SIGKILL)
                driver.skip(0.7)
            else:
                continue
            kills[kind] += 1
        assert driver.end() == 0
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    search(undisturbed, local_executor, SILENT, configurations=CONFIGURATIONS)
    found, expected = (everything_in(f"sqlite:///{place}/study.db") for place in (tmp_path, undisturbed))
    assert found == expected
    print(f"\nseed {seed}: {dict(kills)}, {num_ended} evaluations")  # noqa: T201
