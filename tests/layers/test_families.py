"""torchvision, timm and LitGPT, as they are installed in the folder ``.families`` (``make test`` does that)."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from frostline.layers import split_layers

BLOCKS = [f"layer{stage}.{index}" for stage in range(1, 5) for index in range(2)]
EXPECTED = {
    "torchvision resnet18": ["conv1", "bn1", *BLOCKS, "fc"],
    "torchvision resnet50": [
        "conv1",
        "bn1",
        *(
            f"layer{stage}.{index}"
            for stage, number in enumerate((3, 4, 6, 3), start=1)
            for index in range(number)
        ),
        "fc",
    ],
    "torchvision vit": ["embedding", *(f"encoder.layers.encoder_layer_{index}" for index in range(3)), "head"],
    "timm resnet18": ["conv1", "bn1", *BLOCKS, "fc"],
    "timm vit": ["embedding", *(f"blocks.{index}" for index in range(3)), "head"],
    "litgpt": ["embedding", *(f"transformer.h.{index}" for index in range(3)), "head"],
}


@pytest.fixture(scope="module")
def described(other_libraries: dict[str, Any]) -> dict[str, Any]:
    return other_libraries["layers"]


@pytest.mark.multiprocess
@pytest.mark.slow
@pytest.mark.parametrize("family", EXPECTED)
def test_models_of_other_libraries(described: dict[str, Any], family: str) -> None:
    found = described[family]
    assert found["names"] == EXPECTED[family]
    assert found["is_in_execution_order"]
    assert found["owned"] == found["parameters"]
    assert found["findings"] == []
    assert found["measured"] <= found["expected"]


@pytest.mark.multiprocess
@pytest.mark.slow
def test_what_their_containers_hold_is_in_the_embedding(described: dict[str, Any]) -> None:
    assert {"class_token", "encoder.pos_embedding"} <= set(described["torchvision vit"]["first"])
    assert {"cls_token", "pos_embed"} <= set(described["timm vit"]["first"])
    assert described["litgpt"]["first"] == ["transformer.wte.weight"]
    assert {"lm_head.weight", "transformer.ln_f.weight"} <= set(described["litgpt"]["last"])


def class_of(package: str, name: str, *parents: type) -> type[nn.Module]:
    return type(name, parents or (nn.Module,), {"__module__": package})


def test_models_of_flash_linear_attention_are_known_by_their_parts() -> None:
    # Its kernels need a GPU even to be imported: a stand-in has the names that it goes by.
    pretrained = class_of("transformers.modeling_utils", "PreTrainedModel")
    package = "fla.models.gated_deltaproduct.modeling_gated_deltaproduct"
    block = class_of(package, "GatedDeltaProductBlock")
    trunk = class_of(package, "GatedDeltaProductModel", pretrained)()
    trunk.embeddings = nn.Embedding(5, 4)
    trunk.layers = nn.ModuleList(block() for _ in range(2))
    for each in trunk.layers:
        each.attn, each.mlp = nn.Linear(4, 4), nn.Linear(4, 4)
    trunk.norm = nn.LayerNorm(4)
    model = class_of(package, "GatedDeltaProductForCausalLM", pretrained)()
    model.model, model.lm_head = trunk, nn.Linear(4, 5)
    stack = split_layers(model)
    assert stack.names == ("embedding", "model.layers.0", "model.layers.1", "head")
    assert stack.layers[-1].parameters[0].startswith("model.norm")
