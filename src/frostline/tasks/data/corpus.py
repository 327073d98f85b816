"""Text to train language models on: Python's own standard library, a user's files, or text made by rule."""

from __future__ import annotations

import hashlib
import os
import random
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from frostline.errors import TaskError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_NOT_SOURCE = frozenset(
    # The last holds the whole language reference as one string, a fifth of a small corpus.
    {"site-packages", "dist-packages", "test", "tests", "idlelib", "idle_test", "__pycache__", "pydoc_data"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """Documents in the order in which they are trained on.

    Raises: TaskError if there is no text in them.
    """

    name: str
    documents: tuple[str, ...]

    def __post_init__(self) -> None:
        if not any(self.documents):
            raise TaskError(f"the corpus {self.name} is empty: give text files with something in them.")

    @property
    def sha256(self) -> str:
        """The hash of all text, with the borders between documents."""
        digest = hashlib.sha256()
        for document in self.documents:
            data = document.encode()
            digest.update(len(data).to_bytes(8, "big"))
            digest.update(data)
        return digest.hexdigest()


def python_source(*, max_bytes: int) -> Corpus:
    """Return up to ``max_bytes`` of the running interpreter's standard library, whole files, in a scattered order.

    Which files there are differs between interpreters: ``Corpus.sha256`` tells. An interpreter that ships no
    source (or hardly any) gets ``synthetic_source`` instead, which is as large and always the same.
    """
    documents = tuple(_limited(_standard_library(Path(sysconfig.get_path("stdlib"))), max_bytes))
    # A handful of files would train a model on their names; an embedded interpreter keeps a few beside its
    # archive.
    if sum(map(len, documents)) < min(max_bytes // 2, 1_000_000):
        return synthetic_source(num_bytes=max_bytes)
    return Corpus(name="python-source", documents=documents)


def python_topics() -> Corpus:
    """Return the chapters of the language reference that ``help()`` shows, half a megabyte of prose, in a scattered order.

    Every CPython ships them, and ``python_source`` leaves them out. They differ between versions: ``Corpus.sha256`` tells.
    Raises: TaskError if this interpreter has none.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise TaskError(
            "this interpreter ships no pydoc_data.topics, the text to fine-tune to: use a whole CPython, or the task "
            "finetune with text of your own."
        ) from None
    return Corpus(name="python-topics", documents=tuple(topics[name] for name in _scattered(topics)))


def _standard_library(folder: Path) -> Iterator[str]:
    """Yield the texts of the standard library under ``folder``, unreadable files left out."""
    paths: dict[str, Path] = {}
    for parent, folders, files in os.walk(folder):
        # Not entered, rather than filtered afterwards: site-packages may hold a hundred thousand files.
        folders[:] = [name for name in folders if name not in _NOT_SOURCE]
        for path in (Path(parent, name) for name in files if name.endswith(".py")):
            paths[path.relative_to(folder).as_posix()] = path
    for name in _scattered(paths):
        try:
            yield paths[name].read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue


def _scattered(names: Iterable[str]) -> list[str]:
    """Return names in the order of their hashes."""
    # So a part of a corpus, and the part held out of it, are samples of the whole; by name alone the first part of the
    # standard library would be all asyncio and the last all xml.
    return sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())


def _limited(documents: Iterator[str], max_bytes: int) -> Iterator[str]:
    """Yield whole documents while they fit into ``max_bytes`` together."""
    for document in documents:
        max_bytes -= len(document.encode())
        if max_bytes < 0:
            return
        yield document


def synthetic_source(*, num_bytes: int) -> Corpus:
    """Return about ``num_bytes`` of text in the shape of small Python modules, the same on every machine.

    There is something to learn at several depths: the syntax, which names a function may use (its own arguments),
    and that a function returns what it last assigned.
    """
    generator = random.Random(0)  # noqa: S311 - text, not secrets
    documents: list[str] = []
    while num_bytes > 0:
        documents.append(
            "\n\n".join(_synthetic_function(generator) for _ in range(generator.randint(8, 24))) + "\n"
        )
        num_bytes -= len(documents[-1])
    return Corpus(name="synthetic-source", documents=tuple(documents))


def _synthetic_function(generator: random.Random) -> str:
    verbs = ("read", "write", "merge", "split", "count", "check", "parse", "build", "close", "find")
    nouns = (
        "value",
        "line",
        "index",
        "buffer",
        "result",
        "node",
        "table",
        "weight",
        "path",
        "item",
        "key",
        "total",
    )
    name = f"{generator.choice(verbs)}_{generator.choice(nouns)}"
    arguments = generator.sample(nouns, generator.randint(1, 4))
    lines = [f"def {name}({', '.join(arguments)}):", f'    """{name.capitalize().replace("_", " the ")}."""']
    known = list(arguments)
    for _ in range(generator.randint(1, 6)):
        target = generator.choice(nouns)
        left, right = generator.choice(known), generator.choice(known)
        kind = generator.randrange(3)
        if kind == 0:
            lines.append(f"    {target} = {left} {generator.choice('+-*/')} {right}")
        elif kind == 1:
            lines.append(f"    if {left} {generator.choice(('<', '>', '=='))} {generator.randrange(100)}:")
            lines.append(f"        {target} = {generator.choice(verbs)}_{generator.choice(nouns)}({right})")
            lines.append("    else:")
            lines.append(f"        {target} = {left}")
        else:
            lines.append(f"    {target} = [{left} for {left} in range({generator.randrange(100)})]")
        known.append(target)
    return "\n".join([*lines, f"    return {known[-1]}"]) + "\n"


def text_files(path: Path) -> Corpus:
    """Return the text at ``path``: one file, all text files under a folder, or those that match a pattern.

    Files are taken in the order of their paths. Under a folder or a pattern, hidden files and those that are not
    UTF-8 text are left out.
    Raises: TaskError if there is nothing there, or no text in it.
    """
    if path.is_file():
        try:
            return Corpus(name=path.name, documents=(path.read_text(encoding="utf-8"),))
        except UnicodeDecodeError:
            raise TaskError(
                f"{path} is not UTF-8 text: give text files, or a token file that ends in .bin or .npy."
            ) from None
        except OSError as error:
            raise TaskError(f"{path} cannot be read ({error.strerror}): give a file that can.") from None
    files = [file for file in sorted(_matches(path)) if file.is_file()]
    if not files:
        raise TaskError(
            f"there is no text at {path}: give a file, a folder or a pattern such as 'texts/**/*.txt'."
        )
    documents = []
    for file in files:
        try:
            documents.append(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError):
            continue
    return Corpus(name=str(path), documents=tuple(documents))


def _matches(path: Path) -> Iterator[Path]:
    """Yield what lies under a folder or matches a pattern, but nothing hidden below the fixed part of the path."""
    parts = path.parts
    first = next((index for index, part in enumerate(parts) if set(part) & set("*?[")), None)
    folder = path if first is None else Path(*parts[:first])
    pattern = "**/*" if first is None else str(Path(*parts[first:]))
    for match in folder.glob(pattern):
        if not any(part.startswith(".") for part in match.relative_to(folder).parts):
            yield match
