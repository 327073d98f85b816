"""The paper's figure 2, left: a step of a large model at the lowest fidelity against full training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from gpu_parts.memory import SMALL_TOKENS
from gpu_parts.rows import Measurement, Row, Setting
from gpu_parts.tokens import tokens_task

from frostline.costs.measurement import measure_step

PAPER = {"times_less_memory": 3, "times_faster": 4}
MODELS: tuple[Mapping[str, Any], ...] = ({"model": "14M"}, {"model": "600M"}, {"model": "Pythia-1.4B"})


def measurements(setting: Setting) -> Iterable[Measurement]:
    for options in (SMALL_TOKENS,) if setting.tiny else MODELS:
        yield Measurement(labels=options, measure=partial(ratios, options, setting))


def ratios(options: Mapping[str, Any], setting: Setting) -> Iterable[Row]:
    task = tokens_task(options, setting.device)
    measure = partial(
        measure_step,
        task,
        device=setting.device,
        warm_up=1 if setting.tiny else 3,
        repetitions=2 if setting.tiny else 10,
    )
    lowest = measure(trainable_layers=1)
    full = measure(trainable_layers=lowest.num_layers)
    assert lowest.seconds is not None
    assert full.seconds is not None
    yield {
        "times_less_memory": full.memory.peak / lowest.memory.peak,
        "times_faster": full.seconds.whole.median / lowest.seconds.whole.median,
        "times_fewer_flops": full.flops / lowest.flops, "paper": PAPER,
        "bytes": [lowest.memory.peak, full.memory.peak],
        "seconds": [lowest.seconds.whole.median, full.seconds.whole.median],
    }  # fmt: skip
