"""Training steps in which whatever makes the host wait for the card is an error."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from gpu_parts.models import FULL, TINY
from gpu_parts.rows import Measurement, Row, Setting
from population import STACKED_WAYS, Ground, session_steps, task_of

ENGINES = ("serial", "shared", "stacked", "captured")


def measurements(setting: Setting) -> Iterable[Measurement]:
    for model in ("MLP", "small GPT", "ResNet"):
        for engine in ENGINES:
            yield Measurement(
                labels={"model": model, "engine": engine}, measure=partial(step, model, engine, setting)
            )


def step(model: str, engine: str, setting: Setting) -> Iterable[Row]:
    """Make two steps, and a third in which waiting raises."""
    task = task_of(model, num_batches=4, models=TINY if setting.tiny else FULL)
    ground = Ground.of(task, layers=2, members=2, device=setting.device)
    batches = ground.batches()
    if engine in STACKED_WAYS:
        contestant = ground.stacked(next(batches), engine)
        if isinstance(contestant, str):
            yield {"left_out": contestant}
            return
    else:
        contestant = partial(session_steps, ground.sessions() if engine == "serial" else ground.sharing()[0])
    for _ in range(2):
        contestant(next(batches))
    batch = next(batches)
    with waiting_raises(setting):
        contestant(batch)
    yield {"waits": False} if setting.is_card else {"left_out": "waiting raises: needs a card"}


@contextmanager
def waiting_raises(setting: Setting) -> Iterator[None]:
    if not setting.is_card:
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")
