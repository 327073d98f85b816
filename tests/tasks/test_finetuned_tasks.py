"""The tasks that start from checkpoints of their own: what they start from, what is trained of them, what is refused."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from frostline.errors import OptionError, TaskError
from frostline.populations.engines import Engine
from frostline.populations.population import Population
from frostline.records import Configuration, Fidelity, Job
from frostline.tasks.builtin import finetuned_resnet as finetuned_resnet_module
from frostline.tasks.builtin.finetuned_gpt import finetuned_gpt
from frostline.tasks.builtin.finetuned_resnet import finetuned_resnet
from frostline.tasks.data.corpus import python_source, python_topics
from frostline.tasks.models.resnet import ResNetSettings
from frostline.training.serial import train_model, train_serially
from frostline.training.supervised.supervised_task import SupervisedTask
from tests.training.cases import settings_of

small_gpt = partial(
    finetuned_gpt,
    num_blocks=2,
    width=48,
    full_tokens=8 * 512,
    pretraining_tokens=32 * 2048,
    corpus_bytes=300_000,
)
small_resnet = partial(finetuned_resnet, widths=(8, 8, 16, 16), full_images=512, pretraining_images=4096)
EACH = pytest.mark.parametrize("make", [small_gpt, small_resnet], ids=["gpt", "resnet"])
ADAPTED = pytest.mark.parametrize(("make", "layers"), [(small_gpt, 3), (small_resnet, 5)], ids=["gpt", "resnet"])


def values_of(task: SupervisedTask, number: int = 0, **changes: Any) -> Configuration:
    values = {name: task.defaults[name] for name in task.space.distributions}
    return Configuration(number=number, hyperparameters={**values, **changes})


def trained(task: SupervisedTask, layers: int, **changes: Any) -> tuple[float, dict[str, torch.Tensor]]:
    fidelity = Fidelity(trainable_layers=layers, samples=task.full_samples)
    evaluation, model = train_model(task, values_of(task, **changes), fidelity, settings_of())
    return evaluation.curve[-1].score, model.state_dict()


@EACH
def test_the_checkpoint_is_worth_more_than_random_weights(make: Callable[..., SupervisedTask]) -> None:
    pretrained, random = make(), make(weights="random")
    assert random.pretrained is None
    layers = pretrained.split(pretrained.build_model(values_of(pretrained))).num_layers
    assert trained(pretrained, layers)[0] < 0.95 * trained(random, layers)[0]
    # All but what they start from is the same.
    assert pretrained.space == random.space
    assert pretrained.defaults == random.defaults
    assert pretrained.full_samples == random.full_samples


@ADAPTED
def test_adapters_are_trained_beside_weights_that_stay(make: Callable[..., SupervisedTask], layers: int) -> None:
    task = make(adapter="lora")
    before = task.build_model(values_of(task)).state_dict()
    assert task.split(task.build_model(values_of(task))).num_layers == layers
    _, after = trained(task, layers, learning_rate=1e-2)
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    # Statistics of batches are no weights.
    changed = {name for name in changed if "running_" not in name and "num_batches" not in name}
    assert any("lora_" in name for name in changed)
    assert {name.partition(".head.")[1] for name in changed if "lora_" not in name} <= {".head."}


def test_members_of_a_convolutional_base_are_trained_as_alone() -> None:
    task = small_resnet(adapter="lora")
    fidelity = Fidelity(trainable_layers=3, samples=128)
    jobs = [
        Job(configuration=values_of(task, number, learning_rate=10.0**-number), rung=0, fidelity=fidelity)
        for number in (1, 2, 3)
    ]
    together = {each.number: each for each in Population(task, jobs, settings_of(), engine=Engine.SHARED).run()}
    for job in jobs:
        alone = train_serially(task, job, settings_of())
        assert together[job.configuration.number].score == pytest.approx(alone.score, rel=1e-5)


@EACH
def test_each_option_makes_another_task(make: Callable[..., SupervisedTask]) -> None:
    tasks = [make(), make(weights="random"), make(adapter="lora"), make(adapter="lora", weights="random")]
    if make is small_gpt:
        tasks += [make(pretraining_tokens=16 * 2048), make(full_tokens=16 * 512)]
        tasks += [make(weights="random", corpus_bytes=400_000), make(weights="random", width=64)]
    else:
        tasks += [make(pretraining_images=512), make(full_images=256), make(weights="random", widths=(8, 16))]
    assert len({task.fingerprint for task in tasks}) == len(tasks)
    assert make().fingerprint == tasks[0].fingerprint


def test_what_is_learned_was_not_seen_before() -> None:
    source = "".join(python_source(max_bytes=4_000_000).documents)
    # The longest line of each chapter: short ones, such as a rule of the grammar, may stand in a comment as well.
    lines = [max(chapter.splitlines(), key=len) for chapter in python_topics().documents]
    assert len(lines) > 60
    assert sum(line in source for line in lines) <= 0.05 * len(lines)
    before = finetuned_resnet_module._pretraining(ResNetSettings(num_classes=5), 1024)
    tasks = (before, finetuned_resnet(weights="random"))
    first, second = (
        {image.numpy().tobytes() for data in (task.training_data, task.validation_data) for image, _ in data}
        for task in tasks
    )
    assert len(first) == 901
    assert len(second) == 896
    assert not first & second
    assert all({int(target) for _, target in task.validation_data} == {0, 1, 2, 3, 4} for task in tasks)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: small_gpt(adapter="prefix"), OptionError, "adapter is 'prefix', but must be 'none' or 'lora'"),
        (lambda: small_resnet(adapter=0), OptionError, "adapter is 0, but must be 'none' or 'lora'"),
        (lambda: small_gpt(weights=None), OptionError, "weights is None, but must be 'pretrained' or 'random'"),
        (lambda: small_resnet(weights="x"), OptionError, "weights is 'x', but must be 'pretrained' or 'random'"),
        (
            lambda: small_gpt(full_tokens=0),
            OptionError,
            "full_tokens is 0, but must be a whole number of at least 1",
        ),
        (lambda: small_gpt(pretraining_tokens=-1), OptionError, "pretraining_tokens is -1, but must be"),
        (lambda: small_gpt(width=50), OptionError, "width 50 cannot be split over 4 heads"),
        (
            lambda: small_resnet(pretraining_images="many"),
            OptionError,
            "pretraining_images is 'many', but must be",
        ),
    ],
)
def test_options_that_make_no_task(make: Callable[[], SupervisedTask], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        make()


@pytest.mark.parametrize(
    ("module", "options", "words"),
    [
        ("peft", {"adapter": "lora"}, r"adapters need the package 'peft', .*: pip install 'frostline\[peft\]'"),
        (
            "pydoc_data.topics",
            {},
            "this interpreter ships no pydoc_data.topics, the text to fine-tune to: use a whole",
        ),
    ],
)
def test_what_is_missing_is_one_line(
    module: str, options: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(TaskError, match=words):
        small_gpt(**options)
