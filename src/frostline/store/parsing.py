"""What a study holds, checked as it is read: whoever can write to a storage may have put anything there.

Each record is what its type here says, or it is one StudyError that names it. Nothing takes longer, nor more memory, than
reading the storage did: numbers of rungs are bounded, and so is everything else that something is made for each of.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired, TypeVar

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from frostline.errors import SearchSpaceError, StudyError
from frostline.inputs.printable import one_line, printable
from frostline.inputs.safe_names import MOST_CHARACTERS, is_printable
from frostline.inputs.whole_numbers import LARGEST, MOST_CONFIGURATIONS, shown
from frostline.records import Fidelity, Status
from frostline.search.algorithms.grid import MOST_CELLS
from frostline.store.backends.pickled_samplers import is_sampler_state

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

_MOST_TEXT = 100_000
_MOST_LINES = 1000

MOST_SHOWN = 64
"""Of the processes that train for one worker, and of what each of them trains, so many are told."""

LONGEST_RANGE = 10_000
"""So many letters at most has the text of a range that a record holds."""

Kind = TypeVar("Kind")


def _printable_lines(text: str) -> str:
    return "\n".join(map(printable, text.splitlines()))


def _printable(text: str) -> str:
    if not is_printable(text):
        raise ValueError("should be printable text")
    return text


Count = Annotated[int, Field(ge=0, le=LARGEST)]
"""A number of things, or of one of them."""
_Positive = Annotated[int, Field(ge=1, le=LARGEST)]
_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Text = Annotated[str, Field(max_length=_MOST_TEXT), AfterValidator(_printable)]
_Name = Annotated[_Text, Field(min_length=1, max_length=MOST_CHARACTERS)]
_Line = Annotated[str, Field(max_length=_MOST_TEXT), AfterValidator(one_line)]
_Lines = Annotated[str, Field(max_length=_MOST_TEXT), AfterValidator(_printable_lines)]
_Value = bool | int | _Finite | _Text | None
_Rung = Annotated[list[_Positive], Field(min_length=2, max_length=2)]
_Point = Annotated[list[int | float], Field(min_length=2, max_length=2)]

_STRICT = ConfigDict(strict=True, extra="ignore")


class _FailureRecord(TypedDict):
    __pydantic_config__ = _STRICT  # type: ignore[misc]

    error: _Line
    place: _Line
    traceback: _Lines


class _EvaluationRecord(TypedDict):
    __pydantic_config__ = _STRICT  # type: ignore[misc]

    status: Literal["finished", "diverged", "failed"]
    score: _Finite | None
    trainable_layers: _Positive
    samples: _Positive
    seconds: _Amount
    trained_samples: Count
    peak_bytes: Count | None
    population: _Positive
    fixed_seconds: NotRequired[_Amount]
    curve: list[_Point]
    reason: _Line | None
    trained_with: NotRequired[dict[_Name, _Value]]
    suggested: NotRequired[dict[_Name, _Value]]
    ranges: NotRequired[dict[_Name, Annotated[_Text, Field(max_length=LONGEST_RANGE)]]]
    failure: NotRequired[_FailureRecord]
    model_cost: NotRequired[_Amount]


class _ClaimRecord(TypedDict):
    __pydantic_config__ = _STRICT  # type: ignore[misc]

    worker: _Text
    ended: NotRequired[Annotated[int, Field(ge=-1, le=LARGEST)]]


class _DeathsRecord(TypedDict):
    __pydantic_config__ = _STRICT  # type: ignore[misc]

    alone: list[_Text]
    together: list[_Text]
    samples: NotRequired[Count]


class _StationRecord(TypedDict):
    __pydantic_config__ = _STRICT  # type: ignore[misc]

    host: _Text
    pid: _Positive | None
    device: _Text
    requests: Annotated[
        list[Annotated[list[Count], Field(min_length=2, max_length=2)]], Field(max_length=MOST_SHOWN)
    ]
    since: _Finite | None
    promised: Count | None
    used: Count | None


class _PresenceRecord(TypedDict):
    __pydantic_config__ = _STRICT  # type: ignore[misc]

    host: _Text
    boot: NotRequired[_Text]
    pid: _Positive
    started: _Text
    beat: _Finite
    # What a worker of an earlier version writes is True or False.
    deciding: bool | _Finite | None
    sent: NotRequired[Count]
    news: NotRequired[list[Any]]
    heard: NotRequired[dict[str, Count]]
    stations: NotRequired[Annotated[list[_StationRecord], Field(max_length=MOST_SHOWN)]]


class _ReferenceRecord(TypedDict):
    __pydantic_config__ = _STRICT  # type: ignore[misc]

    name: _Text
    options: list[_Text]
    precision: _Text


class _TrainingRecord(TypedDict):
    __pydantic_config__ = _STRICT  # type: ignore[misc]

    horizon: Literal["rung", "full"]
    precision: _Text
    num_validations: Annotated[_Positive, Field(le=1_000_000)]
    statistics: NotRequired[Literal["batches", "running"]]
    alignment: _Text


class _BudgetRecord(TypedDict):
    __pydantic_config__ = _STRICT  # type: ignore[misc]

    full_trainings: _Finite | None
    seconds: _Finite | None
    num_own: Annotated[Count, Field(le=MOST_CONFIGURATIONS)]
    most: Count | None


class _TermsRecord(TypedDict):
    __pydantic_config__ = _STRICT  # type: ignore[misc]

    task: _Text
    data: _Text
    space: _Text
    rungs: Annotated[list[_Rung], Field(min_length=1, max_length=MOST_CELLS)]
    num_layers: _Positive
    search: _Text
    sampler: _Text
    # Those of before may be below 0.
    seed: int
    direction: Literal["minimize", "maximize"]
    sample_unit: _Text
    expected: Annotated[list[Count], Field(max_length=MOST_CELLS)]
    source: NotRequired[_Text | None]


class _SecondTermsRecord(_TermsRecord):
    reference: _ReferenceRecord | None
    is_sweep: bool
    training: _TrainingRecord | None
    metric: NotRequired[_Name]
    arguments: NotRequired[_Text]
    against: NotRequired[Literal["bytes", "flops", "seconds"]]
    has_own: NotRequired[bool]
    # Whoever makes a search from it looks closer.
    recipe: NotRequired[dict[str, Any]]
    budget: NotRequired[_BudgetRecord]


class _FirstTermsRecord(_TermsRecord):
    reference: _Text
    settings: _Text


_EVALUATION = TypeAdapter(_EvaluationRecord)
_CLAIM = TypeAdapter(_ClaimRecord)
_DEATHS = TypeAdapter(_DeathsRecord)
_PRESENCE = TypeAdapter(_PresenceRecord)
_TERMS: Mapping[int, TypeAdapter[Any]] = {1: TypeAdapter(_FirstTermsRecord), 2: TypeAdapter(_SecondTermsRecord)}
_VALUES = TypeAdapter(dict[_Name, _Value], config=_STRICT)
_CHOICES = TypeAdapter(list[_Value], config=_STRICT)
_STATE = TypeAdapter(dict[str, Any], config=_STRICT)
_LINES = TypeAdapter(Annotated[list[_Line], Field(max_length=_MOST_LINES)], config=_STRICT)
_TABLE = TypeAdapter(
    Annotated[
        dict[Annotated[str, Field(pattern=r"^[0-9]{1,9}$")], dict[str, float]], Field(max_length=MOST_CELLS)
    ],
    config=_STRICT,
)


def parse_terms(record: object, *, version: Literal[1, 2]) -> Mapping[str, Any]:
    """Return the record of a study's terms. Raises: StudyError if it is none of that version."""
    terms: Mapping[str, Any] = _checked(_TERMS[version], record, "the record of the study's terms")
    return terms


