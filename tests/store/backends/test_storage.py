"""Storages that open, and those that cannot: one line each."""

from __future__ import annotations

import gc
import json
import os
import sqlite3
import traceback
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import optuna
import pytest
from optuna.storages import InMemoryStorage, JournalStorage
from sqlalchemy import event
from sqlalchemy.pool import Pool

from frostline.errors import OptionError, StudyError
from frostline.store.backends.fastest import access_to
from frostline.store.backends.storage import MEMORY, StorageErrors, close_storage, exists, open_storage
from frostline.store.reading import read_study


def test_a_url_a_path_and_memory_open_the_three_kinds(tmp_path: Path) -> None:
    assert isinstance(open_storage(MEMORY), InMemoryStorage)
    assert isinstance(open_storage(str(tmp_path / "journal.log")), JournalStorage)
    storage = open_storage(f"sqlite:///{tmp_path}/study.db")
    optuna.create_study(storage=storage, study_name="x")
    assert [study.study_name for study in open_storage(f"sqlite:///{tmp_path}/study.db").get_all_studies()] == [
        "x"
    ]


@pytest.mark.parametrize(
    ("storage", "words"),
    [
        ("sqlite:////no/such/folder/study.db", "unable to open database file"),
        ("nonsense://somewhere/db", "nonsense"),
        ("postgresql://user:secret@localhost:1/db", "user@localhost:1/db"),
        ("/no/such/folder/journal.log", "in a folder that exists"),
    ],
)
def test_a_storage_that_cannot_be_opened_is_one_line(storage: str, words: str) -> None:
    with pytest.raises(StudyError) as caught:
        open_storage(storage)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    path.write_bytes(b"this is not a database " * 100)
    with pytest.raises(StudyError, match=r"study\.db.*file is not a database"):
        open_storage(f"sqlite:///{path}")


@pytest.fixture
def connections() -> Iterator[list[sqlite3.Connection]]:
    """Every connection that is made to a database, held: none is closed by being collected."""
    made: list[sqlite3.Connection] = []

    def hold(connection: sqlite3.Connection, _: object) -> None:
        made.append(connection)

    event.listen(Pool, "connect", hold)
    yield made
    event.remove(Pool, "connect", hold)


def is_closed(connection: sqlite3.Connection) -> bool:
    try:
        connection.execute("select 1")
    except sqlite3.ProgrammingError:
        return True
    except sqlite3.DatabaseError:  # open, and no database
        pass
    return False


def test_a_database_that_nobody_holds_any_more_is_closed(
    tmp_path: Path, connections: list[sqlite3.Connection]
) -> None:
    study = optuna.create_study(storage=open_storage(f"sqlite:///{tmp_path}/s.db"), study_name="s")
    close_storage(study._storage)
    assert study.trials == []  # connects again, as whoever looks into a result does
    *before, now = connections
    assert before
    assert all(map(is_closed, before))
    assert not is_closed(now)
    del study
    gc.collect()
    assert all(map(is_closed, connections))


def test_what_reads_a_study_holds_its_database(tmp_path: Path, connections: list[sqlite3.Connection]) -> None:
    storage = open_storage(f"sqlite:///{tmp_path}/s.db")
    access = access_to(storage, storage.create_new_study([optuna.study.StudyDirection.MINIMIZE], "s"))
    del storage
    gc.collect()
    assert access.num_trials() == 0
    del access
    gc.collect()
    assert all(map(is_closed, connections))


