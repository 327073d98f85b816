"""What is trained at each scale: tasks, budgets and configurations, one recipe for each landscape that figures share."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any

from optuna.distributions import CategoricalDistribution

from frostline.errors import OptionError
from frostline.search.proposals.sampling import RANDOM, Sampling, grid
from frostline.search.spaces.space import SearchSpace
from frostline.tasks.loading import load_task
from frostline.tasks.models.gpt import GPT_14M, count_parameters
from frostline.training.supervised.supervised_task import SupervisedTask

if TYPE_CHECKING:
    from pathlib import Path

    from frostline.protocols import Task

BUDGETS = (20, 40)
"""Percentages of the full budget at which a schedule that ends there is compared with one that is cut short."""

_TOKENS_PER_PARAMETER = 20
_CIFAR_TRAINING_IMAGES = 45_000  # the task holds out a tenth
_EPOCHS = 20
_CIFAR_BATCH = 128
_CONTEXT_14M = 1024
_WINDOWS_14M = 8
_SMALL_CONTEXT = 128
_SMALL_WINDOWS = 16


class Scale(StrEnum):
    """How much is trained: in under five minutes, in under an hour, or as in the paper."""

    TINY = "tiny"
    SMALL = "small"
    PAPER = "paper"


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """Where the data of the original setting lie; the other scales need none."""

    text: Path | None = None
    """For GPTs: text files or a token file, as the task ``text-gpt`` takes them."""
    images: Path | None = None
    """For ResNet-18: the folder that holds CIFAR-100."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A landscape to be recorded: some configurations of a task, with every number of layers, validated on the way.

    With a ``grid`` every point of it is trained, else ``configurations`` are drawn from the task's own space. ``stand_in``
    is a task of the same architecture and batch on random data, for plans and predictions; ``full_samples`` is the budget
    of the task that it stands for. ``missing`` is the option that would have named the data.
    """

    name: str
    scale: Scale
    reference: str
    options: Mapping[str, Any]
    configurations: int
    num_validations: int = 10
    grid: SearchSpace | None = None
    stand_in: tuple[str, Mapping[str, Any]] | None = None
    full_samples: int | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the task that the function which makes it has no option for."""
    missing: str = ""

    @property
    def study(self) -> str:
        """The name of its study."""
        return f"{self.scale} {self.name}"

    @property
    def sampling(self) -> Sampling:
        """How its configurations are drawn."""
        return RANDOM if self.grid is None else grid(self.grid, num_points=2)

    @property
    def words(self) -> str:
        """What names its task on the command line."""
        options = {**self.changes, **self.options}
        return " ".join([self.reference, *(f"--set {name}={_word(options[name])}" for name in options)])

    def task(self) -> Task:
        """Return the task.

        Raises: OptionError if nobody has said where its data are; TaskError as ``load_task``.
        """
        if self.missing:
            raise OptionError(
                f"the scale {self.scale} trains {self.reference}, whose data are not here: say where, with {self.missing}."
            )
        return self._changed(load_task(self.reference, self.options))

    def planned_task(self) -> Task:
        """Return the task, or one that costs the same."""
        if self.stand_in is None:
            return self.task()
        stand_in = self._changed(load_task(*self.stand_in))
        return stand_in if self.full_samples is None else replace(stand_in, full_samples=self.full_samples)

    def _changed(self, task: Task) -> SupervisedTask:
        assert isinstance(task, SupervisedTask)
        changes = dict(self.changes) if self.grid is None else {**self.changes, "space": self.grid}
        return replace(task, **changes) if changes else task


def recipe_of(model: str, scale: Scale, data: Data | None = None) -> Recipe:
    """Return what is trained for a landscape at a scale.

    ``model`` is "gpt" or "resnet", or one of them in another way: "gpt-tied" and "gpt-snapshot" with the head tied to the
    embedding, "gpt-bfloat16" with frozen weights kept so, "gpt-20" and "gpt-40" on those percentages of the budget, with the
    schedule compressed to it; "resnet-batch" with frozen statistics taken from each batch.
    """
    data = data or Data()
    base, _, way = model.partition("-")
    if base == "resnet":
        recipe = {Scale.TINY: _tiny_resnet, Scale.SMALL: _small_resnet}.get(scale, lambda: _paper_resnet(data))()
    else:
        recipe = {Scale.TINY: _tiny_gpt, Scale.SMALL: _small_gpt}.get(scale, lambda: _paper_gpt(data))()
    if not way:
        return recipe
    if scale is Scale.SMALL:
        # A comparison trains one landscape more: all of it is to take less than an hour.
        recipe = replace(recipe, configurations=16)
    return replace(_WAYS[way](recipe), name=model)


def transformer_grid() -> SearchSpace:
    """Return the 14M Transformer's grid of 144 points (arXiv 2504.10735, Table 1), in which no learning rate is."""
    return _choices(
        weight_decay=(0.0, 1e-6, 1e-4, 1e-2),
        beta1=(0.9, 0.95),
        beta2=(0.95, 0.99),
        warmup_fraction=(0.05, 0.1, 0.25),
        cooldown_fraction=(0.1, 0.25, 0.5),
    )


