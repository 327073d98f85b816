"""Every built-in task on its real data, with small budgets."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from frostline.errors import OptionError, TaskError
from frostline.records import Configuration
from frostline.tasks.builtin.digits_mlp import digits_mlp
from frostline.tasks.builtin.digits_resnet import digits_resnet
from frostline.tasks.builtin.finetuned_gpt import finetuned_gpt
from frostline.tasks.builtin.finetuned_resnet import finetuned_resnet
from frostline.tasks.builtin.python_source_gpt import python_source_gpt
from frostline.tasks.builtin.text_gpt import text_gpt
from frostline.tasks.data.corpus import synthetic_source
from frostline.training.supervised.supervised_task import SupervisedTask


def small_python_source_gpt() -> SupervisedTask:
    return python_source_gpt(num_blocks=2, width=48, full_tokens=20 * 512, batch_size=4, corpus_bytes=300_000)


def small_digits_resnet() -> SupervisedTask:
    # Of 4 channels oneDNN (torch 2.13) dies in the backward pass on processors with AVX2 and no AVX-512.
    return digits_resnet(widths=(8, 8, 8, 8, 16, 16, 32, 32))


def small_finetuned_gpt() -> SupervisedTask:
    return finetuned_gpt(num_blocks=2, width=64, pretraining_tokens=2048, corpus_bytes=300_000)


def small_finetuned_resnet() -> SupervisedTask:
    return finetuned_resnet(widths=(8, 8, 16, 16), pretraining_images=1024)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    for index, document in enumerate(synthetic_source(num_bytes=60_000).documents):
        (folder / f"{index:03}.txt").write_text(document)
    return folder


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    build: Callable[[], SupervisedTask]
    num_layers: int
    unit: str


CASES = [
    Case(name="python-source-gpt", build=small_python_source_gpt, num_layers=4, unit="tokens"),
    Case(name="digits-resnet", build=small_digits_resnet, num_layers=10, unit="images"),
    Case(name="digits-mlp", build=digits_mlp, num_layers=9, unit="images"),
    Case(name="finetuned-gpt", build=small_finetuned_gpt, num_layers=4, unit="tokens"),
    Case(name="finetuned-resnet", build=small_finetuned_resnet, num_layers=6, unit="images"),
]
EACH = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def defaults_of(task: SupervisedTask) -> Configuration:
    values = {name: task.defaults[name] for name in task.space.distributions}
    return Configuration(number=0, hyperparameters=values)


def train(task: SupervisedTask, *, num_steps: int, device: torch.device, **changes: object) -> tuple[float, float]:
    """The validation score before and after a few steps of plain training."""
    configuration = Configuration(number=0, hyperparameters={**defaults_of(task), **changes})
    torch.manual_seed(0)
    model = task.build_model(configuration).to(device)
    optimizer = task.build_optimizer(list(model.parameters()), configuration)

    def score() -> float:
        model.eval()
        with torch.no_grad():
            batches = [
                tuple(part.to(device) for part in batch) for batch in task.validation_batches(configuration)
            ]
            return task.score(model, batches)

    before = score()
    model.train()
    for batch in itertools.islice(task.training_batches(configuration, seed=0, skip_samples=0), num_steps):
        loss = task.loss(model, tuple(part.to(device) for part in batch))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return before, score()


@EACH
def test_a_few_steps_lower_the_score(case: Case, device: torch.device) -> None:
    task = case.build()
    changes: dict[str, object] = {"learning_rate": 4e-3}
    if case.unit == "images":
        changes = {"learning_rate": 3e-3, "optimizer": "Adam"}
    else:
        task = dataclasses.replace(task, batch_size=16)  # large enough for the source of every Python
    before, after = train(task, num_steps=24, device=device, **changes)
    assert after < 0.85 * before


@EACH
def test_the_layers_are_those_of_the_method(case: Case) -> None:
    task = case.build()
    assert task.split(task.build_model(defaults_of(task))).num_layers == case.num_layers


@EACH
def test_the_task_is_the_same_every_time(case: Case) -> None:
    first, second = case.build(), case.build()
    assert first.name == case.name
    assert first.sample_unit == case.unit
    assert first.fingerprint == second.fingerprint
    for ours, theirs in itertools.islice(
        zip(
            first.training_batches(defaults_of(first), seed=3, skip_samples=0),
            second.training_batches(defaults_of(second), seed=3, skip_samples=0),
            strict=True,
        ),
        3,
    ):
        assert torch.equal(ours[0], theirs[0])
        assert torch.equal(ours[1], theirs[1])


@EACH
def test_the_defaults_lie_in_the_space(case: Case) -> None:
    task = case.build()
    task.space.validate({name: task.defaults[name] for name in task.space.distributions})


def test_the_default_sizes_are_what_the_documentation_says() -> None:
    task = python_source_gpt()
    model = task.build_model(defaults_of(task))
    assert task.split(model).num_layers == 8
    assert sum(parameter.numel() for parameter in model.parameters()) == 880_128
    assert task.full_samples == 393_216
    assert len(task.validation_data) * 128 == 16_384
    assert task.full_samples < len(task.training_data) * 128 / 2  # no token is seen twice


@pytest.mark.parametrize(
    "other",
    [
        lambda: python_source_gpt(
            num_blocks=3, width=48, full_tokens=20 * 512, batch_size=4, corpus_bytes=300_000
        ),
        lambda: python_source_gpt(
            num_blocks=2, width=96, full_tokens=20 * 512, batch_size=4, corpus_bytes=300_000
        ),
        lambda: python_source_gpt(
            num_blocks=2, width=48, full_tokens=21 * 512, batch_size=4, corpus_bytes=300_000
        ),
        lambda: python_source_gpt(
            num_blocks=2, width=48, full_tokens=20 * 512, batch_size=8, corpus_bytes=300_000
        ),
        lambda: python_source_gpt(
            num_blocks=2, width=48, full_tokens=20 * 512, batch_size=4, corpus_bytes=400_000
        ),
    ],
    ids=["blocks", "width", "budget", "batch", "corpus"],
)
def test_the_fingerprint_of_a_gpt_sees_every_option(other: Callable[[], SupervisedTask]) -> None:
    assert other().fingerprint != small_python_source_gpt().fingerprint


def test_the_fingerprints_of_image_tasks_see_every_option() -> None:
    tasks = [
        digits_resnet(),
        digits_resnet(image_size=8),
        digits_resnet(full_images=6400),
        digits_resnet(widths=[16, 32]),
        digits_mlp(),
        digits_mlp(num_hidden_layers=9),
        digits_mlp(width=64),
        digits_mlp(full_images=6400),
    ]
    assert len({task.fingerprint for task in tasks}) == len(tasks)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: python_source_gpt(width=50), "width 50 cannot be split over 3 heads"),
        (lambda: python_source_gpt(full_tokens="many"), "full_tokens is 'many', but must be a whole number"),
        (lambda: python_source_gpt(batch_size=0), "batch_size is 0, but must be a whole number of at least 1"),
        (lambda: python_source_gpt(corpus_bytes=0), "corpus_bytes is 0, but must be a whole number of at least 1"),
        (lambda: digits_resnet(full_images=0), "full_images is 0, but must be a whole number of at least 1"),
        (lambda: digits_mlp(width=-3), "width is -3, but must be a whole number of at least 1"),
    ],
)
def test_options_that_make_no_task(build: Callable[[], SupervisedTask], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        build()


# --- text-gpt ---------------------------------------------------------------------------------------------------------


def test_text_gpt_trains_on_the_users_files(text: Path, device: torch.device) -> None:
    task = text_gpt(text=text, context_length=32, vocabulary_size=500, full_tokens=64_000, batch_size=8)
    assert task.split(task.build_model(defaults_of(task))).num_layers == 10
    before, after = train(task, num_steps=8, device=device, learning_rate=3e-3)
    assert after < 0.85 * before


def test_text_gpt_trains_on_the_users_tokens(tmp_path: Path, device: torch.device) -> None:
    tokens = np.tile(np.arange(50, dtype=np.uint16), 400)
    tokens.tofile(tmp_path / "train.bin")
    np.save(tmp_path / "train.npy", tokens)
    options = {"context_length": 16, "vocabulary_size": 50, "full_tokens": 6400, "batch_size": 8}
    for name in ("train.bin", "train.npy"):
        task = text_gpt(text=str(tmp_path / name), **options)
        assert isinstance(task.training_data.tokens, np.memmap)
        before, after = train(task, num_steps=8, device=device, learning_rate=3e-3)
        assert after < 0.85 * before


def test_text_gpt_has_the_methods_budget_and_sizes(tmp_path: Path) -> None:
    np.zeros(5000, dtype=np.uint16).tofile(tmp_path / "train.bin")
    task = text_gpt(text=tmp_path / "train.bin")
    assert task.full_samples == 20 * 14_562_560
    assert task.samples_per_example == 1024
    assert task.batch_size == 8
    tied = text_gpt(text=tmp_path / "train.bin", tied_embedding=True)
    assert tied.full_samples == 20 * (14_562_560 - 50_688 * 128)
    model = tied.build_model(defaults_of(tied))
    assert model.head.projection.weight is model.embedding.tokens.weight
    assert tied.fingerprint != task.fingerprint
    large = text_gpt(text=tmp_path / "train.bin", model="Pythia-1.4B")
    assert large.full_samples == 20 * 1_414_647_808
    assert large.samples_per_example == 2048


@pytest.mark.parametrize(
    ("file", "options", "error", "words"),
    [
        ("empty.txt", {}, TaskError, "the corpus empty.txt is empty"),
        ("missing", {}, TaskError, "there is no text at .*missing: give a file, a folder or a pattern"),
        ("missing.bin", {}, TaskError, "there is no token file at .*missing.bin"),
        ("short.txt", {}, TaskError, "tokens are fewer than the 2050 of one training and one validation window"),
        ("tokens.bin", {"vocabulary_size": 99}, TaskError, r"there is a token 99, but in a vocabulary of 99"),
        (
            "tokens.bin",
            {"integers": "uint8"},
            OptionError,
            "integers is 'uint8', but must be 'uint16' or 'uint32'",
        ),
        (
            "tokens.bin",
            {"model": "7B"},
            OptionError,
            "model is '7B', but must be '14M', '600M', 'Pythia-1.4B' or 'Pythia-6.9B'",
        ),
        (
            "tokens.bin",
            {"full_tokens": 100},
            TaskError,
            "full_samples of text-gpt is 100 tokens, less than one batch",
        ),
        ("tokens.bin", {"context_length": 0}, OptionError, "context_length is 0, but must be a whole number"),
    ],
)
def test_text_gpt_refuses(
    tmp_path: Path, file: str, options: dict[str, object], error: type[Exception], words: str
) -> None:
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "short.txt").write_text("a few words")
    np.arange(100, dtype=np.uint16).repeat(50).tofile(tmp_path / "tokens.bin")
    with pytest.raises(error, match=words):
        text_gpt(text=tmp_path / file, **options)
