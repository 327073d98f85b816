"""Inputs for the command line that nobody should give it, made from seeds: words, JSON, TOML, task files, URLs, studies.

All trainings are of milliseconds, and nothing is asked of a network: where a database is named there is no driver for it.
"""

from __future__ import annotations

import json
import random
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

PASSWORD = "hunter2-Xyzzy"
"""Wherever it is planted, it must not come out again."""

HERE = Path(__file__).parent
TASK_FILE = HERE / "fuzz_task.py"
TASK = f"{TASK_FILE}:task"

STUDY = "known"
KNOWN_JOURNAL = HERE / "known.log"
"""The journal of a search over ``TASK``, of 9 configurations on three rungs, and of an audit of 6, "known audit"."""

ODD = tomllib.loads((HERE / "odd_values.toml").read_text(encoding="utf-8"))
_WORKER = {
    "host": "elsewhere", "boot": "b", "pid": 7, "started": "1", "beat": 5.0, "deciding": None,
    "sent": 3, "news": [["claimed", 0, 1], ["recorded", 0, 1, {}], ["ended", 0]], "heard": {"v": 1},
}  # fmt: skip
"""What a worker that is gone said of itself."""

NUMBERS = (*ODD["numbers"], "9" * 5000)
TEXTS = (*ODD["texts"], "\udcff", "\ud800", "x" * 300, "x" * 5000)
LISTS = {**ODD, "numbers": NUMBERS, "texts": TEXTS, "ladders": (*ODD["ladders"], "1:8," * 200 + "3:32")}

_OF_SEARCHES = ("--ladder", "--rungs", "--search", "-n", "--budget", "--reduction-factor")
_OF_TRAININGS = (
    *(
        "--seed",
        "--device",
        "--precision",
        "--engine",
        "--memory",
        "--prefix-cache",
        "--threads",
        "--workers",
        "--runs",
    ),
    *("--sampler", "--grid-points"),
)
_OF_AUDITS = (
    "-n",
    "--layers",
    "--budgets",
    "--horizon",
    "--repeats",
    "--repeat-seeds",
    "--table",
    "--align",
    "--of",
    "--study",
)
_BY_COMMAND: dict[str, tuple[str, ...]] = {
    "layers": (),
    "ladder": (*_OF_SEARCHES, "--study"),
    "tune": (*_OF_SEARCHES, *_OF_TRAININGS, "--study", "--align", "--horizon"),
    "audit": (*_OF_AUDITS, *_OF_TRAININGS),
    "train": ("--layers", "--samples", "--save", "--seed", "--device", "--precision", "--memory", "--threads"),
    "cost": ("--layers", "--batch-sizes", "--device", "--precision", "--repetitions", "--out"),
    "fit": ("--device-memory", "--ladder", "--rungs", "--margin", "--out", "--layers"),
    "status": (),
    "best": (),
    "retry": (),
    "delete": ("--runs",),
    "report": ("--out",),
    "reproduce": ("--scale", "--out", "--table", "--text", "--images", "--device"),
}


_FLAGS = {"retry": "--all", "delete": "--yes"}
_ABOUT_STUDIES = ("status", "best", "report", "retry", "delete")


@dataclass(frozen=True, slots=True)
class FuzzedInput:
    """The words of a command, and files that are there when it runs."""

    words: list[str]
    files: dict[str, bytes] = field(default_factory=dict)


def command_line(chance: random.Random) -> FuzzedInput:
    """Return a command with a few of its options, about half of whose values are odd."""
    command = chance.choice([*_BY_COMMAND, "tune", "audit", "train"])
    words = [command, *_subject(command, chance)]
    known = _BY_COMMAND[command]
    for option in chance.sample(known, k=min(len(known), chance.randint(0, 3))):
        value = ODD["fine"][option] if chance.random() < 0.5 else chance.choice(_values_of(option))
        words += [option, value] if option == "-n" or chance.random() < 0.5 else [f"{option}={value}"]
    if command in _FLAGS and chance.random() < 0.7:
        words.append(_FLAGS[command])
    if command in ("tune", "audit", *_ABOUT_STUDIES):
        words += ["--storage", chance.choice((":memory:", "known.log", "known.log", "made.log", *ODD["places"]))]
    if command == "audit":
        # Cells enough for a ladder, and no more.
        words += ["--layers", "1", "--budgets", "2", "--repeats", "1", "--device", "cpu", "--threads", "1"]
    match chance.randrange(12):
        case 0:
            words.insert(chance.randrange(len(words) + 1), chance.choice(TEXTS))
        case 1:
            del words[chance.randrange(len(words))]
        case 2:
            chance.shuffle(words)
        case 3:
            words.append(f"--{chance.choice(TEXTS)}")
        case 4:
            words = [word for word in words if word != command]
    return FuzzedInput(words)