def resnet_grid() -> SearchSpace:
    """Return the ResNet's grid of 216 points (arXiv 2504.10735, Table 1)."""
    return _choices(
        learning_rate=(1e-4, 1e-3, 1e-2),
        weight_decay=(1e-5, 1e-4, 1e-3, 1e-2),
        optimizer=("Adam", "SGD"),
        beta1=(0.9, 0.95, 0.99),
        beta2=(0.9, 0.95, 0.99),
    )


def _choices(**values: tuple[Any, ...]) -> SearchSpace:
    return SearchSpace(distributions={name: CategoricalDistribution(choices) for name, choices in values.items()})


def _tiny_gpt() -> Recipe:
    options = {
        "width": 48,
        "num_heads": 3,
        "batch_size": 8,
        "full_tokens": 40 * 8 * _SMALL_CONTEXT,
        # Of steps as short as these a validation on all of them would cost a dozen.
        "validation_tokens": 4096,
    }
    return Recipe(
        name="gpt",
        scale=Scale.TINY,
        reference="python-source-gpt",
        options=options,
        configurations=10,
        num_validations=5,
    )


def _small_gpt() -> Recipe:
    options = {"full_tokens": 96 * _SMALL_WINDOWS * _SMALL_CONTEXT}
    return Recipe(name="gpt", scale=Scale.SMALL, reference="python-source-gpt", options=options, configurations=24)


def _paper_gpt(data: Data) -> Recipe:
    return Recipe(
        name="gpt",
        scale=Scale.PAPER,
        reference="text-gpt",
        options={"text": f"{data.text}", "model": "14M"},
        configurations=_size(transformer_grid()),
        grid=transformer_grid(),
        stand_in=("random-tokens", {"model": "14M", "batch_size": _WINDOWS_14M}),
        full_samples=_TOKENS_PER_PARAMETER * count_parameters(GPT_14M),
        missing="" if data.text else "--text PATH",
    )


def _tiny_resnet() -> Recipe:
    options = {"widths": [8, 8, 16, 16, 32, 32, 64, 64], "image_size": 8, "full_images": 150 * 64}
    return Recipe(name="resnet", scale=Scale.TINY, reference="digits-resnet", options=options, configurations=12)


def _small_resnet() -> Recipe:
    options = {"full_images": 160 * 64}
    return Recipe(name="resnet", scale=Scale.SMALL, reference="digits-resnet", options=options, configurations=24)


def _paper_resnet(data: Data) -> Recipe:
    return Recipe(
        name="resnet",
        scale=Scale.PAPER,
        reference="cifar100-resnet18",
        options={"directory": f"{data.images}"},
        configurations=_size(resnet_grid()),
        num_validations=_EPOCHS,
        grid=resnet_grid(),
        stand_in=(
            "random-images",
            {"model": "resnet-18", "image_size": 32, "classes": 100, "batch_size": _CIFAR_BATCH},
        ),
        full_samples=_EPOCHS * _CIFAR_TRAINING_IMAGES,
        missing="" if data.images else "--images FOLDER",
    )


def _size(space: SearchSpace) -> int:
    size = grid(space, num_points=2).num_points
    assert size is not None
    return size


def _tied(recipe: Recipe) -> Recipe:
    detached = {"tied": "detach"}  # the paper's rule
    tied = replace(recipe, options={**recipe.options, "tied_embedding": True}, changes=detached)
    if recipe.reference != "text-gpt":
        return tied
    assert recipe.stand_in is not None
    name, options = recipe.stand_in
    return replace(
        tied,
        stand_in=(name, {**options, "tied_embedding": True}),
        full_samples=_TOKENS_PER_PARAMETER * count_parameters(replace(GPT_14M, tied=True)),
    )


def _snapshot(recipe: Recipe) -> Recipe:
    return replace(_tied(recipe), changes={"tied": "snapshot"})


def _shortened(recipe: Recipe, percent: int) -> Recipe:
    """Return the recipe of the same training on a part of the budget, in whole steps, validated at its end alone."""
    is_paper = recipe.full_samples is not None
    batch = (
        _WINDOWS_14M * _CONTEXT_14M
        if is_paper
        else recipe.options.get("batch_size", _SMALL_WINDOWS) * _SMALL_CONTEXT
    )
    full = recipe.full_samples if recipe.full_samples is not None else recipe.options["full_tokens"]
    tokens = -(-full * percent // (100 * batch)) * batch
    return replace(
        recipe,
        options={**recipe.options, "full_tokens": tokens},
        num_validations=1,
        full_samples=tokens if is_paper else None,
    )


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


_WAYS: Mapping[str, Callable[[Recipe], Recipe]] = {
    "tied": _tied,
    "snapshot": _snapshot,
    "bfloat16": partial(replace, changes={"frozen_dtype": "bfloat16"}),
    "batch": partial(replace, changes={"frozen_statistics": "batch"}),
    **{f"{percent}": partial(_shortened, percent=percent) for percent in BUDGETS},
}
