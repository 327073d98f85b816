from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest
import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from torch import Tensor, nn
from torch.utils.data import Subset, TensorDataset

from frostline.errors import HyperparameterError, OptionError, TaskError
from frostline.protocols import Task
from frostline.records import Configuration, Status
from frostline.search.spaces.space import SearchSpace
from frostline.training.serial import train_serially
from frostline.training.steps.schedules import WarmupCooldownSchedule
from frostline.training.supervised.supervised_task import SupervisedTask
from tests import tiny_task
from tests.training.cases import (
    SPACE,
    configured,
    job_of,
    noisy_network,
    perceptron,
    regression_data,
    regression_task,
    settings_of,
)

FLOAT = FloatDistribution(0.0, 1.0)


def searched(**distributions: Any) -> dict[str, Any]:
    """The fields of a task that searches these as well; their defaults are in the middle, or the first choice."""
    defaults: dict[str, Any] = {"learning_rate": 0.01}
    for name, distribution in distributions.items():
        choices = getattr(distribution, "choices", None)
        defaults[name] = choices[0] if choices else distribution.low
    space = SearchSpace(distributions={**SPACE.distributions, **distributions})
    return {"space": space, "defaults": defaults}


def test_it_is_a_task() -> None:
    task: Task = regression_task()
    assert task.split(task.build_model(configured())).num_layers == 3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"training_data": TensorDataset(torch.zeros(0, 5), torch.zeros(0, 1))},
            "training set of regression is empty",
        ),
        ({"validation_data": Subset(regression_data(), [])}, "validation set of regression is empty"),
        ({"full_samples": 7}, "full_samples of regression is 7 examples, less than one batch of 8"),
        ({"samples_per_example": 100}, "full_samples of regression is 160 examples, less than one batch of 800"),
        ({"defaults": {"batch_size": 200, "learning_rate": 1.0}}, "less than one batch of 200"),
        (searched(batch_size=IntDistribution(8, 512)), "less than one batch of 512"),
        ({"batch_size": 0}, "batch_size of regression is 0, but must be at least 1"),
        ({"defaults": {}}, "defaults of regression lack learning_rate"),
        ({"direction": "maximize"}, "its score is the loss: give a score_function"),
        (
            {"optimizer": torch.optim.LBFGS},
            "regression is LBFGS, which computes the loss several times a step: use",
        ),
    ],
)
def test_incomplete_tasks_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(TaskError, match=words) as caught:
        regression_task(**changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("number", [-1, 1.5, True, "two", None])
def test_numbers_of_processes_are_whole(number: Any) -> None:
    with pytest.raises(
        OptionError, match=r"^num_workers of regression is .*, but must be a whole number of at least 0"
    ):
        regression_task(num_workers=number)


def sized_model(configuration: Configuration) -> nn.Module:
    width = configuration.get("width", 4)
    assert isinstance(width, int)
    return nn.Sequential(nn.Linear(5, width), nn.Linear(width, 1)).double()


@pytest.mark.parametrize(
    "changes",
    [
        searched(weight_decay=FLOAT, beta2=FLOAT, epsilon=FLOAT),
        searched(optimizer=CategoricalDistribution(("Adam", "SGD")), momentum=FLOAT, beta2=FLOAT),
        searched(batch_size=IntDistribution(1, 8), gradient_clip_norm=FLOAT),
        searched(warmup_fraction=FLOAT, cooldown_fraction=FLOAT),
        {**searched(width=IntDistribution(2, 8)), "model": sized_model},
        {**searched(depth=IntDistribution(2, 8)), "also_read": ("depth",)},
        {
            **searched(final=FLOAT),
            "schedule": lambda configuration: WarmupCooldownSchedule(cooldown_fraction=configuration["final"]),
        },
    ],
)
def test_hyperparameters_that_somebody_reads_are_accepted(changes: dict[str, Any]) -> None:
    assert regression_task(**changes).fingerprint


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            searched(momentum=FLOAT),
            "momentum: neither the model, the schedule nor the optimizer of regression reads it",
        ),
        (searched(optimizer=CategoricalDistribution(("SGD", "Adagrad")), beta2=FLOAT), "beta2: neither the model"),
        (searched(widht=FLOAT), "widht: .* remove it, or name it in also_read; known: .*learning_rate"),
        (searched(lr=FLOAT), "lr: .*: lr is called learning_rate here"),
        (searched(betas=FLOAT), "betas is called beta1 and beta2 here"),
        ({"defaults": {"learning_rate": 0.1, "dropout": 0.1}}, "dropout: neither"),
    ],
)
def test_a_hyperparameter_that_nobody_reads_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(HyperparameterError, match=words) as caught:
        _ = regression_task(**changes).fingerprint
    assert "\n" not in str(caught.value)


