"""Models of every family, small and in float64, as tasks whose configurations can be trained together."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from optuna.distributions import FloatDistribution
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset
from transformers import ViTConfig, ViTForImageClassification

from frostline.records import Configuration, Fidelity, Job
from frostline.search.spaces.space import SearchSpace
from frostline.tasks.models.delta_product import DeltaProductModel, DeltaProductSettings
from frostline.tasks.models.gpt import GPT, GPTSettings, next_token_loss
from frostline.tasks.models.resnet import ResNet, ResNetSettings
from frostline.training.supervised.supervised_task import SupervisedTask

BATCH_SIZE = 4
NUM_STEPS = 20
SPACE = SearchSpace(
    distributions={
        "learning_rate": FloatDistribution(1e-6, 10.0, log=True),
        "weight_decay": FloatDistribution(0.0, 1.0),
        "gradient_clip_norm": FloatDistribution(0.01, 100.0),
        "warmup_fraction": FloatDistribution(0.0, 0.5),
        "cooldown_fraction": FloatDistribution(0.0, 0.5),
    }
)
DEFAULTS = {
    "learning_rate": 1e-3,
    "weight_decay": 0.1,
    "gradient_clip_norm": 1.0,
    "warmup_fraction": 0.1,
    "cooldown_fraction": 0.2,
}
# Without biases: a key's bias has no gradient but rounding, which Adam with weight decay makes as large as any other.
GPT_SETTINGS = GPTSettings(
    num_blocks=3, num_heads=2, width=16, context_length=8, vocabulary_size=32, vocabulary_multiple=1, bias=False
)


@dataclass(frozen=True)
class Case:
    """A model, what it is trained on, and numbers of trainable layers that are worth a test."""

    name: str
    model: Callable[[], nn.Module]
    data: Callable[[int], TensorDataset]
    loss: Callable[[Any, Tensor], Tensor]
    layers: tuple[int, ...]
    options: Mapping[str, Any] = field(default_factory=dict)

    def task(self, **changes: Any) -> SupervisedTask:
        fields: dict[str, Any] = {
            "name": self.name,
            "model": lambda _configuration: self.model().double(),
            "training_data": self.data(0),
            "validation_data": self.data(1),
            "loss_function": self.loss,
            "space": SPACE,
            "full_samples": NUM_STEPS * BATCH_SIZE,
            "defaults": DEFAULTS,
            "batch_size": BATCH_SIZE,
            "validation_batch_size": 8,
            "num_calibration_batches": 2,
        }
        return SupervisedTask(**{**fields, **self.options, **changes})


def tokens(seed: int, length: int = 8, vocabulary: int = 32, num_examples: int = 20) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(vocabulary, (num_examples, length + 1), generator=generator)
    return TensorDataset(drawn[:, :-1], drawn[:, 1:])


def images(seed: int, channels: int = 1, size: int = 8, num_examples: int = 20) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(num_examples, channels, size, size, generator=generator, dtype=torch.float64)
    return TensorDataset(drawn, torch.randint(3, (num_examples,), generator=generator))


def vectors(seed: int, num_examples: int = 20) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(num_examples, 6, generator=generator, dtype=torch.float64)
    return TensorDataset(drawn, torch.randint(3, (num_examples,), generator=generator))


def gpt(**changes: Any) -> Callable[[], nn.Module]:
    settings = {slot: getattr(GPT_SETTINGS, slot) for slot in GPT_SETTINGS.__slots__}
    return lambda: GPT(GPTSettings(**{**settings, **changes}))


def delta_product() -> Callable[[], nn.Module]:
    return lambda: DeltaProductModel(
        DeltaProductSettings(num_blocks=2, num_heads=2, width=16, vocabulary_size=32, gated=True)
    )


def resnet() -> nn.Module:
    return ResNet(ResNetSettings(widths=(4, 4, 8), num_classes=3))


def vit() -> nn.Module:
    configuration = ViTConfig(
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=8,
        patch_size=4,
        num_channels=1,
        num_labels=3,
        hidden_dropout_prob=0.1,
    )
    return ViTForImageClassification(configuration)


def mlp() -> nn.Module:
    hidden = [nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Dropout(0.2)) for _ in range(3)]
    return nn.Sequential(nn.Sequential(nn.Linear(6, 8), nn.Tanh()), *hidden, nn.Linear(8, 3))


class SkippingNetwork(nn.Module):
    """The first block's output skips the second, and is written into in place on the way: both cross the boundary."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Tanh(), nn.Linear(6, 6)) for _ in range(4))
        self.head = nn.Linear(6, 3)
        self.scale = nn.Parameter(torch.ones(6))

    def forward(self, x: Tensor) -> Tensor:
        first = self.blocks[0](x)
        first += 0.5
        x = self.blocks[1](first)
        x = self.blocks[2](x)
        x.mul_(2.0)
        x = self.blocks[3](x + first) * self.scale
        return self.head(x)


