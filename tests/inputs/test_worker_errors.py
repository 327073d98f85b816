"""What is said of an error in one of a data loader's processes: what was raised there, and where, as if it had been here."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

import pytest
from torch.utils.data import DataLoader, Dataset

from frostline.inputs.foreign_errors import foreign_error
from frostline.inputs.foreign_tracebacks import last_place
from frostline.inputs.worker_errors import frames_there, original_message


class TwoPartsError(Exception):
    """One that torch cannot make again from its text."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")


def damaged() -> NoReturn:
    raise OSError("image 7 is damaged")


def missing() -> NoReturn:
    raise KeyError("label")


def chained() -> NoReturn:
    try:
        damaged()
    except OSError as error:
        raise ValueError("no image:\n  7 of 9\nlook at it") from error


def of_two_parts() -> NoReturn:
    raise TwoPartsError("7.png", "truncated")


class Raising(Dataset[int]):
    def __init__(self, function: Callable[[], NoReturn]) -> None:
        self._function = function

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> int:
        self._function()


def error_in_process(function: Callable[[], NoReturn]) -> BaseException:
    with pytest.raises(Exception) as caught:
        [*DataLoader(Raising(function), num_workers=1)]
    return caught.value


@pytest.mark.multiprocess
@pytest.mark.parametrize(
    ("function", "said"),
    [
        (damaged, "OSError: image 7 is damaged"),
        (missing, "KeyError: 'label'"),
        (chained, "ValueError: no image: 7 of 9 look at it"),
        (of_two_parts, "RuntimeError: tests.inputs.test_worker_errors.TwoPartsError: 7.png: truncated"),
    ],
)
def test_what_was_raised_there_is_said_in_one_line(function: Callable[[], NoReturn], said: str) -> None:
    error = error_in_process(function)
    assert "DataLoader worker process" in str(error)
    assert foreign_error(error).startswith(f"{said} (test_worker_errors.py:")
    here = next(line for line in frames_there(error)[::-1])
    assert last_place(error) == f"test_worker_errors.py:{here[1]}"
    assert function.__code__.co_firstlineno < here[1] <= function.__code__.co_firstlineno + 4


def test_an_error_of_this_process_is_as_it_is() -> None:
    error = ValueError("Caught in the act\n  twice")
    assert original_message(error) == str(error)
    assert frames_there(error) == []
