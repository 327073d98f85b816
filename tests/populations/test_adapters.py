"""Members with adapters share their base at every number of trained layers, and train as they do alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from frostline.layers import freezing_of
from frostline.populations.engines import Engine
from frostline.populations.population import Population
from frostline.populations.prefix.prefix_store import PrefixStore
from frostline.populations.programs import Programs
from frostline.records import Configuration, Fidelity, Job
from frostline.training.serial import train_serially
from tests.populations.adapter_cases import ADAPTER_CASES, gpt2, with_adapters
from tests.populations.cases import Case, configuration_of, jobs_of
from tests.populations.test_population import assert_same_as_alone
from tests.training.cases import settings_of

BY_NAME = {case.name: case for case in ADAPTER_CASES}
EVERY_CASE = [
    pytest.param(case, layers, id=f"{case.name}-{layers}") for case in ADAPTER_CASES for layers in case.layers
]


@pytest.mark.parametrize("engine", [Engine.SHARED, Engine.STACKED])
@pytest.mark.parametrize(("case", "layers"), EVERY_CASE)
def test_members_are_trained_as_they_are_alone(case: Case, layers: int, engine: Engine) -> None:
    jobs = jobs_of([configuration_of(number) for number in range(3)], layers=layers, samples=40)
    assert_same_as_alone(case.task(), jobs, engine=engine)


def models_of(population: Population) -> list[nn.Module]:
    return [course.session.model for course in population._living]


@pytest.mark.parametrize("case", ADAPTER_CASES, ids=lambda case: case.name)
def test_the_base_is_in_memory_once_whatever_is_trained(case: Case) -> None:
    jobs = [
        Job(configuration=configuration_of(number), rung=0, fidelity=Fidelity(trainable_layers=layers, samples=8))
        for number, layers in enumerate((*case.layers, *case.layers))
    ]
    models = models_of(Population(case.task(), jobs, settings_of(), engine=Engine.SHARED))
    assert len(models) == len(jobs)
    for name, parameter in models[-1].named_parameters():
        is_base = not any(dict(model.named_parameters())[name].requires_grad for model in models)
        places = {dict(model.named_parameters())[name].data_ptr() for model in models}
        assert len(places) == (1 if is_base else len(places)), name
        if "lora_" not in name and "modules_to_save" not in name:
            assert is_base, name
        elif parameter.requires_grad:
            num_trained = sum(dict(model.named_parameters())[name].requires_grad for model in models)
            assert len(places) >= num_trained, name


def test_kept_outputs_of_the_base_serve_every_epoch() -> None:
    case = BY_NAME["classifier"]
    task = case.task()
    jobs = jobs_of([configuration_of(number) for number in range(2)], layers=2, samples=60)
    store = PrefixStore(training_bytes=2**20, validation_bytes=2**20)
    calls = [0]
    population = Population(task, jobs, settings_of(), engine=Engine.SHARED, store=store)
    for model in models_of(population):
        frozen = freezing_of(model).frozen_layers[-1].modules[0]
        model.get_submodule(frozen).register_forward_pre_hook(lambda *_: calls.__setitem__(0, calls[0] + 1))
    before = store.held_bytes
    evaluations = sorted(population.run(), key=lambda each: each.number)
    assert store.held_bytes > before
    for evaluation, job in zip(evaluations, jobs, strict=True):
        assert evaluation.score == pytest.approx(train_serially(task, job, settings_of()).score, rel=1e-9)


def test_what_changes_an_adapter_is_another_program() -> None:
    case = BY_NAME["language model"]

    def model(configuration: Configuration) -> nn.Module:
        return with_adapters(
            gpt2(),
            r=int(configuration["rank"]),
            lora_alpha=int(configuration["alpha"]),
            target_modules=["c_attn"],
            fan_in_fan_out=True,
        ).double()

    task = case.task(model=model, defaults={**case.task().defaults, "rank": 2, "alpha": 4})
    programs = Programs(task, root_seed=0)
    plain = [configuration_of(number, rank=2, alpha=4) for number in range(2)]
    assert programs.of(plain[0]) == programs.of(plain[1])
    assert programs.of(plain[0]) != programs.of(configuration_of(0, rank=4, alpha=4))
    assert programs.of(plain[0]) != programs.of(configuration_of(0, rank=2, alpha=8))


def test_frozen_layers_of_a_tied_base_are_shared_though_its_weight_is_used_again() -> None:
    case = BY_NAME["language model"]
    jobs = jobs_of([configuration_of(number) for number in range(2)], layers=1, samples=8)
    population = Population(case.task(), jobs, settings_of(), engine=Engine.SHARED)
    head, embedding = (
        population._living[0].session.model.get_parameter(f"base_model.model.{name}.weight")
        for name in ("lm_head", "transformer.wte")
    )
    assert head is embedding
    assert not head.requires_grad
    assert torch.is_tensor(head)
