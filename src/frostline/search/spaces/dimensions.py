"""One hyperparameter of a search space: what it may be, how TOML says it, and its points on a grid."""

from __future__ import annotations

import json
import math
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from frostline.errors import SearchSpaceError
from frostline.inputs.safe_names import MOST_CHARACTERS, is_printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from frostline.records import Value

_RANGE_KEYS = ("low", "high", "log", "step", "type")


def check_hyperparameter(name: str) -> None:
    """Raise SearchSpaceError unless a study can hold the name of a hyperparameter, and whoever reads it be shown it."""
    if not (1 <= len(name) <= MOST_CHARACTERS and is_printable(name)):
        raise SearchSpaceError(
            f"a hyperparameter is called {name!r:.60}, but a name must be a line of 1 to {MOST_CHARACTERS} characters: "
            f"choose another one."
        )


def check_dimension(name: str, distribution: object) -> None:
    """Raise SearchSpaceError unless the distribution leaves something to choose, under a name that can be told."""
    check_hyperparameter(name)
    if isinstance(distribution, CategoricalDistribution):
        _check_choices(name, list(distribution.choices))
    elif isinstance(distribution, FloatDistribution | IntDistribution):
        if not (math.isfinite(distribution.low) and math.isfinite(distribution.high)):
            raise SearchSpaceError(
                f"{name} ranges from {distribution.low} to {distribution.high}, but both ends must be finite: set "
                "them."
            )
        if distribution.single():
            raise SearchSpaceError(
                f"{name} ranges from {distribution.low} to {distribution.high}, which holds a single value: widen "
                f"the range, or write choices=[{distribution.low}] to fix it."
            )
    else:
        raise SearchSpaceError(
            f"{name} is {distribution!r}, but must be one of Optuna's FloatDistribution, IntDistribution and "
            f"CategoricalDistribution: build one of them."
        )


def is_dimension(name: str, distribution: object) -> bool:
    """Return whether it is a distribution that leaves something to choose."""
    try:
        check_dimension(name, distribution)
    except SearchSpaceError:
        return False
    return True


def read_dimension(name: str, table: object) -> BaseDistribution:
    """Return the distribution that a TOML table declares; SearchSpaceError if it declares none."""
    if not isinstance(table, dict):
        raise SearchSpaceError(
            f"{name} is {table!r}, but must be a table of low and high, or of choices: write [space.{name}], and "
            f"choices = [...] under it to fix a value."
        )
    if "choices" in table:
        _check_keys(name, table, ("choices",))
        choices = table["choices"]
        if not isinstance(choices, list):
            raise SearchSpaceError(
                f"{name} has choices {choices!r}, but they must be a list: write choices = [...]."
            )
        _check_choices(name, choices)
        return CategoricalDistribution(choices)
    _check_keys(name, table, _RANGE_KEYS)
    return _read_range(name, table)


def write_dimension(name: str, distribution: BaseDistribution) -> str:
    """Return the lines of TOML that ``read_dimension`` reads back."""
    if isinstance(distribution, CategoricalDistribution):
        return f"choices = [{', '.join(_toml_value(name, choice) for choice in distribution.choices)}]\n"
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    lines = [f"low = {distribution.low!r}", f"high = {distribution.high!r}"]
    if distribution.log:
        lines.append("log = true")
    elif distribution.step not in (None, 1) or (
        distribution.step == 1 and isinstance(distribution, FloatDistribution)
    ):
        lines.append(f"step = {distribution.step!r}")
    return "".join(f"{line}\n" for line in lines)


def toml_string(text: str) -> str:
    """Return ``text`` as a TOML key: bare where it may be."""
    return text if re.fullmatch(r"[A-Za-z0-9_-]+", text) else _quoted(text)


def is_choice(value: Value, choice: Value) -> bool:
    """Return whether a value is this choice."""
    # 1, 1.0 and True are equal in Python, and different choices to whoever reads them.
    return type(value) is type(choice) and value == choice


