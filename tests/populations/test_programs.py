from __future__ import annotations

import copy
import pickle
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import RandomSampler
from torch import nn

from frostline.errors import HyperparameterError
from frostline.populations.programs import ABSENT, Program, Programs
from frostline.protocols import Batch, Task
from frostline.records import Configuration, Value
from frostline.search.spaces.space import SearchSpace
from frostline.seeding import derive_seed
from frostline.tasks.builtin.digits_resnet import digits_resnet
from frostline.tasks.builtin.python_source_gpt import python_source_gpt
from frostline.training.supervised.hyperparameter_reads import (
    CompletedHyperparameters,
    Reads,
    WatchedHyperparameters,
)
from frostline.training.supervised.supervised_task import SupervisedTask
from tests.training.cases import SPACE, configured, perceptron, regression_task

FLOAT = FloatDistribution(0.0, 1.0)
WHOLE = IntDistribution(1, 64)
Model = Callable[[Configuration], nn.Module]


def searching(model: Model = perceptron, **distributions: Any) -> SupervisedTask:
    """A task that searches these too; by default its model reads nothing."""
    defaults = {
        name: one.choices[0] if hasattr(one, "choices") else one.low for name, one in distributions.items()
    }
    space = SearchSpace(distributions={**SPACE.distributions, **distributions})
    return regression_task(model=model, space=space, defaults={"learning_rate": 0.01, **defaults})


def partition(task: Task, *configurations: Configuration) -> list[int]:
    """For every configuration the place of its program, in the order in which they first come."""
    programs = Programs(task, root_seed=7)
    found = [programs.of(configuration) for configuration in configurations]
    return [list(dict.fromkeys(found)).index(program) for program in found]


def sized(configuration: Configuration) -> nn.Module:
    width = configuration["width"]
    assert isinstance(width, int)
    return nn.Sequential(nn.Linear(5, width), nn.Linear(width, 1)).double()


def test_one_that_cannot_be_built_has_a_program_of_its_own() -> None:
    def divided(configuration: Configuration) -> nn.Module:
        if configuration["width"] % 2:
            raise ValueError("heads do not divide the width")
        return sized(configuration)

    task = searching(divided, width=WHOLE)
    widths = [4, 3, 4, 3, 5]
    assert partition(task, *(configured(k, width=width) for k, width in enumerate(widths))) == [0, 1, 0, 2, 3]


def scaled(configuration: Configuration) -> nn.Module:
    model = perceptron(configuration)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(float(configuration["init_scale"]))  # type: ignore[arg-type]
    return model


def sized_if_deep(configuration: Configuration) -> nn.Module:
    return sized(configuration) if configuration["deep"] else perceptron(configuration)


def copied(configuration: Configuration) -> nn.Module:
    dict(configuration)
    return perceptron(configuration)


def unpacked(configuration: Configuration) -> nn.Module:
    dict(**configuration)
    return perceptron(configuration)


class Keeping(nn.Module):
    """A model that reads its hyperparameters while it runs."""

    def __init__(self, configuration: Configuration) -> None:
        super().__init__()
        self.linear = nn.Linear(5, 1).double()
        self.configuration = configuration

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.linear(inputs) * self.configuration["temperature"]
        return result


@dataclass
class Wrapped:
    """A task whose data read what the functions read; anything else is the task's own."""

    task: SupervisedTask
    of_training: Callable[[Configuration], object] = len
    of_validation: Callable[[Configuration], object] = len
    built: int = 0

    def build_model(self, configuration: Configuration) -> nn.Module:
        self.built += 1
        return self.task.build_model(configuration)

    def training_batches(self, configuration: Configuration, *, seed: int, skip_samples: int) -> Iterator[Batch]:
        self.of_training(configuration)
        return self.task.training_batches(configuration, seed=seed, skip_samples=skip_samples)

    def validation_batches(self, configuration: Configuration) -> Iterable[Batch]:
        self.of_validation(configuration)
        return self.task.validation_batches(configuration)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.task, name)


def wrapped(task: SupervisedTask, **changes: Any) -> Any:
    nothing: dict[str, Any] = {"of_training": id, "of_validation": id}
    return Wrapped(task, **{**nothing, **changes})


def test_what_only_the_optimizer_and_the_schedule_read_does_not_split() -> None:
    task = regression_task(defaults={"learning_rate": 0.01, "weight_decay": 0.1})
    changes: list[dict[str, Any]] = [
        {},
        {"learning_rate": 0.5},
        {"weight_decay": 0.0},
        {"optimizer": "SGD", "momentum": 0.9},
        {"optimizer": "Adam"},
        {"gradient_clip_norm": 1.0},
        {"warmup_fraction": 0.1, "cooldown_fraction": 0.2},
    ]
    task = replace(task, also_read=("warmup_fraction", "cooldown_fraction"))
    configurations = [configured(number, **change) for number, change in enumerate(changes)]
    assert partition(task, *configurations) == [0] * len(changes)
    assert Programs(task, root_seed=7).of(configurations[1]).hyperparameters == (("batch_size", ABSENT),)


