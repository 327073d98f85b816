"""Storages that open, and those that cannot: one line each."""

from __future__ import annotations

import json
from pathlib import Path

import optuna
import pytest
from optuna.storages import InMemoryStorage, JournalStorage

from frostline.errors import StudyError
from frostline.store.storage import MEMORY, StorageErrors, open_storage, without_password


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


def test_a_corrupt_journal_is_named(tmp_path: Path) -> None:
    path = tmp_path / "journal.log"
    path.write_text('{"op_code": 0, "worker_id"\n{"op_code": 0}\n')
    with pytest.raises(StudyError, match=r"journal\.log' is corrupt"):
        open_storage(str(path))


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
    ("url", "shown"),
    [
        ("postgresql://user:secret@host/db", "postgresql://user@host/db"),
        ("postgresql://host/db?user=u&password=secret&x=1", "postgresql://host/db?user=u&password=***&x=1"),
        ("sqlite:///study.db", "sqlite:///study.db"),
    ],
)
def test_passwords_are_not_shown(url: str, shown: str) -> None:
    assert without_password(url) == shown


def test_other_errors_pass_through() -> None:
    with pytest.raises(ZeroDivisionError), StorageErrors("sqlite:///x.db"):
        _ = 1 / 0
