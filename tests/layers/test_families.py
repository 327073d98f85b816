"""torchvision, timm and LitGPT, as they are installed in the folder ``.families`` (``make test`` does that)."""

from __future__ import annotations

from typing import Any

import pytest

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
