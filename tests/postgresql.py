"""A PostgreSQL server for the tests that need one: that of FROSTLINE_TEST_DATABASE, or one of the test's own on loopback."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SERVER = os.environ.get("FROSTLINE_TEST_DATABASE", "")
ENCODING = ("-E", "UTF8", "--locale=C")


@contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """Return the URL of an empty database; skip the test where there is no driver, or no server and no program of one.

    A server of the test's own keeps its data in ``folder``, and is stopped at the end.
    """
    if importlib.util.find_spec("psycopg") is None:
        pytest.skip("psycopg is not installed: pip install 'frostline[postgresql]'")
    if SERVER:
        with database_of(SERVER, uuid.uuid4().hex[:8]) as place:
            yield place
        return
    programs = _programs()
    if programs is None:
        pytest.skip("FROSTLINE_TEST_DATABASE names no server, and PostgreSQL's initdb is not here")
    folder.mkdir(parents=True)
    data, port = folder / "data", _free_port()
    owner = _owner(folder)
    _run([programs / "initdb", "-D", data, "-U", "frostline", "--auth", "trust", "--no-sync", *ENCODING], owner)
    settings = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c max_connections=100"
    _run([programs / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", settings, "start"], owner)
    try:
        yield f"postgresql+psycopg://frostline@127.0.0.1:{port}/postgres"
    finally:
        _run([programs / "pg_ctl", "-D", data, "-m", "immediate", "stop"], owner)


@contextmanager
def database_of(server: str, name: str) -> Iterator[str]:
    """Return a database of its own on the server, which is dropped again."""
    from sqlalchemy import create_engine, make_url, text

    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE frostline_{name}"))
    try:
        yield make_url(server).set(database=f"frostline_{name}").render_as_string(hide_password=False)
    finally:
        with engine.connect() as connection:
            connection.execute(text(f"DROP DATABASE frostline_{name} WITH (FORCE)"))
        engine.dispose()


def _programs() -> Path | None:
    """Return the folder of PostgreSQL's programs, which Debian keeps out of the PATH."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).parent
    return next(
        (path.parent for path in sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)), None
    )


def _owner(folder: Path) -> str | None:
    """Return the user that the server is to run as where this one may not, and make ``folder`` theirs; root may not."""
    if os.geteuid() != 0:
        return None
    try:
        pwd.getpwnam("postgres")
    except KeyError:
        pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
    shutil.chown(folder, "postgres", "postgres")
    for parent in folder.parents:
        # pytest's folders are closed to others.
        if parent.stat().st_uid == 0 and parent.is_relative_to("/tmp") and parent != Path("/tmp"):
            parent.chmod(0o755)
    return "postgres"


def _run(words: list[str | Path], owner: str | None) -> None:
    ended = subprocess.run(
        words, user=owner, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        cwd="/", env={**os.environ, "LC_ALL": "C"},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port
