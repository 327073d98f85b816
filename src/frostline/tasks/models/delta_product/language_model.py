"""A small causal language model with DeltaProduct in the place of attention: it has no positions and no longest context.

Axes: B batch, T tokens, D model width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from frostline.tasks.checks import require_positive
from frostline.tasks.models.delta_product.mixing import DeltaProduct


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaProductSettings:
    """The architecture of a language model with DeltaProduct; see ``DeltaProduct`` for its own numbers.

    Raises: OptionError if the numbers do not make a model.
    """

    num_blocks: int
    num_heads: int
    width: int
    vocabulary_size: int
    num_householders: int = 2
    gated: bool = False
    largest_beta: float = 2.0

    def __post_init__(self) -> None:
        for name in ("num_blocks", "vocabulary_size"):
            require_positive(name, getattr(self, name))


class FeedForward(nn.Module):
    """Two linear maps around a GELU, twice as wide inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.expansion = nn.Linear(width, 2 * width)
        self.projection = nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return the transformed tokens, of shape (B, T, D)."""
        projected: Tensor = self.projection(functional.gelu(self.expansion(x)))
        return projected


class DeltaProductBlock(nn.Module):
    """DeltaProduct and feed-forward, each behind its norm and beside its skip connection."""

    def __init__(self, settings: DeltaProductSettings) -> None:
        super().__init__()
        self.mixing_norm = nn.RMSNorm(settings.width, eps=1e-5)
        self.mixing = DeltaProduct(
            width=settings.width,
            num_heads=settings.num_heads,
            num_householders=settings.num_householders,
            gated=settings.gated,
            largest_beta=settings.largest_beta,
        )
        self.feed_forward_norm = nn.RMSNorm(settings.width, eps=1e-5)
        self.feed_forward = FeedForward(settings.width)

    def forward(self, x: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """Return the block's output, of the shape of its input."""
        mixed = x + self.mixing(self.mixing_norm(x), mask=mask)
        output: Tensor = mixed + self.feed_forward(self.feed_forward_norm(mixed))
        return output


class DeltaProductModel(nn.Module):
    """A causal language model: embedding, blocks, head; its layers are these."""

    def __init__(self, settings: DeltaProductSettings) -> None:
        super().__init__()
        self.settings = settings
        self.embedding = nn.Embedding(settings.vocabulary_size, settings.width)
        self.blocks = nn.ModuleList(DeltaProductBlock(settings) for _ in range(settings.num_blocks))
        self.norm = nn.RMSNorm(settings.width, eps=1e-5)
        self.head = nn.Linear(settings.width, settings.vocabulary_size)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the logits at each token, of shape (B, T, V); tokens with a False in ``mask`` are read by none."""
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, mask=mask)
        logits: Tensor = self.head(self.norm(x))
        return logits
