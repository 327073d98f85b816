"""Byte-level BPE of a corpus, kept in a cache so that only the first run pays for it."""

from __future__ import annotations

import hashlib
import logging
import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from frostline.atomic import UnnamedFile
from frostline.errors import OptionError, TaskError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from frostline.tasks.data.corpus import Corpus

_logger = logging.getLogger(__name__)

Tokens = npt.NDArray[np.integer]
"""A sequence of token ids, possibly memory-mapped."""

SMALLEST_VOCABULARY = 257
"""All bytes, and the border between documents."""

_END_OF_DOCUMENT = "<|endoftext|>"
_RECIPE = "byte-level BPE 1"  # a new number here makes cached tokens of an older recipe unused


def encode(
    corpus: Corpus, *, vocabulary_size: int, cache: Path | None, vocabulary_of: Corpus | None = None
) -> Tokens:
    """Return the tokens of a corpus under a byte-level BPE trained on it, each document behind a border token.

    With ``vocabulary_of`` the BPE is trained on that corpus instead: a model that was trained on one text reads another.
    Deterministic. ``cache`` is a folder that keeps the result, checked on reading; None keeps nothing. A cache
    that cannot be read or written costs time, nothing else.
    Raises: TaskError if ``tokenizers`` is missing; OptionError if the vocabulary cannot hold all bytes.
    """
    if vocabulary_size < SMALLEST_VOCABULARY:
        raise OptionError(
            f"vocabulary_size is {vocabulary_size}, but a byte-level vocabulary has at least "
            f"{SMALLEST_VOCABULARY} entries: give a larger one."
        )
    try:
        import tokenizers
    except ImportError:
        raise TaskError(
            "text needs the package 'tokenizers', which is not installed: pip install 'frostline[tasks]'."
        ) from None
    key = f"{_RECIPE}/{tokenizers.__version__}/{vocabulary_size}/{corpus.sha256}"
    key += "" if vocabulary_of is None else f"/{vocabulary_of.sha256}"
    file = cache / f"tokens-{hashlib.sha256(key.encode()).hexdigest()[:32]}.npz" if cache is not None else None
    tokens = _read(file) if file is not None else None
    if tokens is None:
        tokens = _encode_with(_train_tokenizer(vocabulary_of or corpus, vocabulary_size), corpus)
        if file is not None:
            _write(file, tokens)
    return tokens


def _train_tokenizer(corpus: Corpus, vocabulary_size: int) -> Tokenizer:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=[_END_OF_DOCUMENT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus.documents, trainer)
    return tokenizer


def _encode_with(tokenizer: Tokenizer, corpus: Corpus) -> Tokens:
    border = tokenizer.token_to_id(_END_OF_DOCUMENT)
    # Text that spells the border token is text: it must not be read as one.
    tokenizer.encode_special_tokens = True
    dtype = np.uint16 if tokenizer.get_vocab_size() <= 2**16 else np.uint32
    pieces = ([border, *encoding.ids] for encoding in tokenizer.encode_batch(list(corpus.documents)))
    return np.concatenate([np.asarray(piece, dtype=dtype) for piece in pieces])


def cache_directory() -> Path | None:
    """Return the folder for what can be made again: ``FROSTLINE_CACHE``, or frostline's own in the user's caches.

    None where the user has no home.
    """
    if chosen := os.environ.get("FROSTLINE_CACHE"):
        return Path(chosen)
    if caches := os.environ.get("XDG_CACHE_HOME"):
        return Path(caches) / "frostline"
    try:
        return Path.home() / ".cache" / "frostline"
    except RuntimeError:
        return None


def _read(file: Path) -> Tokens | None:
    """Return the cached tokens, or None if they are not there or not whole: the archive carries their checksum."""
    try:
        # Opened here because numpy forgets to close a file that turns out to be no archive (2.4).
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            tokens: Tokens = archive["tokens"]
    except FileNotFoundError:
        return None
    # Whatever else may lie under that name, from a truncated archive to a folder, is as good as nothing.
    except (OSError, ValueError, KeyError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        _logger.info("the cached tokens in %s are damaged (%s) and are made again", file, error)
        return None
    return tokens


def _write(file: Path, tokens: Tokens) -> None:
    """Keep ``tokens``, so that nobody ever reads half of them."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with UnnamedFile(file.parent, prefix=f".{file.name}") as written:
            np.savez(written.file, tokens=tokens)
            written.named(file)
    except OSError as error:
        _logger.info("tokens cannot be kept in %s (%s): the next run makes them again", file.parent, error)
