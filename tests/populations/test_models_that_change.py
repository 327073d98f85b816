"""Models that change as they are run, beside their weights: alone, in company and gone on with, they are the same."""

from __future__ import annotations

import dataclasses
import warnings
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from frostline.layers.cutting.execution import undisturbed
from frostline.populations.engines import Engine
from frostline.populations.population import Population
from frostline.populations.prefix.cannot_share import CannotShareError
from frostline.records import Fidelity
from frostline.training.serial import train_serially
from frostline.training.session import begin_session
from frostline.training.supervised.supervised_task import SupervisedTask
from tests.populations.cases import Case, configuration_of, jobs_of, mlp, vectors
from tests.populations.test_population import assert_same_as_alone
from tests.training.cases import settings_of


class Annealed(nn.Module):
    """Counts its steps in Python, as people do for a temperature or the weight of a term."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = mlp()
        self.num_steps = 0

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.num_steps += 1
        return self.layers(x) * (1 + self.num_steps / 10)


class Centred(nn.Module):
    """Takes the mean of what it has seen off its inputs; it is in no state dict."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = mlp()
        self.register_buffer("mean", torch.zeros(6), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        mean = self.get_buffer("mean")
        if self.training:
            mean.mul_(0.9).add_(x.mean(0), alpha=0.1)
        return self.layers(x - mean)


class Replaced(Centred):
    """The same, but another tensor at every step."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean = 0.9 * self.get_buffer("mean") + 0.1 * x.mean(0)
        return self.layers(x - self.get_buffer("mean"))


class Unregistered(nn.Module):
    """Keeps the mean in a tensor that is no buffer, a list and a queue of what came."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = mlp()
        self.mean = torch.zeros(6, dtype=torch.float64)
        self.scales = [1.0]
        self.sizes: deque[int] = deque(maxlen=3)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.mean(0)
            self.scales.append(1.05 * self.scales[-1])
            self.sizes.append(len(self.scales))
        return self.layers((x - self.mean) * self.scales[-1] * (1 + sum(self.sizes) / 100))


class Listed(nn.Module):
    """Keeps its factors in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = mlp()
        self.scales = [1.0]

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.scales.append(1.05 * self.scales[-1])
        return self.layers(x * self.scales[-1])


class Tabled(nn.Module):
    """Keeps the mean in a large table that is in no state dict."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = mlp()
        self.register_buffer("table", torch.zeros(3000, 6), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        table = self.get_buffer("table")
        if self.training:
            table.mul_(0.9).add_(x.mean(0), alpha=0.1)
        return self.layers(x - table[0])


class WithTeacher(nn.Module):
    """Its outputs lean on a mean of its weights, which requires no gradient and moves by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.student = mlp()
        self.teacher = mlp().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            for mean, weight in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
                mean.data = 0.9 * mean.data + 0.1 * weight.data
        return self.teacher(x).detach() + self.student(x)


class WithHooks(nn.Module):
    """Halves a gradient, and keeps what it saw in a function that refers to itself."""

    def __init__(self, *, of_parameter: bool) -> None:
        super().__init__()
        self.layers, self.seen = mlp(), 0.0
        if of_parameter:
            self.layers[1][0].weight.register_hook(lambda gradient: gradient / 2)
        else:
            self.layers[1].register_forward_hook(lambda *_: setattr(self, "seen", self.seen + 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x) * (1 + self.seen / 10)


MODELS = {"num_steps": Annealed, "mean": Centred, "scales": Listed, "table": Tabled}
EACH = pytest.mark.parametrize("model", [Annealed, Centred, Replaced, Unregistered, Tabled])


def task_of(model: Callable[[], nn.Module]) -> SupervisedTask:
    case = Case(name="changing", model=model, data=vectors, loss=nn.functional.cross_entropy, layers=(5,))
    return case.task()


@EACH
def test_a_training_that_goes_on_is_the_one_that_never_ended(
    model: Callable[[], nn.Module], tmp_path: Path
) -> None:
    task, settings = task_of(model), settings_of(checkpoints=tmp_path, horizon="full")
    [lower] = jobs_of([configuration_of(0)], layers=5, samples=24)
    higher = dataclasses.replace(
        lower, rung=1, fidelity=Fidelity(trainable_layers=5, samples=48), continued_from=(lower.fidelity,)
    )
    train_serially(task, lower, settings)
    resumed = train_serially(task, higher, settings)
    assert resumed.cost.samples == 24
    straight = train_serially(task, higher, settings_of(horizon="full"))
    assert [point.score for point in resumed.curve] == [point.score for point in straight.curve]


@pytest.mark.parametrize("layers", [4, 10])
def test_so_is_one_with_a_teacher(layers: int, tmp_path: Path) -> None:
    task, settings = task_of(WithTeacher), settings_of(checkpoints=tmp_path, horizon="full")
    [lower] = jobs_of([configuration_of(0)], layers=layers, samples=24)
    higher = dataclasses.replace(
        lower, rung=1, fidelity=Fidelity(trainable_layers=layers, samples=48), continued_from=(lower.fidelity,)
    )
    train_serially(task, lower, settings)
    resumed = train_serially(task, higher, settings)
    straight = train_serially(task, higher, settings_of(horizon="full"))
    assert resumed.cost.samples == 24
    assert [point.score for point in resumed.curve] == [point.score for point in straight.curve]


@EACH
@pytest.mark.parametrize("engine", [Engine.SHARED, Engine.STACKED, Engine.AUTO])
def test_a_population_follows_its_serial_twins(model: Callable[[], nn.Module], engine: Engine) -> None:
    jobs = jobs_of([configuration_of(number) for number in range(3)], layers=5)
    assert_same_as_alone(task_of(model), jobs, engine=engine)


def unscaled() -> nn.Module:
    """Its normalisations hold no parameters, and lie between the layers."""
    hidden = [(nn.Linear(number, 8), nn.BatchNorm1d(8, affine=False), nn.Tanh()) for number in (6, 8, 8)]
    return nn.Sequential(*(each for layer in hidden for each in layer), nn.Linear(8, 3))


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("engine", [Engine.SHARED, Engine.STACKED])
def test_normalisations_without_parameters_do_not_keep_frozen_layers_from_being_shared(
    layers: int, engine: Engine
) -> None:
    jobs = jobs_of([configuration_of(number) for number in range(3)], layers=layers)
    assert_same_as_alone(task_of(unscaled), jobs, engine=engine)


class Skipping(nn.Module):
    """Its last layers read outputs of several before, and keep running statistics of what they read."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList([nn.Sequential(nn.Linear(number, 8), nn.Tanh()) for number in (6, 8, 8)])
        self.up = nn.ModuleList([nn.Sequential(nn.Linear(16, 8), nn.BatchNorm1d(8)) for _ in range(2)])
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for down in self.down:
            x = down(x)
            skips.append(x)
        for up, skip in zip(self.up, reversed(skips[:-1]), strict=True):
            x = up(torch.cat([x, skip], dim=1))
        return self.head(x)


def test_what_is_tried_out_leaves_no_trace_in_running_statistics(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    jobs = jobs_of([configuration_of(number) for number in range(3)], layers=3)
    assert_same_as_alone(task_of(Skipping), jobs, engine=Engine.SHARED)
    assert "validation computes the frozen layers for every configuration" not in caplog.text


class Block(nn.Module):
    def __init__(self, common: nn.Module) -> None:
        super().__init__()
        self.own, self.common = nn.Linear(6, 6), common

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.tanh(self.own(x) + self.common(x))


class WithAPartInCommon(nn.Module):
    """Its blocks call a module that is a layer of the model too."""

    def __init__(self) -> None:
        super().__init__()
        self.common = nn.Linear(6, 6)
        self.blocks = nn.ModuleList([Block(self.common) for _ in range(3)])
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.common(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def test_what_frozen_layers_have_in_common_does_not_keep_them_from_being_shared() -> None:
    jobs = jobs_of([configuration_of(number) for number in range(3)], layers=1)
    assert_same_as_alone(task_of(WithAPartInCommon), jobs, engine=Engine.SHARED)


def spectral_normed() -> nn.Module:
    """Each layer iterates towards its largest singular value in every pass of a training."""
    hidden = [
        nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(number, 8)), nn.Tanh())
        for number in (6, 8, 8)
    ]
    return nn.Sequential(*hidden, nn.Linear(8, 3))


@pytest.mark.parametrize("layers", [2, 3])
def test_trained_layers_that_change_in_every_pass_do_not_keep_frozen_ones_from_being_shared(layers: int) -> None:
    jobs = jobs_of([configuration_of(number) for number in range(3)], layers=layers)
    assert_same_as_alone(task_of(spectral_normed), jobs, engine=Engine.SHARED)


def weight_normed() -> nn.Module:
    """Keeps each weight as a plain attribute, computed anew in every pass."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        hidden = [nn.Sequential(nn.utils.weight_norm(nn.Linear(number, 8)), nn.Tanh()) for number in (6, 8, 8)]
    return nn.Sequential(*hidden, nn.Linear(8, 3))


@pytest.mark.parametrize("layers", [2, 4])
def test_weights_that_are_computed_in_every_pass_do_not_keep_models_from_being_copied(layers: int) -> None:
    jobs = jobs_of([configuration_of(number) for number in range(3)], layers=layers)
    assert_same_as_alone(task_of(weight_normed), jobs, engine=Engine.SHARED)


@pytest.mark.parametrize("changed", MODELS)
def test_who_changes_before_its_frozen_layers_shares_none(changed: str) -> None:
    jobs = jobs_of([configuration_of(number) for number in range(2)], layers=2)
    with pytest.raises(
        CannotShareError, match=rf"^the model changes {changed} on its way through the frozen layers"
    ):
        Population(task_of(MODELS[changed]), jobs, settings_of())


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (WithTeacher, r"the model changes teacher\.0\.0\.weight itself, which its copies have in common"),
        (partial(WithHooks, of_parameter=True), r"layers\.1\.0\.weight has a hook of its own, so that a copy"),
        (
            partial(WithHooks, of_parameter=False),
            r"WithHooks.*<lambda> of layers\.1 refers to a part of the model, so",
        ),
    ],
    ids=["teacher", "hook of a parameter", "function"],
)
def test_models_whose_copies_would_be_others_are_trained_alone(
    model: Callable[[], nn.Module], reason: str
) -> None:
    # The teacher's are layers, too.
    jobs = jobs_of([configuration_of(number) for number in range(2)], layers=10 if model is WithTeacher else 5)
    with pytest.raises(CannotShareError, match=rf"^{reason}"):
        list(Population(task_of(model), jobs, settings_of(), engine=Engine.SHARED).run())


def test_what_is_only_looked_at_is_put_back() -> None:
    model = nn.Sequential(*(kind().double() for kind in (Annealed, Centred, Unregistered)))
    scales, sizes = model[2].scales, model[2].sizes
    with undisturbed(model):
        for each in model:
            each(torch.ones(2, 6, dtype=torch.float64))
        assert model[0].num_steps == 1
        assert len(scales) == 2
    assert model[0].num_steps == 0
    assert not model[1].get_buffer("mean").any()
    assert not model[2].mean.any()
    # They are the objects that they were: hooks may hold them too.
    assert (model[2].scales, model[2].sizes) == ([1.0], deque())
    assert model[2].scales is scales
    assert model[2].sizes is sizes


def test_a_checkpoint_holds_no_more_of_a_model_that_does_not_change() -> None:
    def contents_of(model: Callable[[], nn.Module]) -> set[str]:
        task = task_of(model)
        session = begin_session(
            task, configuration_of(0), trainable_layers=5, device_plan=settings_of().device_plan, root_seed=0
        )
        batches = task.training_batches(configuration_of(0), seed=0, skip_samples=0)
        session.step(next(batches), rate_factor=1.0)
        return {*session.checkpoint().contents()}

    assert contents_of(Annealed) - contents_of(mlp) == {"unsaved"}
