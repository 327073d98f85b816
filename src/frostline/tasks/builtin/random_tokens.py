"""The task ``random-tokens``: a GPT of a known size on random tokens, to see what it costs; there is nothing to learn."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from frostline.seeding import derive_seed
from frostline.tasks.checks import require_positive
from frostline.tasks.models.gpt import GPT, GPTSettings, named_settings, next_token_loss
from frostline.tasks.spaces import TRANSFORMER_DEFAULTS, transformer_space
from frostline.training.supervised.supervised_task import SupervisedTask

if TYPE_CHECKING:
    from frostline.records import Configuration

_NUM_WINDOWS = 65_536
_NUM_VALIDATION_WINDOWS = 4


class RandomTokens(Dataset[tuple[Tensor, Tensor]]):
    """Windows of random tokens, drawn when they are asked for, each from a seed of its own.

    An item is (inputs, targets), both int64 of shape (context_length,), the targets one token further.
    """

    def __init__(self, *, context_length: int, vocabulary_size: int, num_windows: int = _NUM_WINDOWS) -> None:
        self.context_length = context_length
        self.vocabulary_size = vocabulary_size
        self.num_windows = num_windows

    def __len__(self) -> int:
        return self.num_windows

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return the window ``index``; IndexError beyond the last one ends an iteration."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        generator = torch.Generator().manual_seed(derive_seed(0, "random-tokens", index))
        tokens = torch.randint(self.vocabulary_size, (self.context_length + 1,), generator=generator)
        return tokens[:-1], tokens[1:]


def random_tokens(
    *,
    model: Literal["14M", "600M", "Pythia-1.4B", "Pythia-6.9B"] = "14M",
    context_length: int | None = None,
    batch_size: int = 1,
    vocabulary_size: int | None = None,
    tied_embedding: bool = False,
) -> SupervisedTask:
    """Return the task of training a GPT on random tokens: for its costs, not for its score.

    What is not given is the model's own (``tasks.models.gpt``). Units: ``batch_size`` counts windows of the context's
    length. AdamW, gradients clipped to a norm of 1.
    Raises: OptionError for a model that does not exist, or a number below 1.
    """
    settings = named_settings(model)
    settings = replace(
        settings,
        tied=tied_embedding,
        context_length=settings.context_length if context_length is None else context_length,
        vocabulary_size=settings.vocabulary_size if vocabulary_size is None else vocabulary_size,
    )
    require_positive("batch_size", batch_size)
    windows = partial(
        RandomTokens, context_length=settings.context_length, vocabulary_size=settings.vocabulary_size
    )
    return SupervisedTask(
        name="random-tokens",
        model=partial(_build_gpt, settings),
        training_data=windows(),
        validation_data=windows(num_windows=_NUM_VALIDATION_WINDOWS),
        loss_function=next_token_loss,
        space=transformer_space(),
        full_samples=max(_NUM_WINDOWS, batch_size) * settings.context_length,
        defaults={
            **TRANSFORMER_DEFAULTS,
            # Named here, it can be set without building a model to see whether anybody reads it.
            "batch_size": batch_size,
        },
        sample_unit="tokens",
        samples_per_example=settings.context_length,
        batch_size=batch_size,
        validation_batch_size=batch_size,
        gradient_clip_norm=1.0,
        data_fingerprint=f"{settings}",
    )


def _build_gpt(settings: GPTSettings, _configuration: Configuration) -> nn.Module:
    return GPT(settings)
