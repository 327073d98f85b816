"""Freezing is in place, complete, and undone without a trace."""

from __future__ import annotations

import copy
import inspect
import io
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.checkpoint import checkpoint

from frostline.errors import FidelityError, ModelError, OptionError
from frostline.layers import Freezing, freeze, freezing_of, inspect_freezing, split_layers
from tests.layers.models import (
    ALL_CASES,
    OLDEST_TRANSFORMERS,
    WIDTH,
    Case,
    ClassTokenModel,
    ConvolutionalNet,
    Decoder,
    EmbedsWithHead,
    SharedDropout,
    UnusualOrder,
    gpt2,
    images,
    named,
    tokens,
)


def fingerprint_of(model: nn.Module) -> list[Any]:
    """All that freezing may change and ``restore`` must put back."""
    return [
        {name: (id(each), each.requires_grad) for name, each in model.named_parameters(remove_duplicate=False)},
        {name: tensor.clone().tolist() for name, tensor in model.state_dict().items()},
        [module.training for module in model.modules()],
        [(len(m._forward_hooks), len(m._forward_pre_hooks), "train" in m.__dict__) for m in model.modules()],
        sorted(model.__dict__),
    ]


def loss_of(output: Any) -> Tensor:
    if isinstance(output, Tensor):
        return output.square().mean()
    names = ("logits", "last_hidden_state", "pooler_output")
    return sum((output[name].square().mean() for name in names if name in output), torch.zeros(()))


def gradients(model: nn.Module) -> set[str]:
    return {name for name, each in model.named_parameters() if each.grad is not None}


@pytest.mark.parametrize(**named([case for case in ALL_CASES if case.name != "single layer"]))
def test_only_the_last_layers_train_at_every_fidelity(case: Case) -> None:
    model = case.build()
    before = fingerprint_of(model)
    stack = split_layers(model, example_inputs=case.inputs())
    for trainable_layers in {1, 2, stack.num_layers - 1, stack.num_layers}:
        model.zero_grad()
        freezing = freeze(
            model, trainable_layers=trainable_layers, layers=stack, frozen_statistics="batch", tied="detach"
        )
        loss_of(model(**case.inputs())).backward()
        owned = {id(model.get_parameter(name)) for layer in freezing.trained_layers for name in layer.parameters}
        trained = {id(each) for each in model.parameters() if each.requires_grad}
        assert trained == owned
        assert {id(each) for each in model.parameters() if each.grad is not None} <= owned
        # Something of every trained layer learns: nothing is cut too early.
        for layer in freezing.trained_layers:
            own = [model.get_parameter(name).grad for name in layer.parameters]
            assert not own or any(gradient is not None for gradient in own), layer.name
    freezing.restore()
    after = fingerprint_of(model)
    assert before[0] == after[0]
    assert before[2:] == after[2:]


def test_class_token_is_frozen_with_its_layer() -> None:
    # Defect 1 of the method's first public code: the token stayed trainable, and its gradient ran through every block.
    model = ClassTokenModel(num_blocks=8)
    freeze(model, trainable_layers=1)
    model(torch.ones(2, 4, 3)).sum().backward()
    assert not model.class_token.requires_grad
    assert gradients(model) == {"head.weight", "head.bias"}


def test_what_was_frozen_is_shown() -> None:
    model = nn.Sequential(nn.Linear(30, 40), nn.ReLU(), nn.Linear(40, 2))
    assert (
        repr(freeze(model, trainable_layers=1))
        == "<Freezing of Sequential: 1 of 2 layers trained, 82 of 1,322 parameters>"
    )


@pytest.mark.parametrize("number", [0, 6, -1, True, 1.0, None])
def test_a_number_out_of_range_changes_nothing(number: Any) -> None:
    # Defects 5 and 6.
    model = Decoder(dropout=0.5, tied=True)
    freezing = freeze(model, trainable_layers=2, tied="snapshot")
    before = fingerprint_of(model)
    with pytest.raises(FidelityError, match=r"must be a whole number in 1\.\.5"):
        freeze(model, trainable_layers=number)
    assert fingerprint_of(model) == before
    assert freezing_of(model) is freezing


