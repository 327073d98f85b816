"""Passwords are not shown, wherever in a URL a typing error put them, nor repeated by what drivers say."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frostline.inputs.credentials import Secrets, holds_password, without_password

PASSWORD = "hunter2-Xyzzy"

SHOWN = {
    "postgresql://user:{}@host/db": "postgresql://user@host/db",
    "postgresql://user:{}@[::1]:5432/db": "postgresql://user@[::1]:5432/db",
    "postgresql+psycopg://user:{}@host/db?sslpassword={}": "postgresql+psycopg://user@host/db?sslpassword=***",
    "postgresql://host/db?user=u&password={}&x=1": "postgresql://host/db?user=u&password=***&x=1",
    "postgresql://host:5432/db?password=@{}:": "postgresql://host***",
    "postgresql://host/db?p%61ssword={}&x=1": "postgresql://host/db?***&x=1",
    "postgresql://user:a@{}/b:c@host/db": "postgresql://user@host/db",
    "postgresql://user:{}": "postgresql://user:***",
    "postgresql://user:{}/db": "postgresql://user:***",
    "postgresql://user@host:{}/db": "postgresql://user@host:***",
    "postgresql://user:{}@[::1/db": "postgresql://user@[:***",
    "postgresql:u:{}@h/x": "postgresql:***@h/x",
    "postgresql:/u:{}@h/x": "postgresql:***@h/x",
    "postgresql:u:{}": "postgresql:***",
    "postgresql//u:{}@h/x": "***@h/x",
    "postgresql//u://{}@h:-1/x": "***@h:-1/x",
    "place=postgresql://u:{}@h/x": "place=postgresql://u@h/x",
    "//u:{}@h/x": "//***@h/x",
    "//u:{}": "//***",
    "u:{}@h": "***@h",
    "host=h password={} user=u": "host=h password=*** user=u",
    "host=h password='{}'": "host=h password='***'",
    '{{"password": "{}"}}': '{"password": "***"}',
}

PLAIN = [
    "sqlite:///frostline.db",
    "sqlite:////home/me@work/study.db",
    "postgresql://user@host:5432/db?sslmode=require",
    "postgresql://[::1]:5432/db",
    ":memory:",
    "journal.log",
    "/home/me@work/journal.log",
    "C:\\me@work\\journal.log",
    "path/to/file.py:task",
    "digits-resnet audit, 1:learning_rate=10",
    "full_tokens=8192",
    "num_passes=3",
]


@pytest.mark.parametrize("template", SHOWN)
def test_a_password_is_not_shown(template: str) -> None:
    given = template.replace("{}", PASSWORD) if "{{" not in template else template.format(PASSWORD)
    assert without_password(given) == SHOWN[template]
    assert holds_password(given)


@pytest.mark.parametrize("storage", PLAIN)
def test_what_holds_no_password_is_shown_as_it_is(storage: str) -> None:
    assert without_password(storage) == storage
    assert not holds_password(storage)


SCHEMES = st.sampled_from(["postgresql://", "mysql+pymysql://", "postgresql:", "//", "", "x://", "postgresql//"])
NOISE = st.text("@:/?#&=%[] ab1", max_size=6)


@given(SCHEMES, NOISE, NOISE, NOISE)
def test_no_noise_around_a_password_shows_it(scheme: str, before: str, after: str, end: str) -> None:
    # Something names a user, a password follows, and somewhere after it the place begins.
    given = f"{scheme}user:{before}{PASSWORD}{after}@host{end}"
    assert PASSWORD not in without_password(given)


@given(NOISE, NOISE)
def test_sentences_do_not_repeat_it_either(before: str, after: str) -> None:
    given = f"postgresql://user:{before}{PASSWORD}{after}@host/db"
    # Drivers cut it where they take a part of it for a host or a port.
    piece = next(piece for piece in re.split("[@:/?#]", f"{before}{PASSWORD}{after}") if PASSWORD in piece)
    secrets = Secrets(given)
    for sentence in (f"cannot connect to {given!r}", f"no host called {piece}@host", f"{piece!r} is no port"):
        assert PASSWORD not in secrets.hidden_in(sentence)


def test_sentences_stay_as_they_are_without_secrets() -> None:
    words = "there is no task 'x': give one of a, b, or path/to/file.py:NAME; me@example.org knows."
    assert Secrets("sqlite:///frostline.db").hidden_in(words) == words
    assert Secrets().hidden_in("a failure of postgresql://u:secret@h/x, twice") == (
        "a failure of postgresql://u@h/x, twice"
    )


@pytest.mark.parametrize("text", ["pass" * 50_000, ":" * 200_000, "?%" * 100_000, "a=" * 100_000, "@:" * 50_000])
def test_no_text_takes_long(text: str) -> None:
    begin = time.process_time()
    Secrets(text).hidden_in(text)
    assert time.process_time() - begin < 2