def parse_lines(key: str, note: object) -> list[str]:
    """Return the lines of text that were left under ``key``. Raises: StudyError if they are none."""
    return _checked(_LINES, note, f"the note {key!r} of the study")


def parse_table(key: str, note: object) -> dict[int, dict[str, float]]:
    """Return the numbers, by names, that were left for some whole numbers. Raises: StudyError if they are none."""
    # A storage in memory keeps numbers as keys, which JSON has not.
    as_json = {str(number): row for number, row in note.items()} if isinstance(note, Mapping) else note
    table = _checked(_TABLE, as_json, f"the note {key!r} of the study")
    return {int(number): row for number, row in table.items()}


def parse_configuration(number: int, values: object) -> dict[str, Any]:
    """Return the hyperparameters of a trial. Raises: StudyError if they cannot be those of a configuration."""
    return _checked(_VALUES, values, f"trial {number} of the study: its configuration")


def parse_state(number: int, state: object) -> dict[str, Any]:
    """Return what a sampler wrote beside a trial. Raises: StudyError if it is no mapping, or would run code."""
    what = f"trial {number} of the study: its sampler's note"
    checked = _checked(_STATE, state, what)
    if not is_sampler_state(checked):
        raise _damaged(what, "is not what Optuna's CMA-ES writes, and could run anything")
    return checked


