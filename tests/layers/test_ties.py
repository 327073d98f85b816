"""A weight that the prefix and the suffix share never costs the savings."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from frostline.errors import ModelError
from frostline.layers import freeze, split_layers
from tests.layers.models import WIDTH, Decoder, TiedByUse, gpt2, tokens


def train_a_step(model: nn.Module) -> None:
    optimizer = torch.optim.SGD([each for each in model.parameters() if each.requires_grad], lr=0.5)
    output = model(tokens())
    (output if isinstance(output, Tensor) else output.logits).square().mean().backward()
    optimizer.step()
    model.zero_grad()


def prefix_output(model: Any) -> Tensor:
    model.eval()
    with torch.no_grad():
        output: Tensor = model.trunk.blocks[0](model.embed(tokens()))
    model.train()
    return output


def test_detach_trains_the_weight_through_the_head_alone() -> None:
    # Defect 2: the tied weight defeated freezing.
    model, untied = Decoder(tied=True), Decoder(tied=False)
    untied.load_state_dict(model.state_dict())
    freeze(model, trainable_layers=1)
    freeze(untied, trainable_layers=1)
    entered: list[bool] = []
    model.trunk.blocks[0].register_forward_hook(lambda module, args, output: entered.append(output.requires_grad))
    for each in (model, untied):
        each(tokens()).square().mean().backward()
    assert entered == [False]
    torch.testing.assert_close(model.head.weight.grad, untied.head.weight.grad)
    before = prefix_output(model)
    train_a_step(model)
    # The prefix sees the weight's current value.
    assert not torch.equal(prefix_output(model), before)


def test_snapshot_keeps_the_prefix_while_the_head_trains() -> None:
    model = Decoder(tied=True)
    keys = list(model.state_dict())
    initial = model.embed.weight.detach().clone()
    freezing = freeze(model, trainable_layers=1, tied="snapshot")
    before = prefix_output(model)
    train_a_step(model)
    assert torch.equal(prefix_output(model), before)
    assert list(model.state_dict()) == keys
    assert torch.equal(model.embed.weight, initial)
    assert not torch.equal(model.head.weight, initial)
    trained = model.head.weight.detach().clone()
    freezing.restore()
    assert model.embed.weight is model.head.weight
    assert torch.equal(model.embed.weight, trained)


def test_a_saved_state_continues_a_snapshot() -> None:
    model = Decoder(tied=True)
    freeze(model, trainable_layers=1, tied="snapshot")
    train_a_step(model)
    resumed = Decoder(tied=True)
    freeze(resumed, trainable_layers=1, tied="snapshot")
    resumed.load_state_dict(model.state_dict())
    copied = copy.deepcopy(model)
    for each in (model, resumed, copied):
        train_a_step(each)
    assert torch.equal(model(tokens()), resumed(tokens()))
    assert torch.equal(model(tokens()), copied(tokens()))


def test_all_layers_and_all_but_the_embedding_train_the_same_weights() -> None:
    model = Decoder(tied=True)
    trained = {}
    for trainable_layers in (4, 5):
        freezing = freeze(model, trainable_layers=trainable_layers, tied="detach")
        trained[trainable_layers] = {id(parameter) for parameter in freezing.trainable_parameters}
    # The embedding's only weight is that of the head: "in effect the same run" (figure 6 of arXiv 2504.10735).
    assert trained[4] == trained[5] == {id(parameter) for parameter in model.parameters()}
    gradients = {}
    for trainable_layers in (4, 5):
        freeze(model, trainable_layers=trainable_layers)
        model.zero_grad()
        model(tokens()).square().mean().backward()
        gradients[trainable_layers] = {name: each.grad.clone() for name, each in model.named_parameters()}
    # Only the path through the embedding is missing at n - 1; with all layers trained nothing is cut.
    different = [name for name in gradients[4] if not torch.allclose(gradients[4][name], gradients[5][name])]
    assert different == ["embed.weight"]
    model.zero_grad()
    freeze(model, trainable_layers=5).restore()
    model(tokens()).square().mean().backward()
    torch.testing.assert_close(model.embed.weight.grad, gradients[5]["embed.weight"])


@pytest.mark.parametrize("tied", ["detach", "snapshot"])
def test_parameters_that_share_memory(tied: Any) -> None:
    model = Decoder(tied=False)
    model.head.weight = nn.Parameter(model.embed.weight.data.view_as(model.head.weight))
    freezing = freeze(model, trainable_layers=1, tied=tied)
    before = prefix_output(model)
    train_a_step(model)
    assert torch.equal(prefix_output(model), before) == (tied == "snapshot")
    freezing.restore()
    assert model.embed.weight.data_ptr() == model.head.weight.data_ptr()


def test_a_weight_tied_by_use() -> None:
    model = TiedByUse()
    freeze(model, trainable_layers=1, layers=split_layers(model, example_inputs=(tokens(),)))
    entered: list[bool] = []
    model.blocks[0].register_forward_hook(lambda module, args, output: entered.append(output.requires_grad))
    model(tokens()).sum().backward()
    assert entered == [False]
    assert model.embed.weight.grad is not None
    before = model.state_dict()
    with pytest.raises(ModelError, match=r"embed\.weight cannot have a snapshot"):
        freeze(model, trainable_layers=1, layers=split_layers(model, example_inputs=(tokens(),)), tied="snapshot")
    assert before.keys() == model.state_dict().keys()


def test_a_module_inside_a_frozen_and_a_trained_layer_has_no_snapshot() -> None:
    shared = nn.Linear(WIDTH, WIDTH)
    model = nn.Sequential(*(nn.ModuleDict({"own": nn.Linear(WIDTH, WIDTH), "shared": shared}) for _ in range(3)))
    stack = split_layers(model, unwrap=[nn.Sequential])
    assert stack.ties[0].layers == (0, 1, 2)
    with pytest.raises(ModelError, match="use the module that holds it"):
        freeze(model, trainable_layers=1, tied="snapshot", layers=stack)


def test_auto_takes_a_snapshot_where_a_trained_weight_lies_in_modules_of_its_own() -> None:
    model, same = Decoder(tied=True), Decoder(tied=True)
    same.load_state_dict(model.state_dict())
    assert freeze(model, trainable_layers=1, tied="auto").tied == "snapshot"
    freeze(same, trainable_layers=1, tied="snapshot")
    for each in (model, same):
        train_a_step(each)
    assert torch.equal(model(tokens()), same(tokens()))
    assert not torch.equal(model.embed.weight, model.head.weight)


def test_auto_detaches_where_one_module_is_used_twice() -> None:
    model = TiedByUse()
    layers = split_layers(model, example_inputs=(tokens(),))
    assert freeze(model, trainable_layers=1, layers=layers, tied="auto").tied == "detach"
    train_a_step(model)


def test_auto_copies_no_weight_that_nobody_trains() -> None:
    model = Decoder(tied=True)
    model.head.weight.requires_grad_(False)
    assert freeze(model, trainable_layers=2, tied="auto").tied == "detach"
    assert model.embed.weight is model.head.weight


def test_several_frozen_layers_share_one_snapshot() -> None:
    model = nn.Sequential(*(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(4)))
    for layer in model:
        layer.weight = model[0].weight
    freezing = freeze(model, trainable_layers=2, tied="snapshot")
    assert model[0].weight is model[1].weight
    assert model[1].weight is not model[2].weight
    assert model[2].weight is model[3].weight
    freezing.restore()
    assert len({id(layer.weight) for layer in model}) == 1


def test_transformers_keep_their_keys_and_files(tmp_path: Any) -> None:
    model = gpt2(num_blocks=2)
    freeze(model, trainable_layers=1, tied="snapshot")
    train_a_step(model)
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    assert torch.equal(loaded.lm_head.weight, model.lm_head.weight)
