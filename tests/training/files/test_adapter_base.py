"""Of models with adapters the base is kept once, and of each what was trained beside it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from torch import nn
from torch.testing._internal.two_tensor import TwoTensor

from frostline.errors import ModelError
from frostline.folders.places import folder_at
from frostline.layers import freeze
from frostline.records import Configuration
from frostline.training.files.adapter_base import AdapterBase
from frostline.training.files.kept_models import KeptModels
from frostline.training.files.model_files import header_of, read_model, write_model
from tests.populations.adapter_cases import ADAPTER_CASES, classifier, gpt2, language_model

CONFIGURATION = Configuration(number=3, hyperparameters={"rate": 0.1})


def built(case, seed: int = 0) -> nn.Module:
    """A model whose base is drawn by ``seed``."""
    torch.manual_seed(seed)
    return case.model()


def trained(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += torch.randn_like(parameter)
    return model


@pytest.fixture
def models(tmp_path: Path) -> KeptModels:
    return KeptModels.in_folder(folder_at(tmp_path / "study"))


def kept(models: KeptModels, model: nn.Module) -> list[str]:
    """Keep a model, and return the files of them all."""
    assert models.keep(model, CONFIGURATION, score=0.5)
    return models.folder.names()


def same(model: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(value, other.state_dict()[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("case", ADAPTER_CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("base_seed", [0, 1])
def test_adapters_come_back_beside_the_base_that_they_were_trained_with(
    base_seed: int, case, models: KeptModels, tmp_path: Path
) -> None:
    model = trained(built(case))
    freeze(model, trainable_layers=1)  # what is trained is what was before
    assert len(kept(models, model)) == 2
    write_model(tmp_path / "whole.safetensors", model)
    whole = (tmp_path / "whole.safetensors").stat().st_size
    assert models.existing(CONFIGURATION).stat().st_size < whole
    # Whether it is built on the same base or not.
    assert same(model, models.load(CONFIGURATION, built(case, base_seed)))


def test_a_base_is_written_once_and_not_read_if_it_is_there(models: KeptModels, tmp_path: Path) -> None:
    case = ADAPTER_CASES[0]
    kept(models, built(case))
    other = Configuration(number=4, hyperparameters={"rate": 0.2})
    second = trained(built(case))
    assert models.keep(second, other, score=0.4)
    (base,) = models.folder.names("base-")
    assert len(models.folder.names()) == 3
    models.folder.delete(base)
    assert same(second, models.load(other, built(case)))
    with pytest.raises(ModelError, match="are others here and were not kept: build the model on the base"):
        models.load(other, built(case, seed=1))
    with pytest.raises(ModelError, match="beside them were not kept: build the model on the base"):
        models.copy(other, tmp_path / "copy.safetensors")


def test_adapters_are_kept_where_their_base_cannot_be(
    models: KeptModels, caplog: pytest.LogCaptureFixture
) -> None:
    def build() -> nn.Module:
        model = built(ADAPTER_CASES[0])
        # A quantised weight of a class of its own, of which no bytes can be had.
        weight = model.base_model.model.transformer.h[0].mlp.c_proj.weight
        model.base_model.model.transformer.h[0].mlp.c_proj.weight = nn.Parameter(
            TwoTensor(weight.data, weight.data.clone()), requires_grad=False
        )
        return model

    model = trained(build())
    (adapters,) = kept(models, model)
    assert adapters == models.name_of(CONFIGURATION)
    assert "the weights beside the adapters are not kept" in caplog.text
    back = models.load(CONFIGURATION, build())
    assert all(
        torch.equal(value, back.get_parameter(name)) for name, value in model.named_parameters() if "lora_" in name
    )


def test_adapters_are_put_into_no_other_model(models: KeptModels) -> None:
    kept(models, built(ADAPTER_CASES[0]))
    for other in (gpt2(), classifier(), gpt2(blocks=4)):
        with pytest.raises(ModelError, match="is of another model"):
            models.load(CONFIGURATION, other)


@pytest.mark.parametrize("case", ADAPTER_CASES, ids=lambda case: case.name)
def test_a_copy_holds_both(case, models: KeptModels, tmp_path: Path) -> None:
    model = trained(built(case))
    kept(models, model)
    models.copy(CONFIGURATION, tmp_path / "copy.safetensors")
    assert header_of(tmp_path / "copy.safetensors")["frostline"]
    assert same(model, read_model(tmp_path / "copy.safetensors", built(case, 1)))


def test_worse_adapters_are_deleted_and_the_base_stays(models: KeptModels) -> None:
    kept(models, built(ADAPTER_CASES[0]))
    configurations = [Configuration(number=number, hyperparameters={"rate": 0.1}) for number in range(4)]
    models.prune(configurations, has_ended=lambda _: True, kept=())
    assert models.folder.names() == models.folder.names("base-")


def test_what_lies_in_no_model_of_peft_goes_with_the_adapters(models: KeptModels) -> None:
    def build() -> nn.Module:
        torch.manual_seed(0)
        return nn.ModuleDict({"student": language_model(), "teacher": gpt2().requires_grad_(False)})

    model = build()
    base = AdapterBase.of(model)
    assert base is not None
    assert all(name.startswith("student.") and "lora_" not in name for name in base.parameters)
    assert AdapterBase.of(gpt2().requires_grad_(False)) is None
    # What a quantised weight keeps beside itself has a name that begins with its own.
    assert all(base.holds(name) and base.holds(f"{name}.absmax") for name in base.parameters)
    assert not base.holds("student.base_model")
    # Such as a teacher that the model moves itself.
    for parameter in model["teacher"].parameters():
        parameter += 1
    (adapters, _) = kept(models, model)
    assert any(name.startswith("teacher.") for name in load_file(models.folder.place_of(adapters)))
    assert same(model, models.load(CONFIGURATION, build()))


def test_buffers_go_with_the_adapters(models: KeptModels) -> None:
    def build() -> nn.Module:
        torch.manual_seed(0)
        layers = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
        return get_peft_model(layers, LoraConfig(r=2, target_modules=["0"]))

    model = build()
    model(torch.randn(8, 4) + 3)
    kept(models, model)
    assert same(model, models.load(CONFIGURATION, build()))