def test_the_batch_size_splits() -> None:
    task = searching(batch_size=WHOLE)
    sizes = [4, 8, 4, 8, 2]
    assert partition(task, *(configured(batch_size=size) for size in sizes)) == [0, 1, 0, 1, 2]
    # The task's own batch size is not known to be 8: who does not say it is apart.
    assert partition(regression_task(), configured(), configured(batch_size=8), configured()) == [0, 1, 0]


def test_who_learns_from_other_batches_is_validated_alike() -> None:
    task = wrapped(searching(batch_size=WHOLE), of_validation=lambda configuration: configuration.get("crop"))
    task.task = replace(task.task, also_read=("crop",))
    programs = Programs(task, root_seed=0)
    four, eight, cropped = (
        programs.of(configured(**change))
        for change in (
            {"batch_size": 4, "crop": 1},
            {"batch_size": 8, "crop": 1},
            {"batch_size": 4, "crop": 2},
        )
    )
    assert four != eight
    assert four.validated == eight.validated != cropped.validated


@pytest.mark.parametrize(
    ("model", "name", "distribution", "values"),
    [(sized, "width", WHOLE, (3, 4)), (scaled, "init_scale", FLOAT, (0.5, 0.25))],
)
def test_what_the_model_and_its_initialisation_read_splits(
    model: Model, name: str, distribution: Any, values: tuple[Value, Value]
) -> None:
    task = searching(model, **{name: distribution})
    first, second = values
    choices: list[dict[str, Any]] = [
        {name: value, "learning_rate": rate} for value, rate in ((first, 0.1), (second, 0.1), (first, 0.2))
    ]
    configurations = [configured(**choice) for choice in choices]
    assert partition(task, *configurations) == [0, 1, 0]
    program = Programs(task, root_seed=7).of(configurations[0])
    assert dict(program.hyperparameters) == {"batch_size": ABSENT, name: first}
    assert program.names is None


def test_what_is_read_under_a_condition_splits_under_it() -> None:
    task = searching(sized_if_deep, deep=CategoricalDistribution((True, False)), width=WHOLE)
    choices = [(False, 3), (True, 3), (False, 4), (True, 4), (True, 3), (False, 5)]
    configurations = [configured(deep=deep, width=width) for deep, width in choices]
    assert partition(task, *configurations) == [0, 1, 0, 2, 1, 0]
    assert partition(task, *reversed(configurations)) == [0, 1, 2, 0, 1, 0]


@pytest.mark.parametrize("model", [copied, unpacked])
def test_a_model_that_reads_everything_splits_everything(model: Model) -> None:
    task = searching(model, weight_decay=FLOAT)
    changes: list[dict[str, Any]] = [
        {"weight_decay": 0.1},
        {"weight_decay": 0.2},
        {"weight_decay": 0.1, "beta1": 0.9},
    ]
    configurations = [configured(**change) for change in (*changes, changes[0])]
    assert partition(task, *configurations) == [0, 1, 2, 0]


def test_whoever_goes_through_the_names_reads_their_set_and_not_their_values() -> None:
    def listing(configuration: Configuration) -> nn.Module:
        list(configuration)
        return perceptron(configuration)

    task = regression_task(model=listing)
    changes: list[dict[str, Any]] = [{}, {"learning_rate": 0.5}, {"beta1": 0.9}, {"beta1": 0.8}]
    assert partition(task, *(configured(**change) for change in changes)) == [0, 0, 1, 1]
    assert Programs(task, root_seed=7).of(configured(beta1=0.9)).names == ("beta1", "learning_rate")


@pytest.mark.parametrize(
    "ask", [lambda configuration: configuration.get("beta1", 0.9), lambda configuration: "beta1" in configuration]
)
def test_whether_a_name_is_there_is_part_of_the_program(ask: Callable[[Configuration], object]) -> None:
    def asking(configuration: Configuration) -> nn.Module:
        ask(configuration)
        return perceptron(configuration)

    task = regression_task(model=asking)
    assert partition(task, configured(), configured(beta1=0.9), configured(learning_rate=0.5)) == [0, 1, 0]
    assert ("beta1", ABSENT) in Programs(task, root_seed=7).of(configured()).hyperparameters


def test_a_default_outside_the_space_is_asked_for_and_overridden() -> None:
    task = regression_task(model=sized, defaults={"learning_rate": 0.01, "width": 6})
    configurations = [configured(), configured(width=5), configured(learning_rate=0.5), configured(width=5)]
    assert partition(task, *configurations) == [0, 1, 0, 1]


def test_a_model_that_keeps_the_configuration_reads_everything() -> None:
    task = searching(Keeping, temperature=FLOAT)
    temperatures = (0.1, 0.2, 0.1)
    assert partition(task, *(configured(temperature=one) for one in temperatures)) == [0, 1, 0]


def test_a_cycle_that_is_left_over_keeps_nothing() -> None:
    class Left:
        def __init__(self, configuration: Configuration) -> None:
            self.configuration = configuration
            self.itself = self

    def littering(configuration: Configuration) -> nn.Module:
        Left(configuration)
        return perceptron(configuration)

    assert partition(regression_task(model=littering), configured(), configured(learning_rate=0.5)) == [0, 0]


