"""What runs last and leads to no output is no layer of its own: alone it could not be trained."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import BertConfig, BertModel

from frostline.layers import freeze, split_layers

INPUTS = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))


class Pooled(nn.Module):
    """Four blocks, a head, and a pooler of its outputs that is read only if asked for."""

    def __init__(self, reads: Callable[[Tensor, Tensor], Any] = lambda outputs, _pooled: outputs) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(4))
        self.head = nn.Linear(4, 2)
        self.pooler = nn.Linear(2, 2)
        self._reads = reads

    def forward(self, inputs: Tensor) -> Any:
        for block in self.blocks:
            inputs = block(inputs)
        outputs = self.head(inputs)
        return self._reads(outputs, self.pooler(outputs))


def test_a_pooler_that_nobody_reads_joins_the_head() -> None:
    stack = split_layers(Pooled(), example_inputs=INPUTS)
    assert stack.num_layers == 5
    assert stack.layers[-1].name == "head"
    assert stack.layers[-1].modules == ("head", "pooler")


@pytest.mark.parametrize(
    "reads",
    [
        lambda outputs, pooled: {"outputs": outputs, "pooled": pooled},
        # Whether it leads anywhere cannot be known.
        lambda outputs, _pooled: outputs.detach(),
        lambda outputs, _pooled: outputs.argmax(1),
        lambda outputs, pooled: (outputs + 0 * pooled.sum()).sum(),
    ],
)
def test_a_pooler_that_may_be_read_is_a_layer(reads: Callable[[Tensor, Tensor], Any]) -> None:
    assert split_layers(Pooled(reads), example_inputs=INPUTS).names[-2:] == ("head", "pooler")


def test_blocks_behind_a_function_of_ones_own_stay_layers() -> None:
    class Checkpointed(Pooled):
        def forward(self, inputs: Tensor) -> Tensor:
            inputs = self.head[0](inputs)
            for block in self.blocks:
                inputs = checkpoint(block, inputs, use_reentrant=True)
            return inputs

    model = Checkpointed()
    model.head = nn.Sequential(nn.Linear(4, 4))
    del model.pooler
    assert split_layers(model, example_inputs=INPUTS).num_layers == 5


def test_the_model_is_as_it_was() -> None:
    model = Pooled()
    model.blocks[0].requires_grad_(False)
    flags = [parameter.requires_grad for parameter in model.parameters()]
    split_layers(model, example_inputs=INPUTS)
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    assert all(parameter.grad is None for parameter in model.parameters())


class Keeping(Pooled):
    """Keeps tensors of a pass in all kinds of places; one was made with it, and is trained through."""

    def __init__(self) -> None:
        super().__init__()
        self.raw = nn.Parameter(torch.ones(4))
        self.scale = self.raw * 2
        self.seen: list[Tensor | None] = [None]
        self.named: dict[str, tuple[Tensor, int]] = {}

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = super().forward(inputs * self.scale)
        self.seen[0], self.last, self.named["outputs"] = outputs, outputs, (outputs, 1)
        return outputs


def test_what_a_model_keeps_of_a_pass_has_no_graph_and_can_be_copied() -> None:
    model = Keeping()
    scale, seen = model.scale, model.seen
    # Larger ones than are put back.
    split_layers(model, example_inputs=INPUTS.repeat(10_000, 1))
    assert model.scale is scale
    assert scale.grad_fn is not None
    assert model.seen is seen
    assert not model.last.requires_grad
    copy.deepcopy([model.seen, model.last, model.named])


def test_small_things_that_it_keeps_are_put_back() -> None:
    model = Keeping()
    seen, named = model.seen, model.named
    split_layers(model, example_inputs=INPUTS)
    assert (model.seen, model.named) == ([None], {})
    assert model.seen is seen
    assert model.named is named


def test_a_model_with_weight_norm_can_be_copied_once_it_was_split() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        layers = [nn.utils.weight_norm(nn.Linear(4, 4)) for _ in range(2)]
    model = nn.Sequential(*layers, nn.Linear(4, 2))
    split_layers(model, example_inputs=(torch.ones(2, 4),))
    copied = copy.deepcopy(model)
    copied(torch.ones(2, 4)).sum().backward()
    assert copied[0].weight_v.grad is not None


def test_a_model_that_cannot_run_with_gradients_is_split_without() -> None:
    class ByNumpy(Pooled):
        def forward(self, inputs: Tensor) -> Tensor:
            outputs = super().forward(inputs)
            return outputs if self.training else torch.from_numpy(outputs.numpy())

    assert split_layers(ByNumpy(), example_inputs=INPUTS).names[-1] == "pooler"


def test_the_pooler_of_bert_is_trained_with_the_last_block_where_its_words_are_averaged() -> None:
    class Averaged(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            sizes = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "vocab_size": 16}
            self.bert = BertModel(BertConfig(num_hidden_layers=3, max_position_embeddings=8, **sizes))

        def forward(self, words: Tensor) -> Tensor:
            return self.bert(words).last_hidden_state.mean(1)

    model, words = Averaged(), torch.ones(2, 5, dtype=torch.long)
    stack = split_layers(model, example_inputs=words)
    assert stack.num_layers == 4
    freeze(model, trainable_layers=1, layers=stack)
    model(words).sum().backward()
    trained = {name for name, each in model.named_parameters() if each.grad is not None}
    assert trained
    assert all(name.startswith("bert.encoder.layer.2.") for name in trained)


def test_a_weight_that_cannot_require_a_gradient_changes_no_other() -> None:
    class Stubborn(nn.Parameter):
        def requires_grad_(self, requires_grad: bool = True) -> Stubborn:
            if requires_grad:
                raise RuntimeError("quantised")
            return self

    model = Pooled()
    model.blocks[0].requires_grad_(False)
    model.pooler.bias = Stubborn(torch.zeros(2), requires_grad=False)
    flags = [parameter.requires_grad for parameter in model.parameters()]
    assert split_layers(model, example_inputs=INPUTS).names[-1] == "pooler"
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