def json_options(chance: random.Random) -> FuzzedInput:
    """Return a command whose configuration, or an option of whose task, is odd JSON."""
    text = _mutated(json.dumps(_json_value(chance)), chance)
    if chance.random() < 0.5:
        if chance.random() < 0.8:
            text = f'{{"{chance.choice(ODD["json"]["hyperparameters"])}": {text}}}'
        command = chance.choice((["train"], ["cost"], ["fit", "--device-memory", "8GiB"]))
        return FuzzedInput([command[0], TASK, *command[1:], "--layers", "1", "--configuration", text])
    option, made = chance.choice(ODD["json"]["options"]), "make"
    if chance.random() < 0.4:
        option, made, text = "fields", "fields", f'{{"{chance.choice(ODD["json"]["fields"])}": {text}}}'
    command = chance.choice((["layers"], ["ladder"], ["train"]))
    return FuzzedInput([*command, f"{TASK_FILE}:{made}", "--set", f"{option}={text}"])


def toml_space(chance: random.Random) -> FuzzedInput:
    """Return a search in a space whose TOML is odd, and which ends before it trains."""
    values = (*ODD["toml"], "9" * 5000, "[" * 2000)
    lines = []
    for name in chance.sample(ODD["json"]["tables"], k=chance.randint(1, 3)):
        keys = chance.sample(("low", "high", "log", "step", "type", "choices", "x"), k=chance.randint(0, 4))
        lines += [f"[space.{name}]", *(f"{key} = {chance.choice(values)}" for key in keys)]
    contents = _mutated("\n".join(lines), chance).encode("utf-8", "surrogatepass")
    if chance.random() < 0.05:
        contents = chance.randbytes(chance.randint(0, 200))
    sampler = chance.choice(("random", "grid"))
    words = ["tune", TASK, "--space", "space.toml", "--storage", "no/where/x", "--sampler", sampler]
    return FuzzedInput(words, {"space.toml": contents})


def task_file(chance: random.Random) -> FuzzedInput:
    """Return a command about a task in a file of odd Python."""
    text = "\n".join(chance.sample(ODD["files"]["fragments"], k=chance.randint(1, 5)))
    if chance.random() < 0.2:
        text = _mutated(text, chance)
    name = chance.choice(("mine.py", "mine.py", "mine.py", "json.py", "mine.txt", "my task.py", "ü.py"))
    reference = f"{name}:{chance.choice(('task', 'task', 'task', 'nothing', '', 'E', 'f'))}"
    command = chance.choice(
        (["layers"], ["ladder"], ["train"], ["cost", "--predict"], ["tune", "--storage", ":memory:"])
    )
    return FuzzedInput([command[0], reference, *command[1:]], {name: text.encode("utf-8", "surrogatepass")})


def storage_url(chance: random.Random) -> FuzzedInput:
    """Return a command about a storage whose URL is malformed, as a rule, and holds a password."""
    scheme = chance.choice(ODD["urls"]["schemes"])
    noise = "".join(chance.choice("@:/?#&=%[] .") for _ in range(chance.choice((0, 0, 0, 1, 2, 3))))
    secret = chance.choice((PASSWORD, f"{PASSWORD}{noise}", f"{noise}{PASSWORD}"))
    host = chance.choice(ODD["urls"]["hosts"])
    query = chance.choice(ODD["urls"]["queries"]).replace("PASSWORD", PASSWORD)
    place = f"{scheme}{chance.choice(('user', 'u', ''))}:{secret}@{host}/{chance.choice(('db', '', 'a/b', '..'))}{query}"
    match chance.randrange(8):
        case 0:
            place = f"host=h password={PASSWORD} user=u"
        case 1:
            place = f"{scheme.removesuffix('//')}u:{PASSWORD}@{host}"
        case 2:
            place = f"postgresql://u:{PASSWORD}{chance.choice(('', '/db', '?x=1'))}"
    words = chance.choice((*([command, STUDY] for command in _ABOUT_STUDIES), ["tune", TASK], ["audit", TASK]))
    words = [*words, "--storage", place, *(["--yes"] if words[0] == "delete" else [])]
    if chance.random() < 0.15 and scheme.endswith("//"):
        # In the place of something else.
        words = [place if chance.random() < 0.3 else word for word in words]
    return FuzzedInput(words)


