"""Several processes on one study: who is there, who is still alive, and whose turn it is to decide.

Everything lies in the study's system attributes, so that it works on every Optuna storage and on several machines, and
needs no server and no lock file. Each worker writes one attribute of its own and reads those of all.
"""

from __future__ import annotations

import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from optuna.storages import BaseStorage

_PREFIX = "frostline:worker:"
_BEAT_SECONDS = 15.0
# A worker on another machine is taken for dead after this long without a beat. It must outlast a slow database and clocks
# that disagree a little; on the same machine the process table knows at once.
_DEAD_AFTER_SECONDS = 120.0


class Turn(Protocol):
    """Mutual exclusion between the workers of one study, and the news of who is alive."""

    worker: str

    def take(self) -> AbstractContextManager[None]:
        """Return a context manager in which no other worker decides."""
        ...

    def alive(self, worker: str) -> bool:
        """Return whether ``worker`` is known and still alive."""
        ...

    def others(self) -> bool:
        """Return whether another worker is alive, or was when last asked."""
        ...

    def in_company(self) -> bool:
        """Return whether another worker is alive."""
        ...

    def leave(self) -> None:
        """Say that this worker is gone."""
        ...


@dataclass(frozen=True, slots=True)
class _Presence:
    """What a worker says of itself in its attribute."""

    host: str
    pid: int
    started: str
    beat: float
    deciding: bool

    @classmethod
    def parse(cls, record: Mapping[str, Any]) -> _Presence:
        return cls(record["host"], record["pid"], record["started"], record["beat"], record["deciding"])

    @property
    def alive(self) -> bool:
        if self.host == socket.gethostname():
            return _process_start(self.pid) == self.started
        return time.time() - self.beat < _DEAD_AFTER_SECONDS


class SoleWorker:
    """The turn of a study that no other process can reach: storage in memory."""

    def __init__(self) -> None:
        self.worker = f"{socket.gethostname()}:{os.getpid()}"

    def take(self) -> AbstractContextManager[None]:
        """Return at once: there is nobody to wait for."""
        return nullcontext()

    def alive(self, worker: str) -> bool:
        """Return whether ``worker`` is this one."""
        return worker == self.worker

    def others(self) -> bool:
        """Return False."""
        return False

    def in_company(self) -> bool:
        """Return False."""
        return False

    def leave(self) -> None:
        """Do nothing."""


class SharedTurn:
    """The turn of a study that several processes may work on.

    Mutual exclusion without a lock in the storage: a worker writes that it wants to decide, then reads everybody. If
    another living worker wants to as well it withdraws and tries again a moment later. Of two, the later reader sees the
    earlier writer, so they never both go on; it rests on writes and reads that are seen in one order, as Optuna's database
    and journal storages give it. A worker that died while deciding is passed over.
    """

    def __init__(self, storage: BaseStorage, study_id: int) -> None:
        self._storage = storage
        self._study_id = study_id
        self.worker = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._started = _process_start(os.getpid())
        self._deciding = False
        self._presences: dict[str, _Presence] = {}
        self._seen: set[str] = {_PREFIX + self.worker}
        self._someone_came = False
        self._someone_was_there = True
        self._writing = threading.Lock()
        self._gone = threading.Event()
        self._say()
        threading.Thread(target=self._beat, name="frostline-heartbeat", daemon=True).start()

    @contextmanager
    def take(self) -> Iterator[None]:
        """Wait until no other living worker decides, and keep the turn for the duration of the context."""
        while True:
            self._say(deciding=True)
            self._look()
            if not any(presence.deciding for presence in self._living_others()):
                break
            self._say(deciding=False)
            time.sleep(random.uniform(0.01, 0.1))  # noqa: S311 (breaks ties between workers, decides nothing)
        try:
            yield
        finally:
            self._say(deciding=False)

    def alive(self, worker: str) -> bool:
        """Return whether ``worker`` is this one, or was alive when the turn was last taken."""
        presence = self._presences.get(worker)
        return worker == self.worker or (presence is not None and presence.alive)

    def others(self) -> bool:
        """Return whether another worker is alive, or was when last asked: then the study may hold news."""
        someone_is_there = self.in_company()
        news = someone_is_there or self._someone_was_there or self._someone_came
        self._someone_came = False
        self._someone_was_there = someone_is_there
        return news

    def in_company(self) -> bool:
        """Return whether another worker was alive when the turn was last taken."""
        return any(True for _ in self._living_others())

    def leave(self) -> None:
        """Stop the heartbeat and say that this worker is gone."""
        self._gone.set()
        with self._writing:
            self._storage.set_study_system_attr(self._study_id, _PREFIX + self.worker, None)

    def _living_others(self) -> Iterator[_Presence]:
        return (p for worker, p in self._presences.items() if worker != self.worker and p.alive)

    def _say(self, *, deciding: bool | None = None) -> None:
        with self._writing:
            if self._gone.is_set():
                return
            if deciding is not None:
                self._deciding = deciding
            record: dict[str, Any] = {
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "started": self._started,
                "beat": time.time(),
                "deciding": self._deciding,
            }
            self._storage.set_study_system_attr(self._study_id, _PREFIX + self.worker, record)

    def _look(self) -> None:
        attributes = self._storage.get_study_system_attrs(self._study_id)
        # Who left again has None there, so that one who came and went between two looks is not missed.
        workers = {key for key in attributes if key.startswith(_PREFIX)}
        self._someone_came |= not workers <= self._seen
        self._seen |= workers
        self._presences = {
            key.removeprefix(_PREFIX): _Presence.parse(record)
            for key, record in attributes.items()
            if key.startswith(_PREFIX) and record is not None
        }

    def _beat(self) -> None:
        while not self._gone.wait(_BEAT_SECONDS):
            try:
                self._say()
            except Exception:  # noqa: S112 (a missed beat is no reason to stop: the main thread meets the same storage)
                continue


def _process_start(pid: int) -> str:
    """Return what tells the process ``pid`` of this machine from a later one of the same number; "" if there is none."""
    try:
        # Field 22 of /proc/PID/stat is the start time; the name in parentheses before it may hold spaces.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]  # a killed process whose parent has not noticed is dead too
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return ""
    except (OSError, IndexError):
        return ""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "running"
