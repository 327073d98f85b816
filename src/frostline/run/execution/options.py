"""How and where a study's trainings run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from frostline.errors import OptionError
from frostline.folders.places import checked_folder, folder_at, local_path
from frostline.inputs.device_names import check_device
from frostline.inputs.model_costs import SECONDS
from frostline.inputs.whole_numbers import parse_whole, shown
from frostline.process import num_cores
from frostline.search.alignment import IDENTITY, Alignment
from frostline.sizes import parse_size
from frostline.store.terms import TrainingTerms

if TYPE_CHECKING:
    from frostline.folders.folder import Folder
    from frostline.training.course import TrainingSettings
    from frostline.training.machine.devices import DevicePlan

# What loads torch is imported where it is used: options are checked before.

# More processes than any machine of today keeps busy.
_MOST_WORKERS = 1024

# As ``training`` has them, which loads torch.
PRECISIONS, HORIZONS = ("float32", "bfloat16"), ("rung", "full")
STATISTICS = ("batches", "running")

_RUNG, _FULL = HORIZONS
_BATCHES = STATISTICS[0]

# With None they are what the study was begun with.
_LEFT_OPEN = ("horizon", "statistics")

DEFAULT_RUNS = Path("frostline-runs")
"""The folder of checkpoints, unless somebody says another."""

AUTO: Literal["auto"] = "auto"
OFF = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOptions:
    """How and where trainings run. What of it changes the numbers is part of a study's terms: ``terms``.

    ``horizon`` and ``num_validations`` are those of ``TrainingSettings``; without a horizon it is the one that the study was
    begun with, and of a new one "full" under a budget, else "rung". ``statistics`` are those of ``TrainingSettings``, too;
    None: those that the study was begun with, and of a new one "batches". Configurations are trained together behind one
    frozen prefix: how, says ``engine`` (``Engine``; "serial" for one by one). ``memory`` is what they may take, such as
    "8GiB"; "auto" for most of what is free. ``prefix_cache`` is what of it the outputs of frozen layers that come again may
    take: a size, "auto" for a part of it, or "off". Checkpoints of trainings that may be continued lie in ``runs``: a path,
    or the URL of a folder that fsspec reaches, such as "s3://bucket/folder".

    ``threads`` is how many torch computes with on the CPU: a number, or "auto" for what is measured to be fastest, up to
    those that torch has. ``workers`` is how many processes train side by side, as far as there is memory; "auto" begins in
    this one, and goes over to several where a training cannot use the cores. They import the running script once more: it
    has to do its work under ``if __name__ == "__main__":``.
    Raises: OptionError if one is not among those allowed, or ``runs`` is a file, or a URL whose package is not installed.
    """

    device: str = "auto"
    precision: str = "float32"
    horizon: str | None = None
    num_validations: int = 4
    statistics: str | None = None
    engine: str = "auto"
    memory: str = "auto"
    prefix_cache: str = "auto"
    threads: int | Literal["auto"] = "auto"
    workers: int | Literal["auto"] = 1
    runs: Path | str = DEFAULT_RUNS

    def __post_init__(self) -> None:
        check_device(self.device)
        choices = {"precision": PRECISIONS, "horizon": HORIZONS, "statistics": STATISTICS}
        for name, allowed in choices.items():
            value = getattr(self, name)
            if value not in allowed and not (value is None and name in _LEFT_OPEN):
                raise OptionError(f"{name} is {value!r}, but must be one of {', '.join(allowed)}.")
        _check_count("threads", self.threads, most=num_cores(), why=", the cores of this machine")
        _check_count("workers", self.workers, most=_MOST_WORKERS)
        checked_folder(self.runs)

    def terms(self, alignment: Alignment = IDENTITY) -> TrainingTerms:
        """Return what of it, and of the alignment that trainings run under, changes the numbers."""
        return TrainingTerms(
            horizon=self.horizon or _RUNG,
            precision=self.precision,
            num_validations=self.num_validations,
            statistics=self.statistics or _BATCHES,
            alignment=alignment,
        )

    @property
    def folder(self) -> Folder:
        """The folder ``runs``."""
        return folder_at(self.runs)

    @property
    def local_runs(self) -> Path:
        """The folder of what is of this process alone: ``runs``, or where that is elsewhere, the default one."""
        return local_path(self.runs) or DEFAULT_RUNS

    @property
    def device_plan(self) -> DevicePlan:
        """The device, and the precision to compute in.

        Raises: OptionError if there is no such device, or precision is neither float32 nor bfloat16.
        """
        from frostline.training.machine.devices import device_plan_of

        return device_plan_of(self.device, self.precision)

    def settings(self, *, folder: Folder, seed: int) -> TrainingSettings:
        """Return how the trainings of a study run, which keeps checkpoints and models in ``folder``."""
        from frostline.training.course import TrainingSettings

        return TrainingSettings(
            device_plan=self.device_plan,
            root_seed=seed,
            horizon=self.horizon or _RUNG,
            num_validations=self.num_validations,
            statistics=self.statistics or _BATCHES,
            folder=folder,
        )


def alone(options: TrainingOptions, against: str) -> TrainingOptions:
    """Return the options of a search against a model's cost: where it is seconds, nothing else trains meanwhile.

    Raises: OptionError if several processes are asked for all the same.
    """
    if against != SECONDS or options.workers == 1:
        return options
    if options.workers != AUTO:
        raise OptionError(
            f"against is {SECONDS!r}, which are measured while nothing else runs, but workers is {options.workers}: leave "
            f"that out, or search against bytes or flops."
        )
    return replace(options, workers=1)


def usual_horizon(*, is_budgeted: bool) -> str:
    """Return the horizon of a search that nobody says one for (docs/decisions/0042-a-full-training-is-one.md)."""
    return _FULL if is_budgeted else _RUNG


def parse_count(name: str, text: str) -> int | Literal["auto"]:
    """Return the number of threads or workers, as ``name`` says, that ``text`` is.

    Raises: OptionError if it is neither "auto" nor a whole number.
    """
    if text == AUTO:
        return AUTO
    try:
        return parse_whole(name, text, least=0)
    except OptionError:
        raise OptionError(f"{name} is {shown(text)}, but must be {AUTO} or a whole number.") from None


def _check_count(name: str, count: int | str, *, most: int, why: str = "") -> None:
    is_number = isinstance(count, int) and not isinstance(count, bool)
    if count == AUTO or (is_number and 1 <= int(count) <= most):
        return
    allowed = (
        f"in 1..{most}{why}" if why else f"at most {most}" if is_number and int(count) > most else "at least 1"
    )
    raise OptionError(f"{name} is {count!r}, but must be {AUTO} or {allowed}.")


def memory_of(options: TrainingOptions, settings: TrainingSettings) -> int:
    """Return the bytes that trainings may take: what was asked for, or all that is free on their device."""
    if options.memory == AUTO:
        from frostline.training.machine.memory import available_bytes

        return available_bytes(settings.device_plan.device)
    return parse_size(options.memory)
