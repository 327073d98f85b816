"""Heads side by side are one layer; other modules that are called with the same tensor are layers by themselves."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from frostline.layers import freeze, split_layers
from frostline.layers.freezing.inspection import inspect_freezing
from frostline.populations.engines import Engine
from frostline.populations.population import Population
from frostline.training.serial import train_serially
from tests.training.cases import configured, job_of, regression_task, settings_of

INPUTS = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))


def two(depth: int = 1, last: int = 1) -> nn.Module:
    """A head, of ``depth`` linear layers."""
    return nn.Sequential(*(nn.Linear(6, 6) for _ in range(depth - 1)), nn.Linear(6, last))


class Heads(nn.Module):
    """A trunk of two layers, and heads on it."""

    def __init__(self, **heads: nn.Module) -> None:
        super().__init__()
        # Registered before the trunk: the order of execution counts.
        for name, head in heads.items():
            self.add_module(name, head)
        self.trunk = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU())
        self.names = [*heads]

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        hidden = self.trunk(inputs)
        return {name: self.get_submodule(name)(hidden) for name in self.names}


class InDictionary(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Linear(5, 6)
        self.heads = nn.ModuleDict({"even": nn.Linear(6, 2), "odd": nn.Linear(6, 1)})

    def forward(self, inputs: Tensor) -> list[Tensor]:
        hidden = self.trunk(inputs)
        return [head(hidden) for head in self.heads.values()]


class WideAndDeep(nn.Module):
    """All there is begins at the inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Linear(5, 1)
        self.deep = nn.Sequential(nn.Linear(5, 6), nn.Linear(6, 1))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.wide(inputs) + self.deep(inputs)  # type: ignore[no-any-return]


class Joining(nn.Module):
    """Two modules beside each other, and one behind both."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.left, self.right, self.head = (nn.Linear(5, 5) for _ in range(4))

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.stem(inputs)
        return self.head(self.left(hidden) + self.right(hidden))  # type: ignore[no-any-return]


class Copied(Heads):
    """Each head has a copy of its own: as good as any other tensor."""

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        hidden = self.trunk(inputs)
        return {name: self.get_submodule(name)(hidden.clone()) for name in self.names}


def layers_of(model: nn.Module) -> list[tuple[str, ...]]:
    return [layer.modules for layer in split_layers(model, example_inputs=INPUTS).layers]


@pytest.mark.parametrize(
    ("model", "heads"),
    [
        (lambda: Heads(one=nn.Linear(6, 1), other=nn.Linear(6, 2)), ("one", "other")),
        (lambda: Heads(one=two(3), other=two(2)), ("one.0", "one.1", "one.2", "other.0", "other.1")),
        (lambda: Heads(a=nn.Linear(6, 1), b=nn.Linear(6, 1), c=two(2)), ("a", "b", "c.0", "c.1")),
        (InDictionary, ("heads.even", "heads.odd")),
    ],
    ids=["two", "of several layers", "three", "in a dictionary"],
)
def test_heads_on_one_tensor_are_one_layer(model: Any, heads: tuple[str, ...]) -> None:
    whole = model()
    assert layers_of(whole)[-1] == heads
    freezing = freeze(whole, trainable_layers=1, example_inputs=INPUTS)
    outputs = whole(INPUTS)
    sum(each.sum() for each in (outputs.values() if isinstance(outputs, dict) else outputs)).backward()
    trained = {name for name, parameter in whole.named_parameters() if parameter.grad is not None}
    assert trained == {f"{head}.{kind}" for head in heads for kind in ("weight", "bias")}
    freezing.restore()


@pytest.mark.parametrize(
    ("model", "layers"),
    [
        (lambda: Heads(one=nn.Linear(6, 1)), [("trunk.0",), ("trunk.2",), ("one",)]),
        (WideAndDeep, [("wide",), ("deep.0",), ("deep.1",)]),
        (Joining, [("stem",), ("left",), ("right",), ("head",)]),
        (lambda: Copied(one=nn.Linear(6, 1), other=nn.Linear(6, 1)), None),
        (lambda: Heads(one=two(4), other=nn.Linear(6, 1)), None),
    ],
    ids=["a single one", "the whole model", "not the last", "of copies", "a long branch"],
)
def test_others_are_layers_by_themselves(model: Any, layers: list[tuple[str, ...]] | None) -> None:
    found = layers_of(model())
    assert all(len(modules) == 1 for modules in found)
    assert layers is None or found == layers


def test_without_inputs_nobody_knows() -> None:
    model = Heads(one=nn.Linear(6, 1), other=nn.Linear(6, 2))
    assert [layer.modules for layer in split_layers(model).layers][:2] == [("one",), ("other",)]


def test_behind_a_shared_trunk_both_are_trained_as_alone() -> None:
    def model(_: Any) -> nn.Module:
        return Heads(one=nn.Linear(6, 1), other=two(2)).double()

    def loss(outputs: dict[str, Tensor], targets: Tensor) -> Tensor:
        return nn.functional.mse_loss(outputs["one"], targets) + outputs["other"].square().mean()

    task = regression_task(model=model, loss_function=loss)
    jobs = [job_of(configured(number, learning_rate=0.01 * (number + 1)), layers=1) for number in range(3)]
    for engine in (Engine.SHARED, Engine.STACKED):
        together = {each.number: each for each in Population(task, jobs, settings_of(), engine=engine).run()}
        for job in jobs:
            alone = train_serially(task, job, settings_of())
            assert together[job.configuration.number].score == pytest.approx(alone.score, rel=1e-9)


def test_freezing_all_but_the_heads_saves_what_it_should() -> None:
    model = Heads(one=nn.Linear(6, 1), other=two(2))
    freeze(model, trainable_layers=1, example_inputs=INPUTS)
    report = inspect_freezing(
        model, INPUTS, lambda model, batch: sum(each.sum() for each in model(batch).values())
    )
    assert report.is_effective, str(report)
