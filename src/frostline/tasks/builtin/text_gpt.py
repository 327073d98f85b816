"""The task ``text-gpt``: a GPT of one of the method's sizes on the user's own text or tokens."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Literal

from frostline.tasks.builtin.language_modelling import LanguageModelBudget, language_model_task
from frostline.tasks.data.corpus import text_files
from frostline.tasks.data.tokenization import cache_directory, encode
from frostline.tasks.data.windows import token_file
from frostline.tasks.models.gpt import count_parameters, named_settings
from frostline.training.supervised.supervised_task import SupervisedTask

_TOKENS_PER_PARAMETER = 20
_BATCH_TOKENS = 8192


# More than six arguments: each is an option of the command line, where a settings object cannot be written.
def text_gpt(
    *,
    text: str | os.PathLike[str],
    model: Literal["14M", "600M", "Pythia-1.4B", "Pythia-6.9B"] = "14M",
    tied_embedding: bool = False,
    context_length: int | None = None,
    vocabulary_size: int | None = None,
    full_tokens: int | None = None,
    batch_size: int | None = None,
    integers: Literal["uint16", "uint32"] = "uint16",
    chunked_logits: bool = False,
) -> SupervisedTask:
    """Return the task of training a GPT on the text or the tokens at ``text``.

    ``text`` is a token file (``.npy``, or raw little-endian ``integers`` in ``.bin``), read from disk as it is
    needed; or a text file, a folder or a pattern such as "texts/**/*.txt", whose text gets a byte-level BPE of its
    own. What is not given is the model's own (``frostline.tasks.models.gpt``: ``GPT_14M``, ``GPT_600M``,
    ``PYTHIA_1_4B``, ``PYTHIA_6_9B``), except for the budget, the method's 20 tokens per parameter, and the batch,
    about 8,192 tokens. For another architecture see ``language_modelling.language_model_task``. Units:
    ``full_tokens`` counts tokens, ``batch_size`` windows of the context's length. With ``chunked_logits`` the logits over
    the whole vocabulary are never held at once: less memory, the same loss to rounding.
    Raises: TaskError if there is nothing to train on there, or a token is outside the vocabulary; OptionError.
    """
    settings = named_settings(model)
    settings = replace(
        settings,
        tied=tied_embedding,
        context_length=settings.context_length if context_length is None else context_length,
        vocabulary_size=settings.vocabulary_size if vocabulary_size is None else vocabulary_size,
    )
    budget = LanguageModelBudget(
        full_tokens=_TOKENS_PER_PARAMETER * count_parameters(settings) if full_tokens is None else full_tokens,
        validation_tokens=128 * settings.context_length,
        batch_size=max(1, _BATCH_TOKENS // settings.context_length) if batch_size is None else batch_size,
    )
    path = Path(text)
    if path.suffix in (".npy", ".bin"):
        tokens = token_file(path, integers=integers)
    else:
        tokens = encode(text_files(path), vocabulary_size=settings.vocabulary_size, cache=cache_directory())
    return language_model_task(
        "text-gpt", tokens=tokens, settings=settings, budget=budget, chunked_logits=chunked_logits
    )
