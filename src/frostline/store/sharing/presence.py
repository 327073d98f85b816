"""Who works on a study: what each worker says of itself in an attribute of the study, and whether it still lives."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from frostline.errors import StudyError
from frostline.records import Request, Station
from frostline.store.parsing import MOST_SHOWN, parse_presence

PREFIX = "frostline:worker:"

# A worker that says nothing for so long is taken for dead, on another machine or stopped on this one. It must outlast a slow
# database; of the other processes of this machine the process table knows at once.
DEAD_AFTER_SECONDS = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """What a worker says of itself."""

    host: str
    boot: str
    """Tells this run of the machine from the one before."""
    pid: int
    started: str
    """Tells the process from a later one of the same number."""
    beat: float
    """When it said so, in seconds since 1970 by its own clock."""
    deciding: float | None = None
    """Since when it wants to decide, or does; None if it does not."""
    sent: int = 0
    """How many pieces of news it has told in all; ``news`` holds the last of them."""
    news: tuple[Any, ...] = ()
    heard: Mapping[str, int] = field(default_factory=dict)
    """Of every other worker, how many of its pieces of news are known to this one."""
    stations: tuple[Station, ...] | None = None
    """The processes that train for it, and what; of many the first. None where its executor does not tell."""

    @classmethod
    def parse(cls, worker: str, stored: object) -> Presence:
        """Return the presence of ``worker`` that a record was written from. Raises: StudyError if it is damaged."""
        record = parse_presence(worker, stored)
        deciding = record["deciding"]
        return cls(
            host=record["host"],
            boot=record.get("boot", ""),
            pid=record["pid"],
            started=record["started"],
            beat=record["beat"],
            deciding=(record["beat"] if deciding else None) if isinstance(deciding, bool) else deciding,
            sent=record.get("sent", 0),
            news=tuple(record.get("news", ())),
            heard=record.get("heard", {}),
            stations=tuple(map(_station_of, record["stations"])) if "stations" in record else None,
        )

    def record(self) -> dict[str, Any]:
        """Return what ``parse`` takes, for JSON."""
        return {
            "host": self.host,
            "boot": self.boot,
            "pid": self.pid,
            "started": self.started,
            "beat": self.beat,
            "deciding": self.deciding,
            "sent": self.sent,
            "news": list(self.news),
            "heard": dict(self.heard),
            **(
                {}
                if self.stations is None
                else {"stations": list(map(_station_record, self.stations[:MOST_SHOWN]))}
            ),
        }


def _station_record(station: Station) -> dict[str, Any]:
    return {
        "host": station.host,
        "pid": station.pid,
        "device": station.device,
        "requests": [[request.number, request.rung] for request in station.requests[:MOST_SHOWN]],
        "since": station.since,
        "promised": station.promised_bytes,
        "used": station.used_bytes,
    }


def _station_of(record: Mapping[str, Any]) -> Station:
    return Station(
        host=record["host"],
        pid=record["pid"],
        device=record["device"],
        requests=tuple(Request(number, rung) for number, rung in record["requests"]),
        since=record["since"],
        promised_bytes=record["promised"],
        used_bytes=record["used"],
    )


class Watch:
    """Tells which of the workers that were seen are alive, by their beats and the process table.

    How long ago a known worker's last beat was goes by this process's own clock, which no one sets and which stands still
    while the machine sleeps; only one that is met for the first time is believed its time of day.
    """

    def __init__(self) -> None:
        self._host, self._boot = socket.gethostname(), boot_of_machine()
        self._beats: dict[str, tuple[float, float]] = {}
        """Of each worker the last beat, and when by our clock it would have been just now."""

    def is_alive(self, worker: str, presence: Presence) -> bool:
        """Return whether ``worker`` lives."""
        now = time.monotonic()
        beat, when = self._beats.get(worker, (None, now - max(0.0, time.time() - presence.beat)))
        if beat is not None and beat != presence.beat:
            when = now
        self._beats[worker] = presence.beat, when
        if presence.host == self._host:
            state, started = process_of(presence.pid) if self._is_of_this_boot(presence) else ("", "")
            if started != presence.started:
                return False
            # A process that was stopped, as by Ctrl-Z, may never go on.
            if state not in "Tt":
                return True
        return now - when < DEAD_AFTER_SECONDS

    def has_died(self, presence: Presence) -> bool:
        """Return whether a worker's process ended without a word, on this machine and since that was started."""
        is_here = presence.host == self._host and self._is_of_this_boot(presence)
        return is_here and process_of(presence.pid)[1] != presence.started

    def _is_of_this_boot(self, presence: Presence) -> bool:
        return presence.boot in ("", self._boot)


def living_workers(attributes: Mapping[str, Any], watch: Watch | None = None) -> dict[str, Presence]:
    """Return what those workers say of themselves, in a study's ``attributes``, that are alive, by what claims call them.

    A ``watch`` that has seen them before knows better.
    """
    watch, living = watch or Watch(), dict[str, Presence]()
    for name, record in attributes.items():
        if name.startswith(PREFIX) and record is not None:
            # What is damaged no living worker has written; and a damaged study may be deleted.
            with suppress(StudyError):
                worker = name.removeprefix(PREFIX)
                presence = Presence.parse(worker, record)
                if watch.is_alive(worker, presence):
                    living[worker] = presence
    return living


def boot_of_machine() -> str:
    """Return what tells this run of the machine from others; "" where nothing does."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def process_of(pid: int) -> tuple[str, str]:
    """Return the state of the process ``pid`` of this machine, and what tells it from a later one of the same number.

    Of one that is gone both are "".
    """
    try:
        # The state and, 19 fields on, the start; the name in parentheses before them may hold spaces.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        # A killed process whose parent has not noticed is dead too.
        return ("", "") if fields[0] in "ZX" else (fields[0], fields[19])
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return "", ""
    except (OSError, IndexError):
        return "", ""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return "", ""
    except PermissionError:
        pass
    return "R", "running"
