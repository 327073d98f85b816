"""What else can be switched: batches through pinned memory, weights copied ahead, steps that are compiled; off and on."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any
from unittest import mock

from gpu_parts.memory import SMALL_TOKENS
from gpu_parts.models import FULL, TINY
from gpu_parts.rows import Measurement, Row, Setting
from gpu_parts.tokens import tokens_task
from population import WARM_UP_STEPS, Contestants, Ground, session_steps, take_turns, task_of

from frostline.layers.weights.widening import Widened
from frostline.training.machine.devices import DevicePlan, synchronise
from frostline.training.machine.pinning import pinned_batches
from frostline.training.session import Session
from frostline.training.supervised.supervised_task import SupervisedTask

STREAMED = {"model": "600M", "frozen_placement": "stream"}


def measurements(setting: Setting) -> Iterable[Measurement]:
    steps = 3 if setting.tiny else 30
    for model in ("MLP", "small GPT", "ResNet"):
        task = task_of(model, num_batches=12, models=TINY if setting.tiny else FULL)
        yield Measurement(
            labels={"switch": "pinned", "model": model}, measure=partial(pinned, task, setting, steps)
        )
    streamed = {**SMALL_TOKENS, "frozen_placement": "stream"} if setting.tiny else STREAMED
    task = tokens_task(streamed, setting.device)
    yield Measurement(
        labels={"switch": "ahead", "model": task.name}, measure=partial(ahead, task, setting, steps // 3)
    )
    for model in ("MLP",) if setting.tiny else ("MLP", "small GPT"):  # compiling takes its time whatever the size
        task = task_of(model, num_batches=12, models=TINY if setting.tiny else FULL)
        labels = {"switch": "compiled", "model": model}
        yield Measurement(labels=labels, measure=partial(compiled, task, setting, steps))


def pinned(task: SupervisedTask, setting: Setting, steps: int) -> Iterable[Row]:
    """Yield seconds of a step of one configuration, the batch's way among them."""
    seconds = {}
    for pins in (False, True):
        ground = Ground.of(task, 1, 1, setting.device)
        plan = replace(ground.plan, pins_batches=pins)
        sessions = ground.sessions()
        batches = pinned_batches(ground.batches(), plan)
        seconds["on" if pins else "off"] = lasted(sessions, batches, steps, plan)
    yield (
        {"seconds": seconds}
        if setting.is_card
        else {"seconds": seconds, "left_out": "pinned memory: needs a card"}
    )


def ahead(task: SupervisedTask, setting: Setting, steps: int) -> Iterable[Row]:
    """Yield seconds of a step at the lowest fidelity, whose frozen weights are read from a file."""
    ground = Ground.of(task, 1, 1, setting.device)
    seconds = {}
    for name, context in (("off", nothing_ahead), ("on", as_it_is)):
        with context():
            seconds[name] = lasted(ground.sessions(), ground.batches(), steps, ground.plan)
    yield {"seconds": seconds}


def compiled(task: SupervisedTask, setting: Setting, steps: int) -> Iterable[Row]:
    """Yield seconds of a stacked step of four, and what compiling it took."""
    ground = Ground.of(task, 1, 4, setting.device)
    batches = ground.batches()
    batch = next(batches)
    contestants: Contestants = {}
    took = {}
    for way in ("stacked", "compiled"):
        begin = time.perf_counter()
        contestant = ground.stacked(batch, way)
        if isinstance(contestant, str):
            yield {"left_out": contestant}
            return
        contestant(batch)
        synchronise(setting.device)
        took[way], contestants[way] = time.perf_counter() - begin, contestant
    taken = take_turns(contestants, islice(batches, WARM_UP_STEPS + steps), setting.device)
    seconds = {way: min(times[WARM_UP_STEPS:]) for way, times in taken.items()}
    yield {"seconds": seconds, "first_step_and_proof": took}


def lasted(sessions: Sequence[Session], batches: Iterator[Any], steps: int, plan: DevicePlan) -> float:
    """Return the seconds of a step, over many without waiting for the card in between."""
    for batch in islice(batches, WARM_UP_STEPS):
        session_steps(sessions, batch)
    synchronise(plan.device)
    begin = time.perf_counter()
    for batch in islice(batches, steps):
        session_steps(sessions, batch)
    synchronise(plan.device)
    return (time.perf_counter() - begin) / steps


@contextmanager
def nothing_ahead() -> Iterator[None]:
    with mock.patch.object(Widened, "expect", return_value=None):
        yield


@contextmanager
def as_it_is() -> Iterator[None]:
    yield