@pytest.mark.parametrize(
    ("options", "words"),
    [({"tied": "copy"}, "'detach' or 'snapshot'"), ({"frozen_statistics": "running"}, "'calibrated' or 'batch'")],
)
def test_unknown_options(options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        freeze(Decoder(), trainable_layers=1, **options)


def test_forward_stays_as_it_was() -> None:
    model = gpt2(num_blocks=2, dropout=0.0).eval()
    signature = inspect.signature(model.forward)
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    expected = model(input_ids=tokens(), attention_mask=mask, labels=tokens(), output_hidden_states=True)
    keys, values = list(model.state_dict()), [each.clone() for each in model.state_dict().values()]
    for trainable_layers in (1, 2, 3, 4):
        freeze(model, trainable_layers=trainable_layers)
        output = model(input_ids=tokens(), attention_mask=mask, labels=tokens(), output_hidden_states=True)
        assert type(output) is type(expected)
        assert torch.equal(output.loss, expected.loss)
        assert torch.equal(output.logits, expected.logits)
        assert len(output.hidden_states) == 3
        assert inspect.signature(model.forward) == signature
        assert list(model.state_dict()) == keys
        assert all(torch.equal(*pair) for pair in zip(model.state_dict().values(), values, strict=True))
    own = Decoder().eval()
    expected = own(tokens(), scale=0.5, mask=torch.ones(WIDTH))
    freeze(own, trainable_layers=2)
    assert torch.equal(own(tokens(), scale=0.5, mask=torch.ones(WIDTH)), expected)


def test_gradients_of_the_suffix_are_those_of_the_full_model() -> None:
    model, reference = Decoder().double(), Decoder().double()
    reference.load_state_dict(model.state_dict())
    freeze(model, trainable_layers=3)
    loss_of(model(tokens())).backward()
    loss_of(reference(tokens())).backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(parameter.grad, reference.get_parameter(name).grad)


def test_generation_goes_on() -> None:
    model = gpt2(num_blocks=3).eval()
    options = {"max_new_tokens": 3, "do_sample": False, "pad_token_id": 0}
    expected = model.generate(tokens()[:, :4], **options)
    freeze(model, trainable_layers=2, tied="snapshot")
    assert torch.equal(model.generate(tokens()[:, :4], **options), expected)


@pytest.mark.parametrize("tied", ["detach", "snapshot"])
def test_the_prefix_is_deterministic_in_training_mode(tied: Any) -> None:
    # Defect 4, dropout: modules, functions that read the block's mode, and a module between the layers.
    model = Decoder(dropout=0.5)
    seen: list[Tensor] = []
    model.trunk.blocks[2].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    freeze(model, trainable_layers=2, tied=tied)
    model.train()
    outputs = [model(tokens()) for _ in range(2)]
    assert torch.equal(*seen)
    # The trained block still drops.
    assert not torch.equal(*outputs)
    model.trunk.blocks.train()
    assert not model.trunk.blocks[0].training
    assert model.trunk.blocks[2].training
    model.eval()
    assert not model.trunk.blocks[2].training


def test_a_dropout_used_in_prefix_and_suffix_drops_only_in_the_suffix() -> None:
    model = SharedDropout()
    inputs: list[Tensor] = []
    model.second.register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
    freeze(model, trainable_layers=2)
    x = torch.linspace(-1, 1, 4 * WIDTH).reshape(4, WIDTH)
    outputs = [model(x) for _ in range(2)]
    assert torch.equal(*inputs)
    assert not torch.equal(*outputs)
    assert model.drop.training
    model.eval()
    assert torch.equal(model(x), model(x))


def test_refreezing_equals_a_fresh_freezing() -> None:
    for tied in ("detach", "snapshot"):
        model, fresh = Decoder(dropout=0.3, tied=True), Decoder(dropout=0.3, tied=True)
        fresh.load_state_dict(model.state_dict())
        original = fingerprint_of(model)
        freeze(model, trainable_layers=1, tied=tied)
        freeze(model, trainable_layers=4, tied="detach")
        freezing = freeze(model, trainable_layers=3, tied=tied)
        freeze(fresh, trainable_layers=3, tied=tied)
        for position in (1, 2, 3, 4):
            assert fingerprint_of(model)[position] == fingerprint_of(fresh)[position]
        assert [each.requires_grad for each in model.parameters()] == [
            each.requires_grad for each in fresh.parameters()
        ]
        freezing.restore()
        freezing.restore()
        assert fingerprint_of(model) == original
        assert freezing_of(model) is None


def test_what_the_user_had_frozen_stays_frozen() -> None:
    model = Decoder(num_blocks=2)
    model.trunk.final_norm.weight.requires_grad_(False)
    model.trunk.blocks[0].eval()
    before = fingerprint_of(model)
    freeze(model, trainable_layers=2)
    assert not model.trunk.final_norm.weight.requires_grad
    assert model.trunk.final_norm.bias.requires_grad
    freezing = freeze(model, trainable_layers=4)
    assert not model.trunk.final_norm.weight.requires_grad
    freezing.restore()
    assert fingerprint_of(model) == before
    model.head.requires_grad_(False)
    model.trunk.final_norm.requires_grad_(False)
    with pytest.raises(ModelError, match="nothing would be trained"):
        freeze(model, trainable_layers=1, layers=split_layers(model))
    assert freezing_of(model) is None
    # Unless the layers are given, one without anything to train joins the one before it.
    assert freeze(model, trainable_layers=1).trained_layers[0].name == "trunk.blocks.1 ... head"


def test_a_mode_set_while_frozen_stays_after_restore() -> None:
    model = Decoder()
    freezing = freeze(model, trainable_layers=1)
    model.eval()
    freezing.restore()
    assert not any(module.training for module in model.modules())


def test_gradients_left_in_the_prefix_are_dropped() -> None:
    model = Decoder()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, weight_decay=0.1)
    model(tokens()).sum().backward()
    before = model.embed.weight.clone()
    freeze(model, trainable_layers=1)
    optimizer.step()
    assert torch.equal(model.embed.weight, before)


