"""A GPT-2-style decoder in plain torch, with the method's three sizes.

The method's table names width, blocks, heads, context, vocabulary and LayerNorm, and takes LitGPT's defaults for
the rest (arXiv 2504.10735, appendix B). Those, read in LitGPT 0.5, are the defaults of ``GPTSettings``: rotary
positions on a quarter of each head, attention and feed-forward side by side ("parallel residual"), biases
everywhere but in the head, exact GELU, norm epsilon 1e-5, a vocabulary padded to a multiple of 512, no dropout,
GPT-NeoX initialisation.

Axes: B batch, T tokens, D model width, H heads, E head width, V padded vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from frostline.errors import OptionError
from frostline.tasks.checks import require_positive


@dataclass(frozen=True, slots=True, kw_only=True)
class GPTSettings:
    """The architecture of a GPT. What the method's table does not name has LitGPT's default.

    Raises: OptionError if the numbers do not make a model.
    """

    num_blocks: int
    num_heads: int
    width: int
    context_length: int
    vocabulary_size: int
    tied: bool = False
    """Whether the head's weight is the token embedding's."""
    positions: Literal["rotary", "learned"] = "rotary"
    """"rotary" is LitGPT's, "learned" is GPT-2's table of positions beside the token embedding."""
    rotary_share: float = 0.25
    """The share of each head's channels that rotary positions turn."""
    parallel_residual: bool = True
    """Whether attention and feed-forward read the same input (GPT-NeoX) or one after the other (GPT-2)."""
    bias: bool = True
    norm_epsilon: float = 1e-5
    dropout: float = 0.0
    vocabulary_multiple: int = 512
    """The vocabulary is padded with unused entries to a multiple of this."""

    def __post_init__(self) -> None:
        sizes = ("num_blocks", "num_heads", "width", "context_length", "vocabulary_size", "vocabulary_multiple")
        for name in sizes:
            require_positive(name, getattr(self, name))
        if self.width % self.num_heads:
            raise OptionError(
                f"width {self.width} cannot be split over {self.num_heads} heads: give a width that is a multiple "
                f"of num_heads."
            )
        if self.positions not in ("rotary", "learned"):
            raise OptionError(f"positions is {self.positions!r}, but must be 'rotary' or 'learned'.")
        if self.tied not in (True, False):
            raise OptionError(f"tied is {self.tied!r}, but must be true or false.")
        if not 0 <= self.rotary_share <= 1:
            raise OptionError(f"rotary_share is {self.rotary_share}, but it is a share: give a number in [0, 1].")
        if not 0 <= self.dropout < 1:
            raise OptionError(f"dropout is {self.dropout}, but it is a probability: give a number in [0, 1).")

    @property
    def head_width(self) -> int:
        """The number of channels of one head."""
        return self.width // self.num_heads

    @property
    def padded_vocabulary_size(self) -> int:
        """The number of rows of the embedding and of the head."""
        return -(-self.vocabulary_size // self.vocabulary_multiple) * self.vocabulary_multiple

    @property
    def num_rotated_channels(self) -> int:
        """How many channels of each head rotary positions turn: an even number, in pairs."""
        return int(self.rotary_share * self.head_width) // 2 * 2 if self.positions == "rotary" else 0


# The method's Table 2. Untied, 14M has 14.6 million parameters, of which each of the two embeddings holds 6.5.
GPT_14M = GPTSettings(num_blocks=8, num_heads=2, width=128, context_length=1024, vocabulary_size=50257)
GPT_600M = GPTSettings(num_blocks=24, num_heads=20, width=1280, context_length=1024, vocabulary_size=50257)
PYTHIA_1_4B = GPTSettings(
    num_blocks=24,
    num_heads=16,
    width=2048,
    context_length=2048,
    vocabulary_size=50257,
    vocabulary_multiple=128,  # as LitGPT's own entry for Pythia, not its general default
)
PYTHIA_6_9B = GPTSettings(
    num_blocks=32,
    num_heads=32,
    width=4096,
    context_length=2048,
    vocabulary_size=50257,
    vocabulary_multiple=256,
)
_NAMED = {"14M": GPT_14M, "600M": GPT_600M, "Pythia-1.4B": PYTHIA_1_4B, "Pythia-6.9B": PYTHIA_6_9B}


def named_settings(model: str) -> GPTSettings:
    """Return the settings of the model that is called so.

    Raises: OptionError if there is none.
    """
    if model not in _NAMED:
        *names, last = map(repr, _NAMED)
        raise OptionError(f"model is {model!r}, but must be {', '.join(names)} or {last}.")
    return _NAMED[model]


class Embedding(nn.Module):
    """Token embeddings, and with them the learned positions where the model has any: one layer."""

    def __init__(self, settings: GPTSettings) -> None:
        super().__init__()
        self.tokens = nn.Embedding(settings.padded_vocabulary_size, settings.width)
        learned = settings.positions == "learned"
        self.positions = nn.Embedding(settings.context_length, settings.width) if learned else None
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the embedded tokens, of shape (B, T, D)."""
        embedded: Tensor = self.tokens(tokens)
        if self.positions is not None:
            embedded = embedded + self.positions.weight[: tokens.shape[1]]
        dropped: Tensor = self.dropout(embedded)
        return dropped


class RotaryPositions(nn.Module):
    """Turns pairs of channels of queries and keys by an angle that grows with the position.

    Source: Su et al. 2021, arXiv:2104.09864, with GPT-NeoX's pairing of a channel with the one half the rotated
    width away.
    """

    cosine: Tensor
    sine: Tensor

    def __init__(self, settings: GPTSettings) -> None:
        super().__init__()
        self.num_channels = settings.num_rotated_channels
        frequencies = 10_000.0 ** (-torch.arange(0, self.num_channels, 2) / self.num_channels)
        angles = torch.outer(torch.arange(settings.context_length, dtype=torch.float32), frequencies).repeat(1, 2)
        self.register_buffer("cosine", angles.cos(), persistent=False)
        self.register_buffer("sine", angles.sin(), persistent=False)

    def forward(self, heads: Tensor) -> Tensor:
        """Return queries or keys, of shape (B, H, T, E), with their first ``num_channels`` channels turned."""
        turned, kept = heads[..., : self.num_channels], heads[..., self.num_channels :]
        first, second = turned.chunk(2, dim=-1)
        length = heads.shape[-2]
        turned = turned * self.cosine[:length] + torch.cat((-second, first), dim=-1) * self.sine[:length]
        return torch.cat((turned.to(kept.dtype), kept), dim=-1)


class Attention(nn.Module):
    """Causal self-attention over several heads."""

    def __init__(self, settings: GPTSettings) -> None:
        super().__init__()
        self.num_heads = settings.num_heads
        self.dropout = settings.dropout
        self.query_key_value = nn.Linear(settings.width, 3 * settings.width, bias=settings.bias)
        self.projection = nn.Linear(settings.width, settings.width, bias=settings.bias)
        self.rotary = RotaryPositions(settings) if settings.num_rotated_channels else None

    def forward(self, x: Tensor) -> Tensor:
        """Return each token's mixture of the tokens up to it, of shape (B, T, D)."""
        query, key, value = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for part in self.query_key_value(x).chunk(3, dim=-1)
        )
        if self.rotary is not None:
            query, key = self.rotary(query), self.rotary(key)
        dropout = self.dropout if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True, dropout_p=dropout)
        projected: Tensor = self.projection(mixed.transpose(1, 2).flatten(2))
        return projected


