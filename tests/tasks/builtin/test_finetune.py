"""Fine-tuning a folder of the user's: fully and by adapters, to text and to labels; what is no such folder is one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    ViTConfig,
    ViTForImageClassification,
)

from frostline.costs.predicted.prediction import predict_step
from frostline.errors import HyperparameterError, ModelError, OptionError, TaskError
from frostline.populations.engines import Engine
from frostline.populations.population import Population
from frostline.populations.prefix.prefix_store import PrefixStore
from frostline.populations.programs import Programs
from frostline.records import Configuration, Fidelity, Job
from frostline.tasks.builtin.finetune import finetune
from frostline.tasks.data.corpus import synthetic_source
from frostline.training.serial import train_model, train_serially
from frostline.training.supervised.supervised_task import SupervisedTask
from tests.training.cases import settings_of

VOCABULARY = 300


def write_tokenizer(folder: Path, vocabulary: int = VOCABULARY) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(synthetic_source(num_bytes=20_000).documents, trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>").save_pretrained(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gpt2")
    torch.manual_seed(0)
    sizes = {"n_layer": 3, "n_embd": 32, "n_head": 2, "n_positions": 32}
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, **sizes, **ends)).save_pretrained(path)
    write_tokenizer(path)
    return path


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "source.txt"
    path.write_text("\n".join(synthetic_source(num_bytes=30_000).documents))
    return path


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("labels") / "functions.csv"
    rows = [f'"def read_{number}(value): return value",read' for number in range(20)]
    rows += [f'"x = {number}; write(x, x)",write' for number in range(20)]
    path.write_text("\n".join(["text,label", *rows]))
    return path


def defaults_of(task: SupervisedTask, number: int = 0, **changes: Any) -> Configuration:
    values = {name: task.defaults[name] for name in task.space.distributions}
    return Configuration(number=number, hyperparameters={**values, **changes})


def num_layers(task: SupervisedTask) -> int:
    return task.split(task.build_model(defaults_of(task))).num_layers


@pytest.mark.parametrize(("adapter", "layers"), [("none", 5), ("lora", 3)])
def test_a_language_model_goes_on_learning(folder: Path, text: Path, adapter: Any, layers: int) -> None:
    task = finetune(model=folder, text=text, adapter=adapter, context_length=16, epochs=1)
    assert num_layers(task) == layers
    task.space.validate({name: task.defaults[name] for name in task.space.distributions})
    fidelity = Fidelity(trainable_layers=layers, samples=40 * 8 * 16)
    evaluation, model = train_model(task, defaults_of(task, learning_rate=1e-2), fidelity, settings_of())
    assert evaluation.curve[-1].score < evaluation.curve[0].score < 5.8
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert all("lora_" in name for name in trained) or adapter == "none"


@pytest.mark.parametrize(("adapter", "layers"), [("none", 5), ("lora", 4)])
def test_a_classifier_gets_a_new_head(folder: Path, labels: Path, adapter: Any, layers: int) -> None:
    task = finetune(model=folder, text=labels, adapter=adapter, context_length=16)
    assert task.new_modules == ("score",)
    assert num_layers(task) == layers
    assert task.sample_unit == "texts"
    assert task.full_samples == 3 * 32
    fidelity = Fidelity(trainable_layers=2, samples=96)
    evaluation, _ = train_model(task, defaults_of(task, learning_rate=1e-2), fidelity, settings_of())
    assert evaluation.curve[-1].score < evaluation.curve[0].score


def test_an_epoch_may_be_trained_in_part(folder: Path, labels: Path) -> None:
    part = finetune(model=folder, text=labels, context_length=16, batch_size=4, epochs=0.5)
    assert part.full_samples == 16
    for epochs in (0, -1, float("nan"), float("inf")):
        with pytest.raises(OptionError, match=f"epochs is {epochs}, but must be a number above 0"):
            finetune(model=folder, text=labels, epochs=epochs)


def test_a_head_is_kept_where_it_fits(folder: Path, labels: Path, tmp_path: Path) -> None:
    task = finetune(model=folder, text=labels, context_length=16)
    task.build_model(defaults_of(task)).save_pretrained(tmp_path)
    kept = finetune(model=tmp_path, tokenizer=folder, text=labels, context_length=16, new_head=False)
    first, second = (kept.build_model(defaults_of(kept)).score.weight for _ in range(2))
    assert torch.equal(first, second)
    other = finetune(model=folder, text=labels, context_length=16, new_head=False)
    with pytest.raises(
        ModelError, match=r"lacks 1 of \d+ weights of this GPT2ForSequenceClassification, score\.weight"
    ):
        other.build_model(defaults_of(other))


def test_members_with_adapters_are_trained_as_alone_with_outputs_kept(folder: Path, labels: Path) -> None:
    task = finetune(model=folder, text=labels, adapter="lora", context_length=16)
    fidelity = Fidelity(trainable_layers=2, samples=96)
    jobs = [
        Job(configuration=defaults_of(task, number, learning_rate=10.0**-number), rung=0, fidelity=fidelity)
        for number in (2, 3)
    ]
    store = PrefixStore(training_bytes=2**22, validation_bytes=2**22)
    population = Population(task, jobs, settings_of(), engine=Engine.SHARED, store=store)
    together = {evaluation.number: evaluation for evaluation in population.run()}
    assert store.held_bytes > 0
    for job in jobs:
        alone = train_serially(task, job, settings_of())
        assert together[job.configuration.number].score == pytest.approx(alone.score, rel=1e-5)


def test_a_step_with_adapters_is_predicted(folder: Path, labels: Path) -> None:
    task = finetune(model=folder, text=labels, adapter="lora", context_length=16)
    cost = predict_step(task, trainable_layers=2)
    assert cost.num_layers == 4
    model = task.build_model(defaults_of(task))
    trained = [
        each
        for name, each in model.named_parameters()
        if (each.requires_grad and ".h.2." in name) or ".modules_to_save" in name
    ]
    assert cost.trainable_parameters == sum(each.numel() for each in trained)


def test_ranks_are_of_different_programs(folder: Path, labels: Path) -> None:
    task = finetune(model=folder, text=labels, adapter="lora", context_length=16)
    programs = Programs(task, root_seed=0)
    small, large = (defaults_of(task, lora_rank=rank) for rank in (4, 16))
    assert programs.of(small) != programs.of(large)
    assert programs.of(small) == programs.of(defaults_of(task, lora_rank=4, learning_rate=1e-3))


def test_a_bidirectional_model_is_a_classifier(labels: Path, tmp_path: Path) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = BertConfig(vocab_size=VOCABULARY, max_position_embeddings=32, **sizes)
    BertForMaskedLM(config).save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    task = finetune(model=tmp_path, text=labels, adapter="lora", context_length=16)
    assert task.new_modules == ("classifier", "bert.pooler")
    trained = [name for name, each in task.build_model(defaults_of(task)).named_parameters() if each.requires_grad]
    assert any("pooler.modules_to_save" in name for name in trained)
    assert num_layers(task) == 3


def test_another_text_model_or_head_is_another_task(folder: Path, text: Path, labels: Path) -> None:
    tasks = [
        finetune(model=folder, text=text, context_length=16),
        finetune(model=folder, text=text, context_length=32),
        finetune(model=folder, text=text, context_length=16, adapter="lora"),
        finetune(model=folder, text=labels, context_length=16),
        finetune(model=folder, text=labels, context_length=8),
    ]
    assert len({task.fingerprint for task in tasks}) == len(tasks)
    assert finetune(model=folder, text=text, context_length=16).fingerprint == tasks[0].fingerprint


@pytest.mark.parametrize(
    ("hyperparameters", "error", "words"),
    [
        (
            {"target_modules": "nope, wrong"},
            ModelError,
            "target_modules is 'nope, wrong', .* of wte, wpe, c_attn, c_proj",
        ),
        ({"lora_rank": 0}, HyperparameterError, "lora_rank is 0, but must be a whole number of at least 1"),
        ({"lora_alpha": 0.5}, HyperparameterError, "lora_alpha is 0.5, but must be a whole number"),
        ({"lora_dropout": 1.0}, HyperparameterError, "lora_dropout is 1.0, but must be a number"),
    ],
)
def test_adapters_that_are_none_are_one_line(
    folder: Path, text: Path, hyperparameters: dict[str, Any], error: type[Exception], words: str
) -> None:
    task = finetune(model=folder, text=text, adapter="lora", context_length=16)
    with pytest.raises(error, match=words) as raised:
        task.build_model(defaults_of(task, **hyperparameters))
    assert "\n" not in str(raised.value)


def other_vocabulary(folder: Path) -> None:
    write_tokenizer(folder, vocabulary=400)


def smaller_vocabulary(folder: Path) -> None:
    write_tokenizer(folder, vocabulary=260)


def no_tokenizer(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()


def damaged_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{")


def damaged_config(folder: Path) -> None:
    (folder / "config.json").write_text("[]")


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def code_of_its_own(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "mine.py").write_text("raise SystemExit('code of the checkpoint was run')")


def images(folder: Path) -> None:
    (folder / "config.json").unlink()
    ViTForImageClassification(
        ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    ).save_pretrained(folder)


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


@pytest.mark.parametrize(
    ("spoil", "error", "words"),
    [
        (other_vocabulary, TaskError, "has 400 tokens, and the model in .* knows 300"),
        (smaller_vocabulary, TaskError, "has 260 tokens, and the model in .* knows 300"),
        (no_tokenizer, TaskError, "there is no tokenizer in"),
        (damaged_tokenizer, TaskError, "the tokenizer in .* cannot be loaded"),
        (damaged_config, TaskError, "the model in .* cannot be loaded"),
        (no_config, TaskError, "there is no model in"),
        (code_of_its_own, TaskError, "the model in .* cannot be loaded"),
        (images, TaskError, "knows no tokens"),
        (no_weights, ModelError, "holds no model.safetensors"),
    ],
    ids=lambda part: getattr(part, "__name__", None),
)
def test_a_folder_that_is_none_is_one_line(
    folder: Path, text: Path, tmp_path: Path, spoil: Callable[[Path], None], error: type[Exception], words: str
) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    spoil(tmp_path)
    with pytest.raises(error, match=words) as raised:
        finetune(model=tmp_path, text=text, context_length=16)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("text\nhello", "has the columns .*, but needs text and label"),
        ("", "has the columns .*, but needs text and label"),
        ("text,label\nhello,\n", "has no text or no label in row 2"),
        ("text,label\n" + "hello,yes\n" * 12, "has 12 texts with 1 labels, but at least 10 and 2"),
    ],
)
def test_labels_that_are_none_are_one_line(folder: Path, tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "data.csv").write_text(content)
    with pytest.raises(TaskError, match=words):
        finetune(model=folder, text=tmp_path / "data.csv")
    with pytest.raises(OptionError, match="epochs is 0"):
        finetune(model=folder, text=tmp_path / "data.csv", epochs=0)
