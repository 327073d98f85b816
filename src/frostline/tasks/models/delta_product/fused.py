"""DeltaProduct by flash-linear-attention's kernels, where they are installed and can run."""

from __future__ import annotations

import importlib.util

import torch
from torch import Tensor

from frostline.errors import ModelError
from frostline.tasks.models.delta_product.operands import Operands

# The kernels refuse float32, and float64 they do not know.
_KERNEL_DTYPES = (torch.bfloat16, torch.float16)


def can_fuse(operands: Operands) -> bool:
    """Return whether the kernels are installed and made for these operands: half precision on CUDA, and no transform."""
    return (
        operands.query.is_cuda
        and operands.query.dtype in _KERNEL_DTYPES
        # There is no public question for torch.func's transforms (torch 2.13).
        and not torch._C._are_functorch_transforms_active()
        and importlib.util.find_spec("fla") is not None
    )


def fused_delta_product(operands: Operands) -> tuple[Tensor, Tensor]:
    """Return the outputs, of shape (B, T, H, V), and the state after the last token, of shape (B, H, K, V).

    Raises: ModelError if flash-linear-attention is not installed.
    """
    try:
        from fla.ops.gated_delta_product import chunk_gated_delta_product
    except ImportError:
        raise ModelError(
            "the fused form of DeltaProduct needs flash-linear-attention, which is not installed: run `pip install "
            "flash-linear-attention`, or take the form 'chunked'."
        ) from None
    log_decay = operands.log_decay
    outputs, state = chunk_gated_delta_product(
        q=operands.query,
        k=operands.key.flatten(1, 2),
        v=operands.value.flatten(1, 2),
        # The kernels know no DeltaProduct without a gate.
        g=torch.zeros_like(operands.query[..., 0]) if log_decay is None else log_decay,
        beta=operands.beta.flatten(1, 2),
        num_householder=operands.num_steps,
        scale=operands.scale,
        initial_state=operands.state,
        output_final_state=True,
    )
    return outputs, state
