"""What a study is about: kept in it, compared when it is continued, read by whoever looks at it."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from frostline.errors import AlignmentError, FidelityError, StudyError
from frostline.inputs.credentials import without_password
from frostline.records import Direction, Fidelity
from frostline.search.alignment import IDENTITY, Alignment
from frostline.search.budgets.budget import Budget

_VERSION = 2

_DEFAULT_PRECISION = "float32"

# Studies of before scored by these, and do not say so.
_RUNNING = "running"

_ANOTHER = "use another study name, or the settings that the study was made with"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskReference:
    """What names a task on the command line: the task, its options as they were typed, and a precision."""

    name: str
    options: tuple[str, ...] = ()
    """NAME=VALUE of every ``--set``, without passwords."""
    precision: str = _DEFAULT_PRECISION

    def __post_init__(self) -> None:
        # It is kept in studies and shown wherever they are: an option with a password is to be given anew.
        object.__setattr__(self, "options", tuple(map(without_password, self.options)))

    def __str__(self) -> str:
        """The words of a command, quoted for a shell."""
        options = (word for option in self.options for word in ("--set", option))
        precision = () if self.precision == _DEFAULT_PRECISION else ("--precision", self.precision)
        return shlex.join((self.name, *options, *precision))

    def record(self) -> dict[str, Any]:
        """Return its fields, for JSON."""
        return {"name": self.name, "options": list(self.options), "precision": self.precision}

    @classmethod
    def of_words(cls, text: str) -> TaskReference:
        """Return what ``str`` gave ``text``: tables and studies of before have nothing else."""
        words = shlex.split(text)
        pairs = [*zip(words[1::2], words[2::2], strict=False)]
        return cls(
            name=words[0] if words else "",
            options=tuple(value for option, value in pairs if option == "--set"),
            precision=next((value for option, value in pairs if option == "--precision"), _DEFAULT_PRECISION),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingTerms:
    """How a study's configurations are trained, as far as it changes the numbers."""

    horizon: str
    precision: str
    num_validations: int
    statistics: str = "batches"
    alignment: Alignment = IDENTITY
    """What rungs of few layers train in place of the configurations."""

    def record(self) -> dict[str, Any]:
        """Return what ``parse`` takes, for JSON."""
        return {
            "horizon": self.horizon,
            "precision": self.precision,
            "num_validations": self.num_validations,
            **({} if self.statistics == _RUNNING else {"statistics": self.statistics}),
            "alignment": f"{self.alignment}",
        }

    @classmethod
    def parse(cls, record: Mapping[str, Any]) -> TrainingTerms:
        """Return the terms that ``record`` was written from."""
        return cls(
            horizon=record["horizon"],
            precision=record["precision"],
            num_validations=record["num_validations"],
            statistics=record.get("statistics", _RUNNING),
            alignment=Alignment.parse(record["alignment"]),
        )

    def __str__(self) -> str:
        words = f"horizon={self.horizon} precision={self.precision} validations={self.num_validations}"
        words += f" statistics={self.statistics}" if self.statistics == _RUNNING else ""
        return words if self.alignment.is_identity else f"{words} alignment={self.alignment}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetTerms:
    """How a search within a budget is sized, beside its ladder: what whoever looks at its study makes it from."""

    budget: Budget
    num_own: int
    most: int | None
    """How many configurations there are to try at most; None: as many as the budget pays for."""

    def record(self) -> dict[str, Any]:
        """Return what ``parse`` takes, for JSON."""
        budget = {"full_trainings": self.budget.full_trainings, "seconds": self.budget.seconds}
        return {**budget, "num_own": self.num_own, "most": self.most}

    @classmethod
    def parse(cls, record: Mapping[str, Any]) -> BudgetTerms:
        """Return the terms that ``record`` was written from. Raises: OptionError if that is no budget."""
        budget = Budget(full_trainings=record["full_trainings"], seconds=record["seconds"])
        return cls(budget=budget, num_own=record["num_own"], most=record["most"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a study is about. Runs that differ in any of it, but for the number of configurations, never mix."""

    task: str
    reference: TaskReference | None = dataclasses.field(default=None, compare=False)
    """What names the task on the command line: it may move. None for a training function of one's own."""
    data: str
    """Fingerprint of the data, the model and the budget."""
    space: str
    rungs: tuple[Fidelity, ...]
    num_layers: int
    search: str
    """Fingerprint of the search: compared and shown, never read."""
    is_sweep: bool = dataclasses.field(compare=False)
    """Whether every configuration is evaluated at every rung, and none is selected."""
    sampler: str
    seed: int
    direction: Direction
    sample_unit: str
    expected: tuple[int, ...] = dataclasses.field(compare=False)
    """How many evaluations each rung sees in all, more if more configurations are asked for later; () if that is open."""
    training: TrainingTerms | None = None
    """None for a training function of one's own."""
    source: str | None = dataclasses.field(default=None, compare=False)
    """What tells the files of the user's code from what they were before; None where there is no file."""
    metric: str | None = dataclasses.field(default=None, compare=False)
    """What the score is called where it is shown; None: "score"."""
    against: str | None = None
    """What of the trained model counts beside the score: ``inputs.model_costs``; None: nothing."""
    has_own: bool = dataclasses.field(default=False, compare=False)
    """Whether configuration 0 is the user's own, and not drawn."""
    recipe: Mapping[str, Any] | None = dataclasses.field(default=None, compare=False)
    """What a command makes the same search from: JSON, kept here and read there. None where no command can."""
    budget: BudgetTerms | None = dataclasses.field(default=None, compare=False)
    """None of a search that is not sized by a budget."""

    arguments: str | None = dataclasses.field(default=None, compare=False)
    """Names and hashes of what an objective was given beside its trial; None of a task, and of earlier versions."""

    def record(self) -> dict[str, Any]:
        """Return what ``parse`` takes, for JSON."""
        reference = self.reference
        return {
            "version": _VERSION,
            "task": self.task,
            "reference": None if reference is None else reference.record(),
            "data": self.data,
            "space": self.space,
            "rungs": [[rung.trainable_layers, rung.samples] for rung in self.rungs],
            "num_layers": self.num_layers,
            "search": self.search,
            "is_sweep": self.is_sweep,
            "sampler": self.sampler,
            "seed": self.seed,
            "direction": self.direction,
            "sample_unit": self.sample_unit,
            "expected": list(self.expected),
            "training": None if self.training is None else self.training.record(),
            **({} if self.source is None else {"source": self.source}),
            **({} if self.metric is None else {"metric": self.metric}),
            **({} if self.against is None else {"against": self.against}),
            **({"has_own": True} if self.has_own else {}),
            **({} if self.recipe is None else {"recipe": dict(self.recipe)}),
            **({} if self.budget is None else {"budget": self.budget.record()}),
            **({} if self.arguments is None else {"arguments": self.arguments}),
        }

    @classmethod
    def parse(cls, record: Any) -> Terms:
        """Return the terms that ``record`` was written from, by this version or by the first.

        Raises: StudyError if a later version wrote it, or it is damaged.
        """
        from frostline.store.parsing import parse_terms

        version = record.get("version", 1) if isinstance(record, Mapping) else 1
        if isinstance(version, int) and version > _VERSION:
            raise StudyError(
                f"the study was made by a later frostline (its terms are of version {version}, and this one reads up to "
                f"{_VERSION}): update frostline."
            )
        try:
            if version == 1:
                record = _from_first_version(parse_terms(record, version=1))
            record = parse_terms(record, version=2)
            return cls._of(record)
        except (AlignmentError, FidelityError, KeyError, ValueError) as error:
            raise StudyError(f"the terms of the study are damaged ({error}): use another study name.") from error

    @classmethod
    def _of(cls, record: Mapping[str, Any]) -> Terms:
        reference, training = record["reference"], record["training"]
        return cls(
            task=record["task"],
            reference=None if reference is None else _reference_of(reference),
            data=record["data"],
            space=record["space"],
            rungs=tuple(Fidelity(trainable_layers=layers, samples=samples) for layers, samples in record["rungs"]),
            num_layers=record["num_layers"],
            search=record["search"],
            is_sweep=record["is_sweep"],
            sampler=record["sampler"],
            seed=record["seed"],
            direction=record["direction"],
            sample_unit=record["sample_unit"],
            expected=tuple(record["expected"]),
            training=None if training is None else TrainingTerms.parse(training),
            source=record.get("source"),
            metric=record.get("metric"),
            against=record.get("against"),
            has_own=record.get("has_own", False),
            recipe=record.get("recipe"),
            budget=BudgetTerms.parse(record["budget"]) if "budget" in record else None,
            arguments=record.get("arguments"),
        )

    def check_equal(self, other: Terms, *, name: str, remedy: str = _ANOTHER) -> None:
        """Raise StudyError if the study ``name``, made under these terms, is continued under ``other``.

        ``remedy`` says what to do then.
        """
        for what, mine, theirs in self._differences(other):
            raise StudyError(
                f"the study {name!r} was made with {what} {mine!r}, and this run has {theirs!r}: {remedy}."
            )

    def _differences(self, other: Terms) -> Iterator[tuple[str, Any, Any]]:
        for field in dataclasses.fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            if field.compare and mine != theirs:
                yield field.name, _shown(mine), _shown(theirs)


def _shown(value: Any) -> Any:
    if isinstance(value, TrainingTerms):
        return f"{value}"
    if isinstance(value, tuple):
        return tuple((rung.trainable_layers, rung.samples) for rung in value)
    return value


def _reference_of(record: Mapping[str, Any]) -> TaskReference:
    options: Sequence[str] = record["options"]
    return TaskReference(name=record["name"], options=tuple(options), precision=record["precision"])


def _from_first_version(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return terms of version 1, which held settings and reference as text, as version 2 has them."""
    settings = dict(part.split("=", 1) for part in record["settings"].split())
    training = None
    if settings:
        training = {
            "horizon": settings["horizon"],
            "precision": settings["precision"],
            "num_validations": int(settings["validations"]),
            "alignment": settings.get("alignment", ""),
        }
    reference = record["reference"]
    return {
        **record,
        "reference": TaskReference.of_words(reference).record() if reference else None,
        "is_sweep": record["search"] == "sweep",
        "training": training,
    }
