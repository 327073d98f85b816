"""From the words of the command line to what they name: the only place where algorithms are chosen by name."""

from __future__ import annotations

import difflib
import functools
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol, TypeVar

from frostline.errors import OptionError
from frostline.search.halving import AsynchronousHalving, SuccessiveHalving
from frostline.search.hyperband import Hyperband
from frostline.search.ladder import Ladder
from frostline.search.sweep import FullFidelity, Sweep

if TYPE_CHECKING:
    from frostline.records import Value
    from frostline.search.interface import Climb

AUDIT = "audit:"
AUTO = "auto"
REDUCTION_FACTOR = 3

_SAMPLERS = ("random", "qmc", "tpe", "gp", "cmaes", "grid")
HALVING = "halving"
SIEVE = "sieve"
DIAGONAL = "diagonal"


def _sieve(*, num_layers: int, full_samples: int, num_rungs: int) -> Ladder:  # noqa: ARG001 (its rungs are its own)
    return Ladder.sieve(num_layers=num_layers, full_samples=full_samples)


_LADDERS: Mapping[str, Callable[..., Ladder]] = {
    SIEVE: _sieve,
    DIAGONAL: Ladder.diagonal,
    "layers-only": Ladder.layers_only,
    "samples-only": Ladder.samples_only,
}

Choice = TypeVar("Choice")


class ClimbFactory(Protocol):
    """Makes a search over a number of configurations that is known."""

    def __call__(self, *, ladder: Ladder, configurations: int) -> Climb:
        """Return the search."""


def search_named(name: str, reduction_factor: int = REDUCTION_FACTOR) -> ClimbFactory:
    """Return the search called ``name``."""
    choices: dict[str, ClimbFactory] = {
        HALVING: functools.partial(SuccessiveHalving, reduction_factor=reduction_factor),
        "hyperband": functools.partial(Hyperband, reduction_factor=reduction_factor),
        "asynchronous": functools.partial(AsynchronousHalving, reduction_factor=reduction_factor),
        "sweep": Sweep,
        "full": FullFidelity,
    }
    return _choose("search", name, choices)


def ladder_named(text: str, rungs: int, *, num_layers: int, full_samples: int) -> Ladder:
    """Return the ladder called so, or the one whose rungs are written out, for a model and a full training."""
    if ":" in text:
        return Ladder.explicit(_parse_rungs(text), num_layers=num_layers, full_samples=full_samples)
    make = _choose("ladder", text, _LADDERS)
    return make(num_layers=num_layers, full_samples=full_samples, num_rungs=rungs)


def check_ladder(text: str) -> None:
    """Raise OptionError unless ``text`` may be a ladder of ``frostline tune``."""
    if text == AUTO or text.startswith(AUDIT):
        return
    if ":" in text:
        _parse_rungs(text)
    else:
        _choose("ladder", text, _LADDERS)


def check_sampler(name: str) -> None:
    """Raise OptionError unless there is a sampler called ``name``."""
    _choose("sampler", name, dict.fromkeys(_SAMPLERS))


def parse_numbers(option: str, text: str | None) -> tuple[int, ...] | None:
    """Return the whole numbers in ``text``, which are separated by commas, or None if there is no text."""
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise OptionError(f"{option} {text!r}: write whole numbers, such as 1,2,4.") from None


def parse_configuration(text: str | None) -> dict[str, Value]:
    """Return the hyperparameters that are given as JSON."""
    if text is None:
        return {}
    try:
        parsed = json.loads(text)
    except json.JSONDecodeError as error:
        raise OptionError(f"--configuration is no JSON ({error}): write '{{\"learning_rate\": 0.001}}'.") from None
    if not isinstance(parsed, dict):
        raise OptionError(f"--configuration is {text!r}: write an object, '{{\"learning_rate\": 0.001}}'.")
    return parsed


def _parse_rungs(text: str) -> list[tuple[int, int]]:
    rungs: list[tuple[int, int]] = []
    for part in text.split(","):
        layers, _, samples = part.partition(":")
        try:
            rungs.append((int(layers), int(samples)))
        except ValueError:
            raise OptionError(f"--ladder: {part!r} is no rung: write LAYERS:SAMPLES, such as 2:100000.") from None
    return rungs


def _choose(kind: str, name: str, choices: Mapping[str, Choice]) -> Choice:
    if name in choices:
        return choices[name]
    close = difflib.get_close_matches(name, choices, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise OptionError(f"there is no {kind} {name!r}: choose one of {', '.join(choices)}.{hint}")
