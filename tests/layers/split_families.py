"""Run by ``tests.other_libraries``: what torchvision's, timm's and LitGPT's models become when they are split."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from frostline.layers import freeze, inspect_freezing, split_layers


def cases() -> Iterator[tuple[str, nn.Module, Tensor]]:
    import timm
    import torchvision

    images = torch.linspace(-1, 1, 2 * 3 * 32 * 32).reshape(2, 3, 32, 32)
    vision = torchvision.models
    yield "torchvision resnet18", vision.resnet18(num_classes=10), images
    yield "torchvision resnet50", vision.resnet50(num_classes=10), images
    sizes = {"image_size": 32, "patch_size": 8, "num_layers": 3, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 32}
    yield "torchvision vit", vision.VisionTransformer(**sizes), images
    yield "timm resnet18", timm.create_model("resnet18", num_classes=10), images
    yield "timm vit", timm.create_model("vit_tiny_patch16_224", img_size=32, depth=3, num_classes=10), images
    yield "litgpt", litgpt(), torch.arange(10).reshape(2, 5)


def litgpt() -> nn.Module:
    from litgpt.model import GPT, Config

    model: nn.Module = GPT(Config(n_layer=3, n_embd=16, n_head=2, padded_vocab_size=16, block_size=8))
    return model


def described(model: nn.Module, inputs: Tensor) -> dict[str, Any]:
    """The layers by registration and by execution, and what the middle fidelity leaves and keeps."""
    stack = split_layers(model)
    traced = split_layers(model, example_inputs=(inputs,))
    freezing = freeze(model, trainable_layers=stack.num_layers // 2)
    freezing.calibrate([inputs])
    loss: Callable[[nn.Module, Any], Tensor] = lambda model, batch: model(batch).square().mean()  # noqa: E731
    report = inspect_freezing(model, inputs, loss)
    return {
        "names": stack.names,
        "is_in_execution_order": traced == stack,
        "first": stack.layers[0].parameters,
        "last": stack.layers[-1].parameters,
        "owned": sum(len(layer.parameters) for layer in stack.layers),
        "parameters": len(list(model.parameters())),
        "findings": report.findings,
        "measured": report.activations.measured,
        "expected": report.activations.expected,
    }


def found() -> dict[str, dict[str, Any]]:
    """Return what each model becomes, by its name."""
    return {name: described(model, inputs) for name, model, inputs in cases()}