def test_a_configuration_with_a_name_that_nobody_reads_is_refused() -> None:
    with pytest.raises(HyperparameterError, match="wieght_decay: neither"):
        regression_task().build_model(configured(wieght_decay=0.1))
    assert regression_task().build_optimizer([nn.Parameter(torch.zeros(1))], configured(weight_decay=0.25))


def test_defaults_outside_the_space_hold_for_all() -> None:
    defaults = {
        "learning_rate": 0.01,
        "weight_decay": 0.25,
        "gradient_clip_norm": 3.0,
        "optimizer": "SGD",
        "width": 7,
    }
    task = regression_task(defaults=defaults, model=sized_model)
    assert task.fingerprint
    parameters = [nn.Parameter(torch.zeros(1))]
    optimizer = task.build_optimizer(parameters, configured())
    assert type(optimizer) is torch.optim.SGD
    assert optimizer.defaults["weight_decay"] == 0.25
    assert task.build_optimizer(parameters, configured(weight_decay=0.5)).defaults["weight_decay"] == 0.5
    assert task.max_gradient_norm(configured()) == 3.0
    assert task.build_model(configured())[0].out_features == 7


def test_hyperparameters_override_the_fields() -> None:
    task = regression_task(gradient_clip_norm=1.0, optimizer=torch.optim.Adagrad)
    parameters = [nn.Parameter(torch.zeros(1))]
    assert type(task.build_optimizer(parameters, configured())) is torch.optim.Adagrad
    assert type(task.build_optimizer(parameters, configured(optimizer="SGD"))) is torch.optim.SGD
    assert task.max_gradient_norm(configured()) == 1.0
    assert task.max_gradient_norm(configured(gradient_clip_norm=None)) is None
    batch = next(iter(task.training_batches(configured(batch_size=3), seed=0, skip_samples=0)))
    assert task.num_samples(batch) == 3


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("gradient_clip_norm", 0.0, "gradient_clip_norm is 0.0, but must be a number above 0"),
        ("gradient_clip_norm", "big", "gradient_clip_norm is 'big'"),
        ("batch_size", 0, "batch_size is 0, but must be a whole number of examples, at least 1"),
        ("batch_size", 2.5, "batch_size is 2.5, but must be a whole number"),
        ("batch_size", True, "batch_size is True"),
        ("optimizer", "Adamw", "did you mean AdamW"),
    ],
)
def test_impossible_values_are_refused(name: str, value: Any, words: str) -> None:
    task, configuration = regression_task(), configured(**{name: value})
    with pytest.raises(HyperparameterError, match=words):
        train_serially(task, job_of(configuration), settings_of())


