"""What building a model without its weights loads."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from frostline.layers.weights.deferred import build_deferred, fill


@pytest.mark.multiprocess
def test_a_small_model_is_built_and_split_without_loading_the_compiler() -> None:
    code = (
        "import sys, torch\n"
        "from torch import nn\n"
        "from frostline.layers.discovery import split_layers\n"
        "from frostline.layers.weights.deferred import build_deferred, build_shapes\n"
        "def build(): return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))\n"
        "print(split_layers(build_shapes(build)).num_layers, split_layers(build_deferred(build)).num_layers)\n"
        "print('torch._dynamo' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (0, "2 2\nFalse\n"), ended.stderr


@pytest.mark.parametrize("large", [False, True])
def test_a_generator_of_ones_own_is_where_it_would_be(large: bool) -> None:
    def build(generator: torch.Generator) -> nn.Module:
        model = nn.Module()
        model.first = nn.Parameter(torch.rand(64, generator=generator))
        model.second = nn.Parameter(torch.randn(16, generator=generator))
        return model

    expected_generator, generator = (torch.Generator().manual_seed(3) for _ in range(2))
    expected = build(expected_generator)
    model = build_deferred(lambda: build(generator), larger_than=8 if large else 2**20)
    fill(model)
    assert torch.equal(model.first, expected.first)
    assert torch.equal(model.second, expected.second)
    assert torch.equal(generator.get_state(), expected_generator.get_state())