class FeedForward(nn.Module):
    """Two linear maps around a GELU, four times as wide inside."""

    def __init__(self, settings: GPTSettings) -> None:
        super().__init__()
        self.expansion = nn.Linear(settings.width, 4 * settings.width, bias=settings.bias)
        self.projection = nn.Linear(4 * settings.width, settings.width, bias=settings.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the transformed tokens, of shape (B, T, D)."""
        projected: Tensor = self.projection(functional.gelu(self.expansion(x)))
        return projected


class Block(nn.Module):
    """Attention and feed-forward, each behind its norm and beside its skip connection."""

    def __init__(self, settings: GPTSettings) -> None:
        super().__init__()
        self.parallel_residual = settings.parallel_residual
        self.attention_norm = nn.LayerNorm(settings.width, eps=settings.norm_epsilon)
        self.attention = Attention(settings)
        self.feed_forward_norm = nn.LayerNorm(settings.width, eps=settings.norm_epsilon)
        self.feed_forward = FeedForward(settings)
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, of the shape of its input."""
        attended = x + self.dropout(self.attention(self.attention_norm(x)))
        read = x if self.parallel_residual else attended
        output: Tensor = attended + self.dropout(self.feed_forward(self.feed_forward_norm(read)))
        return output


class Head(nn.Module):
    """The final norm and the map to logits: one layer."""

    def __init__(self, settings: GPTSettings) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(settings.width, eps=settings.norm_epsilon)
        self.projection = nn.Linear(settings.width, settings.padded_vocabulary_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits, of shape (B, T, padded vocabulary)."""
        logits: Tensor = self.projection(self.norm(x))
        return logits


class GPT(nn.Module):
    """A causal language model: embedding, blocks, head; its layers are these, each a function of one tensor."""

    def __init__(self, settings: GPTSettings) -> None:
        super().__init__()
        self.settings = settings
        self.embedding = Embedding(settings)
        self.blocks = nn.ModuleList(Block(settings) for _ in range(settings.num_blocks))
        self.head = Head(settings)
        if settings.tied:
            self.head.projection.weight = self.embedding.tokens.weight
        self._initialise()

    def _initialise(self) -> None:
        """Draw the weights from torch's generator as GPT-NeoX does (arXiv:2204.06745), in LitGPT's reading."""
        width = self.settings.width
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=math.sqrt(2 / (5 * width)))
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        # LitGPT scales attention's output alone here, although the source scales the feed-forward's as well.
        for module in self.modules():
            if isinstance(module, Attention):
                nn.init.normal_(module.projection.weight, std=1 / (math.sqrt(width) * self.settings.num_blocks))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits of each next token, of shape (B, T, padded vocabulary).

        Raises: OptionError if T is over the context length.
        """
        if tokens.shape[1] > self.settings.context_length:
            raise OptionError(
                f"a sequence of {tokens.shape[1]} tokens does not fit a context of "
                f"{self.settings.context_length}: cut it, or give a larger context_length."
            )
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(x)
        return logits


def count_parameters(settings: GPTSettings) -> int:
    """Return the number of parameters of a GPT, a tied weight counted once; no memory is taken for them."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in GPT(settings).parameters())


def next_token_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy of the next tokens, in nats per token."""
    return functional.cross_entropy(logits.flatten(0, -2), targets.flatten())
