from __future__ import annotations

from collections import namedtuple

import pytest
import torch

from frostline.errors import OptionError
from frostline.training.machine.devices import (
    DevicePlan,
    first_tensor,
    move_batch,
    peak_bytes,
    reset_peak_bytes,
    resolve_device,
)

Point = namedtuple("Point", ["x", "y"])
META = torch.device("meta")  # a device that is everywhere, so that a move can be seen


def test_nested_batches_are_moved_in_their_containers() -> None:
    tensor = torch.zeros(2)
    batch = ({"a": tensor, "b": [tensor, "text"]}, Point(tensor, 3), None)
    moved = move_batch(batch, META)
    assert moved[0]["a"].is_meta
    assert moved[0]["b"][0].is_meta
    assert moved[0]["b"][1] == "text"
    assert isinstance(moved[1], Point)
    assert moved[1].x.is_meta
    assert moved[1].y == 3
    assert moved[2] is None
    assert not batch[0]["a"].is_meta


def test_hugging_face_containers_are_moved() -> None:
    transformers = pytest.importorskip("transformers")
    tensor = torch.zeros(2, 3)
    output = transformers.modeling_outputs.CausalLMOutput(logits=tensor, hidden_states=(tensor, tensor))
    moved = move_batch(output, META)
    assert type(moved) is type(output)
    assert moved.logits.is_meta
    assert moved["hidden_states"][1].is_meta
    assert moved.loss is None
    assert not output.logits.is_meta
    encoding = transformers.BatchEncoding({"input_ids": tensor})
    assert move_batch(encoding, META)["input_ids"].is_meta


def test_the_first_tensor_of_a_batch() -> None:
    tensor = torch.zeros(4)
    assert first_tensor(({"name": "text", "x": [None, tensor]}, torch.ones(1))) is tensor
    with pytest.raises(ValueError, match="no tensor in a batch of type dict"):
        first_tensor({"name": "text"})


def test_devices_are_resolved(device: torch.device) -> None:
    assert resolve_device(device.type) == device
    assert resolve_device("auto").type in ("cpu", "cuda", "mps")


def test_unknown_devices_are_refused() -> None:
    with pytest.raises(OptionError, match="device is 'tpu', but must be one of auto, cpu, cuda, mps"):
        resolve_device("tpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_who_asks_for_one_card_of_several_is_told_how() -> None:
    with pytest.raises(
        OptionError, match=r"device is 'cuda:1', .* For that card alone set CUDA_VISIBLE_DEVICES=1\.$"
    ):
        resolve_device("cuda:1")


def test_a_missing_device_is_refused() -> None:
    with pytest.raises(OptionError, match="device is 'cuda', but torch finds none here: use one of auto, cpu"):
        resolve_device("cuda")


def test_types_that_would_need_more_are_refused() -> None:
    with pytest.raises(
        OptionError, match=r"compute_dtype is torch.float16, but must be None .* or torch.bfloat16"
    ):
        DevicePlan(device=torch.device("cpu"), compute_dtype=torch.float16)


def test_peak_bytes_are_those_since_the_reset(device: torch.device) -> None:
    if device.type == "cpu":
        assert peak_bytes(device) is None
        return
    torch.zeros(1 << 24, device=device)
    reset_peak_bytes(device)
    before = peak_bytes(device)
    torch.zeros(1 << 20, dtype=torch.uint8, device=device)
    after = peak_bytes(device)
    assert before is not None
    assert after is not None
    assert 1 << 20 <= after - before < 1 << 24