class LeftOutAtTimes(nn.Module):
    """A layer of a model of stochastic depth, which draws from Python's generator."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        if self.training and random.random() < 0.3:
            return x
        return x + torch.tanh(self.layer(x))


def stochastic_depth() -> nn.Module:
    return nn.Sequential(*(LeftOutAtTimes() for _ in range(4)), nn.Linear(6, 3))


class DrawsBetween(nn.Module):
    """Draws masks between its layers, in no module of its own, and now and then leaves one of them out."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(6, 6), nn.Tanh()) for _ in range(4))
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            if not self.training:
                x = x + layer(x)
            elif torch.rand(()) > 0.1:
                x = x + functional.dropout(layer(x), 0.3)
        return self.head(x)


def mixed_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy with targets that are mixed by NumPy's generator."""
    share = np.random.beta(0.4, 0.4)  # noqa: NPY002 (what users' losses draw from)
    order = torch.as_tensor(np.random.permutation(len(targets)), device="cpu")  # noqa: NPY002
    others = targets[order.to(targets.device, non_blocking=True)]
    return share * functional.cross_entropy(outputs, targets) + (1 - share) * functional.cross_entropy(
        outputs, others
    )


class WritesIntoItsInputs(nn.Module):
    """Centres its inputs in place: whoever is given the same batch must not find them changed."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = mlp()

    def forward(self, x: Tensor) -> Tensor:
        x -= 0.5
        return self.layers(x)


def image_case(name: str, model: Callable[[], nn.Module], **rest: Any) -> Case:
    return Case(name=name, model=model, data=images, loss=nn.functional.cross_entropy, **rest)


def token_case(name: str, model: Callable[[], nn.Module], **rest: Any) -> Case:
    return Case(name=name, model=model, data=tokens, loss=next_token_loss, **rest)


CASES = (
    token_case("gpt", gpt(), layers=(1, 3)),
    token_case("gpt with dropout", gpt(dropout=0.2, positions="learned"), layers=(2,)),
    token_case("gpt tied", gpt(tied=True), layers=(2,)),
    token_case("delta product", delta_product(), layers=(2,)),
    image_case("resnet", resnet, layers=(1, 3)),
    image_case("resnet of batch statistics", resnet, layers=(3,), options={"frozen_statistics": "batch"}),
    image_case("vit", vit, layers=(2,)),
    Case(name="mlp", model=mlp, data=vectors, loss=nn.functional.cross_entropy, layers=(2, 5)),
    Case(name="skips", model=SkippingNetwork, data=vectors, loss=nn.functional.cross_entropy, layers=(2, 3)),
    Case(name="drawing from libraries", model=stochastic_depth, data=vectors, loss=mixed_loss, layers=(2, 5)),
    Case(
        name="drawing between", model=DrawsBetween, data=vectors, loss=nn.functional.cross_entropy, layers=(2, 5)
    ),
    Case(
        name="writing into inputs",
        model=WritesIntoItsInputs,
        data=vectors,
        loss=nn.functional.cross_entropy,
        layers=(2, 5),
    ),
)

OPTIMIZERS: dict[str, dict[str, Any]] = {
    "AdamW": {"optimizer": torch.optim.AdamW},
    "Adam": {"optimizer": torch.optim.Adam},
    "momentum": {"optimizer": torch.optim.SGD, "defaults": {**DEFAULTS, "momentum": 0.9}},
    "Nesterov": {"optimizer": torch.optim.SGD, "defaults": {**DEFAULTS, "momentum": 0.9, "nesterov": True}},
}


def configuration_of(number: int, **changes: Any) -> Configuration:
    """A configuration that differs from every other in all that may differ within a population."""
    hyperparameters = {
        "learning_rate": 1e-3 * (number + 1),
        "weight_decay": 0.02 * number,
        "gradient_clip_norm": 0.2 * (number + 1),
        "warmup_fraction": 0.05 * number,
        "cooldown_fraction": 0.3 - 0.04 * number,
    }
    return Configuration(number=number, hyperparameters={**hyperparameters, **changes})


def jobs_of(
    configurations: Sequence[Configuration], *, layers: int, samples: int = NUM_STEPS * BATCH_SIZE
) -> list[Job]:
    fidelity = Fidelity(trainable_layers=layers, samples=samples)
    return [Job(configuration=each, rung=0, fidelity=fidelity) for each in configurations]
