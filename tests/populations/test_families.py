"""Models of other libraries, as they are, are trained together: keyword arguments, masks, caches and all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from torch.utils.data import Dataset

from frostline.populations.engines import Engine
from frostline.populations.population import Population
from frostline.training.serial import train_serially
from frostline.training.supervised.supervised_task import SupervisedTask
from tests.populations.cases import DEFAULTS, SPACE, configuration_of, jobs_of
from tests.training.cases import settings_of

SMALL = {
    "vocab_size": 32,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
LANGUAGE_MODELS: dict[str, Callable[[], nn.Module]] = {
    "GPT2": lambda: transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=32, n_embd=16, n_layer=3, n_head=2, n_positions=16, tie_word_embeddings=False
        )
    ),
    "GPT2 tied": lambda: transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=32, n_embd=16, n_layer=3, n_head=2, n_positions=16)
    ),
    "GPTNeoX": lambda: transformers.GPTNeoXForCausalLM(transformers.GPTNeoXConfig(**SMALL)),
    "Llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**SMALL, num_key_value_heads=1)),
    "BERT": lambda: transformers.BertForMaskedLM(transformers.BertConfig(**SMALL, max_position_embeddings=16)),
}
IMAGE_MODELS: dict[str, Callable[[], nn.Module]] = {
    "ResNet": lambda: transformers.ResNetForImageClassification(
        transformers.ResNetConfig(
            num_channels=1, embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], layer_type="basic", num_labels=3
        )
    ),
    "ViT": lambda: transformers.ViTForImageClassification(
        transformers.ViTConfig(
            **SMALL | {"vocab_size": 0}, image_size=16, patch_size=8, num_channels=1, num_labels=3
        )
    ),
}


class Sentences(Dataset[Any]):
    """Tokens with a mask over the padding at their end, by keyword."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> tuple[dict[str, Tensor], Tensor]:
        tokens = torch.randint(32, (9,), generator=torch.Generator().manual_seed(index))
        mask = (torch.arange(8) < 8 - index % 3).long()
        return {"input_ids": tokens[:-1], "attention_mask": mask}, tokens[1:]


class Pictures(Dataset[Any]):
    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        generator = torch.Generator().manual_seed(index)
        return torch.randn(1, 16, 16, generator=generator, dtype=torch.float64), index % 3


def loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.cross_entropy(outputs.flatten(0, -2), targets.flatten())


def check(model: Callable[[], nn.Module], data: Dataset[Any], layers: int, engine: Engine) -> None:
    task = SupervisedTask(
        name="family",
        model=lambda _configuration: model().double(),
        training_data=data,
        validation_data=data,
        loss_function=loss,
        space=SPACE,
        full_samples=40,
        defaults=DEFAULTS,
        batch_size=4,
        num_calibration_batches=1,
        data_fingerprint="family",
    )
    jobs = jobs_of([configuration_of(number) for number in range(2)], layers=layers, samples=40)
    evaluations = {each.number: each for each in Population(task, jobs, settings_of(), engine=engine).run()}
    for job in jobs:
        alone = train_serially(task, job, settings_of())
        evaluation = evaluations[job.configuration.number]
        assert evaluation.reason is None
        assert [point.score for point in evaluation.curve] == pytest.approx(
            [point.score for point in alone.curve], rel=1e-9
        )


@pytest.mark.parametrize("engine", [Engine.SHARED, Engine.STACKED])
@pytest.mark.parametrize("name", LANGUAGE_MODELS)
def test_language_models(name: str, engine: Engine) -> None:
    check(LANGUAGE_MODELS[name], Sentences(), 2, engine)


@pytest.mark.parametrize("engine", [Engine.SHARED, Engine.STACKED])
@pytest.mark.parametrize("name", IMAGE_MODELS)
def test_image_models(name: str, engine: Engine) -> None:
    check(IMAGE_MODELS[name], Pictures(), 2, engine)


@pytest.mark.multiprocess
@pytest.mark.slow
@pytest.mark.parametrize(
    "family", ["torchvision resnet18", "torchvision vit", "timm resnet18", "timm vit", "litgpt"]
)
def test_models_of_other_libraries(other_libraries: dict[str, Any], family: str) -> None:
    assert other_libraries["populations"][family] == "same"
