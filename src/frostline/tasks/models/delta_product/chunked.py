"""DeltaProduct chunk by chunk: matrix products within a chunk of tokens, a recurrence over the chunks alone.

The Householder steps of a chunk are taken as so many tokens of DeltaNet, with decay before the first step of each. What a
step m adds to the state is k_m u_m^T, and the u are the solution of one triangular system for the chunk (the WY form, by
the UT transform): with G_m the decay accumulated up to step m, and S the state before the chunk,

    u_m + beta_m sum_{i<m} exp(G_m - G_i) (k_m . k_i) u_i = beta_m (v_m - exp(G_m) S^T k_m).

The right side is linear in S, so the system is solved for all chunks at once, before any state is known. Every exponent
is a decay from an earlier step to a later one, at most 0: nothing overflows, however strong the gate.

Source: Yang et al. 2024, arXiv:2406.06484 and arXiv:2412.06464; with several steps a token arXiv:2502.10297.
Axes: as in ``operands``, and C tokens of a chunk, M = C N steps of a chunk, J chunks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from frostline.tasks.models.delta_product.operands import Operands


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chunks:
    """The operands by chunks: (B, H, J, C or M, width), gates without the width; decays accumulate within a chunk."""

    query: Tensor
    key: Tensor
    value: Tensor
    beta: Tensor
    decay_of_steps: Tensor
    decay_of_tokens: Tensor


def chunked_delta_product(operands: Operands, *, chunk_length: int = 16) -> tuple[Tensor, Tensor]:
    """Return the outputs, of shape (B, T, H, V), and the state after the last token, of shape (B, H, K, V).

    ``chunk_length`` is in tokens and changes the numbers by rounding alone. The cost of a token does not depend on T.
    """
    num_tokens, num_steps = operands.num_tokens, operands.num_steps
    chunks = _in_chunks(operands, min(chunk_length, num_tokens))
    keys, betas, decay = chunks.key, chunks.beta, chunks.decay_of_steps
    step = torch.arange(keys.shape[-2], device=keys.device)
    overlap = _decayed(keys @ keys.mT, decay, decay, step[:, None] > step)
    right = torch.cat((chunks.value, decay.exp()[..., None] * keys), dim=-1) * betas[..., None]
    # The diagonal is taken as ones and not read.
    solved = torch.linalg.solve_triangular(betas[..., None] * overlap, right, upper=False, unitriangular=True)
    added, read = solved.split((chunks.value.shape[-1], keys.shape[-1]), dim=-1)
    # A token is read after its own last step.
    token = torch.arange(chunks.query.shape[-2], device=keys.device)
    seen = token[:, None] >= step // num_steps
    scores = _decayed(chunks.query @ keys.mT, chunks.decay_of_tokens, decay, seen)
    queries = chunks.query * chunks.decay_of_tokens.exp()[..., None]
    leaving = keys * (decay[..., -1:] - decay).exp()[..., None]
    whole_decay = decay[..., -1, None, None].exp()

    state = operands.first_state()
    outputs = []
    # Unbound once: the gradient of an index is a tensor of zeros as large as all chunks, for every chunk.
    parts = (added, read, queries, scores, whole_decay, leaving.mT)
    for add, erase, query, score, keep, leave in zip(*(part.unbind(2) for part in parts), strict=True):
        update = add - erase @ state
        outputs.append(query @ state + score @ update)
        state = keep * state + leave @ update
    output = torch.cat(outputs, dim=2)[:, :, :num_tokens].transpose(1, 2)
    return operands.scale * output, state


def _in_chunks(operands: Operands, length: int) -> _Chunks:
    """Return the operands in chunks of ``length`` tokens; the last one is filled with tokens that do nothing."""
    num_steps = operands.num_steps
    log_decay = operands.log_decay
    if log_decay is None:
        log_decay = torch.zeros_like(operands.query[..., 0])
    decay = _by_chunks(log_decay, length).cumsum(dim=-1)
    return _Chunks(
        query=_by_chunks(operands.query, length),
        key=_by_chunks(operands.key.flatten(1, 2), length * num_steps),
        value=_by_chunks(operands.value.flatten(1, 2), length * num_steps),
        beta=_by_chunks(operands.beta.flatten(1, 2), length * num_steps),
        decay_of_steps=decay.repeat_interleave(num_steps, dim=-1),
        decay_of_tokens=decay,
    )


def _by_chunks(tensor: Tensor, num_rows: int) -> Tensor:
    """Return (B, L, H, ...) as (B, H, J, num_rows, ...), filled with zeros."""
    missing = -tensor.shape[1] % num_rows
    filled = functional.pad(tensor, (0, 0) * (tensor.dim() - 2) + (0, missing))
    chunks = filled.reshape(filled.shape[0], -1, num_rows, *filled.shape[2:])
    return chunks.movedim(3, 1)


def _decayed(products: Tensor, later: Tensor, earlier: Tensor, where: Tensor) -> Tensor:
    """Return ``products`` times what is left, at each row's time, of what was added at each column's; 0 elsewhere."""
    log_left = later[..., :, None] - earlier[..., None, :]
    return products * log_left.masked_fill(~where, -torch.inf).exp()
