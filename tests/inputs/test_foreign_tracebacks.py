"""What is shown of an error in the user's code: the lines of the user's code, and nothing that is held by them."""

from __future__ import annotations

import json
import pickle
import weakref

import pytest
import torch

from frostline.inputs.foreign_tracebacks import last_place, shortened_traceback, without_our_frames
from frostline.records import Failure


def raised_by_library() -> None:
    torch.nn.Linear(2, 3)(torch.zeros(1, 5))


def raised_from() -> None:
    try:
        json.loads("no json")
    except ValueError as error:
        raise KeyError("the table") from error


def error_of(function: object) -> BaseException:
    with pytest.raises(Exception) as caught:
        function()  # type: ignore[operator]
    return caught.value


def files_in(text: str) -> list[str]:
    return [line.split('"')[1].rpartition("/")[2] for line in text.splitlines() if line.startswith("  File ")]


def test_the_last_line_of_the_users_code_is_named_and_no_library_is_shown() -> None:
    error = error_of(raised_by_library)
    assert last_place(error) == f"test_foreign_tracebacks.py:{raised_by_library.__code__.co_firstlineno + 1}"
    text = shortened_traceback(error)
    assert set(files_in(text)) == {"test_foreign_tracebacks.py"}
    assert "    torch.nn.Linear(2, 3)(torch.zeros(1, 5))" in text
    assert text.splitlines()[-1].startswith("RuntimeError: mat1 and mat2 shapes cannot be multiplied")


def test_what_led_to_it_is_shown_too() -> None:
    text = shortened_traceback(error_of(raised_from))
    assert "json.decoder.JSONDecodeError: Expecting value" in text
    assert "The above exception was the direct cause of the following exception:" in text
    assert text.splitlines()[-1] == "KeyError: 'the table'"
    assert set(files_in(text)) == {"test_foreign_tracebacks.py"}


def test_without_a_line_of_the_user_all_of_it_is_shown() -> None:
    try:
        json.loads("no json")
    except ValueError as caught:
        error = caught.with_traceback(caught.__traceback__.tb_next)  # type: ignore[union-attr]
    assert last_place(error).startswith("decoder.py:")
    assert files_in(shortened_traceback(error))[-1] == "decoder.py"


def test_an_error_that_is_kept_holds_nothing() -> None:
    class Held:
        pass

    alive: list[weakref.ref[Held]] = []

    def raises() -> None:
        held = Held()
        alive.append(weakref.ref(held))
        raise ValueError

    error = error_of(raises)
    # A chain that leads back to its beginning has an end.
    error.__cause__ = ValueError()
    error.__cause__.__cause__ = error
    assert without_our_frames(error) is error
    assert alive[0]() is None


def test_a_failure_is_sent_without_its_exception() -> None:
    class CannotBePickledError(Exception):
        pass

    failure = Failure(error="E", place="a.py:1", traceback="...", exception=CannotBePickledError())
    sent = pickle.loads(pickle.dumps(failure))
    assert sent == failure
    assert sent.exception is None