def test_a_fork_leaves_its_parents_connections_alone(
    tmp_path: Path, connections: list[sqlite3.Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = open_storage(f"sqlite:///{tmp_path}/s.db")
    monkeypatch.setattr(os, "getpid", lambda: -1)  # as in one
    del storage
    gc.collect()
    assert not any(map(is_closed, connections))
    for connection in connections:
        connection.close()


def test_what_cannot_be_opened_is_left_closed(tmp_path: Path, connections: list[sqlite3.Connection]) -> None:
    path = tmp_path / "study.db"
    path.write_bytes(b"this is not a database " * 100)
    with pytest.raises(StudyError):
        open_storage(f"sqlite:///{path}")
    (connection,) = connections
    assert is_closed(connection)


def test_a_corrupt_journal_is_named(tmp_path: Path) -> None:
    path = tmp_path / "journal.log"
    path.write_text('{"op_code": 0, "worker_id"\n{"op_code": 0}\n')
    with pytest.raises(StudyError, match=r"journal\.log' is corrupt"):
        open_storage(str(path))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"line one\nmy precious last line without newline", r"notes' is no journal of studies"),
        (b"SQLite format 3\0 and more", r"is an SQLite database: write it as sqlite:///.*notes\."),
        (b"\x00\x01\n\x02", "is no journal of studies"),
    ],
)
def test_a_file_that_is_no_journal_stays_as_it_is(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "notes"
    path.write_bytes(content)
    with pytest.raises(StudyError, match=words):
        open_storage(str(path))
    assert path.read_bytes() == content


@pytest.mark.parametrize("content", [b"", b'{"op', b'{"op_code":0,"worker_id":"a"'])
def test_a_journal_whose_first_line_is_torn_begins_anew(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "journal.log"
    path.write_bytes(content)
    optuna.create_study(storage=open_storage(str(path)), study_name="added")
    assert [study.study_name for study in open_storage(str(path)).get_all_studies()] == ["added"]


def test_a_journal_beside_which_no_file_can_be_made_can_be_looked_at(tmp_path: Path) -> None:
    """As in a folder that may only be read: whoever runs this may be root, and write there all the same."""
    path = tmp_path / "journal.log"
    optuna.create_study(storage=open_storage(str(path)), study_name="x")
    # The name of its lock is too long for any file.
    alone = path.rename(tmp_path / ("j" * 255))
    assert [study.study_name for study in open_storage(str(alone)).get_all_studies()] == ["x"]
    with pytest.raises(OSError, match="File name too long"):
        optuna.create_study(storage=open_storage(str(alone)), study_name="y")


def test_a_torn_last_line_of_a_journal_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "journal.log"
    optuna.create_study(storage=open_storage(str(path)), study_name="kept")
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"op_code": 4, "worker')
    storage = open_storage(str(path))
    assert path.read_bytes() == whole
    optuna.create_study(storage=storage, study_name="added")
    assert all(json.loads(line) for line in path.read_text().splitlines())
    assert {study.study_name for study in open_storage(str(path)).get_all_studies()} == {"kept", "added"}


@pytest.mark.parametrize(
    "storage",
    [
        "postgresql://u:{}@h:port/x",
        "postgresql://u:{}@[::1/x",
        "postgresql://u@[h:1]:{}/x",
        "postgresql://u:{}/x",
        "postgresql:u:{}@h/x",
        "postgresql:u:{}",
        "//u:{}@h/x",
        "nonsense://u:{}@h/x",
        "://u:{}@h/x",
        "sqlite://u:{}@h/x",
        "sqlite:////no/such/folder/{}?password={}",
    ],
)
def test_a_malformed_url_is_one_line_without_its_password(storage: str, tmp_path: Path) -> None:
    place = storage.replace("{}", "hunter2-Xyzzy", 1).replace("{}", "hunter2-Xyzzy")
    with suppress(StudyError):
        exists(place)
    with pytest.raises(StudyError) as caught:
        open_storage(place)
    assert "\n" not in str(caught.value)
    trace = "".join(traceback.format_exception(caught.value))
    assert "hunter2-Xyzzy" not in trace.replace("/folder/hunter2-Xyzzy", "")


@pytest.mark.parametrize("path", ["/dev/full", "/dev/null"])
def test_a_journal_is_a_file(path: str) -> None:
    with pytest.raises(StudyError, match="name a file in a folder that exists"):
        open_storage(path)


@pytest.mark.parametrize("place", ["\0", f"sqlite:///{'x' * 5000}", "x" * 5000, "sqlite:///\udcff/x"])
def test_what_is_no_path_is_one_line(place: str) -> None:
    with pytest.raises(StudyError, match="cannot be"):
        open_storage(place)


@pytest.mark.parametrize("name", ["", "x" * 513, "a\udcff", "a\nb", "postgresql://u:hunter2@h/x"])
def test_what_cannot_be_the_name_of_a_study_is_one_line(name: str) -> None:
    with pytest.raises(OptionError) as caught:
        read_study(MEMORY, name)
    assert "name" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert str(caught.value).isprintable()


def test_other_errors_pass_through() -> None:
    with pytest.raises(ZeroDivisionError), StorageErrors("sqlite:///x.db"):
        _ = 1 / 0
