"""A layer that mixes tokens by DeltaProduct: projections, the recurrence, a norm of each head, a projection back.

Axes: as in ``operands``, and D model width.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from frostline.errors import OptionError
from frostline.inputs.whole_numbers import shown
from frostline.tasks.checks import require_positive
from frostline.tasks.models.delta_product.chunked import chunked_delta_product
from frostline.tasks.models.delta_product.fused import can_fuse, fused_delta_product
from frostline.tasks.models.delta_product.operands import Operands
from frostline.tasks.models.delta_product.recurrent import recurrent_delta_product

Form = Literal["automatic", "chunked", "recurrent", "fused"]
_FORMS = {
    "chunked": chunked_delta_product,
    "recurrent": recurrent_delta_product,
    "fused": fused_delta_product,
}
# Of a token's state about 0.98 is left at first: a gate begins with a memory of some fifty tokens.
_FIRST_DECAY_LOGIT = 4.0


class DeltaProduct(nn.Module):
    """Mixes tokens by DeltaProduct with ``num_householders`` steps a token; ``gated`` lets the state decay.

    ``num_householders`` = 1 is DeltaNet, or Gated DeltaNet. The gates beta lie in (0, ``largest_beta``); above 1 the
    state may be reflected (eigenvalues down to 1 - ``largest_beta``), which tracking states needs. The form "automatic" is
    flash-linear-attention's kernels where they run, and "chunked" elsewhere; all forms give the same numbers to rounding.
    No short convolution: what a step does depends on its own token alone. No SiLU on queries, keys and values either: it
    keeps keys near one orthant, where reflections are few.
    Raises: OptionError if the numbers do not make a layer.
    """

    # More than six arguments: each is a number of the architecture.
    def __init__(
        self,
        *,
        width: int,
        num_heads: int,
        num_householders: int = 2,
        gated: bool = False,
        largest_beta: float = 2.0,
        form: Form = "automatic",
    ) -> None:
        super().__init__()
        for name, number in (("width", width), ("num_heads", num_heads), ("num_householders", num_householders)):
            require_positive(name, number)
        if width % num_heads:
            raise OptionError(
                f"width {width} cannot be split over {num_heads} heads: give a width that is a multiple of num_heads."
            )
        if not isinstance(largest_beta, int | float) or not 0 < largest_beta <= 2:
            raise OptionError(f"largest_beta is {shown(largest_beta)}, but must be above 0 and at most 2.")
        if not isinstance(gated, bool):
            raise OptionError(f"gated is {shown(gated)}, but must be true or false.")
        if form != "automatic" and form not in _FORMS:
            raise OptionError(f"form is {form!r}, but must be 'automatic', 'chunked', 'recurrent' or 'fused'.")
        self.num_heads = num_heads
        self.num_householders = num_householders
        self.largest_beta = largest_beta
        self.form = form
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, num_householders * width, bias=False)
        self.value = nn.Linear(width, num_householders * width, bias=False)
        self.beta = nn.Linear(width, num_householders * num_heads)
        self.decay = nn.Linear(width, num_heads) if gated else None
        self.norm = nn.RMSNorm(width // num_heads, eps=1e-5)
        self.projection = nn.Linear(width, width, bias=False)
        if self.decay is not None:
            nn.init.constant_(self.decay.bias, _FIRST_DECAY_LOGIT)

    def extra_repr(self) -> str:
        """Return what shows neither in the parts nor in their shapes."""
        return f"num_heads={self.num_heads}, largest_beta={self.largest_beta}"

    def forward(self, x: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """Return each token's mixture of the tokens up to it, of shape (B, T, D)."""
        return self.continued(x, mask=mask)[0]

    def continued(
        self, x: Tensor, *, mask: Tensor | None = None, state: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the mixtures, of shape (B, T, D), and the state after the last token, of shape (B, H, K, V).

        ``state`` is what an earlier call returned: a sequence may be run in pieces. Tokens with a False in ``mask``, of
        shape (B, T), change no state.
        """
        operands = self.operands(x, state)
        if mask is not None:
            operands = operands.masked(mask)
        if self.form == "automatic":
            run = fused_delta_product if can_fuse(operands) else chunked_delta_product
        else:
            run = _FORMS[self.form]
        outputs, state = run(operands)
        return self.projection(self.norm(outputs).flatten(2)), state

    def operands(self, x: Tensor, state: Tensor | None = None) -> Operands:
        """Return what the recurrence reads of the tokens ``x``, of shape (B, T, D)."""
        steps = (self.num_householders, self.num_heads)
        return Operands(
            query=functional.normalize(_split(self.query(x), self.num_heads, -1), dim=-1),
            key=functional.normalize(_split(self.key(x), *steps, -1), dim=-1),
            value=_split(self.value(x), *steps, -1),
            beta=self.largest_beta * torch.sigmoid(_split(self.beta(x), *steps)),
            log_decay=None if self.decay is None else functional.logsigmoid(self.decay(x)),
            state=state,
        )


def _split(x: Tensor, *sizes: int) -> Tensor:
    """Return ``x`` with its last dimension split into ``sizes``."""
    return x.reshape(*x.shape[:-1], *sizes)