class Activated(nn.Module):
    """Its text shows where a function lies in memory."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.linear = nn.Linear(5, 1)
        self.dropout = nn.Dropout(rate)
        self.activation = lambda x: x

    def extra_repr(self) -> str:
        return f"activation={self.activation!r}"


def dropping(rate: float) -> Callable[[Configuration], nn.Module]:
    return lambda _configuration: Activated(rate)


def test_the_fingerprint_does_not_show_addresses() -> None:
    kept = [regression_task(model=dropping(0.1)) for _ in range(3)]
    assert len({task.fingerprint for task in kept}) == 1


def test_a_score_may_be_a_plain_number() -> None:
    def count(outputs: Tensor, targets: Tensor) -> Any:
        return float((outputs > targets).double().mean())

    task = regression_task(score_function=count, direction="maximize")
    evaluation = train_serially(task, job_of(configured()), settings_of())
    assert evaluation.score is not None
    assert 0 <= evaluation.score <= 1


def test_the_fingerprint_changes_with_what_matters_and_with_nothing_else() -> None:
    reference = regression_task().fingerprint
    assert regression_task().fingerprint == reference
    state = torch.get_rng_state()
    changes: list[dict[str, Any]] = [
        {"training_data": regression_data(49)},
        {"validation_data": regression_data(20, seed=2)},
        {"full_samples": 320},
        {"model": noisy_network},
        {"model": lambda configuration: perceptron(configuration).float()},
        {"model": dropping(0.1)},
        {"model": dropping(0.2)},
        {"batch_size": 16},
        {"loss_function": nn.functional.l1_loss},
        {"data_fingerprint": "corpus 1"},
        {"data_fingerprint": "corpus 2"},
        {"defaults": {"learning_rate": 0.02}},
        {"tied": "snapshot"},
    ]
    prints = [regression_task(**change).fingerprint for change in changes]
    assert len({reference, *prints}) == len(changes) + 1
    assert torch.equal(torch.get_rng_state(), state)


def test_how_ties_are_cut_is_in_the_fingerprint_of_a_model_that_has_some() -> None:
    def tied_network(_configuration: Configuration) -> nn.Module:
        model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 8))
        model[2].weight = model[0].weight
        return model

    assert regression_task().fingerprint == regression_task(tied="detach").fingerprint
    prints = [
        regression_task(model=tied_network, tied=tied).fingerprint for tied in ("auto", "detach", "snapshot")
    ]
    assert len(set(prints)) == 3


def test_the_order_of_examples_is_the_same_for_all_batch_sizes() -> None:
    task = regression_task(samples_per_example=1)

    def examples(batch_size: int, skip: int) -> Tensor:
        batches = task.training_batches(configured(batch_size=batch_size), seed=3, skip_samples=skip)
        return torch.cat([inputs for inputs, _ in islice(batches, 120 // batch_size)])

    whole = examples(8, 0)
    assert torch.equal(whole, examples(5, 0))
    assert torch.equal(whole[80:], examples(8, 80)[:40])


def test_samples_count_the_units_of_every_example() -> None:
    task = regression_task(samples_per_example=5, full_samples=800, sample_unit="tokens")
    batches = task.training_batches(configured(), seed=0, skip_samples=40)
    batch = next(batches)
    assert task.num_samples(batch) == 40
    second = list(islice(task.training_batches(configured(), seed=0, skip_samples=0), 2))[1]
    assert torch.equal(batch[0], second[0])
    evaluation = train_serially(task, job_of(configured(), samples=130), settings_of())
    assert evaluation.cost.samples == 120


def test_augmentation_draws_from_the_place_of_the_batch() -> None:
    def shifted(inputs: Tensor, generator: torch.Generator) -> Tensor:
        return inputs + torch.rand(inputs.shape, generator=generator, dtype=inputs.dtype)

    task = regression_task(augment=shifted)
    whole = [inputs for inputs, _ in islice(task.training_batches(configured(), seed=0, skip_samples=0), 4)]
    rest = [inputs for inputs, _ in islice(task.training_batches(configured(), seed=0, skip_samples=16), 2)]
    plain = [
        inputs for inputs, _ in islice(regression_task().training_batches(configured(), seed=0, skip_samples=0), 4)
    ]
    assert torch.equal(whole[2], rest[0])
    assert torch.equal(whole[3], rest[1])
    assert not torch.equal(whole[0] - plain[0], whole[1] - plain[1])


def test_the_score_is_weighted_by_examples() -> None:
    task = regression_task(validation_batch_size=7)  # 7, 7 and 6 of 20
    model = task.build_model(configured())
    inputs, targets = regression_data(20, seed=1).tensors
    with torch.no_grad():
        expected = nn.functional.mse_loss(model(inputs), targets).item()
        assert task.score(model, task.validation_batches(configured())) == pytest.approx(expected, rel=1e-12)


def test_a_score_function_may_be_maximized() -> None:
    def closeness(outputs: Tensor, targets: Tensor) -> Tensor:
        return (-(outputs - targets).abs()).exp().mean()

    task = regression_task(score_function=closeness, direction="maximize", validation_batch_size=20)
    model = task.build_model(configured())
    inputs, targets = regression_data(20, seed=1).tensors
    with torch.no_grad():
        expected = float(closeness(model(inputs), targets))
        assert task.score(model, task.validation_batches(configured())) == pytest.approx(expected, rel=1e-12)


class TwoTowers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Linear(5, 1)
        self.right = nn.Linear(5, 1)

    def forward(self, left: Tensor, *, right: Tensor | None = None, scale: Tensor | None = None) -> Tensor:
        right = left if right is None else right
        result: Tensor = self.left(left) - self.right(right)
        return result if scale is None else result * scale


class Named(torch.utils.data.Dataset[Any]):
    """Inputs that are a mapping, or a tuple."""

    def __init__(self, *, mapping: bool) -> None:
        self.mapping = mapping

    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> Any:
        inputs = torch.full((5,), float(index))
        return ({"left": inputs, "right": -inputs} if self.mapping else (inputs,)), inputs[:1]


@pytest.mark.parametrize("mapping", [True, False])
@pytest.mark.parametrize("layers", [1, 2])
def test_models_take_inputs_by_keyword_or_position(mapping: bool, layers: int) -> None:
    data = Named(mapping=mapping)
    task = regression_task(model=lambda _: TwoTowers(), training_data=data, validation_data=data, batch_size=4)
    evaluation = train_serially(task, job_of(configured(), layers=layers), settings_of())
    assert evaluation.score is not None


def hugging_face_task(**changes: Any) -> SupervisedTask:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        n_layer=2, n_head=2, n_embd=16, vocab_size=24, n_positions=8, bos_token_id=0, eos_token_id=0
    )
    tokens = torch.arange(9).repeat(24, 1) + torch.arange(24)[:, None]
    tokens = tokens % 24

    def next_token_loss(logits: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

    data = TensorDataset(tokens[:, :-1], tokens[:, 1:])
    fields: dict[str, Any] = {
        "name": "counting",
        "model": lambda _: transformers.GPT2LMHeadModel(config),
        "loss_function": next_token_loss,
        "sample_unit": "tokens",
        "samples_per_example": 8,
        "full_samples": 24 * 8 * 20,
    }
    return regression_task(**{**fields, "training_data": data, "validation_data": data, **changes})


def test_a_hugging_face_model_learns_to_count(device: torch.device) -> None:
    task = hugging_face_task()
    settings = settings_of(device)
    assert task.split(task.build_model(configured())).num_layers == 4
    for layers in (2, 4):
        job = job_of(configured(), layers=layers, samples=task.full_samples)
        evaluation = train_serially(task, job, settings)
        assert evaluation.curve[0].score > evaluation.curve[-1].score
        assert evaluation.score is not None
        assert evaluation.score < 3.0  # guessing scores log 24 = 3.18
        assert evaluation.cost.samples == task.full_samples


def test_a_metric_names_the_score_and_changes_nothing_else() -> None:
    assert replace(tiny_task.task, metric="validation loss").fingerprint == tiny_task.task.fingerprint
    with pytest.raises(OptionError, match="metric"):
        replace(tiny_task.task, metric="")


def test_fields_are_the_defaults_of_what_is_searched() -> None:
    space = SearchSpace(
        distributions={
            "batch_size": CategoricalDistribution([16, 32]),
            "optimizer": CategoricalDistribution(["Adam", "AdamW"]),
        }
    )
    task = replace(tiny_task.task, space=space, defaults={"learning_rate": 1e-3})
    assert task.defaults == {"learning_rate": 1e-3, "batch_size": 32, "optimizer": "AdamW"}
    assert tiny_task.task.defaults == {"learning_rate": 1e-3, "optimizer": "Adam"}


def test_a_model_that_compares_examples_with_each_other_is_split() -> None:
    def model(_configuration: Configuration) -> nn.Module:
        norm = nn.BatchNorm1d(8, track_running_stats=False)
        return nn.Sequential(nn.Linear(5, 8), norm, nn.ReLU(), nn.Linear(8, 1)).double()

    evaluation = train_serially(regression_task(model=model), job_of(configured(), layers=1), settings_of())
    assert evaluation.status is Status.FINISHED
