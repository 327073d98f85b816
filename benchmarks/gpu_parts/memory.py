"""Memory: what ``frostline cost --predict --device cuda`` says of a step beside what torch's allocator has of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import torch
from gpu_parts.rows import Measurement, Row, Setting
from gpu_parts.tokens import SMALL_WEIGHTS, tokens_task

from frostline.costs.predicted.prediction import predict_step
from frostline.costs.predicted.true_peak import PeakBytes
from frostline.records import Configuration
from frostline.tasks.loading import load_task
from frostline.training.machine.devices import DevicePlan
from frostline.training.machine.randomness import borrowed_generators
from frostline.training.session import begin_session
from frostline.training.supervised.supervised_task import SupervisedTask

# The model's options, and how many layers are trained; the large ones last.
FULL: tuple[tuple[Mapping[str, Any], int], ...] = (
    *(({"model": "14M"}, layers) for layers in (1, 5, 10)),
    *(({"model": "600M"}, layers) for layers in (1, 26)),
    ({"model": "Pythia-1.4B"}, 1),
    ({"model": "Pythia-1.4B"}, 13),
    ({"model": "Pythia-1.4B"}, 26),
    ({"model": "600M", **SMALL_WEIGHTS}, 1),
)
SMALL_TOKENS = {"model": "14M", "context_length": 16, "vocabulary_size": 512}
TINY = ((SMALL_TOKENS, 1), (SMALL_TOKENS | SMALL_WEIGHTS, 1))


def measurements(setting: Setting) -> Iterable[Measurement]:
    for options, layers in TINY if setting.tiny else FULL:
        labels = {**options, "layers": layers}
        yield Measurement(labels=labels, measure=partial(both, options, layers, setting.device))


def both(options: Mapping[str, Any], layers: int, device: torch.device) -> Iterable[Row]:
    task = load_task("random-tokens", options)
    predicted = predict_step(task, trainable_layers=layers, device="cuda").memory
    assert predicted.reserved is not None
    row = {"predicted": predicted.peak, "predicted_reserved": predicted.reserved}
    peak = peak_of_step(tokens_task(options, device), layers, device)
    if peak.before is None:
        yield {**row, "left_out": "allocated bytes: needs a card"}
        return
    allocated, reserved = peak.before + peak.bytes, torch.cuda.memory_reserved(device)
    yield {
        **row, "allocated": allocated, "reserved": reserved, "error": predicted.peak / allocated - 1,
        "reserved_error": predicted.reserved / reserved - 1,
    }  # fmt: skip


def peak_of_step(task: SupervisedTask, layers: int, device: torch.device) -> PeakBytes:
    """Return the peak of a step after two others, when the optimizer has its state."""
    configuration, plan = Configuration(number=0, hyperparameters=task.defaults), DevicePlan(device=device)
    with borrowed_generators(device):
        session = begin_session(task, configuration, trainable_layers=layers, device_plan=plan, root_seed=0)
        batch = next(task.training_batches(configuration, seed=0, skip_samples=0))
        for _ in range(2):
            session.step(batch, rate_factor=1.0)
        session.optimizer.zero_grad()
        with PeakBytes(device) as peak:
            session.step(batch, rate_factor=1.0)
    return peak
