"""LoRA beside a base that is whole, rounded or streamed: the same numbers, one base, and the memory that is predicted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import TensorDataset
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from frostline.costs.capacity import Capacity
from frostline.costs.predicted.allocations import LiveBytes
from frostline.layers import freezing_of
from frostline.layers.weights.kept_parameter import KeptParameter
from frostline.populations.engines import Engine
from frostline.populations.population import Population
from frostline.records import Configuration
from frostline.tasks.models.gpt import next_token_loss
from frostline.tasks.models.lora import with_lora
from frostline.training.serial import train_serially
from frostline.training.supervised.supervised_task import SupervisedTask
from tests.populations.cases import DEFAULTS, SPACE, configuration_of, jobs_of
from tests.training.cases import settings_of

# The embedding and the head have more than four MiB, so that they are not made when the model is built.
VOCABULARY = 5_000
WAYS: dict[str, dict[str, Any]] = {
    "whole": {},
    "rounded": {"frozen_dtype": "bfloat16"},
    "streamed": {"frozen_placement": "stream"},
    "rounded and streamed": {"frozen_dtype": "bfloat16", "frozen_placement": "stream"},
}


def neox(width: int, blocks: int) -> GPTNeoXForCausalLM:
    return GPTNeoXForCausalLM(
        GPTNeoXConfig(
            vocab_size=VOCABULARY,
            hidden_size=width,
            num_hidden_layers=blocks,
            num_attention_heads=4,
            intermediate_size=4 * width,
            max_position_embeddings=32,
            use_cache=False,
        )
    )


def written(folder: Path, *, width: int, blocks: int) -> Path:
    """A checkpoint in bfloat16, in two files."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        state = {name: tensor.bfloat16() for name, tensor in neox(width, blocks).state_dict().items()}
    places = {name: f"model-{number % 2}.safetensors" for number, name in enumerate(state)}
    for file in sorted(set(places.values())):
        save_file({name: state[name] for name, place in places.items() if place == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return folder


def task_of(checkpoint: Path, *, width: int, blocks: int, **options: Any) -> SupervisedTask:
    def build(_configuration: Configuration) -> nn.Module:
        targets = {"target_modules": "query_key_value,attention.dense", "lora_rank": 2}
        return with_lora(neox(width, blocks), Configuration(number=0, hyperparameters=targets))

    tokens = torch.randint(0, VOCABULARY, (8, 33), generator=torch.Generator().manual_seed(0))
    data = TensorDataset(tokens[:, :-1], tokens[:, 1:])
    return SupervisedTask(
        name="neox",
        model=build,
        training_data=data,
        validation_data=TensorDataset(*data[:2]),
        loss_function=next_token_loss,
        space=SPACE,
        full_samples=1000,
        defaults=DEFAULTS,
        batch_size=2,
        pretrained=checkpoint,
        **options,
    )


def members(number: int, *, samples: int) -> list[Any]:
    return jobs_of(
        [configuration_of(each, learning_rate=1e-2 * (each + 1)) for each in range(number)],
        layers=2,
        samples=samples,
    )


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("small"), width=256, blocks=4)


def test_a_base_of_bfloat16_gives_the_same_numbers_however_it_is_kept(small: Path) -> None:
    jobs = members(2, samples=4)
    alone = train_serially(task_of(small, width=256, blocks=4), jobs[0], settings_of())
    for options in WAYS.values():
        population = Population(
            task_of(small, width=256, blocks=4, **options), jobs, settings_of(), engine=Engine.SHARED
        )
        scores = {each.number: each.score for each in population.run()}
        assert scores[0] == pytest.approx(alone.score, rel=1e-6)
        if not options:
            expected = scores
        # What is frozen was rounded before, and what is trained is whole: to the last bit.
        assert scores == expected
        assert len(set(scores.values())) == 2


@pytest.mark.parametrize("way", WAYS)
def test_members_never_copy_the_base(small: Path, way: str) -> None:
    task = task_of(small, width=256, blocks=4, **WAYS[way])
    population = Population(task, members(3, samples=8), settings_of(), engine=Engine.SHARED)
    first, *others = (course.session.model for course in population._living)
    named = dict(first.named_parameters())
    assert any(isinstance(each, KeptParameter) for each in named.values()) == bool(WAYS[way])
    for other in others:
        for name, parameter in other.named_parameters():
            is_own = parameter.data_ptr() != named[name].data_ptr()
            assert is_own == ("lora_" in name and parameter.requires_grad), name


@pytest.mark.parametrize("way", WAYS)
def test_what_is_predicted_of_a_population_is_what_its_tensors_take(small: Path, way: str) -> None:
    task = task_of(small, width=256, blocks=4, **WAYS[way])
    predicted = Capacity(task).together(2, 4)
    population = Population(task, members(4, samples=4), settings_of(), engine=Engine.SHARED)
    sessions = [course.session for course in population._living]
    streamed = freezing_of(sessions[0].model).streamed
    with LiveBytes(ignored=streamed) as live:
        for session in sessions:
            live.watch([*session.model.parameters(), *session.model.buffers()])
        list(population.run())
    assert live.peak == pytest.approx(predicted, rel=0.05)
