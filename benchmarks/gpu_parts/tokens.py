"""GPTs of a known size on random tokens, made where they are trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from frostline.records import Configuration
from frostline.tasks.loading import load_task
from frostline.training.supervised.supervised_task import SupervisedTask

SMALL_WEIGHTS = {"frozen_dtype": "bfloat16", "chunked_logits": True}


def tokens_task(options: Mapping[str, Any], device: torch.device) -> SupervisedTask:
    """Return the task ``random-tokens``, its weights drawn on the device unless frozen ones are kept small."""
    task: SupervisedTask = load_task("random-tokens", options)
    # Those are drawn layer by layer on the CPU, so that the whole is never there.
    if "frozen_dtype" in options:
        return task

    def build(configuration: Configuration) -> nn.Module:
        # On the CPU a billion weights take up to a minute, of which a part on a card has one in all.
        with torch.device(device):
            return task.model(configuration)

    return replace(task, model=build)
