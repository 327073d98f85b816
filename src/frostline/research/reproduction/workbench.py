"""Where figures are made: the landscapes that they share, each recorded once and kept, and the tasks they are of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from frostline.audit.auditor import AuditPlan, audit_task
from frostline.audit.csv_table import read_table, write_table
from frostline.research.reproduction.scales import Data, Recipe, Scale, recipe_of
from frostline.run.execution.options import TrainingOptions
from frostline.run.loop import Observer
from frostline.run.plan import SearchPlan
from frostline.run.task_search import TaskSearch
from frostline.store.terms import TaskReference
from frostline.tasks.loading import task_named
from frostline.training.machine.devices import resolve_device

if TYPE_CHECKING:
    from pathlib import Path

    from frostline.audit.agreement import Agreement
    from frostline.audit.landscape import Landscape
    from frostline.protocols import Task
    from frostline.records import Evaluation
    from frostline.search.history import History

_WIDE = 0.3
"""A mean width of the intervals of rank correlations above which nothing should be concluded from them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workbench:
    """Makes what figures are made of, at one scale, in one folder.

    Landscapes are studies in ``out/reproduction.db``: what was interrupted goes on where it was, and figures that need the
    same one share it. ``tables`` are recorded landscapes (``frostline.audit.csv_table``), by model, that are read instead.
    ``say`` is told how far a recording is.
    """

    scale: Scale
    out: Path
    data: Data = field(default_factory=Data)
    tables: Mapping[str, Path] = field(default_factory=dict)
    device: str = "auto"
    say: Callable[[str], None] = lambda _: None
    recipes: Callable[[str, Scale, Data], Recipe] = recipe_of

    @property
    def folder(self) -> Path:
        """Where the figures of this scale lie."""
        return self.out / f"{self.scale}"

    @property
    def storage(self) -> str:
        """Where the studies of all scales lie."""
        return f"sqlite:///{(self.out / 'reproduction.db').absolute()}"

    @property
    def torch_device(self) -> torch.device:
        """The device that trains and is measured."""
        return resolve_device(self.device)

    def recipe(self, model: str) -> Recipe:
        """Return what is trained for the landscape of ``model``."""
        return self.recipes(model, self.scale, self.data)

    def landscape(self, model: str) -> Landscape:
        """Return the landscape of ``model``, recorded to its end if it is not there yet.

        Raises: whatever ``audit_task`` and ``read_table`` do.
        """
        if model in self.tables:
            return read_table(self.tables[model])
        recipe = self.recipe(model)
        landscape = self._recorded(recipe, recipe.task())
        write_table(landscape, self.folder / f"landscape-{model}.csv.gz")
        return landscape

    def task(self, model: str) -> Task:
        """Return the task that the landscape of ``model`` is of, or one that costs the same.

        Raises: TaskError if a table was recorded of a task that is not here.
        """
        if model in self.tables:
            reference = TaskReference.of_words(read_table(self.tables[model]).reference)
            return task_named(reference.name, [*reference.options])
        recipe = self.recipe(model)
        return recipe.planned_task() if recipe.missing else recipe.task()

    def _recorded(self, recipe: Recipe, task: Task) -> Landscape:
        self.out.mkdir(parents=True, exist_ok=True)
        plan = plan_of(recipe, task)
        return audit_task(
            task,
            plan,
            study=recipe.study,
            plan=SearchPlan(sampling=recipe.sampling),
            training=self.training_of(recipe),
            storage=self.storage,
            observer=_Recording(recipe.study, plan, self.say),
        )

    def training_of(self, recipe: Recipe, **options: Any) -> TaskSearch:
        """Return how a recipe's configurations are trained here; ``options`` are more of ``TrainingOptions``."""
        return TaskSearch(
            # The method's experiments score a model as it is.
            options=TrainingOptions(
                device=self.device, runs=self.out / "checkpoints", statistics="running", **options
            ),
            reference=TaskReference.of_words(recipe.words),
        )


@dataclass(frozen=True, slots=True)
class _Recording(Observer):
    """Says how far a recording is, after every configuration."""

    study: str
    plan: AuditPlan
    say: Callable[[str], None]

    def ended(self, evaluation: Evaluation, history: History) -> None:  # noqa: ARG002
        """See ``Observer``."""
        if history.num_evaluations % len(self.plan.layers) == 0:
            self.say(f"{self.study}: {history.num_evaluations} of {self.plan.trainings()} trainings")


def plan_of(recipe: Recipe, task: Task) -> AuditPlan:
    """Return what is trained by a recipe: every number of layers on the full budget, which passes through the others."""
    return AuditPlan.of(task, configurations=recipe.configurations, budgets=recipe.num_validations, repeats=0)


def circumstances(landscapes: Mapping[str, Landscape]) -> str:
    """Return in one line what landscapes are of, by name."""
    parts = [
        f"{name}: {landscape.reference or landscape.task}, {landscape.num_configurations} configurations, "
        f"{landscape.samples[-1]:,} {landscape.sample_unit}"
        for name, landscape in landscapes.items()
    ]
    return "; ".join([*parts, f"torch {torch.__version__}"])


def too_few(landscapes: Mapping[str, Landscape], agreements: Mapping[str, Agreement]) -> tuple[str, ...]:
    """Return a sentence for every landscape whose intervals are too wide to conclude from."""
    sentences = []
    for name, ranked in agreements.items():
        # Full fidelity agrees with itself: its interval has no width.
        width = float(np.mean((ranked.spearman.high - ranked.spearman.low)[:-1, -1]))
        if width > _WIDE:
            count = landscapes[name].num_configurations
            sentences.append(
                f"{name}: {count} configurations are too few to conclude: the intervals of ρ over the numbers of layers are "
                f"{width:.2f} wide on average."
            )
    return tuple(sentences)
