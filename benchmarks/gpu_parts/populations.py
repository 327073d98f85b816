"""Populations: one by one, behind a shared prefix and stacked, beside what exactly counted FLOPs allow."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from gpu_parts.models import FULL, LARGE, TINY
from gpu_parts.rows import Measurement, Row, Setting
from population import Watched, step_row, task_of

from frostline.training.supervised.supervised_task import SupervisedTask
from frostline.training.supervised.task_layers import layers_of

MEMBERS = (1, 4, 8, 16, 32)
LARGE_MEMBERS = (1, 4, 8)
TINY_MEMBERS = (1, 2)
# Stacked with every member's own optimizer, with one update of all, and that captured.
ENGINES = ("shared", "updated_each", "updated_at_once", "captured")


def measurements(setting: Setting) -> Iterable[Measurement]:
    watched = Watched(engines=ENGINES, steps=2 if setting.tiny else 8, device=setting.device)
    for name in ("MLP", "small GPT", LARGE):
        task = task_of(name, num_batches=12, models=TINY if setting.tiny else FULL)
        # The share of half the layers is what a search's middle rungs have; large models are searched at their lowest.
        layers = 1 if name == LARGE else layers_of(task).num_layers // 2
        for members in TINY_MEMBERS if setting.tiny else LARGE_MEMBERS if name == LARGE else MEMBERS:
            labels = {"model": name, "layers": layers, "members": members}
            yield Measurement(labels=labels, measure=partial(gains, task, layers, members, watched))


def gains(task: SupervisedTask, layers: int, members: int, watched: Watched) -> Iterable[Row]:
    """Yield one row: by engine how many times faster than one by one, and as a share of the limit."""
    row = step_row(task, layers, members, watched)
    seconds, limit = row["seconds"], row["limit"]
    engines = [name for name in watched.engines if name in seconds]
    faster = {name: seconds["one_by_one"] / seconds[name] for name in engines}
    of_limit = {name: gain / limit for name, gain in faster.items()}
    yield {"times_faster": faster, "limit": limit, "of_limit": of_limit, **row, "model": task.name}
