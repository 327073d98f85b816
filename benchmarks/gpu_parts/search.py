"""A whole search with populations off, on, and with their steps captured."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from functools import partial

from gpu_parts.models import FULL, TINY
from gpu_parts.rows import Measurement, Row, Setting
from population import search_row, task_of

from frostline.tasks.loading import load_task
from frostline.training.supervised.supervised_task import SupervisedTask


def measurements(setting: Setting) -> list[Measurement]:
    task, configurations = searched(setting), number_of(setting)
    labels = {"task": task.name, "configurations": configurations}
    return [
        Measurement(
            labels={**labels, "engine": engine}, measure=partial(search, task, engine, setting, configurations)
        )
        for engine in ("serial", "auto", "captured")
    ]


def search(task: SupervisedTask, engine: str, setting: Setting, configurations: int) -> Iterable[Row]:
    yield search_row(task, engine, setting.device, configurations)


def searched(setting: Setting) -> SupervisedTask:
    """Return the task of a search: digits where scikit-learn has them, else random data."""
    if setting.tiny or importlib.util.find_spec("sklearn") is None:
        return task_of("MLP", num_batches=16 if setting.tiny else 400, models=TINY if setting.tiny else FULL)
    # A quarter of the usual training, so that a search one by one fits into its part of the time.
    return load_task("digits-mlp", {"full_images": 100 * 64})


def number_of(setting: Setting) -> int:
    """Return how many configurations a search draws."""
    return 9 if setting.tiny else 27
