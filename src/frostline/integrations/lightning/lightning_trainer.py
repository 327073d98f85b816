"""What a Lightning ``Trainer`` has to be told beside its hooks: passes, its length, the place in the data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lightning.pytorch.utilities import CombinedLoader

from frostline.layers import freezing_of

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer


def length(trainer: Trainer, samples: int) -> tuple[int, int]:
    """Return how many steps and epochs go through so many samples, rounded up; -1 if nobody knows how many an epoch has."""
    loaders = CombinedLoader(trainer.train_dataloader).flattened
    try:
        per_epoch = max(len(loader.dataset) for loader in loaders)
    except (AttributeError, TypeError):
        return -1, -1
    steps_per_epoch: int = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
    return math.ceil(samples / per_epoch * steps_per_epoch), math.ceil(samples / per_epoch)


def begin_epoch(trainer: Trainer, num_batches: int) -> None:
    """Draw the order of the data, and go through so many batches of it."""
    # Lightning begins again with the first batch where a training goes on in the middle of an epoch; its fetcher is its own
    # (2.6), and the only place where the batches can be passed over before hooks see them.
    fetcher: Any = trainer.fit_loop._data_fetcher
    for loader in CombinedLoader(trainer.train_dataloader).flattened:
        sampler: Any = getattr(loader, "sampler", None)
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(trainer.current_epoch)
    iter(fetcher)
    for _ in range(num_batches):
        next(fetcher)
    # Lightning counts them once more.
    fetcher.fetched -= num_batches


def begin_pass(module: LightningModule) -> None:
    """Say that the model begins to run: a training step calls parts of it, and seldom the module itself."""
    freezing = freezing_of(module)
    if freezing is not None:
        freezing.begin_pass()


@contextmanager
def called_as(module: LightningModule, step: Callable[..., Any]) -> Iterator[None]:
    """While this lasts, calling the module is calling ``step``."""
    module.forward = step
    try:
        yield
    finally:
        del module.forward


def agreed(trainer: Trainer, decisions: tuple[bool, bool]) -> tuple[bool, bool]:
    """Return what rank 0 has decided."""
    return trainer.strategy.broadcast(decisions) if trainer.world_size > 1 else decisions
