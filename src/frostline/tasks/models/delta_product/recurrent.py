"""DeltaProduct token by token: the definition, and the form for generating."""

from __future__ import annotations

import torch
from torch import Tensor

from frostline.tasks.models.delta_product.operands import Operands


def recurrent_delta_product(operands: Operands) -> tuple[Tensor, Tensor]:
    """Return the outputs, of shape (B, T, H, V), and the state after the last token, of shape (B, H, K, V)."""
    state = operands.first_state()
    outputs = []
    for token in range(operands.num_tokens):
        if operands.log_decay is not None:
            state = state * operands.log_decay[:, token, :, None, None].exp()
        for step in range(operands.num_steps):
            key, value = operands.key[:, token, step], operands.value[:, token, step]
            error = value - torch.einsum("bhkv,bhk->bhv", state, key)
            state = state + torch.einsum("bhk,bhv->bhkv", operands.beta[:, token, step, :, None] * key, error)
        outputs.append(torch.einsum("bhkv,bhk->bhv", state, operands.query[:, token]))
    return operands.scale * torch.stack(outputs, dim=1), state
