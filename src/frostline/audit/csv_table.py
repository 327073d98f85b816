"""A landscape as one tidy table: a row for every configuration and cell, in a CSV file that says of itself what it is."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, TextIO

import numpy as np

from frostline.atomic import write_whole
from frostline.audit.landscape import Landscape
from frostline.errors import AuditError
from frostline.records import Configuration
from frostline.search.alignment import Alignment
from frostline.search.spaces.space import SearchSpace

if TYPE_CHECKING:
    from frostline.records import Value

_OWN = ("configuration", "seed", "layers", "samples", "score", "seconds", "peak_bytes", "flops")
_ABOUT = ("task", "reference", "direction", "sample_unit", "horizon", "seed")
_COSTS = ("seconds", "peak_bytes", "flops")


def write_table(landscape: Landscape, path: Path) -> None:
    """Write the landscape to ``path``, compressed if that ends in ``.gz``.

    The first line is a comment, ``# `` and JSON, with all that is not in the rows; ``pandas.read_csv(path, comment="#")``
    passes over it. A row has the configuration's number, the seed, the layers and samples, the score (empty if it
    diverged), seconds, peak bytes, FLOPs (empty if not known), and the hyperparameters. Repeats of full training are rows
    of other seeds without costs, "inf" for those that diverged. The same landscape gives the same bytes.
    """
    about = {name: getattr(landscape, name) for name in _ABOUT}
    about |= {"space": landscape.space.to_toml(), "layers": landscape.layers, "samples": landscape.samples}
    about |= {"configurations": landscape.num_configurations, "repeats": len(landscape.repeats)}
    about |= {} if landscape.metric is None else {"metric": landscape.metric}
    about |= {} if landscape.alignment.is_identity else {"alignment": f"{landscape.alignment}"}
    names = tuple(landscape.space.distributions)
    contents = io.BytesIO()
    with _as_text(contents, "w", is_compressed=path.name.endswith(".gz")) as file:
        file.write(f"# {json.dumps(about)}\n")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow((*_OWN, *map(_column, names)))
        writer.writerows(_rows(landscape, names))
    write_whole(path, contents.getvalue())


def read_table(path: Path) -> Landscape:
    """Return the landscape that ``write_table`` wrote to ``path``.

    Raises: AuditError if it is not such a file, or a row is missing.
    """
    try:
        with path.open("rb") as contents, _as_text(contents, "r", is_compressed=path.name.endswith(".gz")) as file:
            first = file.readline()
            if not first.startswith("# {"):
                raise AuditError(f"{path} is no table of frostline's: its first line must be `# ` and JSON.")
            about = json.loads(first[2:])
            rows = list(csv.DictReader(file))
        return _landscape(about, rows)
    except FileNotFoundError:
        raise AuditError(f"there is no file {path}: name a table that `frostline audit --table` wrote.") from None
    except (OSError, EOFError, KeyError, TypeError, ValueError, csv.Error, zlib.error) as error:
        if isinstance(error, AuditError):
            raise
        raise AuditError(
            f"{path} is no whole table of frostline's ({type(error).__name__}: {error}): write it again."
        ) from error


def _rows(landscape: Landscape, names: tuple[str, ...]) -> Iterator[tuple[object, ...]]:
    for index, configuration in enumerate(landscape.configurations):
        values = tuple(json.dumps(configuration[name]) for name in names)
        for z, layers in enumerate(landscape.layers):
            for s, samples in enumerate(landscape.samples):
                cell = (index, z, s)
                costs = (_text(float(getattr(landscape, name)[cell])) for name in _COSTS)
                score = _text(float(landscape.scores[cell]))
                yield (configuration.number, landscape.seed, layers, samples, score, *costs, *values)
        for repeat, score in enumerate(landscape.repeats[:, index], start=1):
            if not math.isnan(score):
                full = (landscape.layers[-1], landscape.samples[-1])
                yield (
                    configuration.number,
                    landscape.seed + repeat,
                    *full,
                    _text(float(score)),
                    "",
                    "",
                    "",
                    *values,
                )


def _text(value: float) -> str:
    if math.isnan(value):
        return ""
    return str(int(value)) if value.is_integer() and abs(value) >= 1e6 else f"{value:.9g}"


def _landscape(about: dict[str, Any], rows: list[dict[str, str]]) -> Landscape:
    space = SearchSpace.from_toml(about["space"])
    layers, samples = tuple(about["layers"]), tuple(about["samples"])
    numbers = list(dict.fromkeys(int(row["configuration"]) for row in rows))
    position = {number: index for index, number in enumerate(numbers)}
    values: dict[int, dict[str, Value]] = {}
    shape = (len(numbers), len(layers), len(samples))
    arrays: dict[str, Any] = {name: np.full(shape, np.nan) for name in ("scores", *_COSTS)}
    repeats = np.full((about["repeats"], len(numbers)), np.nan)
    is_read = np.zeros(shape, dtype=bool)
    for row in rows:
        number, repeat = int(row["configuration"]), int(row["seed"]) - about["seed"]
        index = position[number]
        values.setdefault(number, {name: json.loads(row[_column(name)]) for name in space.distributions})
        if not 0 <= repeat <= len(repeats):
            raise AuditError(
                f"a row has the seed {row['seed']}, which is none of the table's: write the table again."
            )
        if repeat:
            repeats[repeat - 1, index] = float(row["score"])
            continue
        cell = (index, layers.index(int(row["layers"])), samples.index(int(row["samples"])))
        if is_read[cell]:
            raise AuditError(f"configuration {number} has two rows for one cell: write the table again.")
        is_read[cell] = True
        arrays["scores"][cell] = float(row["score"] or "nan")
        for name in _COSTS:
            arrays[name][cell] = float(row[name] or "nan")
    expected = about["configurations"] * len(layers) * len(samples)
    if is_read.sum() != expected:
        raise AuditError(f"{expected - is_read.sum()} of {expected} rows are missing: write the table again.")
    return Landscape(
        **{name: about[name] for name in _ABOUT},
        space=space,
        configurations=tuple(Configuration(number=number, hyperparameters=values[number]) for number in numbers),
        layers=layers,
        samples=samples,
        repeats=repeats,
        alignment=Alignment.parse(about.get("alignment", "")),
        metric=about.get("metric"),
        **arrays,
    )


def _column(hyperparameter: str) -> str:
    """Return the name of the hyperparameter's column: a space may well have its own "layers" or "seed"."""
    return f"{hyperparameter} (hyperparameter)" if hyperparameter in _OWN else hyperparameter


@contextmanager
def _as_text(contents: BinaryIO, mode: Literal["r", "w"], *, is_compressed: bool) -> Iterator[TextIO]:
    """Read or write text in ``contents``, which stays open."""
    # Neither a time nor a name goes into the file, so that a table is the same whenever it is written.
    packed: Any = gzip.GzipFile("", f"{mode}b", fileobj=contents, mtime=0) if is_compressed else contents
    text = io.TextIOWrapper(packed, encoding="utf-8", newline="")
    yield text
    text.flush()
    text.detach()
    if is_compressed:
        packed.close()
