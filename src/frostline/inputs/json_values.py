"""JSON as people give it on the command line: standard JSON alone, and no number that Python cannot compute with."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from frostline.errors import OptionError
from frostline.inputs.whole_numbers import shown

_LARGEST = 2**63 - 1


def parse_json(name: str, text: str) -> Any:
    """Return the value that ``text`` is.

    Raises: OptionError if it is JSON, but holds a number that is not finite or beyond 64 bits; ValueError if it is none.
    """

    def refuse(number: str) -> Any:
        raise OptionError(f"{name} holds {shown(number)[1:-1]}, but numbers must be finite and within 64 bits.")

    def whole(digits: str) -> int:
        return int(digits) if len(digits) < 20 and abs(int(digits)) <= _LARGEST else refuse(digits)

    def real(digits: str) -> float:
        return number if math.isfinite(number := float(digits)) else refuse(digits)

    try:
        return json.loads(text, parse_int=whole, parse_float=real, parse_constant=refuse)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def parse_values(name: str, text: str) -> dict[str, bool | int | float | str | None]:
    """Return the names and values of the JSON object ``text``: numbers, text, true, false or null.

    Raises: OptionError if it is anything else.
    """
    example = "'{\"learning_rate\": 0.001}'"
    try:
        values = parse_json(name, text)
    except OptionError:
        raise
    except ValueError as error:
        raise OptionError(f"{name} is no JSON ({error}): write {example}.") from None
    if not isinstance(values, Mapping):
        raise OptionError(f"{name} is {shown(text)}: write an object, {example}.")
    for key, value in values.items():
        if not isinstance(value, bool | int | float | str | None):
            raise OptionError(
                f"{key} is {shown(value)}, but must be a number, text, true, false or null: {example}."
            )
    return dict(values)


def parse_assignments(option: str, texts: Iterable[str] | None) -> dict[str, Any]:
    """Return the values by their names that NAME=VALUE says: JSON where it is some, else text.

    Raises: OptionError if one is no assignment.
    """
    parsed: dict[str, Any] = {}
    for assignment in texts or []:
        name, separator, text = assignment.partition("=")
        if not separator or not name:
            raise OptionError(f"{option} {assignment!r}: write NAME=VALUE.")
        try:
            value = parse_json(f"{option} {name}", text)
        except OptionError:
            raise
        except ValueError:
            value = text
        parsed[name.replace("-", "_")] = value
    return parsed