def parse_retried(number: int, retried: object) -> int:
    """Return which trial the trial ``number`` tries once more. Raises: StudyError if that is no earlier one."""
    if isinstance(retried, bool) or not isinstance(retried, int) or not 0 <= retried < number:
        raise _damaged(
            f"trial {number} of the study", "is said to try another once more, but that is no earlier trial"
        )
    return retried


def parse_claim(number: int, rung: int, record: object) -> Mapping[str, Any]:
    """Return the record of a claim. Raises: StudyError if it is none."""
    return _checked(_CLAIM, record, f"trial {number} of the study: its claim of rung {rung}")


def parse_deaths(number: int, rung: int, record: object) -> Mapping[str, Any]:
    """Return the record of who died of an evaluation. Raises: StudyError if it is none."""
    return _checked(_DEATHS, record, f"trial {number} of the study: who died of its rung {rung}")


def parse_presence(worker: str, record: object) -> Mapping[str, Any]:
    """Return what a worker says of itself. Raises: StudyError if it is not what workers write."""
    return _checked(_PRESENCE, record, f"the record of the study's worker {shown(worker)}")


def parse_evaluation(number: int, rung: int, record: object, rungs: Sequence[Fidelity]) -> Mapping[str, Any]:
    """Return the record of an evaluation on a ladder of ``rungs``. Raises: StudyError if it is none."""
    what = f"trial {number} of the study: its rung {rung}"
    checked = _checked(_EVALUATION, record, what)
    if (checked["score"] is not None) != (checked["status"] == Status.FINISHED.value):
        raise _damaged(what, f"is {checked['status']} with the score {checked['score']}")
    fidelity = rungs[rung]
    if (checked["trainable_layers"], checked["samples"]) != (fidelity.trainable_layers, fidelity.samples):
        raise _damaged(
            what,
            f"is of {checked['trainable_layers']} layers and {checked['samples']} samples, and that of the study is of "
            f"{fidelity.trainable_layers} and {fidelity.samples}",
        )
    return checked


def parse_ranges(number: int, rung: int, records: Mapping[str, str]) -> dict[str, BaseDistribution]:
    """Return the ranges that were written as Optuna's JSON. Raises: StudyError if one is none."""
    # Slow to import, and the command that is asked for help needs none of it.
    from optuna.distributions import CategoricalDistribution, json_to_distribution

    from frostline.search.spaces.dimensions import check_dimension

    ranges = {}
    for name, record in records.items():
        what = f"trial {number} of the study: the range of {shown(name)} at its rung {rung}"
        try:
            distribution = json_to_distribution(record)
            check_dimension(name, distribution)
        # Optuna looks at nothing before it makes something of it.
        except (SearchSpaceError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise _damaged(what, "is damaged: it is none that can be searched") from error
        if isinstance(distribution, CategoricalDistribution):
            _checked(_CHOICES, list(distribution.choices), what)
        ranges[name] = distribution
    return ranges


def rungs_in(
    number: int, attributes: Mapping[str, Any], prefix: str, *, num_rungs: int
) -> Iterator[tuple[int, Any]]:
    """Yield the attributes of a trial whose names are ``prefix`` and the number of a rung: the rung, and the value.

    Raises: StudyError if one is of a rung that the study does not have.
    """
    for name, value in attributes.items():
        if name.startswith(prefix):
            text = name.removeprefix(prefix)
            rung = int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else -1
            if not 0 <= rung < num_rungs or text != f"{rung}":
                raise _damaged(
                    f"trial {number} of the study",
                    f"holds {shown(name)}, but the study has rungs 0 to {num_rungs - 1}",
                )
            yield rung, value


def _checked(adapter: TypeAdapter[Kind], record: object, what: str) -> Kind:
    try:
        return adapter.validate_python(record)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        # In unions the last parts of the place name the alternatives that were tried.
        place = ".".join(str(part) for part in first["loc"][:1])
        reason = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
        raise _damaged(
            what, f"is damaged: {f'{shown(place)} ' if place else 'it '}{reason[:1].lower()}{reason[1:]}"
        ) from None


def _damaged(what: str, reason: str) -> StudyError:
    return StudyError(
        f"{one_line(what)} {one_line(reason)}: delete it, restore it from a copy, or use another study name."
    )
