"""Models of which some batches, or one of the modes, lead through other frozen layers than the rest."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from frostline import freeze
from frostline.populations.engines import Engine
from frostline.populations.population import Population
from frostline.populations.prefix.cannot_share import CannotShareError
from frostline.populations.prefix.prefix_store import PrefixStore
from frostline.populations.prefix.recorded_outputs import Replay, StandIns
from frostline.training.serial import train_serially
from tests.populations.cases import configuration_of, jobs_of
from tests.populations.test_models_that_change import task_of
from tests.populations.test_population import assert_same, assert_same_as_alone
from tests.training.cases import settings_of

STRAYS = "some batches lead through other frozen layers than the first"
NOT_VALIDATED = "validation computes the frozen layers for every configuration"


class Layered(nn.Module):
    """Six layers. Whatever stands between them is code."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.ModuleList([nn.Sequential(nn.Linear(number, 8), nn.Tanh()) for number in (6, 8, 8, 8)])
        self.last = nn.Sequential(nn.Linear(8, 8), nn.Tanh())
        self.head = nn.Linear(8, 3)


class Forked(Layered):
    """A trained layer runs between frozen ones in some batches."""

    def forward(self, x: Tensor) -> Tensor:
        is_forked = bool(x.mean() > 0)
        x = self.hidden[0](x)
        if is_forked:
            x = self.last(x)
        for layer in self.hidden[1:]:
            x = layer(x)
        return self.head(x)


class LeftOut(Layered):
    """A frozen layer is left out in some batches."""

    def forward(self, x: Tensor) -> Tensor:
        is_short = bool(x.mean() > 0)
        for layer in self.hidden[: 2 if is_short else 3]:
            x = layer(x)
        return self.head(self.last(self.hidden[3](x)))


class Unrolled(Layered):
    """A cell runs as often as the batch wants."""

    def forward(self, x: Tensor) -> Tensor:
        times = 2 + int((x[:, 0] > 0).sum()) % 3
        x = self.hidden[0](x)
        for _ in range(times):
            x = self.hidden[1](x)
        for layer in self.hidden[2:]:
            x = layer(x)
        return self.head(self.last(x))


class Dropped(Layered):
    """Layers are left out by lot."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.hidden[0](x)
        for layer in self.hidden[1:]:
            if not (self.training and torch.rand([]) < 0.5):
                x = layer(x)
        return self.head(self.last(x))


class Helped(Layered):
    """A layer is read in training alone."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.hidden[1](self.hidden[0](x))
        beside = self.hidden[3](x) if self.training else 0
        return self.head(self.last(self.hidden[2](x) + beside))


class Refined(Layered):
    """A layer runs once more in validation."""

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.hidden:
            x = layer(x)
        return self.head(self.last(x if self.training else self.hidden[3](x)))


BY_BATCH = [Forked, LeftOut, Unrolled, Dropped]
BY_MODE = [Helped, Refined]


@pytest.mark.parametrize("engine", [Engine.SHARED, Engine.STACKED, Engine.AUTO])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("model", [*BY_BATCH, *BY_MODE])
def test_in_company_they_are_the_same(model: Callable[[], nn.Module], layers: int, engine: Engine) -> None:
    jobs = jobs_of([configuration_of(number) for number in range(3)], layers=layers)
    assert_same_as_alone(task_of(model), jobs, engine=engine)


@pytest.mark.parametrize("model", [*BY_BATCH, *BY_MODE])
def test_so_they_are_with_outputs_kept_and_several_numbers_of_layers(model: Callable[[], nn.Module]) -> None:
    task, store = task_of(model), PrefixStore(training_bytes=2**20, validation_bytes=2**20)
    for layers in ((2, 2), (1, 2, 3)):
        jobs = [jobs_of([configuration_of(number)], layers=each)[0] for number, each in enumerate(layers)]
        try:
            evaluations = list(Population(task, jobs, settings_of(), engine=Engine.SHARED, store=store).run())
        except CannotShareError:
            continue  # they are trained one by one then
        for evaluation in evaluations:
            assert_same(evaluation, train_serially(task, jobs[evaluation.number], settings_of()))


def trained_two(model: Callable[[], nn.Module], caplog: pytest.LogCaptureFixture) -> str:
    """Return what two configurations' training together says."""
    caplog.set_level("INFO")
    jobs = jobs_of([configuration_of(number) for number in range(2)], layers=2)
    list(Population(task_of(model), jobs, settings_of(), engine=Engine.SHARED).run())
    return caplog.text


@pytest.mark.parametrize("model", BY_BATCH)
def test_batches_on_another_path_are_computed_by_every_configuration(
    model: Callable[[], nn.Module], caplog: pytest.LogCaptureFixture
) -> None:
    assert trained_two(model, caplog).count(STRAYS) == 1


@pytest.mark.parametrize("model", BY_MODE)
def test_validation_is_shared_on_a_path_of_its_own(
    model: Callable[[], nn.Module], caplog: pytest.LogCaptureFixture
) -> None:
    said = trained_two(model, caplog)
    assert STRAYS not in said
    assert NOT_VALIDATED not in said


def test_when_those_with_most_frozen_layers_have_ended_the_others_go_on_sharing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    jobs = [jobs_of([configuration_of(number)], layers=1 + number)[0] for number in range(3)]
    jobs[0] = dataclasses.replace(jobs[0], fidelity=dataclasses.replace(jobs[0].fidelity, samples=24))
    evaluations = list(Population(task_of(Refined), jobs, settings_of(), engine=Engine.SHARED).run())
    assert [each.cost.samples for each in evaluations] == [24, 80, 80]
    assert STRAYS not in caplog.text


@pytest.mark.parametrize(
    ("model", "first", "then"),
    [(Forked, -1.0, 1.0), (LeftOut, -1.0, 1.0), (LeftOut, 1.0, -1.0), (Unrolled, -1.0, 1.0)],
)
def test_what_was_recorded_on_one_path_is_not_handed_back_on_another(
    model: Callable[[], Layered], first: float, then: float
) -> None:
    layered = model()
    replay = Replay(freeze(layered, trainable_layers=2), StandIns())
    replay.load(replay.record(lambda: layered(torch.full((4, 6), first))))
    layered(torch.full((4, 6), first))
    replay.load(replay.record(lambda: layered(torch.full((4, 6), first))))
    with pytest.raises(CannotShareError, match=r"^some batches lead through other frozen layers than others"):
        layered(torch.full((4, 6), then))
    replay.remove()
    layered(torch.full((4, 6), then))
