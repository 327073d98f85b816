"""What DeltaProduct's recurrence reads: one object, so that its three forms have the same interface.

A token turns the state by N generalised Householder steps and is then read: with the state S of shape (K, V)

    S <- exp(log_decay) S                              once per token; not at all without a gate
    S <- (I - beta k k^T) S + beta k v^T               for each of the token's N steps
    output = S^T q / sqrt(K)

N = 1 is DeltaNet, and with a gate Gated DeltaNet. Keys are of unit length, so that a step has the eigenvalues 1 and
1 - beta: beta = 2 is a reflection, and N = 2 of them a rotation.

Source: Siems et al. 2025, arXiv:2502.10297.
Axes: B batch, T tokens, N Householder steps of a token, H heads, K key width, V value width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from frostline.errors import ModelError


@dataclass(frozen=True, slots=True, kw_only=True)
class Operands:
    """Queries, keys, values and gates of a batch of sequences, and the state that they begin with.

    Shapes: query (B, T, H, K); key (B, T, N, H, K); value (B, T, N, H, V); beta (B, T, N, H); log_decay (B, T, H), at
    most 0, or None for no gate; state (B, H, K, V), or None for zeros.
    Raises: ModelError if the shapes do not fit each other.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    beta: Tensor
    log_decay: Tensor | None = None
    state: Tensor | None = None

    def __post_init__(self) -> None:
        batch, length, heads, key_width = self.query.shape
        num_steps, value_width = self.key.shape[2], self.value.shape[-1]
        expected = {
            "key": (batch, length, num_steps, heads, key_width),
            "value": (batch, length, num_steps, heads, value_width),
            "beta": (batch, length, num_steps, heads),
            "log_decay": (batch, length, heads),
            "state": (batch, heads, key_width, value_width),
        }
        for name, shape in expected.items():
            tensor: Tensor | None = getattr(self, name)
            if tensor is not None and tensor.shape != shape:
                raise ModelError(
                    f"{name} is of shape {tuple(tensor.shape)}, but must be {shape} for a query of shape "
                    f"{tuple(self.query.shape)}."
                )

    @property
    def num_tokens(self) -> int:
        """The length of the sequences."""
        return self.query.shape[1]

    @property
    def num_steps(self) -> int:
        """The number of Householder steps of a token."""
        return self.key.shape[2]

    @property
    def scale(self) -> float:
        """What the outputs are multiplied by."""
        return float(self.query.shape[-1] ** -0.5)

    def first_state(self) -> Tensor:
        """Return the state before the first token, of shape (B, H, K, V)."""
        if self.state is not None:
            return self.state
        batch, _, heads, key_width = self.query.shape
        return self.query.new_zeros(batch, heads, key_width, self.value.shape[-1])

    def masked(self, mask: Tensor) -> Operands:
        """Return operands under which tokens with a False in ``mask``, of shape (B, T), leave the state as it is."""
        kept = mask[..., None, None]
        decay = self.log_decay
        return replace(
            self,
            beta=self.beta.masked_fill(~kept, 0.0),
            log_decay=None if decay is None else decay.masked_fill(~mask[..., None], 0.0),
        )
