"""What the pins share: masking what may differ from run to run, comparing with a golden file, and renewing it."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from optuna.storages import BaseStorage

from frostline.store.reading import TERMS
from frostline.store.terms import Terms

HERE = Path(__file__).parent
TABLES = HERE.parents[1] / "benchmarks" / "tables"
MASK = "***"

# Short float32 trainings, all on one thread: another processor's kernels sum in another order, and fifty steps on the
# curves differ by up to some 1e-5. A wrong seed, batch or schedule moves them by 1e-2 and more.
FLOAT32 = 1e-4

_DURATION = re.compile(r"(?<![\w.])(?:\d+ h \d+ min|\d+ min \d+ s|\d+(?:\.\d+)? m?s)(?![\w/])")
_SECONDS = {"seconds"}
_WORKERS = {"worker"}
_PLACES = {"traceback"}


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenFiles:
    """The files of ``data``: compared with, or written where ``renew`` is set."""

    renew: bool = False
    folder: Path = HERE / "data"

    def check_text(self, name: str, text: str) -> None:
        """Fail unless ``text`` is what the file ``name`` holds."""
        path = self.folder / name
        lines = [line.rstrip() for line in text.strip().splitlines()]
        if self.renew:
            _write(path, "\n".join(lines) + "\n")
        assert lines == path.read_text(encoding="utf-8").splitlines(), f"{name} holds another text"

    def check(self, name: str, record: Any, *, rel: float = 0.0) -> None:
        """Fail unless ``record`` is the JSON of the file ``name``; of floats, all but a share ``rel`` must be the same.

        Everything else, whole numbers too, must be equal. The message names the first place that differs.
        """
        path = self.folder / name
        found = json.loads(json.dumps(record))
        if self.renew:
            _write(path, _lines(found))
        difference = first_difference(json.loads(path.read_text(encoding="utf-8")), found, rel=rel)
        assert difference is None, f"{name}: {difference}"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def first_difference(expected: Any, found: Any, *, rel: float = 0.0, place: str = "") -> str | None:
    """Return where and how two JSON values differ first; None if they do not."""
    if isinstance(expected, dict) and isinstance(found, dict):
        if list(expected) != list(found):
            return f"{place}: the keys are {list(found)}, expected {list(expected)}"
        pairs = [(f"{place}/{key}", expected[key], found[key]) for key in expected]
    elif isinstance(expected, list) and isinstance(found, list):
        if len(expected) != len(found):
            return f"{place}: there are {len(found)}, expected {len(expected)}"
        pairs = [(f"{place}/{index}", *both) for index, both in enumerate(zip(expected, found, strict=True))]
    elif isinstance(expected, float) and isinstance(found, float):
        near = expected == found or (math.isnan(expected) and math.isnan(found))
        near = near or math.isclose(expected, found, rel_tol=rel, abs_tol=0.0)
        return None if near else f"{place}: {found!r}, expected {expected!r} within {rel:g} of it"
    else:
        same = type(expected) is type(found) and expected == found
        return None if same else f"{place}: {found!r}, expected {expected!r}"
    differences = (first_difference(ours, theirs, rel=rel, place=where) for where, ours, theirs in pairs)
    return next((difference for difference in differences if difference is not None), None)


def _lines(record: Any) -> str:
    """Return JSON with a line for each entry of the two outermost levels: short, and its changes are readable."""
    if isinstance(record, dict) and record:
        rows = (f"{json.dumps(key)}: {_inner(value)}" for key, value in record.items())
        return "{\n" + ",\n".join(rows) + "\n}\n"
    return f"{_inner(record)}\n"


def _inner(record: Any) -> str:
    if isinstance(record, list) and record and isinstance(record[0], dict | list):
        return "[\n" + ",\n".join(f"  {json.dumps(one, ensure_ascii=False)}" for one in record) + "\n]"
    if isinstance(record, dict) and any(isinstance(value, dict | list) for value in record.values()):
        rows = (f"  {json.dumps(key)}: {json.dumps(one, ensure_ascii=False)}" for key, one in record.items())
        return "{\n" + ",\n".join(rows) + "\n}"
    return json.dumps(record, ensure_ascii=False)


def rounded(value: Any, digits: int = 10) -> Any:
    """Return a JSON value with its floats at ``digits`` significant digits."""
    if isinstance(value, float):
        return float(f"{value:.{digits}g}")
    if isinstance(value, Mapping):
        return {key: rounded(one, digits) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(one, digits) for one in value]
    return value


def masked(text: str, *more: str) -> str:
    """Return ``text`` without durations, and without what the regular expressions ``more`` match."""
    for pattern in more:
        text = re.sub(pattern, MASK, text)
    return _DURATION.sub(MASK, text)


def masked_record(value: Any) -> Any:
    """Return what a study holds without seconds and the names of workers."""
    if isinstance(value, Mapping):
        return {
            key: MASK if _is_masked(key) and one is not None else masked_record(one) for key, one in value.items()
        }
    return [masked_record(one) for one in value] if isinstance(value, list | tuple) else value


def dump(storage: BaseStorage, name: str, *, digits: int = 10) -> dict[str, Any]:
    """Return all that a study holds but for times and workers: its attributes, and a record for each trial."""
    with closing(_Closing(storage)):
        study_id = storage.get_study_id_from_name(name)
        system, attributes = storage.get_study_system_attrs(study_id), storage.get_study_user_attrs(study_id)
        record = {
            "user_attrs": {key: one for key, one in attributes.items() if key != "frostline identity"},
            "system_attrs": {key: one for key, one in system.items() if not key.startswith("frostline:worker:")},
            # Whoever has left says so.
            "workers": sorted({one is None for key, one in system.items() if key.startswith("frostline:worker:")}),
            "directions": [direction.name for direction in storage.get_study_directions(study_id)],
            "trials": [_trial(trial) for trial in storage.get_all_trials(study_id)],
        }
    # Studies of before say the same in other words.
    terms = Terms.parse(record["user_attrs"][TERMS])
    # The source is the test's own file.
    record["user_attrs"][TERMS] = replace(terms, source=None).record()
    return rounded(masked_record(record), digits)


def _is_masked(key: str) -> bool:
    # The optimizer of CMA-ES is pickled with memory that nothing was written to (numpy.empty).
    return key in _SECONDS | _WORKERS | _PLACES or key.startswith("cma:optimizer")


class _Closing:
    def __init__(self, storage: BaseStorage) -> None:
        self._storage = storage

    def close(self) -> None:
        self._storage.remove_session()


def _trial(trial: Any) -> dict[str, Any]:
    return {
        "number": trial.number,
        "state": trial.state.name,
        "values": trial.values,
        "params": trial.params,
        "intermediate_values": {str(step): value for step, value in sorted(trial.intermediate_values.items())},
        "user_attrs": dict(sorted(trial.user_attrs.items())),
        "system_attrs": {key: _claim(key, value) for key, value in sorted(trial.system_attrs.items())},
    }


def _claim(key: str, value: Any) -> Any:
    """Return an attribute; of a claim the worker alone: after how many evaluations it was made depends on interruptions."""
    return {"worker": value["worker"]} if key.startswith("frostline:claim ") else value


class _Visible(HTMLParser):
    """The words of a page, block by block, and the labels of its figures."""

    _INLINE = frozenset(
        ("a", "b", "br", "code", "em", "i", "label", "option", "small", "span", "strong", "td", "th")
    )

    def __init__(self) -> None:
        super().__init__()
        self.blocks: list[list[str]] = [[]]
        self._hidden: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "style"):
            self._hidden.append(tag)
        if tag not in self._INLINE:
            self.blocks.append([])
        label = dict(attrs).get("aria-label")
        if label:
            self.blocks[-1].append(f"[{label}]")

    def handle_endtag(self, tag: str) -> None:
        if self._hidden and self._hidden[-1] == tag:
            self._hidden.pop()
        if tag not in self._INLINE:
            self.blocks.append([])

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.blocks[-1].append(data)


def visible_text(page: str) -> str:
    """Return what a page says, without its scripts and styles: a line for each block, blanks collapsed."""
    parser = _Visible()
    parser.feed(page)
    parser.close()
    lines = (" ".join(" ".join(block).split()) for block in parser.blocks)
    return html.unescape("\n".join(line for line in lines if line))


def columns(rows: Iterable[Sequence[Any]]) -> list[list[Any]]:
    """Return rows of equal length as columns: short to write down."""
    return [list(column) for column in zip(*rows, strict=True)]
