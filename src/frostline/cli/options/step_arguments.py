"""Which training steps the commands about costs are asked about, and where they write."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from frostline.atomic import check_writable
from frostline.cli.options.naming import parse_configuration
from frostline.errors import OptionError, PredictionError
from frostline.inputs.safe_names import folder_name
from frostline.inputs.whole_numbers import parse_wholes, shown

if TYPE_CHECKING:
    from frostline.protocols import Task
    from frostline.records import Value

_FOLDER = Path("frostline-costs")
_ALL = "all"

# Up to so many numbers of layers are all shown; of more, about as many.
_MOST_LAYERS = 12
_SPREAD_LAYERS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class StepArguments:
    """At which numbers of trained layers, and with which hyperparameters."""

    layers: Annotated[
        str | None,
        typer.Option("--layers", help="Numbers of trained layers, such as 1,2,5, or all. Default: up to 12."),
    ] = None
    configuration: Annotated[
        str | None, typer.Option("--configuration", help="JSON; what it leaves out is the task's own.")
    ] = None

    def __post_init__(self) -> None:
        parse_configuration(self.configuration)
        if self.layers is not None and self.layers != _ALL:
            whole_numbers("--layers", self.layers)

    @property
    def hyperparameters(self) -> dict[str, Value]:
        """The hyperparameters that are given."""
        return parse_configuration(self.configuration)

    def trained_layers(self, task: Task, *, predict: bool) -> tuple[int, ...]:
        """Return the numbers of trained layers; where costs are predicted the model may be too large to be built."""
        from frostline.costs.measurement import checked_layers

        num_layers = self._num_layers(task, predict=predict)
        if self.layers is None:
            return spread(num_layers)
        numbers = None if self.layers == _ALL else whole_numbers("--layers", self.layers)
        return checked_layers(numbers, num_layers)

    def _num_layers(self, task: Task, *, predict: bool) -> int:
        from frostline.costs.measurement import num_layers_of
        from frostline.costs.predicted.prediction import predict_step

        if predict:
            with suppress(PredictionError):
                return predict_step(task, trainable_layers=1, configuration=self.hyperparameters).num_layers
        return num_layers_of(task, self.hyperparameters)


def spread(num_layers: int) -> tuple[int, ...]:
    """Return all numbers of layers if they are few, else about ten: the two at either end, and others evenly between."""
    if num_layers <= _MOST_LAYERS:
        return tuple(range(1, num_layers + 1))
    gaps = _SPREAD_LAYERS - 1
    evenly = {1 + (num_layers - 1) * step // gaps for step in range(_SPREAD_LAYERS)}
    return tuple(sorted(evenly | {2, num_layers - 1}))


def predicted_device(device: str) -> str:
    """Return for which device ``--device`` asks to predict: the CPU, unless it is "cuda", which need not be here.

    Raises: OptionError if it is another one.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise OptionError(
            f"device is {device!r}, for which no cost is predicted: use cpu or cuda, or measure there, without --predict."
        )
    return "cuda" if device == "cuda" else "cpu"


def whole_numbers(option: str, text: str) -> tuple[int, ...]:
    """Return the numbers of at least 1 in ``text``, which are separated by commas, each once."""
    try:
        return tuple(dict.fromkeys(parse_wholes(option, text)))
    except OptionError:
        raise OptionError(
            f"{option} is {shown(text)}, but must be whole numbers of at least 1, such as 1,8,32."
        ) from None


def folder_for(task: Task, out: Path | None, table: str) -> Path:
    """Return the folder for the costs of ``task``: ``out``, or one by the task's name where none is named.

    Raises: OptionError if ``table`` cannot be written there, before it is computed.
    """
    if out is not None:  # looked at before the task was loaded
        return out
    folder = _FOLDER / folder_name(task.name)
    check_writable(folder / table)
    return folder
