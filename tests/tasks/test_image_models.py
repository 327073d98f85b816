from __future__ import annotations

import pytest
import torch

from frostline.errors import OptionError
from frostline.layers import split_layers
from frostline.tasks.models.mlp import MLPSettings, build_mlp
from frostline.tasks.models.resnet import ResNet, ResNetSettings


@pytest.mark.parametrize("widths", [(16, 16, 32, 32, 64, 64, 128, 128), (4,), (8, 4)])
def test_a_resnet_has_a_stem_its_blocks_and_a_head(widths: tuple[int, ...]) -> None:
    model = ResNet(ResNetSettings(widths=widths, num_classes=7))
    assert model(torch.randn(5, 1, 16, 16)).shape == (5, 7)
    assert split_layers(model, example_inputs=(torch.randn(2, 1, 16, 16),)).num_layers == len(widths) + 2


def test_a_block_halves_the_image_where_the_width_changes() -> None:
    model = ResNet(ResNetSettings(widths=(4, 4, 8)))
    shapes = []
    for block in model.blocks:
        block.register_forward_hook(lambda _module, _inputs, output: shapes.append(tuple(output.shape[1:])))
    model(torch.randn(1, 1, 16, 16))
    assert shapes == [(4, 16, 16), (4, 16, 16), (8, 8, 8)]


def test_a_residual_block_passes_its_input_on() -> None:
    model = ResNet(ResNetSettings(widths=(4, 4)))
    block = model.blocks[1].eval()
    for convolution in (block.convolution_1, block.convolution_2):
        torch.nn.init.zeros_(convolution.weight)
    features = torch.rand(2, 4, 8, 8)
    torch.testing.assert_close(block(features), features)


def test_a_deep_mlp_has_its_hidden_layers_and_a_head() -> None:
    model = build_mlp(MLPSettings())
    assert model(torch.randn(3, 1, 8, 8)).shape == (3, 10)
    assert split_layers(model).num_layers == 9
    assert sum(parameter.numel() for parameter in model.parameters()) == 64 * 128 + 7 * 128**2 + 8 * 3 * 128 + 1290


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (lambda: ResNetSettings(widths=()), "widths is empty, but must name the width of at least one block"),
        (lambda: ResNetSettings(widths=(16, 0)), "a width is 0, but must be a whole number of at least 1"),
        (lambda: ResNetSettings(num_classes=0), "num_classes is 0"),
        (
            lambda: MLPSettings(num_hidden_layers=0),
            "num_hidden_layers is 0, but must be a whole number of at least 1",
        ),
    ],
)
def test_settings_that_make_no_model(settings: object, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        settings()
