"""A causal language model on a sequence of tokens, as a task."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from frostline.tasks.checks import require_positive
from frostline.tasks.data.windows import TokenWindows, split_tokens
from frostline.tasks.models.gpt import GPT, GPTSettings, next_token_loss
from frostline.tasks.spaces import TRANSFORMER_DEFAULTS, transformer_space
from frostline.training.supervised.supervised_task import SupervisedTask

if TYPE_CHECKING:
    from torch import nn

    from frostline.layers.freezing.freezing import Tied
    from frostline.records import Configuration
    from frostline.tasks.data.tokenization import Tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageModelBudget:
    """How long and in what pieces a language model is trained. Units: tokens; ``batch_size`` counts windows.

    Raises: OptionError if a number is below 1.
    """

    full_tokens: int
    validation_tokens: int
    batch_size: int

    def __post_init__(self) -> None:
        for name in ("full_tokens", "validation_tokens", "batch_size"):
            require_positive(name, getattr(self, name))


def language_model_task(
    name: str,
    *,
    tokens: Tokens,
    settings: GPTSettings,
    budget: LanguageModelBudget,
    tied: Tied = "auto",
    chunked_logits: bool = False,
) -> SupervisedTask:
    """Return the task of training a GPT on ``tokens``, scored by the mean loss on tokens held out.

    Units: the score is in nats per token.
    Its defaults are LitGPT's for pre-training: AdamW at 4e-4, weight decay 0.1, betas 0.9 and 0.95, gradients
    clipped to a norm of 1.
    ``chunked_logits``: see SupervisedTask.
    Raises: TaskError if the tokens are too few or outside the vocabulary.
    """
    split = split_tokens(tokens, context_length=settings.context_length, vocabulary_size=settings.vocabulary_size)
    num_windows = max(1, budget.validation_tokens // settings.context_length)
    validation = TokenWindows(split.validation, context_length=settings.context_length, num_windows=num_windows)
    return SupervisedTask(
        name=name,
        model=partial(_build_gpt, settings),
        training_data=TokenWindows(split.training, context_length=settings.context_length),
        validation_data=validation,
        loss_function=next_token_loss,
        space=transformer_space(),
        full_samples=budget.full_tokens,
        defaults=TRANSFORMER_DEFAULTS,
        sample_unit="tokens",
        samples_per_example=settings.context_length,
        batch_size=budget.batch_size,
        # Logits over a whole vocabulary are what fills memory: no more of them than in training.
        validation_batch_size=budget.batch_size,
        gradient_clip_norm=1.0,
        tied=tied,
        chunked_logits=chunked_logits,
        data_fingerprint=f"{split.sha256} {settings} {budget}",
    )


def _build_gpt(settings: GPTSettings, _configuration: Configuration) -> nn.Module:
    return GPT(settings)
