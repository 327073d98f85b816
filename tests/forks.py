"""Processes that begin at once, with all that the parent of ``processes`` has loaded, and whose streams are read."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from typing import Any, TextIO

from frostline.__main__ import main


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What is left of a process that has ended."""

    returncode: int
    stdout: str
    stderr: str


class Fork(AbstractContextManager["Fork"]):
    """What ``subprocess.Popen`` is for a command, for a function: it runs in the folder and environment of here."""

    def __init__(
        self,
        processes: ForkServerContext,
        function: Callable[..., Any],
        *arguments: Any,
        own_session: bool = False,
    ) -> None:
        pipes = [processes.Pipe(duplex=False) for _ in range(3)]
        (its_input, ours), (out, its_out), (err, its_err) = pipes
        theirs = (its_input, its_out, its_err)
        call = (theirs, {**os.environ}, own_session, function, arguments)
        self._process = processes.Process(target=_run, args=call)
        self._process.start()
        for end in theirs:
            end.close()
        self.stdin, self.stdout, self.stderr = _opened(ours, "w"), _opened(out, "r"), _opened(err, "r")

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The status; below zero the signal that ended it, None while it runs."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self._process.is_alive():
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int | None:
        """Return the status, or None if it still runs after so many seconds."""
        self._process.join(timeout)
        return self.returncode

    def ended(self) -> Ended:
        """Return what is left when it has come to its end: little is written to the second stream."""
        out, err = self.stdout.read(), self.stderr.read()
        self._process.join()
        assert self.returncode is not None
        return Ended(returncode=self.returncode, stdout=out, stderr=err)

    def __exit__(self, *error: object) -> None:
        self.kill()
        self._process.join()
        for stream in (self.stdin, self.stdout, self.stderr):
            stream.close()


def frostline(words: Sequence[str]) -> None:
    """Do what the installed command does with these words."""
    sys.argv[1:] = words
    main()


def _opened(connection: Connection, mode: str) -> TextIO:
    with connection:
        return os.fdopen(os.dup(connection.fileno()), mode, buffering=1)


def _run(
    streams: tuple[Connection, Connection, Connection],
    environment: Mapping[str, str],
    own_session: bool,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    """What the fork does."""
    if own_session:
        os.setsid()
    # A shell's background jobs, and all they start, ignore the interrupt otherwise.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    for number, stream in enumerate(streams):
        os.dup2(stream.fileno(), number)
        stream.close()
    # Closed by multiprocessing, or another file's.
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    # Whoever is told to abort says where it stood.
    faulthandler.enable(file=sys.stderr)
    function(*arguments)