@pytest.mark.parametrize("which", ["of_training", "of_validation"])
def test_what_the_data_read_splits(which: str) -> None:
    task = wrapped(regression_task(), **{which: lambda configuration: configuration.get("crop")})
    configurations = [configured(crop=1), configured(crop=2), configured(crop=1, learning_rate=0.5)]
    task.task = replace(task.task, also_read=("crop",))
    assert partition(task, *configurations) == [0, 1, 0]
    assert partition(wrapped(task.task), *configurations) == [0, 0, 0]


def test_a_model_is_built_once_for_every_program() -> None:
    task = wrapped(searching(sized, width=WHOLE, batch_size=WHOLE))
    programs = Programs(task, root_seed=7)
    draw = random.Random(0)
    configurations = [
        configured(
            number, width=draw.choice((2, 3)), batch_size=draw.choice((4, 8)), learning_rate=draw.uniform(0.1, 1.0)
        )
        for number in range(50)
    ]
    found = {programs.of(configuration) for configuration in configurations}
    assert task.built == len(found) == 4


class Seven(int):
    """A number that looks like a plain one."""


@pytest.mark.parametrize(
    "values",
    [(1, 1.0, True, "1"), (7, Seven(7)), (float("nan"), float("inf"), "nan", None), (0.0, -0.0), ([1], [2], (1,))],
)
def test_values_are_told_apart_by_type_and_text(values: tuple[Any, ...]) -> None:
    def reading(configuration: Configuration) -> nn.Module:
        configuration.get("momentum")
        return perceptron(configuration)

    task = replace(regression_task(model=reading), optimizer=torch.optim.SGD, also_read=("momentum",))
    configurations = [configured(momentum=value) for value in values]
    assert partition(task, *configurations, *copy.deepcopy(configurations)) == [*range(len(values))] * 2


def test_programs_are_equal_over_different_finders() -> None:
    def program(**changes: Any) -> Program:
        return Programs(searching(sized, width=WHOLE), root_seed=7).of(configured(**changes))

    assert program(width=3) == program(width=3, learning_rate=0.5)
    assert hash(program(width=3)) == hash(program(width=3, learning_rate=0.5))
    assert program(width=3) != program(width=4)
    assert program(width=3) != "a program"


def test_the_model_is_built_with_the_initialisation_that_a_session_begins_with() -> None:
    drawn: list[torch.Tensor] = []

    def noting(configuration: Configuration) -> nn.Module:
        drawn.append(torch.rand(3))
        return perceptron(configuration)

    torch.manual_seed(5)
    state = torch.get_rng_state()
    Programs(regression_task(model=noting), root_seed=7).of(configured())
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(derive_seed(7, "initialisation"))
    assert torch.equal(drawn[0], torch.rand(3))


def test_what_the_task_refuses_is_raised_every_time() -> None:
    programs = Programs(searching(batch_size=WHOLE), root_seed=7)
    for _ in range(2):
        with pytest.raises(HyperparameterError, match=r"batch_size is 2\.5"):
            programs.of(configured(batch_size=2.5))
    with pytest.raises(HyperparameterError, match="widht: neither"):
        programs.of(configured(widht=3))


def drawn_from(space: SearchSpace, count: int) -> list[Configuration]:
    sampler = RandomSampler(seed=0)
    return [
        Configuration(
            number=number,
            hyperparameters={
                name: sampler.sample_independent(None, None, name, one)  # type: ignore[arg-type]
                for name, one in space.distributions.items()
            },
        )
        for number in range(count)
    ]


@pytest.mark.parametrize(
    "build",
    [
        lambda: python_source_gpt(
            num_blocks=2, width=48, full_tokens=20 * 512, batch_size=4, corpus_bytes=300_000
        ),
        lambda: digits_resnet(widths=(4, 4)),
    ],
    ids=["python-source-gpt", "digits-resnet"],
)
def test_a_built_in_space_is_one_program(build: Callable[[], SupervisedTask]) -> None:
    task = build()
    configurations = drawn_from(task.space, 20)
    assert len({configuration["learning_rate"] for configuration in configurations}) == 20
    assert partition(task, *configurations) == [0] * 20


def test_the_views_are_mappings_like_the_dictionary_that_they_stand_for() -> None:
    values, others = {"width": 3, "depth": 2}, {"rate": 0.5, "width": 9}
    expected = {**others, **values}
    completed = CompletedHyperparameters(values, others=others)
    assert dict(completed) == completed == expected
    assert (list(completed), len(completed), repr(completed)) == (list(expected), 3, repr(expected))
    assert completed.get("missing", 1) == 1
    assert "missing" not in completed


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda watched: pickle.loads(pickle.dumps(watched)), repr]
)
def test_a_copy_that_nobody_watches_has_read_everything(duplicate: Callable[[Any], object]) -> None:
    reads = Reads()
    watched = WatchedHyperparameters({"width": 3, "depth": 2}, reads=reads)
    assert duplicate(watched) in ({"width": 3, "depth": 2}, "{'width': 3, 'depth': 2}")
    assert (reads.names, reads.all_names) == ({"width", "depth"}, True)
