"""From the words of the command line to what they name: the only place where algorithms are chosen by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.errors import OptionError
from frostline.inputs.json_values import parse_values
from frostline.inputs.whole_numbers import check_whole, parse_whole, parse_wholes, shown
from frostline.search.algorithms.search_names import DIAGONAL, LADDERS, SAMPLERS, SIEVE, choose
from frostline.search.alignment import Alignment
from frostline.search.ladder import MOST_RUNGS, Ladder

if TYPE_CHECKING:
    from frostline.records import Value

AUDIT = "audit:"
AUTO = "auto"

_NUM_RUNGS = 3


def ladder_named(text: str, rungs: int | None, *, num_layers: int, full_samples: int) -> Ladder:
    """Return the ladder called so, or the one whose rungs are written out, for a model and a full training.

    ``rungs`` is how many it has, None where nobody says.
    """
    check_rungs(text, rungs)
    if ":" in text:
        return Ladder.explicit(_parse_rungs(text), num_layers=num_layers, full_samples=full_samples)
    make = choose("ladder", text, LADDERS)
    counted = {} if text == SIEVE else {"num_rungs": _NUM_RUNGS if rungs is None else rungs}
    return make(num_layers=num_layers, full_samples=full_samples, **counted)


def check_rungs(ladder: str, rungs: int | None) -> None:
    """Raise OptionError if a number of rungs is given for a ladder that has its own."""
    if rungs is None:
        return
    check_whole("--rungs", rungs, least=2, most=MOST_RUNGS)
    if ladder in (SIEVE, AUTO) or ":" in ladder:
        chosen = f"the ladder {ladder}" if ladder != SIEVE else f"the ladder {SIEVE}, the default under a budget,"
        raise OptionError(
            f"--rungs is {rungs}, but {chosen} has rungs of its own: leave it out, or name one that has not, such as "
            f"--ladder {DIAGONAL}."
        )


def check_ladder(text: str) -> None:
    """Raise OptionError unless ``text`` may be a ladder of ``frostline tune``."""
    if text == AUTO or text.startswith(AUDIT):
        return
    if ":" in text:
        _parse_rungs(text)
    else:
        choose("ladder", text, LADDERS)


def check_known_ladder(text: str) -> None:
    """Raise OptionError unless ``text`` is a ladder whose rungs are known without training anything."""
    if text == AUTO or text.startswith(AUDIT):
        raise OptionError(
            f"--ladder {text}: an audit says which rungs these are, which `frostline tune` shows before it begins: name "
            f"one of {', '.join(LADDERS)} here, or rungs as LAYERS:SAMPLES,..."
        )
    check_ladder(text)


def check_sampler(name: str) -> None:
    """Raise OptionError unless there is a sampler called ``name``."""
    choose("sampler", name, dict.fromkeys(SAMPLERS))


def parse_numbers(option: str, text: str | None) -> tuple[int, ...] | None:
    """Return the whole numbers in ``text``, which are separated by commas, or None if there is no text."""
    if text is None:
        return None
    try:
        return parse_wholes(option, text)
    except OptionError:
        raise OptionError(f"{option} {shown(text)}: write whole numbers, such as 1,2,4.") from None


def parse_configuration(text: str | None) -> dict[str, Value]:
    """Return the hyperparameters that are given as JSON."""
    return {} if text is None else parse_values("--configuration", text)


def parse_alignment(text: str) -> Alignment:
    """Return the alignment that ``text`` stands for. Raises: AlignmentError; OptionError if it changes nothing."""
    alignment = Alignment.parse(text)
    if alignment.is_identity:
        raise OptionError(f"--align {text!r} changes nothing: leave it out, or give factors other than 1.")
    return alignment


def _parse_rungs(text: str) -> list[tuple[int, int]]:
    rungs: list[tuple[int, int]] = []
    for part in text.split(","):
        layers, _, samples = part.partition(":")
        try:
            rungs.append((parse_whole("layers", layers, least=0), parse_whole("samples", samples, least=0)))
        except OptionError:
            raise OptionError(
                f"--ladder: {shown(part)} is no rung: write LAYERS:SAMPLES, such as 2:100000."
            ) from None
    return rungs
