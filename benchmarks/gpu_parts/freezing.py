"""Freezing: seconds and bytes of a step at every number of trained layers, as shares of full training."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from gpu_parts.models import FULL, LARGE, TINY
from gpu_parts.rows import Measurement, Row, Setting
from population import task_of

from frostline.costs.measurement import FailedStep, measure_step, measure_steps, num_layers_of
from frostline.costs.step_cost import StepCost
from frostline.training.supervised.supervised_task import SupervisedTask


def measurements(setting: Setting) -> Iterable[Measurement]:
    repetitions = 2 if setting.tiny else 10
    for name in ("ResNet", "small GPT", LARGE):
        task = task_of(name, num_batches=1, models=TINY if setting.tiny else FULL)
        yield Measurement(labels={"model": name}, measure=partial(levels, task, setting, repetitions))


def levels(task: SupervisedTask, setting: Setting, repetitions: int) -> Iterable[Row]:
    full_layers = num_layers_of(task)
    full = measure_step(task, trainable_layers=full_layers, device=setting.device, repetitions=repetitions)
    yield share_of(full, full)
    lower = range(1, full_layers)
    for cost in measure_steps(task, layers=lower, device=setting.device, repetitions=repetitions):
        yield share_of(cost, full)


def share_of(cost: StepCost | FailedStep, full: StepCost) -> Row:
    """Return what a step costs as a row, beside what full training does."""
    labels = {"layers": cost.trainable_layers, "of": cost.num_layers}
    if isinstance(cost, FailedStep):
        return {**labels, "failed": cost.reason}
    assert cost.seconds is not None
    assert full.seconds is not None
    return {
        **labels, "seconds": cost.seconds.whole.median, "spread": cost.seconds.whole.spread, "bytes": cost.memory.peak,
        "time_share": cost.seconds.whole.median / full.seconds.whole.median,
        "flops_share": cost.flops / full.flops, "bytes_share": cost.memory.peak / full.memory.peak,
    }  # fmt: skip
