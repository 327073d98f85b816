"""The chunked and the fused form of DeltaProduct beside the recurrent one, which is its definition."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from frostline.errors import ModelError
from frostline.tasks.models.delta_product.chunked import chunked_delta_product
from frostline.tasks.models.delta_product.fused import can_fuse, fused_delta_product
from frostline.tasks.models.delta_product.operands import Operands
from frostline.tasks.models.delta_product.recurrent import recurrent_delta_product


@dataclass(frozen=True, kw_only=True)
class Case:
    num_tokens: int
    num_steps: int
    gated: bool
    continued: bool
    chunk_length: int


CASES = [
    Case(num_tokens=37, num_steps=2, gated=True, continued=True, chunk_length=8),
    Case(num_tokens=16, num_steps=1, gated=False, continued=False, chunk_length=16),
    Case(num_tokens=5, num_steps=3, gated=True, continued=False, chunk_length=16),
    Case(num_tokens=33, num_steps=3, gated=False, continued=True, chunk_length=4),
    Case(num_tokens=1, num_steps=2, gated=True, continued=True, chunk_length=16),
]
EACH = pytest.mark.parametrize("case", CASES, ids=str)


def leaves_of(case: Case, batch: int = 2, **kind: Any) -> list[Tensor]:
    """Queries, keys, values, logits of beta and of the decay, and a state; keys of unit length."""
    kind = {"dtype": torch.float64, "generator": torch.Generator().manual_seed(0), **kind}
    shape = (batch, case.num_tokens, case.num_steps, 3)
    return [
        torch.randn(batch, case.num_tokens, 3, 5, **kind),
        functional.normalize(torch.randn(*shape, 5, **kind), dim=-1),
        torch.randn(*shape, 4, **kind),
        torch.randn(*shape, **kind),
        # From hardly any decay to a state that is forgotten at once.
        8 * torch.randn(batch, case.num_tokens, 3, **kind),
        torch.randn(batch, 3, 5, 4, **kind),
    ]


def operands_of(case: Case, leaves: list[Tensor]) -> Operands:
    query, key, value, beta, decay, state = leaves
    return Operands(
        query=query,
        key=key,
        value=value,
        beta=2 * torch.sigmoid(beta),
        log_decay=functional.logsigmoid(decay) if case.gated else None,
        state=state if case.continued else None,
    )


def with_gradients(case: Case, run: Callable[[Operands], tuple[Tensor, Tensor]]) -> list[Tensor]:
    """Outputs, final state, and the gradients of all that was read."""
    leaves = [leaf.requires_grad_() for leaf in leaves_of(case)]
    read = [
        leaf for leaf, is_read in zip(leaves, (True,) * 4 + (case.gated, case.continued), strict=True) if is_read
    ]
    outputs, state = run(operands_of(case, leaves))
    weights = torch.linspace(-1, 1, outputs.numel(), dtype=outputs.dtype).view_as(outputs)
    return [outputs, state, *torch.autograd.grad((outputs * weights).sum() + state.square().sum(), read)]


@EACH
def test_chunks_give_the_recurrence_and_its_gradients(case: Case) -> None:
    chunked = with_gradients(case, lambda each: chunked_delta_product(each, chunk_length=case.chunk_length))
    torch.testing.assert_close(chunked, with_gradients(case, recurrent_delta_product), rtol=1e-9, atol=1e-11)


def test_one_reflection_is_the_delta_rule_by_hand() -> None:
    case = Case(num_tokens=1, num_steps=1, gated=True, continued=True, chunk_length=1)
    operands = operands_of(case, leaves_of(case))
    key, value, beta = operands.key[0, 0, 0, 0], operands.value[0, 0, 0, 0], operands.beta[0, 0, 0, 0]
    assert operands.log_decay is not None
    assert operands.state is not None
    turned = torch.eye(5, dtype=torch.float64) - beta * torch.outer(key, key)
    state = turned @ (operands.log_decay[0, 0, 0].exp() * operands.state[0, 0]) + beta * torch.outer(key, value)
    outputs, final = recurrent_delta_product(operands)
    torch.testing.assert_close(final[0, 0], state)
    torch.testing.assert_close(outputs[0, 0, 0], state.T @ operands.query[0, 0, 0] / 5**0.5)


@pytest.mark.parametrize("run", [recurrent_delta_product, chunked_delta_product])
def test_padding_on_either_side_changes_no_sequence(run: Callable[[Operands], tuple[Tensor, Tensor]]) -> None:
    case = Case(num_tokens=21, num_steps=2, gated=True, continued=True, chunk_length=16)
    operands = operands_of(case, leaves_of(case))
    mask = torch.ones(2, 21, dtype=torch.bool)
    mask[0, :4] = False
    mask[1, 13:] = False
    outputs, states = run(operands.masked(mask))
    for row, (first, last) in enumerate([(4, 21), (0, 13)]):
        assert operands.log_decay is not None
        assert operands.state is not None
        alone = Operands(
            query=operands.query[row : row + 1, first:last],
            key=operands.key[row : row + 1, first:last],
            value=operands.value[row : row + 1, first:last],
            beta=operands.beta[row : row + 1, first:last],
            log_decay=operands.log_decay[row : row + 1, first:last],
            state=operands.state[row : row + 1],
        )
        expected, state = run(alone)
        torch.testing.assert_close(outputs[row, first:last], expected[0], rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(states[row], state[0], rtol=1e-9, atol=1e-11)


def test_a_gate_that_forgets_at_once_overflows_nowhere() -> None:
    case = Case(num_tokens=64, num_steps=2, gated=True, continued=True, chunk_length=16)
    operands = replace(
        operands_of(case, leaves_of(case)), log_decay=torch.full((2, 64, 3), -1e4, dtype=torch.float64)
    )
    outputs, state = chunked_delta_product(operands)
    expected = recurrent_delta_product(operands)
    torch.testing.assert_close((outputs, state), expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("num_steps", [1, 3])
def test_the_cost_of_a_token_is_flat_in_the_length(num_steps: int) -> None:
    # torch counts no triangular solve; counters of operators get shapes in the place of tensors.
    def solving(matrix: Any, right: Any, **_: Any) -> int:
        return math.prod(right) * int(matrix[-1])

    def cost(num_tokens: int) -> float:
        case = Case(num_tokens=num_tokens, num_steps=num_steps, gated=True, continued=False, chunk_length=16)
        leaves = [leaf.requires_grad_() for leaf in leaves_of(case)]
        counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.linalg_solve_triangular: solving})
        with counter:
            outputs, state = chunked_delta_product(operands_of(case, leaves))
            (outputs.sum() + state.sum()).backward()
        return counter.get_total_flops() / num_tokens

    assert cost(512) == pytest.approx(cost(64), rel=0.01)


def test_shapes_that_do_not_fit_are_refused() -> None:
    case = CASES[0]
    query, key, value, beta, _, state = leaves_of(case)
    with pytest.raises(
        ModelError, match=r"beta is of shape \(2, 37, 2, 2\), but must be \(2, 37, 2, 3\) for a query of"
    ):
        Operands(query=query, key=key, value=value, beta=beta[..., :2])
    with pytest.raises(ModelError, match=r"state is of shape \(2, 3, 4, 5\), but must be \(2, 3, 5, 4\)"):
        Operands(query=query, key=key, value=value, beta=beta, state=state.mT)


# --- The kernels of flash-linear-attention -----------------------------------------------------------------------------


def as_the_kernel(**given: Any) -> tuple[Tensor, Tensor]:
    """What the kernel computes of its arguments, in its shapes: steps stand behind one another as tokens do."""
    num_steps = given["num_householder"]
    assert given["output_final_state"]
    operands = Operands(
        query=given["q"],
        key=given["k"].unflatten(1, (-1, num_steps)),
        value=given["v"].unflatten(1, (-1, num_steps)),
        beta=given["beta"].unflatten(1, (-1, num_steps)),
        log_decay=given["g"],
        state=given["initial_state"],
    )
    outputs, state = recurrent_delta_product(operands)
    return outputs / operands.scale * given["scale"], state


@EACH
def test_the_kernel_is_given_what_the_recurrence_reads(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = ModuleType("fla.ops.gated_delta_product")
    kernels.chunk_gated_delta_product = as_the_kernel  # type: ignore[attr-defined]
    for name in ("fla", "fla.ops"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, kernels.__name__, kernels)
    operands = operands_of(case, leaves_of(case))
    torch.testing.assert_close(fused_delta_product(operands), recurrent_delta_product(operands))


@pytest.mark.skipif(importlib.util.find_spec("fla") is not None, reason="flash-linear-attention is installed")
def test_without_the_kernels_the_fused_form_says_so() -> None:
    operands = operands_of(CASES[0], leaves_of(CASES[0]))
    assert not can_fuse(operands)
    with pytest.raises(ModelError, match="needs flash-linear-attention, which is not installed: run `pip install"):
        fused_delta_product(operands)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.skipif(importlib.util.find_spec("fla") is None, reason="flash-linear-attention is not installed")
@EACH
def test_the_kernels_follow_the_recurrence(case: Case) -> None:
    operands = operands_of(case, [leaf.to("cuda", torch.bfloat16) for leaf in leaves_of(case)])
    assert can_fuse(operands)
    wide = operands_of(case, [leaf.to("cuda", torch.bfloat16).float() for leaf in leaves_of(case)])
    fused, expected = fused_delta_product(operands), recurrent_delta_product(wide)
    for ours, theirs in zip(fused, expected, strict=True):
        assert (ours.float() - theirs).norm() < 0.02 * theirs.norm()