def num_values(distribution: BaseDistribution) -> int | None:
    """Return how many values it may take; None of a range without steps."""
    if distribution.single():
        return 1
    if isinstance(distribution, CategoricalDistribution):
        return len(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return (
        None
        if distribution.step is None
        else 1 + round((distribution.high - distribution.low) / distribution.step)
    )


def grid_values(distribution: BaseDistribution, num_points: int) -> tuple[Value, ...]:
    """Return all choices, or up to ``num_points`` of a range with both its ends, evenly spaced on its scale."""
    if isinstance(distribution, CategoricalDistribution):
        return tuple(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = distribution.low, distribution.high
    scale = np.geomspace if distribution.log else np.linspace
    if distribution.step is None:
        # The ends are put back exactly: a power of a logarithm may miss them by one bit.
        return (low, *map(float, scale(low, high, num_points)[1:-1]), high)
    num_steps = round((high - low) / distribution.step)
    if num_steps < num_points:
        steps = set(range(num_steps + 1))
    else:
        steps = {round((float(point) - low) / distribution.step) for point in scale(low, high, num_points)}
    if isinstance(distribution, IntDistribution):
        return tuple(distribution.low + step * distribution.step for step in sorted(steps))
    size = Decimal(str(distribution.step))
    return tuple(float(Decimal(str(low)) + step * size) for step in sorted(steps))


def _read_range(name: str, table: Mapping[str, Any]) -> FloatDistribution | IntDistribution:
    for key in ("low", "high"):
        if key not in table:
            raise SearchSpaceError(f"{name} has no {key}: give low and high, or choices.")
    numbers = {key: _number(name, key, table[key]) for key in ("low", "high", "step") if key in table}
    low, high, step = numbers["low"], numbers["high"], numbers.get("step")
    log = table.get("log", False)
    if not isinstance(log, bool):
        raise SearchSpaceError(f"{name} has log {log!r}, but it must be true or false: write one of them.")
    whole = _is_whole(name, table.get("type"), numbers)
    if low > high:
        raise SearchSpaceError(f"{name} ranges from {low} to {high}, which is reversed: low must be below high.")
    if log and low < (1 if whole else math.ulp(0)):
        least = "at least 1" if whole else "above 0"
        raise SearchSpaceError(
            f"{name} has log = true and low = {low}, but a logarithm needs low {least}: raise low, or drop log."
        )
    if step is not None:
        _check_step(name, low, high, step, log=log)
    if whole:
        return IntDistribution(int(low), int(high), log=log, step=1 if step is None else int(step))
    return FloatDistribution(low, high, log=log, step=step)


def _check_step(name: str, low: float, high: float, step: float, *, log: bool) -> None:
    if log:
        raise SearchSpaceError(f"{name} has both log and step, but may have one of them: drop the other.")
    if step <= 0:
        raise SearchSpaceError(f"{name} has step {step}, but it must be above 0: use a positive one.")
    width, size = Decimal(str(high)) - Decimal(str(low)), Decimal(str(step))
    if width % size:
        below = Decimal(str(low)) + size * (width // size)
        raise SearchSpaceError(
            f"{name} ranges from {low} to {high}, which steps of {step} do not divide: set high to {below} or to "
            f"{below + size}."
        )


def _is_whole(name: str, kind: object, numbers: Mapping[str, float]) -> bool:
    all_whole = all(isinstance(number, int) for number in numbers.values())
    if kind is None:
        return all_whole
    if kind not in ("int", "float"):
        raise SearchSpaceError(
            f'{name} has type {kind!r}, but it must be "int" or "float": write one of them, or none.'
        )
    if kind == "int" and not all_whole:
        listed = ", ".join(f"{key} = {number}" for key, number in numbers.items())
        raise SearchSpaceError(
            f'{name} has type "int" and {listed}, but these must be whole then: drop the fractions.'
        )
    return kind == "int"


def _number(name: str, key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise SearchSpaceError(f"{name} has {key} {value!r}, but it must be a finite number: write one.")
    return value


def _check_keys(name: str, table: Mapping[str, Any], allowed: tuple[str, ...]) -> None:
    for key in table:
        if key not in allowed:
            raise SearchSpaceError(
                f"{name} has {key!r}, but here only {', '.join(allowed)} may stand: correct it, or leave it out. "
                "A table holds either choices or a range."
            )


def _is_told_in_a_line(choice: object) -> bool:
    """Return whether a study can hold a choice, and whoever reads it be shown it."""
    if isinstance(choice, str):
        return is_printable(choice)
    if isinstance(choice, float):
        return math.isfinite(choice)
    return choice is None or isinstance(choice, bool | int)


def _check_choices(name: str, choices: list[Any]) -> None:
    if not choices:
        raise SearchSpaceError(
            f"{name} has no choices, but must have at least one: list them, or leave {name} out."
        )
    for position, choice in enumerate(choices):
        if not _is_told_in_a_line(choice):
            raise SearchSpaceError(
                f"{name} has the choice {choice!r}, but a choice must be a line of text, a finite number, true or false: "
                "name it by one of these."
            )
        if choice in choices[:position]:
            raise SearchSpaceError(
                f"{name} has the choice {choice!r} twice (Python holds 1, 1.0 and true for equal): list each once."
            )


def _toml_value(name: str, value: Value) -> str:
    if value is None:
        raise SearchSpaceError(
            f"{name} has the choice None, for which TOML has no word: use a string such as 'none'."
        )
    if isinstance(value, bool):
        return "true" if value else "false"
    return _quoted(value) if isinstance(value, str) else repr(value)


def _quoted(text: str) -> str:
    # JSON's strings are TOML's, except that TOML wants DEL escaped too, and knows no surrogate pairs.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
