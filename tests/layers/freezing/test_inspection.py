"""What freezing saved, in bytes, and the name of what spoils it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from frostline.errors import ModelError
from frostline.layers import FreezingReport, freeze, inspect_freezing, split_layers
from tests.layers.models import (
    WIDTH,
    ClassTokenModel,
    ConvolutionalNet,
    Decoder,
    EmbedsWithHead,
    UnusualOrder,
    gpt2,
    images,
    tokens,
)


def mean_square(model: nn.Module, batch: Any) -> Tensor:
    output = model(batch)
    return (output if isinstance(output, Tensor) else output.logits).square().mean()


def multilayer(*, depth: int, width: int) -> nn.Module:
    layers = [module for _ in range(depth - 1) for module in (nn.Linear(width, width), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(width, width))


def test_bytes_are_those_that_one_can_count_by_hand() -> None:
    depth, width, batch = 6, 32, 16
    model = multilayer(depth=depth, width=width)
    x = torch.randn(batch, width)
    activation, layer = batch * width * 4, (width * width + width) * 4
    for trainable_layers in range(1, depth + 1):
        freeze(model, trainable_layers=trainable_layers)
        report = inspect_freezing(model, x, mean_square)
        # Every Linear keeps its input, which is the output that the ReLU before it keeps; the square keeps the last
        # output. The input of the first layer is the batch, which does not count.
        assert report.activations.full == activation * depth
        assert report.activations.measured == activation * min(trainable_layers + 1, depth)
        assert report.activations.expected == report.activations.measured
        assert report.gradients.full == layer * depth
        assert report.gradients.measured == report.gradients.expected == layer * trainable_layers
        assert report.optimizer_state.measured == 2 * layer * trainable_layers
        assert report.is_effective
        assert not report.findings


def test_optimizer_state_of_any_optimizer() -> None:
    model = multilayer(depth=3, width=4)
    freeze(model, trainable_layers=1)
    x = torch.randn(2, 4)
    plain = inspect_freezing(model, x, mean_square, optimizer=lambda each: torch.optim.SGD(each, lr=0.1))
    assert plain.optimizer_state.full == plain.optimizer_state.measured == 0
    moving = inspect_freezing(
        model, x, mean_square, optimizer=lambda each: torch.optim.SGD(each, lr=0.1, momentum=0.9)
    )
    assert moving.optimizer_state.measured == moving.gradients.measured
    assert moving.optimizer_state.full == 3 * moving.optimizer_state.measured


def frozen_by_hand(model: nn.Module, trainable_layers: int) -> nn.Module:
    """As the method's first public code does: the layers' modules are frozen, what containers hold is forgotten."""
    for layer in split_layers(model).prefix(trainable_layers):
        for name in layer.modules:
            model.get_submodule(name).requires_grad_(False)
    return model


def test_a_class_token_that_stays_trainable_is_named() -> None:
    # Defects 1 and 1b: kept activations were 25.7 MiB where 4.4 MiB would do.
    x = torch.randn(8, 15, 3)
    spoiled = inspect_freezing(frozen_by_hand(ClassTokenModel(num_blocks=8), 1), x, mean_square)
    assert not spoiled.is_effective
    assert spoiled.findings[0].startswith(
        "class_token of ClassTokenModel (class_token, in the frozen layer patches)"
    )
    assert "still requires a gradient" in spoiled.findings[0]
    assert spoiled.activations.measured > 3 * spoiled.activations.expected
    model = ClassTokenModel(num_blocks=8)
    freeze(model, trainable_layers=1)
    clean = inspect_freezing(model, x, mean_square)
    assert clean.is_effective
    assert clean.activations.measured <= clean.activations.expected == spoiled.activations.expected
    assert clean.activations.full == spoiled.activations.full


def test_a_tied_weight_is_named() -> None:
    # Defect 2.
    model = frozen_by_hand(gpt2(num_blocks=4, dropout=0.0), 1)
    model.lm_head.weight.requires_grad_(True)
    spoiled = inspect_freezing(model, tokens(), mean_square)
    assert any(
        "lm_head.weight" in finding or "transformer.wte.weight" in finding for finding in spoiled.findings
    ), spoiled.findings
    assert "is trained and used in the frozen layer embedding" in spoiled.findings[-1]
    assert spoiled.activations.measured > 2 * spoiled.activations.expected
    for tied in ("detach", "snapshot"):
        model = gpt2(num_blocks=4, dropout=0.0)
        freeze(model, trainable_layers=1, tied=tied)
        clean = inspect_freezing(model, tokens(), mean_square)
        assert clean.is_effective, clean.findings
        assert clean.activations.measured <= clean.activations.expected


def test_a_trained_weight_used_in_the_prefix_is_named() -> None:
    model = frozen_by_hand(EmbedsWithHead(), 1)
    spoiled = inspect_freezing(model, tokens(), mean_square)
    assert spoiled.findings == (
        "head.weight is trained and used in the frozen layer blocks.0: its gradient runs through it.",
    )
    freeze(model, trainable_layers=1)
    assert inspect_freezing(model, tokens(), mean_square).is_effective


def test_an_input_that_requires_a_gradient_is_named() -> None:
    x = torch.randn(2, 4, requires_grad=True)
    model = frozen_by_hand(multilayer(depth=4, width=4), 2)
    findings = inspect_freezing(model, x, mean_square).findings
    assert findings == ("An input requires a gradient, which runs through the frozen layer 2.",)
    freeze(model, trainable_layers=2)
    assert inspect_freezing(model, x, mean_square).is_effective


def test_a_prefix_that_is_not_the_same_twice_is_named() -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(F.dropout(self.first(x), 0.5, training=self.training))

    model = Noisy()
    freeze(model, trainable_layers=1)
    findings = inspect_freezing(model, torch.randn(4, WIDTH), mean_square).findings
    assert len(findings) == 1
    assert "different outputs for the same batch" in findings[0]
    assert inspect_freezing(model.eval(), torch.randn(4, WIDTH), mean_square).findings == findings


def test_layers_out_of_order_and_parameters_without_gradient_are_named() -> None:
    model = UnusualOrder()
    freeze(model, trainable_layers=2)
    findings = inspect_freezing(model, torch.randn(2, WIDTH), mean_square).findings
    assert any("runs after a trained one: freeze with example_inputs=..." in finding for finding in findings)
    assert any(finding == "never.weight and 1 more should be trained but got no gradient." for finding in findings)


def test_a_model_frozen_by_hand_at_the_wrong_end() -> None:
    model = multilayer(depth=3, width=4)
    model[4].requires_grad_(False)
    with pytest.raises(ModelError, match="no parameter of the last layer, 4, requires a gradient"):
        inspect_freezing(model, torch.randn(2, 4), mean_square)
    with pytest.raises(ModelError, match="a tensor of one element"):
        inspect_freezing(multilayer(depth=3, width=4), torch.randn(2, 4), lambda model, batch: model(batch))


def test_inspection_leaves_no_trace() -> None:
    model = ConvolutionalNet()
    freezing = freeze(model, trainable_layers=2)
    freezing.calibrate([images()])
    model.eval()
    model.head.train()
    mean_square(model, images()).backward()
    gradient = model.head.weight.grad
    before = copy.deepcopy(model.state_dict())
    modes = [module.training for module in model.modules()]
    flags = [each.requires_grad for each in model.parameters()]
    random_state = torch.get_rng_state()
    inspect_freezing(model, images(), mean_square)
    assert model.head.weight.grad is gradient
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())
    assert [module.training for module in model.modules()] == modes
    assert [each.requires_grad for each in model.parameters()] == flags
    assert torch.equal(random_state, torch.get_rng_state())


def test_memory_falls_with_every_layer_and_the_report_prints() -> None:
    model = Decoder(num_blocks=6, dropout=0.1, tied=True)
    reports: list[FreezingReport] = []
    for trainable_layers in range(1, 9):
        freeze(model, trainable_layers=trainable_layers, tied="snapshot")
        reports.append(inspect_freezing(model, tokens(), mean_square))
        assert reports[-1].is_effective, reports[-1].findings
    kept = [report.activations.measured for report in reports]
    assert kept == sorted(kept)
    assert kept[0] < kept[-1] / 3
    assert kept[-1] == reports[-1].activations.full
    lines = str(reports[0]).splitlines()
    assert lines[0].startswith("1 of 8 layers trained")
    assert [line.split()[0] for line in lines[2:]] == ["activations", "gradients", "optimizer"]


def test_what_a_dropped_graph_had_saved_does_not_count() -> None:
    class Probing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            aside = self.layer(x * 2).exp().square()
            return self.layer(x + aside.detach())

    report = inspect_freezing(Probing(), torch.randn(2, 4), mean_square)
    # The input of the second call and its output.
    assert report.activations.measured == 2 * 2 * 4 * 4
