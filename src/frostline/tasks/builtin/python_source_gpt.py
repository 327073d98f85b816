"""The task ``python-source-gpt``: a small GPT on the source text of Python's own standard library."""

from __future__ import annotations

from frostline.tasks.builtin.language_modelling import LanguageModelBudget, language_model_task
from frostline.tasks.checks import require_positive
from frostline.tasks.data.corpus import python_source
from frostline.tasks.data.tokenization import cache_directory, encode
from frostline.tasks.models.gpt import GPTSettings
from frostline.training.supervised.supervised_task import SupervisedTask


def python_source_gpt(
    *,
    num_blocks: int = 6,
    num_heads: int = 3,
    width: int = 96,
    full_tokens: int = 192 * 2048,
    batch_size: int = 16,
    corpus_bytes: int = 4_000_000,
    validation_tokens: int = 16_384,
    tied_embedding: bool = False,
) -> SupervisedTask:
    """Return the task of training a small GPT on the standard library of the interpreter that runs.

    GPT-2's form (learned positions, attention before feed-forward) with GPT-NeoX's initialisation, a context of
    128 and a vocabulary of 1,024. With the defaults it has 8 layers and 0.9 million parameters, and a full
    training, 192 steps that see a quarter of the corpus once, takes about 25 seconds on two cores. The text is
    part of the fingerprint, as it differs between interpreters; where there are no source files it is synthetic. With
    ``tied_embedding`` the head's weight is the token embedding's.
    Units: ``full_tokens`` and ``validation_tokens`` count tokens, ``batch_size`` windows of the context's length.
    Raises: TaskError if ``tokenizers`` is missing; OptionError if a number makes no model.
    """
    require_positive("corpus_bytes", corpus_bytes)
    settings = source_gpt_settings(num_blocks=num_blocks, num_heads=num_heads, width=width, tied=tied_embedding)
    budget = LanguageModelBudget(
        full_tokens=full_tokens, validation_tokens=validation_tokens, batch_size=batch_size
    )
    corpus = python_source(max_bytes=corpus_bytes)
    tokens = encode(corpus, vocabulary_size=settings.vocabulary_size, cache=cache_directory())
    return language_model_task("python-source-gpt", tokens=tokens, settings=settings, budget=budget)


def source_gpt_settings(*, num_blocks: int, num_heads: int, width: int, tied: bool = False) -> GPTSettings:
    """Return the architecture of ``python_source_gpt``. Raises: OptionError if the numbers make no model."""
    return GPTSettings(
        num_blocks=num_blocks,
        num_heads=num_heads,
        width=width,
        context_length=128,
        vocabulary_size=1024,
        positions="learned",
        parallel_residual=False,
        tied=tied,
    )
