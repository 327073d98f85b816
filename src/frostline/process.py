"""What holds for a whole process: threads and memory of one that trains on the CPU, and what its libraries log.

Threads and memory are to be set before torch is loaded. Nothing of ours and nothing heavy is imported here: torch brings
OpenMP, which reads its environment once. The ``frostline`` command does this; as a library frostline leaves process and
environment alone. Why these settings: docs/decisions/0009.
"""

import atexit
import ctypes
import gc
import logging
import mmap
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
_LARGE = 2**20

_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_PAGES = Path("/proc/self/statm")

INTERRUPTED = 130
"""What a command returns that Ctrl-C ended: shells do, and typer."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def prepare_process() -> None:
    """Let a process that is going to load torch wait and allocate in ways that suit training on the CPU, and end at once."""
    _open_missing_streams()
    # Threads that wait awake for long starve each other once anything else runs on a core; those that sleep at once have to
    # be woken for every operation. A short while awake is nearly the best of both.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "5000")
    # Large tensors come and go with every step: given back to the system each time, their pages are zeroed anew each time.
    _set_malloc({_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: 2**31 - 1})
    # An interpreter that ends walks all objects several times, looking for cycles: more than a second with torch loaded.
    atexit.register(gc.freeze)


def _open_missing_streams() -> None:
    """Let what is written to a stream that was closed (``>&-``) go nowhere: a file opened later would get its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115 (as long as the process)


def num_cores() -> int:
    """Return how many processor cores this process may keep busy: taskset or a container may allow fewer than there are."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        # Microseconds that are allowed in so many: "200000 100000" is two cores, "max 100000" all.
        quota, period = _QUOTA.read_text().split()
        allowed = round(int(quota) / int(period))
    except (OSError, ValueError):
        return there
    return max(1, min(there, allowed))


def return_freed_memory() -> None:
    """Let large tensors go back to the system as soon as they are freed: slower, and no more memory than there are tensors.

    For models that hardly fit. It may be called at any time; what was freed before stays.
    """
    _set_malloc({_M_MMAP_MAX: 65_536, _M_MMAP_THRESHOLD: _LARGE, _M_TRIM_THRESHOLD: _LARGE})


def trim_freed_memory() -> None:
    """Give back now what is freed and kept: some milliseconds, and the pages are zeroed anew when they are needed again."""
    library: Any = ctypes.CDLL(None) if os.name == "posix" else None
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)


def resident_bytes(pid: int | None = None) -> int | None:
    """Return the bytes that a process of this machine, by default this one, has in memory now; None where nobody says."""
    try:
        return int((_PAGES if pid is None else Path(f"/proc/{pid}/statm")).read_text().split()[1]) * mmap.PAGESIZE
    except (OSError, ValueError, IndexError):
        return None


def collect_garbage() -> None:
    """Free what only holds itself."""
    # What is raised in what the collector calls back is printed and lost.
    with uninterrupted():
        gc.collect()


@contextmanager
def old_objects_passed_over() -> Iterator[None]:
    """While this lasts the garbage collector passes over what was there before, but for garbage, which it frees first.

    A collection takes a fifth of a second with torch and what it loads, or a tenth of that for what came since.
    """
    collect_garbage()
    if gc.get_freeze_count():  # somebody has said so already, for longer
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def only_warnings(name: str) -> Iterator[None]:
    """While this lasts the logger ``name``, and those below it that have no level of their own, log nothing less."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let the first signal that tells this process to end be handled after what is within; a second one is heard at once.

    Python raises KeyboardInterrupt between any two lines. Blocking the signal would not do: another thread takes it then,
    and Python handles it in the main thread all the same.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Signals are handled by the main thread alone.
        return
    handlers = {number: handler for number in _SIGNALS if callable(handler := signal.getsignal(number))}
    waiting: list[int] = []

    def wait(number: int, frame: FrameType | None) -> None:
        waiting.append(number)
        if len(waiting) > 1:
            handlers[signal.Signals(number)](number, frame)

    for number in handlers:
        signal.signal(number, wait)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if waiting:
            handlers[signal.Signals(waiting[0])](waiting[0], None)


def _set_malloc(options: dict[int, int]) -> None:
    """Set options of glibc's malloc, where it is that, and the user has not said how it shall be."""
    library: Any = ctypes.CDLL(None) if os.name == "posix" else None
    if hasattr(library, "mallopt") and not any(name.startswith("MALLOC_") for name in os.environ):
        for option, value in options.items():
            library.mallopt(option, value)
