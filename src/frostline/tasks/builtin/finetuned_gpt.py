"""The task ``finetuned-gpt``: a GPT that has read Python's source, fine-tuned to the prose of its language reference."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, cast

from torch import nn

from frostline.records import Configuration, Value
from frostline.tasks.builtin.own_checkpoints import own_checkpoint
from frostline.tasks.builtin.python_source_gpt import python_source_gpt, source_gpt_settings
from frostline.tasks.checks import require_one_of, require_positive
from frostline.tasks.data.corpus import python_source, python_topics
from frostline.tasks.data.tokenization import cache_directory, encode
from frostline.tasks.data.windows import TokenWindows, split_tokens
from frostline.tasks.models.gpt import GPT, GPTSettings, next_token_loss
from frostline.tasks.models.lora import LORA_DEFAULTS, require_peft, with_lora
from frostline.tasks.spaces import FINETUNING_DEFAULTS, finetuning_space
from frostline.training.supervised.supervised_task import SupervisedTask

_NUM_HEADS = 4
_BATCH_SIZES = (2, 4, 8)
_VALIDATION_WINDOWS = 16
_PRETRAINING = {"learning_rate": 3e-3, "cooldown_fraction": 0.5}
# The head's projection ends so as well: each layer but the embedding has an adapter.
_TARGETS = "query_key_value,projection,expansion"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Model:
    """What is built for every configuration: a picklable function of it."""

    settings: GPTSettings
    adapter: Literal["none", "lora"]

    def __call__(self, configuration: Configuration) -> nn.Module:
        """Return the model at random weights, with its adapters."""
        if self.adapter == "lora":
            return with_lora(GPT(self.settings), configuration)
        return GPT(replace(self.settings, dropout=cast("float", configuration["dropout"])))


# Seven arguments: each is an option of the command line, where a settings object cannot be written.
def finetuned_gpt(
    *,
    adapter: Literal["none", "lora"] = "none",
    weights: Literal["pretrained", "random"] = "pretrained",
    num_blocks: int = 6,
    width: int = 64,
    full_tokens: int = 24 * 512,
    pretraining_tokens: int = 256 * 2048,
    corpus_bytes: int = 4_000_000,
) -> SupervisedTask:
    """Return the task of fine-tuning to the language reference a GPT that was trained on the standard library's source.

    The model is that of ``python_source_gpt``, 8 layers, and is pretrained once, on ``pretraining_tokens`` (under a minute
    of one core), and kept in the cache. What it is fine-tuned to are the texts of ``help()``: every CPython ships
    them, they are prose with a little code, and the pretraining leaves them out. Scored by the mean loss on those held out.
    With ``adapter`` "lora" the weights stay, and adapters beside all linear maps are trained. With ``weights``
    "random" all is the same, but nothing was pretrained.
    Units: the score is in nats per token.
    Raises: TaskError if ``tokenizers``, ``peft`` or the texts are missing; OptionError if a number makes no model.
    """
    require_one_of("adapter", adapter, ("none", "lora"))
    require_one_of("weights", weights, ("pretrained", "random"))
    counts = {"full_tokens": full_tokens, "pretraining_tokens": pretraining_tokens, "corpus_bytes": corpus_bytes}
    for name, value in counts.items():
        require_positive(name, value)
    if adapter == "lora":
        require_peft()
    settings = source_gpt_settings(num_blocks=num_blocks, num_heads=_NUM_HEADS, width=width)
    tokens = encode(
        python_topics(),
        vocabulary_size=settings.vocabulary_size,
        cache=cache_directory(),
        vocabulary_of=python_source(max_bytes=corpus_bytes),
    )
    length = settings.context_length
    split = split_tokens(tokens, context_length=length, vocabulary_size=settings.vocabulary_size)
    defaults, choices = _searched(adapter)
    task = SupervisedTask(
        name="finetuned-gpt",
        model=_Model(settings=settings, adapter=adapter),
        training_data=TokenWindows(split.training, context_length=length),
        validation_data=TokenWindows(split.validation, context_length=length, num_windows=_VALIDATION_WINDOWS),
        loss_function=next_token_loss,
        metric="validation loss",
        space=finetuning_space(batch_sizes=_BATCH_SIZES, choices=choices),
        full_samples=full_tokens,
        defaults=defaults,
        sample_unit="tokens",
        samples_per_example=length,
        batch_size=4,
        validation_batch_size=8,
        gradient_clip_norm=1.0,
        data_fingerprint=f"{split.sha256} {settings}",
    )
    if weights == "random":
        return task
    pretraining = python_source_gpt(
        num_blocks=num_blocks,
        num_heads=_NUM_HEADS,
        width=width,
        full_tokens=pretraining_tokens,
        corpus_bytes=corpus_bytes,
    )
    pretraining = replace(pretraining, defaults={**pretraining.defaults, **_PRETRAINING})
    return replace(task, pretrained=own_checkpoint(pretraining))


def _searched(adapter: str) -> tuple[dict[str, Value], dict[str, tuple[float, ...]]]:
    """Return the defaults of a fine-tuning, and what of the model is searched."""
    if adapter == "none":
        return {**FINETUNING_DEFAULTS, "dropout": 0.0}, {"dropout": (0.0, 0.1, 0.2)}
    defaults = {**FINETUNING_DEFAULTS, **LORA_DEFAULTS, "target_modules": _TARGETS}
    return defaults, {"lora_rank": (2, 8), "lora_alpha": (4, 16, 64), "lora_dropout": (0.0, 0.1)}