def stored_study(chance: random.Random) -> FuzzedInput:
    """Return a command about a study in a journal of which a line, or a value in it, was changed."""
    lines = KNOWN_JOURNAL.read_bytes().splitlines(keepends=True)
    number = chance.randrange(len(lines))
    match chance.randrange(8):
        case 0:
            del lines[number]
        case 1:
            lines.insert(number, lines[chance.randrange(len(lines))])
        case 2:
            position = chance.randrange(len(lines[number]))
            lines[number] = lines[number][:position] + chance.randbytes(1) + lines[number][position + 1 :]
        case 3:
            lines[number] = _mutated(lines[number].decode(), chance).encode("utf-8", "surrogatepass")
        case _:
            record = json.loads(lines[number])
            _change(record, chance)
            lines[number] = json.dumps(record).encode() + b"\n"
    if chance.random() < 0.3:
        worker = {
            "op_code": 3,
            "worker_id": "w",
            "study_id": 0,
            "system_attr": {"frostline:worker:w": dict(_WORKER)},
        }
        _change(worker["system_attr"], chance)
        lines.append(json.dumps(worker).encode() + b"\n")
    study = chance.choice((STUDY, f"{STUDY} audit"))
    about = [
        *([command] for command in _ABOUT_STUDIES),
        ["ladder", "--study"],
        ["best", "--json"],
        ["retry", "--all"],
    ]
    words = [*chance.choice((*about, ["delete", "--yes"])), study]
    if chance.random() < 0.2:
        words = ["tune", TASK, "--study", STUDY, "-n", "9", "--device", "cpu", "--threads", "1"]
    elif chance.random() < 0.1:
        words = [
            "tune",
            TASK,
            "--study",
            "mine",
            "--ladder",
            f"audit:{STUDY} audit",
            "--device",
            "cpu",
            "--threads",
            "1",
        ]
    return FuzzedInput([*words, "--storage", "odd.log"], {"odd.log": b"".join(lines)})


KINDS: dict[str, Callable[[random.Random], FuzzedInput]] = {
    "command line": command_line,
    "JSON": json_options,
    "TOML": toml_space,
    "task file": task_file,
    "URL": storage_url,
    "study": stored_study,
}


def fuzzed(index: int) -> tuple[str, FuzzedInput]:
    """Return the input of that number, and of which kind it is."""
    kind = [*KINDS][index % len(KINDS)]
    return kind, KINDS[kind](random.Random(f"{kind} {index}"))


def _values_of(option: str) -> list[str]:
    lists = (values for name, options in ODD["options"].items() if option in options for values in LISTS[name])
    return [*lists, *ODD["own"].get(option, ())]


def _subject(command: str, chance: random.Random) -> list[str]:
    if command in ("layers", "ladder", "tune", "audit", "train", "cost", "fit"):
        return [chance.choice((*(TASK,) * 200, f"{TASK}s", f"{TASK_FILE}:not_a_task", *TEXTS))]
    if command == "reproduce":
        # Those that are there take long to plan.
        return [chance.choice(("fig99", "", "--list", *TEXTS))]
    return [chance.choice((*(STUDY,) * 40, "x.csv", *TEXTS))]


def _json_value(chance: random.Random, depth: int = 0) -> object:
    match chance.randrange(9 if depth < 3 else 6):
        case 0:
            return chance.choice((0, 1, -1, 2**31, 2**53, 2**63, -(2**63), 10**25, 7))
        case 1:
            return chance.choice((0.0, -0.0, 0.5, 1e-300, 1e300, float("inf"), float("nan"), 1e18, 1.5))
        case 2:
            return chance.choice(TEXTS)
        case 3:
            return chance.choice((True, False, None))
        case 4:
            return chance.choice(("bfloat16", "snapshot", "stream", "batch", "Adam", "maximize"))
        case 5:
            return chance.choice(([], {}))
        case 6 | 7:
            return [_json_value(chance, depth + 1) for _ in range(chance.randint(0, 3))]
        case _:
            return {chance.choice(TEXTS): _json_value(chance, depth + 1) for _ in range(chance.randint(0, 3))}


def _mutated(text: str, chance: random.Random) -> str:
    """Return ``text`` with a few letters lost, doubled, or replaced; as it is, half of the time."""
    if chance.random() < 0.5:
        return text
    for _ in range(chance.randint(1, 3)):
        position = chance.randrange(len(text) + 1)
        doubled, odd = text[position : position + 5] * 2, chance.choice(ODD["texts"])
        middle = chance.choice(("", odd, doubled, chance.choice('{}[]",:=#\0')))
        text = text[:position] + middle + text[position + chance.randint(0, 2) :]
    return text


def _change(record: object, chance: random.Random) -> None:
    """Replace, remove or rename something inside a JSON value."""
    container = chance.choice([value for value in _values_in(record) if isinstance(value, dict | list) and value])
    if isinstance(container, list):
        container[chance.randrange(len(container))] = _json_value(chance)
        return
    key = chance.choice([*container])
    match chance.randrange(4):
        case 0:
            del container[key]
        case 1:
            renamed = chance.choice(
                (f"{key}0", "rung 7", "rung 1000000000", "rung x", "rung -1", "frostline:claim 9")
            )
            container[renamed] = container.pop(key)
        case _:
            container[key] = _json_value(chance)


def _values_in(record: object) -> list[object]:
    inner = record.values() if isinstance(record, dict) else record if isinstance(record, list) else ()
    return [record, *(value for each in inner for value in _values_in(each))]
