"""What fits where, as lines for people and as a tidy file."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from frostline.atomic import write_whole
from frostline.costs.capacity import MOST
from frostline.sizes import format_size
from frostline.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from frostline.costs.capacity import Fit, RungFit
    from frostline.costs.shown.cost_tables import Circumstances

_COLUMNS = (
    "task", "device", "precision", "torch_version", "threads", "origin", "margin",
    "trainable_layers", "num_layers", "batch_size_examples", "device_memory_bytes",
    "required_bytes", "largest_batch_examples", "population",
)  # fmt: skip

# Wide enough for "1,048,575+", which is what "at least so many" takes, and blanks before it.
_NARROW, _WIDE = 12, 15


def fit_heading(device_memories: Sequence[int], batch_size: int) -> list[str]:
    """Return the lines above those of ``fit_line``."""
    names = "".join(f"{format_size(memory):>{_WIDE + _NARROW}}" for memory in device_memories)
    kinds = f"{'largest batch':>{_WIDE}}{'together':>{_NARROW}}" * len(device_memories)
    return [
        f"{'':{_NARROW}}{'needs at':>{_WIDE}}{names}",
        f"{'trained':>{_NARROW}}{f'batch {batch_size:,}':>{_WIDE}}{kinds}",
    ]


def fit_line(fits: Sequence[Fit]) -> str:
    """Return a line about one number of layers, of which ``fits`` says what fits into each device."""
    first = fits[0]
    layers = f"{first.trainable_layers} of {first.num_layers}"
    counts = "".join(f"{_count(fit.largest_batch):>{_WIDE}}{_count(fit.population):>{_NARROW}}" for fit in fits)
    return f"{layers:>{_NARROW}}{format_size(first.required):>{_WIDE}}{counts}"


def rung_heading(device_memories: Sequence[int], sample_unit: str) -> str:
    """Return the line above those of ``rung_line``."""
    names = "".join(f"{format_size(memory):>{_NARROW}}" for memory in device_memories)
    return f"{'rung':>4}{'layers':>8}{sample_unit:>16}{'needs':>{_NARROW}}{names}"


def rung_line(number: int, rung: RungFit) -> str:
    """Return a line about a rung: how many configurations each device serves together."""
    fidelity = rung.fidelity
    counts = "".join(f"{_count(population):>{_NARROW}}" for population in rung.populations)
    place = f"{number:>4}{fidelity.trainable_layers:>8}{fidelity.samples:>16,}"
    return f"{place}{format_size(rung.required):>{_NARROW}}{counts}"


def served_sentences(rungs: Sequence[RungFit], device_memories: Sequence[int]) -> list[str]:
    """Return which rungs the smallest device serves, and whether any device serves the last one."""
    smallest = min(range(len(device_memories)), key=lambda position: device_memories[position])
    name = format_size(device_memories[smallest])
    served = [number for number, rung in enumerate(rungs) if rung.populations[smallest]]
    if len(served) == len(rungs):
        return [f"A device of {name} can serve every rung."]
    numbers = f"rung{'s' * (len(served) > 1)} {_listed(served)} of 0 to {len(rungs) - 1}" if served else "no rung"
    sentences = [f"A device of {name} can serve {numbers}."]
    last = rungs[-1]
    if not any(last.populations):
        sentences.append(
            f"No device here can serve the last rung: {counted(last.fidelity.trainable_layers, 'layer')} "
            f"{'needs' if last.fidelity.trainable_layers == 1 else 'need'} {format_size(last.required)}."
        )
    return sentences


def write_fits(path: Path, fits: Sequence[Fit], circumstances: Circumstances, *, margin: float) -> None:
    """Write one line for every number of layers and device; a largest batch that is not known is left empty.

    Raises: OptionError if the file cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    here = circumstances
    where = (here.task, here.device, here.precision, here.torch_version, here.threads)
    for fit in fits:
        what = (fit.trainable_layers, fit.num_layers, fit.batch_size, fit.device_memory)
        largest = "" if fit.largest_batch is None else fit.largest_batch
        writer.writerow((*where, fit.origin, margin, *what, fit.required, largest, fit.population))
    write_whole(path, text.getvalue().encode())


def _count(number: int | None) -> str:
    if number is None:
        return "?"
    return f"{number:,}{'+' * (number >= MOST)}" if number else "-"


def _listed(numbers: Sequence[int]) -> str:
    *others, last = (f"{number}" for number in numbers)
    return f"{', '.join(others)} and {last}" if others else last
