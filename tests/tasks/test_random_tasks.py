"""The tasks that are there for their costs: known models on data drawn as they are asked for."""

from __future__ import annotations

import pytest
import torch

from frostline.errors import OptionError
from frostline.records import Configuration
from frostline.tasks.builtin.random_images import RandomImages, random_images
from frostline.tasks.builtin.random_tokens import RandomTokens, random_tokens
from frostline.tasks.loading import load_task
from frostline.tasks.models.gpt import count_parameters, named_settings
from frostline.training.supervised.supervised_task import SupervisedTask


def defaults_of(task: SupervisedTask, **changes: object) -> Configuration:
    values = {name: task.defaults[name] for name in task.space.distributions}
    return Configuration(number=0, hyperparameters={**values, **changes})


def first_batch(task: SupervisedTask, **changes: object) -> tuple[torch.Tensor, torch.Tensor]:
    return next(iter(task.training_batches(defaults_of(task, **changes), seed=0, skip_samples=0)))


@pytest.mark.parametrize(
    "data", [RandomTokens(context_length=12, vocabulary_size=50), RandomImages(size=8, num_classes=5)], ids=type
)
def test_an_example_is_drawn_from_its_own_seed(data: RandomTokens | RandomImages) -> None:
    again = [data[3], data[4]]
    assert all(torch.equal(*pair) for pair in zip(data[3], again[0], strict=True))
    assert not torch.equal(data[3][0], again[1][0])
    with pytest.raises(IndexError):
        data[len(data)]


def test_targets_are_the_next_tokens() -> None:
    inputs, targets = RandomTokens(context_length=12, vocabulary_size=50)[0]
    assert inputs.shape == targets.shape == (12,)
    assert torch.equal(inputs[1:], targets[:-1])
    assert 0 <= int(inputs.min()) <= int(inputs.max()) < 50


def test_a_gpt_on_random_tokens_takes_a_step() -> None:
    task = load_task(
        "random-tokens", {"context_length": 8, "vocabulary_size": 60, "batch_size": 2, "tied_embedding": True}
    )
    inputs, targets = first_batch(task)
    assert inputs.shape == (2, 8)
    assert first_batch(task, batch_size=3)[0].shape == (3, 8)
    model = task.build_model(defaults_of(task))
    assert model.head.projection.weight is model.embedding.tokens.weight
    assert task.split(model).num_layers == 10
    task.loss(model, (inputs, targets)).backward()


def test_a_resnet_on_random_images_takes_a_step() -> None:
    task = load_task("random-images", {"image_size": 32, "classes": 7, "batch_size": 2})
    images, labels = first_batch(task)
    assert images.shape == (2, 3, 32, 32)
    model = task.build_model(defaults_of(task))
    task.freeze(model, trainable_layers=2)
    assert task.split(model).num_layers == 11
    task.loss(model, (images, labels)).backward()


@pytest.mark.parametrize(
    ("model", "number"),
    [
        ("14M", 14_562_560),
        ("600M", 602_022_400),
        ("Pythia-1.4B", 1_414_647_808),
        ("Pythia-6.9B", 6_857_302_016),
    ],
)
def test_the_gpts_have_their_published_sizes(model: str, number: int) -> None:
    assert count_parameters(named_settings(model)) == number


@pytest.mark.parametrize(
    ("model", "number"),
    [
        ("resnet-18", 11_689_512),
        ("resnet-34", 21_797_672),
        ("resnet-50", 25_557_032),
        ("resnet-101", 44_549_160),
        ("resnet-152", 60_192_808),
        ("vit-b", 86_567_656),
    ],
)
def test_the_image_models_have_their_published_sizes(model: str, number: int) -> None:
    task = random_images(model=model)
    with torch.device("meta"):
        built = task.build_model(defaults_of(task))
    assert sum(parameter.numel() for parameter in built.parameters()) == number


@pytest.mark.parametrize(
    ("build", "options", "words"),
    [
        (
            random_tokens,
            {"model": "7B"},
            "model is '7B', but must be '14M', '600M', 'Pythia-1.4B' or 'Pythia-6.9B'",
        ),
        (random_tokens, {"batch_size": 0}, "batch_size is 0, but must be a whole number of at least 1"),
        (random_tokens, {"context_length": 0}, "context_length is 0, but must be a whole number"),
        (random_images, {"model": "resnet-19"}, "model is 'resnet-19', but must be 'resnet-18', 'resnet-34'"),
        (random_images, {"image_size": 0}, "image_size is 0, but must be a whole number"),
        (random_images, {"model": "vit-b", "image_size": 100}, "image_size is 100, but vit-b needs a multiple"),
    ],
)
def test_options_that_make_no_task(build: object, options: dict[str, object], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        build(**options)
