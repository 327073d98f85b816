"""A search beside Optuna's TPE and Hyperband pruner, which has the same seconds on the clock."""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import partial

import optuna
from gpu_parts.rows import Measurement, Row, Setting
from gpu_parts.search import number_of, searched
from population import search_row
from searches import Bench, OptunaMethod

from frostline.records import loss_sign
from frostline.training.supervised.supervised_task import SupervisedTask


def measurements(setting: Setting) -> list[Measurement]:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    task = searched(setting)
    return [Measurement(labels={"task": task.name}, measure=partial(side_by_side, task, setting))]


def side_by_side(task: SupervisedTask, setting: Setting) -> Iterable[Row]:
    ours = search_row(task, "auto", setting.device, number_of(setting))
    yield {"program": "frostline", "seconds": ours["seconds"], "score": ours["score"]}
    bench = Bench(task=task, target=float("-inf"), configurations=0, runs=0, device=setting.device.type)
    ended, trials = [], 0
    begin = time.perf_counter()
    for score in OptunaMethod().scores(bench, seed=0):
        seconds = time.perf_counter() - begin
        # What ends too late does not count, but for the first.
        if ended and seconds > ours["seconds"]:
            break
        trials += 1
        if score is not None:
            ended.append((loss_sign(task.direction) * score, score, seconds))
    _, best, found_after = min(ended)
    yield {"program": "Optuna, TPE and Hyperband", "score": best, "found_after": found_after, "trials": trials}
