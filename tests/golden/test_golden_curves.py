"""Pinned: the validation curve of every training of short searches, by task family and by engine."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import FloatDistribution

import frostline
from frostline.run.execution.options import TrainingOptions
from frostline.run.plan import SearchPlan
from frostline.run.task_search import TaskSearch
from frostline.run.tuning import search_task
from frostline.search.alignment import Alignment
from frostline.tasks.builtin.digits_mlp import digits_mlp
from frostline.tasks.builtin.digits_resnet import digits_resnet
from frostline.training.supervised.task_layers import layers_of
from tests.golden.exact_task import make, small_gpt
from tests.golden.golden_files import FLOAT32, GoldenFiles

Curves = dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A search of seconds. Three rungs, the upper two of all layers, so that one begins anew and one continues."""

    name: str
    task: Callable[[], frostline.SupervisedTask]
    layers: int
    batch: int
    steps: tuple[int, int, int]
    space: Mapping[str, FloatDistribution] | None = None
    """Learning rates that differ enough to be ranked alike on every machine."""
    more: Mapping[str, Any] = field(default_factory=dict)
    alignment: str = ""

    @property
    def ladder(self) -> frostline.Ladder:
        few, many, full = (self.batch * steps for steps in self.steps)
        of_all = self.task_of().full_samples
        assert full == of_all, f"{self.name}: {full} samples of {of_all}"
        rungs = [(self.layers, few), (self.num_layers, many), (self.num_layers, full)]
        return frostline.Ladder.explicit(rungs, num_layers=self.num_layers, full_samples=full)

    @property
    def num_layers(self) -> int:
        return layers_of(self.task_of()).num_layers

    def task_of(self) -> frostline.SupervisedTask:
        made = self.task()
        if self.space is None:
            return made
        distributions = {**made.space.distributions, **self.space}
        return dataclasses.replace(made, space=frostline.SearchSpace(distributions=distributions))


# Low enough that the last bits of another processor are not multiplied.
RATES = {"learning_rate": FloatDistribution(1e-4, 1e-2, log=True)}
CASES = (
    Case(name="exact", task=make, layers=2, batch=32, steps=(8, 16, 32)),
    Case(name="exact-full-horizon", task=make, layers=2, batch=32, steps=(8, 16, 32), more={"horizon": "full"}),
    Case(
        name="exact-aligned",
        task=make,
        layers=2,
        batch=32,
        steps=(8, 16, 32),
        alignment="2:head.learning_rate=2,learning_rate=4",
    ),
    Case(name="exact-bfloat16", task=make, layers=2, batch=32, steps=(8, 16, 32), more={"precision": "bfloat16"}),
    Case(
        name="digits-mlp",
        task=lambda: digits_mlp(num_hidden_layers=3, width=32, full_images=64 * 24),
        layers=2,
        batch=64,
        steps=(6, 12, 24),
        space=RATES,
    ),
    Case(
        name="digits-resnet",
        task=lambda: digits_resnet(widths=(16, 32), full_images=64 * 8, image_size=8),
        layers=2,
        batch=64,
        steps=(2, 4, 8),
        space=RATES,
    ),
    Case(name="small-gpt", task=small_gpt, layers=2, batch=32, steps=(10, 20, 40), space=RATES),
)
# In bfloat16 a sum that is rounded the other way differs by 2**-8 at once.
TOLERANCES = {"exact-bfloat16": 5e-3}


def curves_of(case: Case, folder: Path, *, engine: str) -> Curves:
    """Search, and return the curve of every evaluation."""
    found = search_task(
        case.task_of(),
        frostline.SuccessiveHalving(ladder=case.ladder, configurations=4, reduction_factor=2),
        study=case.name,
        storage=":memory:",
        plan=SearchPlan(seed=3),
        training=TaskSearch(
            options=TrainingOptions(
                device="cpu", engine=engine, runs=folder / engine, num_validations=4, **case.more
            ),
            alignment=Alignment.parse(case.alignment),
        ),
    )
    return {
        f"{one.number} at rung {one.rung}": {
            "status": one.status.value,
            "layers": one.fidelity.trainable_layers,
            "samples": one.fidelity.samples,
            "trained samples": one.cost.samples,
            "trained with": dict(one.trained_with),
            "curve": [[point.samples, point.score] for point in one.curve],
        }
        for one in sorted(found.history.evaluations(), key=lambda one: (one.rung, one.number))
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_curve_of_a_short_search_is_as_it_was_and_sharing_gives_the_bits_of_serial_training(
    case: Case, folder: Path, golden: GoldenFiles
) -> None:
    serial = curves_of(case, folder, engine="serial")
    golden.check(f"curves/{case.name}.json", serial, rel=TOLERANCES.get(case.name, FLOAT32))
    assert curves_of(case, folder, engine="shared") == serial


STACKED = [case for case in CASES if not case.more]


@pytest.mark.parametrize("case", STACKED, ids=lambda case: case.name)
def test_the_stacked_engine_gives_the_same_curves(case: Case, folder: Path, golden: GoldenFiles) -> None:
    stacked = curves_of(case, folder, engine="stacked")
    # The numbers are those of serial training: there is no file of its own to renew.
    dataclasses.replace(golden, renew=False).check(f"curves/{case.name}.json", stacked, rel=FLOAT32)