def test_all_layers_trained_is_the_model_itself() -> None:
    model = Decoder(dropout=0.1, tied=True)
    before = fingerprint_of(model)
    freezing = freeze(model, trainable_layers=5, tied="snapshot")
    assert fingerprint_of(model)[:4] == before[:4]
    assert freezing.trainable_parameters == list(model.parameters())


# What else might carry a gradient through the prefix.


def assert_no_gradient_enters(module: nn.Module) -> list[bool]:
    seen: list[bool] = []
    module.register_forward_hook(lambda module, args, output: seen.append(_first(output).requires_grad))
    return seen


def _first(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else output[0]


def test_inputs_that_require_a_gradient_stop_at_the_prefix() -> None:
    model = ClassTokenModel(num_blocks=3)
    freeze(model, trainable_layers=2)
    seen = assert_no_gradient_enters(model.blocks[1])
    x = torch.ones(2, 4, 3, requires_grad=True)
    model(x).sum().backward()
    assert seen == [False]
    assert x.grad is None


def test_input_embeddings_given_by_the_user_stop_at_the_prefix() -> None:
    model = gpt2(num_blocks=3)
    freeze(model, trainable_layers=2)
    seen = assert_no_gradient_enters(model.transformer.h[1])
    embedded = torch.randn(2, 5, WIDTH, requires_grad=True)
    output = model(inputs_embeds=embedded, labels=tokens(), use_cache=True)
    output.loss.backward()
    assert seen == [False]
    assert embedded.grad is None
    assert output.past_key_values.get_seq_length() == 5


@pytest.mark.parametrize("before", [True, False])
def test_input_gradients_enabled_by_the_library_stop_at_the_prefix(before: bool) -> None:
    model = gpt2(num_blocks=3)
    if before:
        model.enable_input_require_grads()
    freeze(model, trainable_layers=2)
    if not before:
        model.enable_input_require_grads()
    seen = assert_no_gradient_enters(model.transformer.h[1])
    model(tokens(), labels=tokens()).loss.backward()
    assert seen == [False]


def test_gradient_checkpointing_gives_the_same_gradients() -> None:
    model = gpt2(num_blocks=3, dropout=0.0)
    freeze(model, trainable_layers=3)
    model(tokens(), labels=tokens()).loss.backward()
    expected = {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}
    model.zero_grad()
    enable = "gradient_checkpointing_enable" if OLDEST_TRANSFORMERS else "activation_checkpointing_enable"
    getattr(model, enable)()
    for _ in range(2):
        seen = assert_no_gradient_enters(model.transformer.h[0])
        model.zero_grad()
        model(tokens(), labels=tokens(), use_cache=False).loss.backward()
        assert seen == [False]
        assert gradients(model) == set(expected)
        for name, gradient in expected.items():
            torch.testing.assert_close(model.get_parameter(name).grad, gradient)


def test_a_trained_weight_used_in_the_prefix_stops_there() -> None:
    for example_inputs in (None, (tokens(),)):
        model = EmbedsWithHead()
        freeze(model, trainable_layers=2, layers=split_layers(model, example_inputs=example_inputs))
        seen = assert_no_gradient_enters(model.blocks[0])
        model(tokens()).sum().backward()
        assert seen == [False]
        assert "head.weight" in gradients(model)


def test_no_graph_is_built_inside_a_frozen_layer() -> None:
    model = EmbedsWithHead()
    freeze(model, trainable_layers=2)
    seen = assert_no_gradient_enters(model.blocks[0].mlp)
    model(tokens()).sum().backward()
    assert seen == [False]


@pytest.mark.parametrize("kind", ["tuple", "named", "dict", "transformers"])
def test_outputs_of_every_kind_are_cut_and_keep_their_class(kind: str) -> None:
    from transformers.modeling_outputs import BaseModelOutput

    class Features(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(WIDTH, WIDTH)

        def forward(self, x: Tensor) -> Any:
            y = self.linear(x)
            return {
                "tuple": (y, [y]),
                "named": Pair(y, [y]),
                "dict": {"last_hidden_state": y, "more": [y]},
                "transformers": BaseModelOutput(last_hidden_state=y, hidden_states=(y,)),
            }[kind]

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features, self.head = Features(), nn.Linear(WIDTH, WIDTH)
            self.head.weight = self.features.linear.weight

        def forward(self, x: Tensor) -> tuple[Any, Tensor]:
            features = self.features(x)
            first = features["last_hidden_state"] if kind in ("dict", "transformers") else features[0]
            return features, self.head(first)

    model = Model()
    expected, _ = model(torch.ones(1, WIDTH))
    # The tie is trained through the head: without the cut its gradient would run through the features too.
    freeze(model, trainable_layers=1)
    features, _ = model(torch.ones(1, WIDTH))
    assert type(features) is type(expected)
    first, second = features.values() if isinstance(features, dict) else features
    assert not first.requires_grad
    assert not second[0].requires_grad
    if kind == "transformers":
        assert features.last_hidden_state is first


class Pair(NamedTuple):
    first: Tensor
    more: list[Tensor]


def test_a_module_used_twice_passes_gradients_on_where_it_runs_late() -> None:
    model = UnusualOrder()
    freeze(model, trainable_layers=2, layers=split_layers(model, example_inputs=(torch.ones(2, WIDTH),)))
    seen = assert_no_gradient_enters(model.twice)
    model(torch.ones(2, WIDTH)).square().sum().backward()
    assert seen == [False, True]
    assert gradients(model) == {"head.weight", "head.bias", "second.weight", "second.bias", "scale", "late_shift"}


def test_a_wrong_order_is_refused_where_it_was_guessed_and_loses_no_gradient_where_it_was_given() -> None:
    model, reference = UnusualOrder(), UnusualOrder()
    reference.load_state_dict(model.state_dict())
    # In the order of registration the first layer to run, "twice", is the last one.
    freezing = freeze(model, trainable_layers=1)
    assert freezing.trained_layers[0].name == "twice"
    with pytest.raises(
        ModelError, match=r"frozen layer second runs after a trained one: .* example_inputs=\.\.\."
    ):
        model(torch.ones(2, WIDTH))
    freeze(model, trainable_layers=1, layers=split_layers(model))
    model(torch.ones(2, WIDTH)).square().sum().backward()
    reference(torch.ones(2, WIDTH)).square().sum().backward()
    torch.testing.assert_close(model.twice.weight.grad, reference.twice.weight.grad)


def test_the_head_of_a_u_net_that_registers_it_first_is_trained() -> None:
    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Conv2d(4, 2, 1)
            self.tower = nn.ModuleList(nn.Conv2d(n, 4, 3, padding=1) for n in (1, 4, 8, 8))

        def forward(self, x: Tensor) -> Tensor:
            first = self.tower[0](x).relu()
            second = self.tower[1](first).relu()
            third = self.tower[2](torch.cat([second, second], 1)).relu()
            return self.out(self.tower[3](torch.cat([third, first], 1)).relu())

    image = torch.randn(2, 1, 8, 8)
    for inputs in (image, (image,), {"x": image}):
        freezing = freeze(UNet(), trainable_layers=1, example_inputs=inputs)
        assert freezing.trained_layers[0].name == "out"
        freezing.model(image).sum().backward()
    model = UNet()
    assert freeze(model, trainable_layers=1).trained_layers[0].name == "tower.3"
    with pytest.raises(ModelError, match="the frozen layer out runs after a trained one"):
        model(image)


# Loops that call parts of the model.


class ByParts(nn.Module):
    """A tied head, and dropout between the frozen layers; the embedding may be used again behind the trained ones."""

    def __init__(self, *, is_used_late: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, WIDTH)
        self.first, self.drop, self.second = nn.Linear(WIDTH, WIDTH), nn.Dropout(0.5), nn.Linear(WIDTH, WIDTH)
        self.trained = nn.Linear(WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, 11, bias=False)
        self.head.weight = self.embed.weight
        self.is_used_late = is_used_late

    def features(self, ids: Tensor) -> Tensor:
        features: Tensor = self.second(self.drop(self.first(self.embed(ids))))
        return features

    def rest(self, features: Tensor, ids: Tensor) -> Tensor:
        features = self.trained(features)
        if self.is_used_late:
            features = features + self.embed(ids)
        logits: Tensor = self.head(features)
        return logits

    def forward(self, ids: Tensor) -> Tensor:
        return self.rest(self.features(ids), ids)


def test_every_pass_of_a_loop_that_calls_parts_of_the_model_is_as_one_that_calls_the_model() -> None:
    model = ByParts()
    freeze(model, trainable_layers=2, example_inputs=tokens())
    expected = model(tokens())
    expected.square().sum().backward()
    gradient = model.head.weight.grad
    assert gradient is not None
    for number in range(4):
        model.zero_grad()
        features = model.features(tokens())
        assert not features.requires_grad
        logits = model.rest(features, tokens())
        torch.testing.assert_close(logits, expected)
        logits.square().sum().backward()
        torch.testing.assert_close(model.head.weight.grad, gradient)
        if number == 2:
            # Validation may call the model all the same.
            with torch.no_grad():
                model(tokens())


def test_dropout_before_the_first_frozen_layer_is_silent_in_every_pass() -> None:
    first, drop, second, head = (
        nn.Linear(WIDTH, WIDTH),
        nn.Dropout(0.5),
        nn.Linear(WIDTH, WIDTH),
        nn.Linear(WIDTH, 2),
    )
    model = nn.ModuleDict({"drop": drop, "first": first, "second": second, "head": head})
    freeze(model, trainable_layers=1, layers=split_layers(model))
    inputs = torch.ones(3, WIDTH)
    passes = []
    for _ in range(3):
        passes.append(second(first(drop(inputs))))
        # The same dropout drops what trained layers gave.
        dropped = drop(head(passes[-1]))
        assert bool((dropped == 0).any())
        dropped.sum().backward()
    assert all(torch.equal(passes[0], each) for each in passes)


@pytest.mark.parametrize("is_recomputed", [False, True])
def test_an_embedding_that_is_used_again_behind_trained_layers_begins_no_pass(is_recomputed: bool) -> None:
    class Recomputed(ByParts):
        def rest(self, features: Tensor, ids: Tensor) -> Tensor:
            logits: Tensor = checkpoint(super().rest, features, ids, use_reentrant=False)
            return logits

    model = (Recomputed if is_recomputed else ByParts)(is_used_late=True)
    freeze(model, trainable_layers=2, example_inputs=tokens())
    gradients = []
    for _ in range(2):
        model.zero_grad()
        model(tokens()).square().sum().backward()
        gradients.append(model.head.weight.grad)
    weight = model.head.weight.detach().clone().requires_grad_()
    with torch.no_grad():
        features = model.trained(model.features(tokens()))
    nn.functional.linear(features + nn.functional.embedding(tokens(), weight), weight).square().sum().backward()
    for gradient in gradients:
        torch.testing.assert_close(gradient, weight.grad)


def test_padding_masks_of_torch_transformers_still_work() -> None:
    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(11, WIDTH)
            self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(WIDTH, 2, 16, batch_first=True), 3)
            self.head = nn.Linear(WIDTH, 2)

        def forward(self, ids: Tensor, padding: Tensor) -> Tensor:
            return self.head(self.encoder(self.embed(ids), src_key_padding_mask=padding))

    model = Classifier()
    padding = torch.tensor([[False] * 3 + [True] * 2, [False] * 5])
    freezing = freeze(model, trainable_layers=2)
    model(tokens(), padding).sum().backward()
    assert model.encoder.layers[2].linear1.weight.grad is not None
    freezing.restore()
    assert model.encoder.use_nested_tensor


# Copies, files, compilers.


@pytest.mark.parametrize("tied", ["detach", "snapshot"])
@pytest.mark.parametrize("by", ["deepcopy", "save"])
def test_a_copy_is_frozen_on_its_own(by: str, tied: Any) -> None:
    model = Decoder(dropout=0.5, tied=True)
    freezing = freeze(model, trainable_layers=2, tied=tied)
    if by == "deepcopy":
        copied = copy.deepcopy(model)
    else:
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        copied = torch.load(file, weights_only=False)
    of_copy = freezing_of(copied)
    assert isinstance(of_copy, Freezing)
    assert of_copy.model is copied
    freezing.restore()
    copied.train()
    assert not copied.trunk.blocks[0].training
    seen = assert_no_gradient_enters(copied.trunk.blocks[1])
    copied(tokens()).sum().backward()
    assert seen == [False]
    assert gradients(copied) == {name for name, each in copied.named_parameters() if each.requires_grad}
    of_copy.restore()
    copied.trunk.blocks[1]._forward_hooks.clear()
    assert copied.head.weight is copied.embed.weight
    assert fingerprint_of(copied)[2:] == fingerprint_of(model)[2:]


@pytest.mark.parametrize("name", ["decoder", "gpt2", "convolutional"])
def test_compiled_models_train_as_before(name: str) -> None:
    torch.compiler.reset()
    model: nn.Module
    if name == "decoder":
        model, inputs, numbers = Decoder(tied=True), {"ids": tokens()}, (2, 4)
    elif name == "gpt2":
        model, inputs, numbers = (
            gpt2(num_blocks=2, dropout=0.0),
            {"input_ids": tokens(), "use_cache": False},
            (1, 2),
        )
    else:
        model, inputs, numbers = ConvolutionalNet(), {"x": images()}, (2, 4)
    compiled = torch.compile(model, backend="eager" if name == "gpt2" else "aot_eager", fullgraph=True)
    for trainable_layers in (*numbers, numbers[0]):
        freezing = freeze(model, trainable_layers=trainable_layers)
        freezing.calibrate([inputs])
        for mode in (True, False, True):
            model.train(mode)
            model.zero_grad()
            loss_of(model(**inputs)).backward()
            expected = {each: gradient.grad for each, gradient in model.named_parameters()}
            model.zero_grad()
            loss_of(compiled(**inputs)).backward()
            for each, parameter in model.named_parameters():
                if expected[each] is None:
                    assert parameter.grad is None
                else:
                    torch.testing.assert_close(parameter.grad, expected[each])


def test_functional_gradients_are_those_of_autograd() -> None:
    model = Decoder(tied=True)
    freeze(model, trainable_layers=2)
    trained = {name: each.detach() for name, each in model.named_parameters() if each.requires_grad}

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        output: Tensor = torch.func.functional_call(model, parameters, (tokens(),))
        return output.square().mean()

    functional = torch.func.grad(loss)(trained)
    model(tokens()).square().mean().backward()
    for name, gradient in functional.items():
        torch.testing.assert_close(gradient, model.get_parameter(name).grad)
    several = {name: torch.stack([each, 2 * each]) for name, each in trained.items()}
    together = torch.func.vmap(torch.func.grad(loss))(several)
    for name, gradient in functional.items():
        torch.testing.assert_close(together[name][0], gradient)


def test_a_model_of_fake_tensors_is_frozen() -> None:
    with FakeTensorMode():
        model = ConvolutionalNet()
        freezing = freeze(model, trainable_layers=2)
        assert not freezing.needs_calibration
        model(torch.ones(2, 3, 8, 8)).sum().backward()
        assert gradients(model) == {name for name, each in model.named_parameters() if each.requires_grad}


@pytest.mark.parametrize("tied", ["detach", "snapshot"])
def test_a_frozen_model_moves_to_another_device(device: torch.device, tied: Any) -> None:
    model = Decoder(dropout=0.5, tied=True)
    freezing = freeze(model, trainable_layers=2, tied=tied)
    model.to(device)
    ids = tokens().to(device)
    seen = assert_no_gradient_enters(model.trunk.blocks[1])
    model(ids).sum().backward()
    assert seen == [False]
    random_state = torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()
    report = inspect_freezing(model, ids, lambda model, batch: model(batch).sum())
    assert report.is_effective, report.findings
    after = torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()
    assert torch.equal(random_state, after)
    freezing.restore()
    assert model.embed.weight is model.head.weight
    assert model.embed.weight.device.type == device.type
    net = ConvolutionalNet().to(device)
    calibrated = freeze(net, trainable_layers=2, layers=split_layers(net, example_inputs=(images().to(device),)))
    calibrated.calibrate([images().to(device)])
    assert torch.equal(net(images().to(device)), net(images().to(device)))


def test_types_and_saved_states_go_both_ways() -> None:
    model = Decoder(tied=True)
    freezing = freeze(model, trainable_layers=2, tied="snapshot")
    model.to(torch.float64)
    assert model.embed.weight.dtype == torch.float64
    assert model(tokens()).dtype == torch.float64
    plain = Decoder(tied=True)
    plain.load_state_dict(model.state_dict())
    model.load_state_dict(plain.state_dict())
    freezing.restore()
    assert model.embed.weight is model.head.weight
    assert model.embed.weight.dtype == torch.float64
