"""A task's model starts from a checkpoint: whole, but for a new head, from each kind of file; anything else is one line."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import GPT2ForSequenceClassification, GPT2LMHeadModel, GPT2Model

from frostline.costs.predicted.prediction import predict_step
from frostline.errors import ModelError, TaskError
from frostline.layers import freezing_of
from frostline.layers.weights.deferred import deferred_of
from frostline.records import Configuration, Fidelity, Job
from frostline.tasks.loading import load_task
from frostline.training.files.model_files import write_model
from frostline.training.files.pretrained import PretrainedWeights
from frostline.training.machine.devices import DevicePlan
from frostline.training.serial import train_model, train_serially
from frostline.training.session import begin_session
from frostline.training.supervised.supervised_task import SupervisedTask
from frostline.training.supervised.task_layers import layers_of
from tests.populations.adapter_cases import gpt2, with_adapters
from tests.populations.cases import CASES, configuration_of, gpt, token_case
from tests.training.cases import perceptron, regression_task, settings_of

CONFIGURATION = Configuration(number=0, hyperparameters={"learning_rate": 1e-2})


def trained_elsewhere(seed: int = 7) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return perceptron(CONFIGURATION)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    write_model(path, trained_elsewhere())
    return path


def as_state_dict(folder: Path) -> Path:
    torch.save(trained_elsewhere().state_dict(), folder / "weights.pt")
    return folder / "weights.pt"


def as_safetensors(folder: Path) -> Path:
    write_model(folder / "other-name.safetensors", trained_elsewhere())
    return folder / "other-name.safetensors"


def as_folder(folder: Path) -> Path:
    write_model(folder / "model.safetensors", trained_elsewhere())
    return folder


def as_shards(folder: Path) -> Path:
    state = trained_elsewhere().state_dict()
    places = {}
    for number, name in enumerate(state):
        places[name] = f"model-{number % 2}.safetensors"
    for file in set(places.values()):
        save_file({name: state[name] for name, place in places.items() if place == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return folder


@pytest.mark.parametrize("written", [as_state_dict, as_safetensors, as_folder, as_shards])
def test_a_model_starts_from_every_kind_of_checkpoint(written: Any, tmp_path: Path) -> None:
    model = regression_task(pretrained=str(written(tmp_path))).build_model(CONFIGURATION)
    torch.testing.assert_close(model.state_dict(), trained_elsewhere().state_dict(), rtol=0, atol=0)


def test_a_new_head_keeps_what_it_would_have_been(checkpoint: Path) -> None:
    task = regression_task(pretrained=checkpoint, new_modules=("2",))
    torch.manual_seed(0)
    random = regression_task().build_model(CONFIGURATION)
    torch.manual_seed(0)
    model = task.build_model(CONFIGURATION)
    torch.testing.assert_close(model[2].state_dict(), random[2].state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(model[0].state_dict(), trained_elsewhere()[0].state_dict(), rtol=0, atol=0)


def test_a_training_goes_on_from_the_checkpoint(checkpoint: Path) -> None:
    task = regression_task(pretrained=checkpoint)
    own = regression_task(model=lambda _configuration: trained_elsewhere())
    job = Job(configuration=CONFIGURATION, rung=0, fidelity=Fidelity(trainable_layers=2, samples=80))
    assert train_serially(task, job, settings_of()).curve == train_serially(own, job, settings_of()).curve


def test_another_checkpoint_is_another_task(tmp_path: Path, checkpoint: Path) -> None:
    other = tmp_path / "other.safetensors"
    write_model(other, trained_elsewhere(seed=8))
    same = tmp_path / "same.safetensors"
    same.write_bytes(checkpoint.read_bytes())
    prints = [regression_task(pretrained=each).fingerprint for each in (None, checkpoint, other, same)]
    assert len(set(prints)) == 3
    assert prints[1] == prints[3]
    assert regression_task(pretrained=checkpoint, new_modules=("2",)).fingerprint not in prints


def test_a_file_that_was_written_anew_is_refused(checkpoint: Path) -> None:
    task = regression_task(pretrained=checkpoint)
    write_model(checkpoint, trained_elsewhere(seed=8))
    with pytest.raises(ModelError, match="was changed since this task was made"):
        task.build_model(CONFIGURATION)


@pytest.mark.parametrize("options", [{"frozen_placement": "stream"}, {"frozen_dtype": "bfloat16"}], ids=str)
def test_frozen_weights_are_streamed_and_rounded_as_others_are(options: dict[str, Any], tmp_path: Path) -> None:
    # One embedding of more than four MiB: it is not made when the model is built.
    case = token_case("gpt", gpt(width=128, vocabulary_size=10_000), layers=(2,))
    with torch.random.fork_rng():
        torch.manual_seed(3)
        elsewhere = case.model()
    write_model(tmp_path / "model.safetensors", elsewhere)
    whole = case.task(model=lambda _configuration: case.model(), pretrained=tmp_path)
    task = replace(whole, **options)
    assert deferred_of(task.build_model(configuration_of(0))) is not None
    plan = DevicePlan(device=torch.device("cpu"))
    session = begin_session(task, configuration_of(0), trainable_layers=2, device_plan=plan, root_seed=0)
    expected = elsewhere.state_dict()
    kept = session.model.state_dict()
    name = "embedding.tokens.weight"
    rounded = expected[name].to(kept[name].dtype)
    assert torch.equal(kept[name], rounded)
    assert torch.equal(kept["head.projection.weight"], expected["head.projection.weight"])
    if "frozen_placement" in options:
        assert freezing_of(session.model).streamed
        fidelity = Fidelity(trainable_layers=2, samples=8)
        alone, streamed = (
            train_model(each, configuration_of(0), fidelity, settings_of())[0] for each in (whole, task)
        )
        assert alone.curve == streamed.curve


def test_statistics_of_normalisation_come_with_the_weights(tmp_path: Path) -> None:
    case = next(case for case in CASES if case.name == "resnet")
    model = case.model().double()
    model(case.data(0)[0][0][None].expand(4, -1, -1, -1))
    write_model(tmp_path / "model.safetensors", model)
    started = case.task(pretrained=tmp_path).build_model(configuration_of(0))
    torch.testing.assert_close(started.state_dict(), model.state_dict(), rtol=0, atol=0)


def small_gpt2(kind: type[nn.Module], *, blocks: int = 2) -> nn.Module:
    return gpt2(kind, blocks=blocks)


def classifier_task(folder: Path, **changes: Any) -> SupervisedTask:
    tokens = torch.randint(1, 32, (8, 6))
    return regression_task(
        model=lambda _configuration: small_gpt2(GPT2ForSequenceClassification),
        training_data=torch.utils.data.TensorDataset(tokens, torch.zeros(8, dtype=torch.long)),
        loss_function=nn.functional.cross_entropy,
        pretrained=folder,
        **changes,
    )


@pytest.mark.parametrize("kind", [GPT2LMHeadModel, GPT2Model])
def test_a_trunk_is_found_in_models_of_transformers_with_another_head_or_none(kind: Any, tmp_path: Path) -> None:
    saved = small_gpt2(kind)
    saved.save_pretrained(tmp_path)
    model = classifier_task(tmp_path, new_modules=("score",)).build_model(CONFIGURATION)
    trunk = getattr(saved, "transformer", saved)
    torch.testing.assert_close(model.transformer.state_dict(), trunk.state_dict(), rtol=0, atol=0)


def test_a_tied_weight_is_found_under_any_of_its_names(tmp_path: Path) -> None:
    saved = small_gpt2(GPT2LMHeadModel)
    state = {name: tensor.clone() for name, tensor in saved.state_dict().items()}
    del state["transformer.wte.weight"]
    save_file(state, tmp_path / "model.safetensors")
    task = replace(
        classifier_task(tmp_path, new_modules=("score",)),
        model=lambda _configuration: small_gpt2(GPT2LMHeadModel),
        new_modules=(),
    )
    model = task.build_model(CONFIGURATION)
    assert torch.equal(model.transformer.wte.weight, saved.transformer.wte.weight)
    assert model.lm_head.weight is model.transformer.wte.weight


def test_a_checkpoint_of_a_deeper_model_is_refused(tmp_path: Path) -> None:
    small_gpt2(GPT2LMHeadModel, blocks=3).save_pretrained(tmp_path)
    task = classifier_task(tmp_path, new_modules=("score",))
    with pytest.raises(ModelError, match=r"of a deeper model: it holds transformer\.h\.2\..* has 2 modules"):
        task.build_model(CONFIGURATION)


def test_a_foreign_checkpoint_is_one_line(tmp_path: Path) -> None:
    other = nn.Sequential(nn.Linear(5, 8), nn.Sequential(nn.Tanh(), nn.Linear(8, 8)), nn.Linear(8, 2)).double()
    write_model(tmp_path / "model.safetensors", other)
    with pytest.raises(ModelError, match=r"of another model: 2\.weight is \[2, 8\] there, and \[1, 8\] in this"):
        regression_task(pretrained=tmp_path).build_model(CONFIGURATION)
    write_model(tmp_path / "model.safetensors", nn.Linear(3, 2))
    with pytest.raises(ModelError, match=r"lacks 6 of 6 weights of this Sequential, 0\.weight first") as error:
        regression_task(pretrained=tmp_path).build_model(CONFIGURATION)
    assert "\n" not in str(error.value)
    assert regression_task(pretrained=tmp_path, new_modules=("0", "1", "2")).build_model(CONFIGURATION)


def test_a_new_module_that_is_none_is_refused(checkpoint: Path) -> None:
    task = regression_task(pretrained=checkpoint, new_modules=("head",))
    with pytest.raises(ModelError, match=r"new_modules names 'head', which this model does not have: .* 0, 1, 2"):
        task.build_model(CONFIGURATION)


class Harmful:
    """What a pickle can do when it is loaded."""

    def __reduce__(self) -> Any:
        return Path("/tmp/harm").touch, ()


def truncated(folder: Path) -> Path:
    path = as_safetensors(folder)
    path.write_bytes(path.read_bytes()[:-16])
    return path


def damaged(folder: Path) -> Path:
    path = as_safetensors(folder)
    path.write_bytes(b"\xff" * 64)
    return path


def truncated_state(folder: Path) -> Path:
    path = as_state_dict(folder)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def a_pickle(folder: Path) -> Path:
    (folder / "weights.pt").write_bytes(pickle.dumps(Harmful()))
    return folder / "weights.pt"


def whole_model(folder: Path) -> Path:
    torch.save(trained_elsewhere(), folder / "weights.pt")
    return folder / "weights.pt"


def nested(folder: Path) -> Path:
    torch.save({"state_dict": trained_elsewhere().state_dict(), "epoch": 3}, folder / "weights.pt")
    return folder / "weights.pt"


def lacking_a_shard(folder: Path) -> Path:
    as_shards(folder)
    (folder / "model-1.safetensors").unlink()
    return folder


def leading_elsewhere(folder: Path) -> Path:
    (folder / "inner").mkdir()
    as_safetensors(folder)
    index = {"weight_map": {"0.weight": "../other-name.safetensors"}}
    (folder / "inner" / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder / "inner"


def damaged_index(folder: Path) -> Path:
    (folder / "model.safetensors.index.json").write_text("[1, 2")
    return folder


@pytest.mark.parametrize(
    ("written", "words"),
    [
        (lambda folder: folder / "nowhere", "there is no checkpoint at"),
        (lambda folder: folder, "holds no model.safetensors"),
        (truncated, "cannot be read as safetensors"),
        (damaged, "cannot be read as safetensors"),
        (truncated_state, "cannot be read as a state dict of tensors alone"),
        (a_pickle, "cannot be read as a state dict of tensors alone"),
        (whole_model, "cannot be read as a state dict of tensors alone"),
        (nested, "holds more than a model's tensors by name"),
        (lacking_a_shard, "lacks model-1.safetensors, which its index names"),
        (leading_elsewhere, "lacks other-name.safetensors"),
        (damaged_index, "is no index of safetensors files"),
    ],
    ids=lambda part: getattr(part, "__name__", None),
)
def test_what_is_no_checkpoint_is_one_line_at_once(written: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=words) as error:
        regression_task(pretrained=written(tmp_path))
    assert "\n" not in str(error.value)
    assert not Path("/tmp/harm").exists()


def test_fields_of_another_type_are_refused(checkpoint: Path) -> None:
    with pytest.raises(TaskError, match="pretrained of regression is 3, but must be the path"):
        regression_task(pretrained=3)
    with pytest.raises(TaskError, match="new_modules of regression is '2', but must be a tuple of names"):
        regression_task(pretrained=checkpoint, new_modules="2")


def test_reading_leaves_nothing_open_over_the_file(checkpoint: Path) -> None:
    model = regression_task(pretrained=checkpoint).build_model(CONFIGURATION)
    before = load_file(checkpoint)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    torch.testing.assert_close(load_file(checkpoint), before, rtol=0, atol=0)


def test_costs_and_layers_are_told_without_reading_a_weight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = load_task("digits-mlp", {})
    write_model(tmp_path / "model.safetensors", random.build_model(CONFIGURATION))
    task = replace(random, pretrained=tmp_path)
    monkeypatch.setattr(PretrainedWeights, "tensors", lambda *_: pytest.fail("weights were read"))
    assert predict_step(task, trainable_layers=1).memory == predict_step(random, trainable_layers=1).memory
    assert layers_of(task) == layers_of(random)


def test_any_task_of_the_command_line_starts_from_a_checkpoint(checkpoint: Path) -> None:
    with pytest.raises(ModelError, match="is of another model"):
        layers_of(load_task("digits-mlp", {"pretrained": str(checkpoint)}))
    task = load_task("digits-mlp", {"pretrained": str(checkpoint), "new_modules": ["0"]})
    assert (task.pretrained, task.new_modules) == (str(checkpoint), ("0",))


def small_gpt2_with_adapters() -> nn.Module:
    return with_adapters(
        small_gpt2(GPT2ForSequenceClassification),
        target_modules=["c_attn"],
        fan_in_fan_out=True,
        modules_to_save=["score"],
    )


def test_a_model_with_adapters_starts_from_what_was_trained_without(tmp_path: Path) -> None:
    saved = small_gpt2(GPT2LMHeadModel)
    saved.save_pretrained(tmp_path)
    adapted = small_gpt2_with_adapters()
    initial = {name: tensor.clone() for name, tensor in adapted.state_dict().items()}
    task = classifier_task(tmp_path, new_modules=("score",))
    model = replace(task, model=lambda _configuration: adapted).build_model(CONFIGURATION)
    expected = saved.state_dict()
    for name, tensor in model.state_dict().items():
        if "lora_" in name or "score" in name:
            assert torch.equal(tensor, initial[name]), name
        else:
            old = name.removeprefix("base_model.model.").replace(".base_layer.", ".")
            assert torch.equal(tensor, expected[old]), name


def test_a_kept_head_is_the_one_that_is_trained_beside_adapters(tmp_path: Path) -> None:
    saved = small_gpt2(GPT2ForSequenceClassification)
    saved.save_pretrained(tmp_path)
    adapted = small_gpt2_with_adapters()
    model = replace(classifier_task(tmp_path), model=lambda _configuration: adapted).build_model(CONFIGURATION)
    heads = [tensor for name, tensor in model.state_dict().items() if "score" in name]
    assert len(heads) == 2
    assert all(torch.equal(head, saved.score.weight) for head in heads)


def test_a_checkpoint_is_read_through_once_as_long_as_it_does_not_change(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = PretrainedWeights.open(checkpoint)
    digests: list[object] = []
    digest = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *given: digests.append(given) or digest(*given))
    assert PretrainedWeights.open(checkpoint) is first
    assert digests == []
    os.utime(checkpoint, ns=(1, 1))
    assert PretrainedWeights.open(checkpoint).sha256 == first.sha256
    assert len(digests) == 1


def test_what_was_read_of_a_checkpoint_leaves_memory_again(tmp_path: Path) -> None:
    weights = {f"weight{number}": torch.zeros(2**21) for number in range(16)}
    save_file(weights, tmp_path / "model.safetensors")
    torch.save(weights, tmp_path / "model.pt")
    # In a process of its own, whose peak is nobody else's: 16 times 8 MiB, of which three pieces are there at most.
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from frostline.training.files import pretrained\n"
        "pretrained._MOST_ELEMENTS = 2**21\n"
        "def peak():\n"
        "    lines = Path('/proc/self/status').read_text().splitlines()\n"
        "    return int(next(line for line in lines if line.startswith('VmHWM')).split()[1]) // 1024\n"
        "for path in sys.argv[1:]:\n"
        "    weights = pretrained.PretrainedWeights.open(path)\n"
        "    before = peak()\n"
        "    assert sum(float(value.sum()) == 0 for _, value in weights.tensors(weights.shapes)) == 16\n"
        "    print(peak() - before)\n"
    )
    command = [sys.executable, "-c", script, tmp_path / "model.safetensors", tmp_path / "model.pt"]
    ended = subprocess.run(command, check=True, capture_output=True, text=True)
    assert all(int(line) < 50 for line in ended.stdout.split())
