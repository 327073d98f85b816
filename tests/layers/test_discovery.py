"""Every layer in its place, every parameter in exactly one layer."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from frostline.errors import FidelityError, ModelError
from frostline.layers import LayerStack, Tie, freeze, inspect_freezing, split_layers
from tests.layers.models import (
    ALL_CASES,
    WIDTH,
    Block,
    Case,
    ClassTokenModel,
    ConvolutionalNet,
    Decoder,
    EmbedsWithHead,
    TiedByUse,
    UnusualOrder,
    gpt2,
    images,
    named,
    tokens,
)


def assert_every_parameter_is_in_one_layer(model: nn.Module, stack: LayerStack) -> None:
    owned = [id(model.get_parameter(name)) for layer in stack.layers for name in layer.parameters]
    assert sorted(owned) == sorted(id(parameter) for parameter in model.parameters())
    assert stack.num_parameters == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(**named(ALL_CASES))
@pytest.mark.parametrize("traced", [False, True], ids=["registered", "traced"])
def test_layers_of_every_family(case: Case, traced: bool) -> None:
    model = case.build()
    stack = split_layers(model, example_inputs=case.inputs() if traced else None)
    assert stack.names == case.layers
    assert_every_parameter_is_in_one_layer(model, stack)
    counts = [stack.num_trainable_parameters(z) for z in range(1, stack.num_layers + 1)]
    assert counts == sorted(counts)
    assert counts[-1] == stack.num_parameters


def test_the_papers_counts() -> None:
    counts = {case.name: split_layers(case.build()).num_layers for case in ALL_CASES}
    assert counts["gpt2"] == 10
    assert counts["resnet-18"] == 11


def test_stack_is_plain_data_and_prints_as_a_table() -> None:
    model = gpt2(num_blocks=2)
    stack = split_layers(model)
    other = split_layers(gpt2(num_blocks=2))
    assert stack == other
    assert stack.fingerprint == other.fingerprint
    assert stack.fingerprint != split_layers(gpt2(num_blocks=3)).fingerprint
    assert stack.fingerprint != split_layers(gpt2(num_blocks=2, tied=False)).fingerprint
    assert [layer.name for layer in stack.prefix(1)] == ["embedding", "transformer.h.0", "transformer.h.1"]
    assert [layer.name for layer in stack.suffix(1)] == ["head"]
    lines = str(stack).splitlines()
    assert lines[0].split() == ["trained", "from", "layer", "modules", "parameters", "tied", "to"]
    assert lines[1].split() == ["4", "embedding", "transformer.wte,", "transformer.wpe", "64", "head"]
    assert lines[4].split()[-1] == "embedding"


@pytest.mark.parametrize("number", [0, -1, 5, True, 2.0, "2", None])
def test_a_number_of_layers_that_does_not_exist(number: Any) -> None:
    stack = split_layers(gpt2(num_blocks=2))
    with pytest.raises(FidelityError, match=r"must be a whole number in 1\.\.4"):
        stack.suffix(number)


def test_order_is_the_order_of_execution() -> None:
    model = UnusualOrder()
    assert split_layers(model).names == ("head", "second", "never", "twice")
    stack = split_layers(model, example_inputs=(torch.ones(2, WIDTH),))
    # What never runs joins the layer registered before it; what runs twice stands where it runs first.
    assert stack.names == ("twice", "second", "head")
    assert stack.layers[1].modules == ("second", "never")
    assert_every_parameter_is_in_one_layer(model, stack)


def test_parameters_of_containers_go_to_the_layer_that_runs_after_their_use() -> None:
    model = UnusualOrder()
    stack = split_layers(model, example_inputs={"x": torch.ones(2, WIDTH)})
    assert "scale" in stack.layers[1].parameters
    assert "late_shift" in stack.layers[2].parameters
    token = split_layers(ClassTokenModel(num_blocks=2), example_inputs=(torch.ones(2, 4, 3),))
    assert "class_token" in token.layers[1].parameters
    assert "class_token" in split_layers(ClassTokenModel(num_blocks=2)).layers[0].parameters
    decoder = split_layers(Decoder())
    assert "trunk.position" in decoder.layers[1].parameters


def test_parameter_lists_are_no_layers() -> None:
    class Prompted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(WIDTH, WIDTH)
            self.prompts = nn.ParameterList([nn.Parameter(torch.ones(WIDTH)), nn.Parameter(torch.ones(WIDTH))])
            self.second = nn.Linear(WIDTH, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            for prompt in self.prompts:
                x = x + prompt
            return self.second(x)

    model = Prompted()
    for stack in (split_layers(model), split_layers(model, example_inputs=(torch.ones(1, WIDTH),))):
        assert stack.names == ("first", "second")
        assert stack.layers[1].parameters[0] == "prompts.0"


def test_modules_whose_parameters_are_used_without_running() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(WIDTH, 2)
            self.first = nn.Linear(WIDTH, WIDTH)

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.linear(self.first(x), self.last.weight, self.last.bias)

    model = Functional()
    stack = split_layers(model, example_inputs=(torch.ones(1, WIDTH),))
    assert stack.names == ("first", "last")
    assert stack.ties == ()


def test_ties_are_found_by_identity() -> None:
    stack = split_layers(Decoder(tied=True))
    assert stack.ties == (Tie(names=("embed.weight", "head.weight"), layers=(0, 4), kind="parameter"),)
    assert stack.layers[0].num_parameters == 0
    assert "head.weight" in stack.layers[4].parameters
    assert split_layers(Decoder(tied=False)).ties == ()


def test_ties_are_found_by_memory() -> None:
    model = Decoder(tied=False)
    model.head.weight = nn.Parameter(model.embed.weight.data.view(model.head.weight.shape))
    assert split_layers(model).ties == (Tie(names=("embed.weight", "head.weight"), layers=(0, 4), kind="storage"),)


def test_slices_of_one_buffer_are_no_ties() -> None:
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    flat = torch.randn(32)
    for index, layer in enumerate(model):
        layer.weight = nn.Parameter(flat[16 * index : 16 * (index + 1)].view(4, 4))
    assert split_layers(model).ties == ()


def test_ties_are_found_by_use() -> None:
    tied = split_layers(TiedByUse(), example_inputs=(tokens(),))
    assert tied.ties == (Tie(names=("embed.weight", "embed.weight"), layers=(0, 3), kind="use"),)
    assert "embed.weight" in tied.layers[3].parameters
    early = split_layers(EmbedsWithHead(), example_inputs=(tokens(),))
    assert early.ties == (Tie(names=("head.weight", "head.weight"), layers=(0, 3), kind="use"),)


def test_looking_at_a_parameter_is_no_use_of_it() -> None:
    class Looking(Decoder):
        def forward(self, ids: Tensor, **options: Any) -> Tensor:
            x = super().forward(ids)
            assert self.embed.weight.dtype == x.dtype
            assert self.embed.weight.device == x.device
            return x + torch.zeros_like(self.embed.weight).sum()

    assert split_layers(Looking(), example_inputs=(tokens(),)).ties == ()


def test_a_module_registered_twice_is_one_layer() -> None:
    shared = nn.Linear(WIDTH, WIDTH)
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), shared, nn.ReLU(), shared, nn.Linear(WIDTH, 2))
    for stack in (split_layers(model), split_layers(model, example_inputs=(torch.ones(1, WIDTH),))):
        assert stack.names == ("0", "1", "4")
        assert_every_parameter_is_in_one_layer(model, stack)
    apart = nn.Sequential(
        nn.Sequential(nn.Linear(WIDTH, WIDTH), shared), nn.Sequential(shared, nn.Linear(WIDTH, 2))
    )
    assert split_layers(apart).names == ("0.0", "0.1", "1.1")


def test_one_weight_in_every_block_keeps_the_blocks_apart() -> None:
    model = nn.Sequential(*(nn.Linear(4, 4, bias=False) for _ in range(3)))
    for layer in model:
        layer.weight = model[0].weight
    stack = split_layers(model)
    assert stack.num_layers == 3
    assert [layer.num_parameters for layer in stack.layers] == [0, 0, 16]
    assert stack.ties[0].layers == (0, 1, 2)


def test_unwrap_is_algorithm_1_to_the_letter() -> None:
    model = Decoder(num_blocks=2)
    # A ModuleList is not opened unless it is named, and neither is the model itself.
    assert split_layers(model, unwrap=[Decoder]).names == ("embed", "trunk", "head")
    assert split_layers(model, unwrap=(Decoder, type(model.trunk))).names == (
        "embed",
        "trunk.blocks",
        "trunk.final_norm",
        "head",
    )
    finest = split_layers(model, unwrap=[Decoder, type(model.trunk), nn.ModuleList, Block])
    assert finest.names[1:4] == ("trunk.blocks.0.norm", "trunk.blocks.0.mlp.0", "trunk.blocks.0.mlp.2")
    assert_every_parameter_is_in_one_layer(model, finest)


def test_stages_of_blocks_are_opened_only_to_the_first_list() -> None:
    class Stage(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList([Block(), Block()])

    class Pyramid(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stages = nn.ModuleList([Stage(), Stage()])
            self.plain = nn.ModuleList([nn.Sequential(Block(), Block())])

    assert split_layers(Pyramid()).names == ("stages.0", "stages.1", "plain.0.0", "plain.0.1")
    unwrapped = split_layers(Pyramid(), unwrap=[Pyramid, nn.ModuleList, Stage])
    assert unwrapped.names[:2] == ("stages.0.blocks.0", "stages.0.blocks.1")


def test_torch_transformers_split_into_their_blocks() -> None:
    layer = nn.TransformerEncoderLayer(WIDTH, 2, 16, batch_first=True)
    assert split_layers(nn.TransformerEncoder(layer, 3)).names == ("layers.0", "layers.1", "layers.2")
    # The norm behind the encoder is no step of its own: it joins a block if blocks follow.
    whole = split_layers(nn.Transformer(WIDTH, 2, 2, 2, 16, batch_first=True))
    assert whole.num_layers == 4
    assert whole.layers[1].modules == ("encoder.layers.1", "encoder.norm")
    assert whole.layers[3].modules == ("decoder.layers.1", "decoder.norm")
    assert split_layers(nn.LSTM(3, 4, num_layers=2)).names == ("LSTM",)


@pytest.mark.parametrize(
    ("build", "options", "words"),
    [
        (nn.ReLU, {}, "ReLU has no parameters"),
        (lambda: nn.Sequential(nn.LazyLinear(3)), {}, "run it once on a batch"),
        (lambda: "model", {}, "the model is a str"),
        (lambda: torch.compile(nn.Linear(2, 2)), {}, "compile it after freezing"),
        (lambda: torch.jit.script(nn.Linear(2, 2)), {}, "as it was before torch.jit.script"),
        (
            lambda: nn.DataParallel(nn.Linear(2, 2)),
            {},
            "the model is a DataParallel, which copies it to several devices",
        ),
        (lambda: nn.Sequential(nn.Linear(2, 2), torch.jit.script(nn.Linear(2, 2))), {}, "holds scripted modules"),
        (lambda: nn.Sequential(nn.Linear(2, 2)), {"unwrap": nn.Linear}, "give a list or tuple of subclasses"),
        (lambda: nn.Sequential(nn.Linear(2, 2)), {"unwrap": ["Linear"]}, "give a list or tuple of subclasses"),
        (lambda: nn.Sequential(nn.Linear(2, 2)), {"unwrap": [Block]}, "opens nothing: Sequential holds no Block"),
        (lambda: nn.Linear(2, 2), {"example_inputs": [torch.ones(1, 2)]}, "give a tensor, a tuple"),
        (
            lambda: nn.Linear(2, 2),
            {"example_inputs": (torch.ones(1, 3),)},
            "cannot run on example_inputs: RuntimeError",
        ),
    ],
)
def test_what_cannot_be_split(build: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        split_layers(build(), **options)


def test_tracing_leaves_the_model_as_it_was() -> None:
    model = nn.Sequential(ConvolutionalNet(), nn.Dropout())
    model[0].blocks[0].eval()
    modes = [module.training for module in model.modules()]
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    random_state = torch.get_rng_state()
    with pytest.raises(ModelError):
        split_layers(model, example_inputs=(images(2),))
    split_layers(model, example_inputs=(images(),))
    assert modes == [module.training for module in model.modules()]
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in state.items())
    assert torch.equal(random_state, torch.get_rng_state())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("tied", ["detach", "snapshot"])
def test_a_frozen_model_has_the_layers_it_had(tied: Any) -> None:
    for model, inputs in ((gpt2(num_blocks=2), {"input_ids": tokens()}), (ConvolutionalNet(), {"x": images()})):
        stack = split_layers(model, example_inputs=inputs)
        freeze(model, trainable_layers=1, tied=tied)
        assert split_layers(model, example_inputs=inputs) == stack


def test_an_encoder_and_a_decoder_that_share_their_embedding() -> None:
    import transformers

    sizes = {"vocab_size": 11, "d_model": WIDTH, "d_kv": 4, "d_ff": 16, "num_layers": 2, "num_heads": 2}
    model = transformers.T5ForConditionalGeneration(transformers.T5Config(decoder_start_token_id=0, **sizes))
    inputs = {"input_ids": tokens(), "labels": tokens()}
    stack = split_layers(model, example_inputs=inputs)
    assert_every_parameter_is_in_one_layer(model, stack)
    assert len(set(stack.names)) == stack.num_layers
    for trainable_layers in range(1, stack.num_layers + 1):
        freeze(model, trainable_layers=trainable_layers, layers=stack)
        report = inspect_freezing(model, inputs, lambda model, batch: model(**batch).loss)
        assert report.is_effective, report.findings


def test_a_model_on_the_meta_device_splits_and_freezes() -> None:
    with torch.device("meta"):
        model = ConvolutionalNet()
    assert freeze(model, trainable_layers=1).stack == split_layers(ConvolutionalNet())
    assert model(torch.ones(2, 3, 8, 8, device="meta")).shape == (2, 3)


def trees() -> st.SearchStrategy[nn.Module]:
    """Random trees of lists, containers with parameters of their own, and leaves; some leaves tied."""
    leaves = st.builds(lambda: nn.Linear(2, 2)) | st.builds(nn.ReLU) | st.builds(lambda: nn.BatchNorm1d(2))

    def grown(children: st.SearchStrategy[nn.Module]) -> st.SearchStrategy[nn.Module]:
        several = st.lists(children, min_size=1, max_size=4)
        return (
            several.map(lambda parts: nn.Sequential(*parts)) | several.map(nn.ModuleList) | several.map(_container)
        )

    return st.recursive(leaves, grown, max_leaves=12)


def _container(parts: list[nn.Module]) -> nn.Module:
    container = nn.Module()
    container.own = nn.Parameter(torch.zeros(3))
    for index, part in enumerate(parts):
        container.add_module(f"part{index}", part)
    linears = [module for module in container.modules() if isinstance(module, nn.Linear)]
    if len(linears) > 1:
        linears[-1].weight = linears[0].weight
    return container


@given(trees())
def test_every_parameter_is_in_exactly_one_layer(model: nn.Module) -> None:
    if next(model.parameters(), None) is None:
        with pytest.raises(ModelError, match="no parameters"):
            split_layers(model)
        return
    for unwrap in ((), (nn.ModuleList,)):
        if unwrap and not any(isinstance(module, unwrap) for module in model.modules()):
            continue
        stack = split_layers(model, unwrap=unwrap)
        assert_every_parameter_is_in_one_layer(model, stack)
        assert len(set(stack.names)) == stack.num_layers
        for trainable_layers in range(1, stack.num_layers + 1):
            freeze(model, trainable_layers=trainable_layers, layers=stack)
            trained = OrderedDict((name, each.requires_grad) for name, each in model.named_parameters())
            assert sum(trained.values()) == sum(len(layer.parameters) for layer in stack.suffix(trainable_layers))


def test_a_norm_inside_the_last_block_stays_with_its_block() -> None:
    blocks = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU()) for _ in range(3))
    stack = split_layers(nn.ModuleDict({"stem": nn.Linear(4, 8), "blocks": blocks, "head": nn.Linear(8, 2)}))
    assert stack.layers[-1].modules == ("head",)
    assert stack.layers[-2].modules == ("blocks.2.0", "blocks.2.1")
