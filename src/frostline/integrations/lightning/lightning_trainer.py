"""What a Lightning ``Trainer`` has to be told or asked beside its hooks: passes, its length, the place in the data."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any

from lightning.pytorch.utilities import CombinedLoader
from torch import Tensor
from torch.utils.data import BatchSampler

from frostline.layers import freezing_of

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

logger = logging.getLogger(__name__)

_PLAIN = (bool, int, float, str, bytes)


def length(trainer: Trainer, samples: int) -> tuple[int, int]:
    """Return how many steps and epochs go through so many samples, rounded up; -1 for what nobody knows."""
    if trainer.num_training_batches == math.inf:
        per_step = (_batch_size(trainer) or 0) * trainer.world_size * trainer.accumulate_grad_batches
        return math.ceil(samples / per_step) if per_step else -1, -1
    num_batches = int(trainer.num_training_batches)
    per_epoch = _num_examples(trainer, num_batches)
    if per_epoch is None:
        return -1, -1
    steps_per_epoch = math.ceil(num_batches / trainer.accumulate_grad_batches)
    return -(-samples * steps_per_epoch // max(1, per_epoch)), -(-samples // max(1, per_epoch))


def next_examples(trainer: Trainer, num_batches: int) -> int | None:
    """Return how many examples the next step is made on, so many batches into an epoch; None if nobody knows."""
    loaders = CombinedLoader(trainer.train_dataloader).flattened
    is_plain = len(loaders) == 1 and type(getattr(loaders[0], "batch_sampler", None)) is BatchSampler
    if not is_plain or trainer.num_training_batches == math.inf:
        return None
    begin = num_batches % int(trainer.num_training_batches)
    end = min(begin + trainer.accumulate_grad_batches, int(trainer.num_training_batches))
    first, last = _num_examples(trainer, begin), _num_examples(trainer, end)
    return None if first is None or last is None else last - first


def _batch_size(trainer: Trainer) -> int | None:
    size: int | None = getattr(getattr(_counted(trainer), "batch_sampler", None), "batch_size", None)
    return size


def _counted(trainer: Trainer) -> Any:
    """Return the loader by which batches are counted: the first tensor in them is of the first one."""
    return CombinedLoader(trainer.train_dataloader).flattened[0]


def _num_examples(trainer: Trainer, num_batches: int) -> int | None:
    """Return how many examples all processes have had after so many batches; None if nobody knows."""
    try:
        per_process: int = _in_batches(_counted(trainer), _batch_size(trainer), num_batches)
    except (AttributeError, TypeError):
        return None
    return int(trainer.world_size) * per_process


def _in_batches(loader: Any, batch_size: int | None, num_batches: int) -> int:
    """Return how many examples are in so many batches of a loader, which begins again at its end."""
    try:
        drawn = len(loader.batch_sampler.sampler)
    except (AttributeError, TypeError):
        drawn = len(loader.dataset)
    if batch_size is None:
        return math.ceil(drawn * num_batches / len(loader))
    # A last batch that is not whole is left out, or smaller.
    epochs, rest = divmod(num_batches, len(loader))
    per_epoch = min(len(loader) * batch_size, drawn)
    return epochs * per_epoch + min(rest * batch_size, per_epoch)


def plain_states(states: Mapping[str, Any], *, without: Collection[str]) -> dict[str, Any]:
    """Return those of the callbacks' ``states`` that a checkpoint of tensors and plain values can hold."""
    kept = {}
    for name, state in states.items():
        if name in without:
            continue
        other = _other_kind(state)
        if other is None:
            kept[name] = state
        else:
            logger.warning(
                "the state of the callback %s is not kept, and begins anew where a training goes on: it holds a %s, but "
                "must hold tensors and plain values.",
                name,
                other,
            )
    return kept


def _other_kind(value: Any) -> str | None:
    """Return the name of a type in ``value`` that is neither plain nor a tensor; None if there is none."""
    if isinstance(value, dict):
        return next(filter(None, map(_other_kind, chain.from_iterable(value.items()))), None)
    if type(value) in (list, tuple, set):
        return next(filter(None, map(_other_kind, value)), None)
    return None if value is None or isinstance(value, Tensor) or type(value) in _PLAIN else type(value).__name__


def validates_now(trainer: Trainer) -> bool:
    """Return whether Lightning validates behind the batch that has ended."""
    # Its own question (2.6): epochs, steps and hours may say so.
    epoch_loop: Any = trainer.fit_loop.epoch_loop
    return bool(epoch_loop._should_check_val_fx(trainer.fit_loop._data_fetcher))


def reload_as_ever(trainer: Trainer, *, is_within_epoch: bool) -> None:
    """Where data are loaded anew every few epochs, do so in the epochs in which an uninterrupted training does."""
    every = trainer.reload_dataloaders_every_n_epochs
    if not every:
        return
    fit_loop: Any = trainer.fit_loop
    epochs_since = trainer.current_epoch % every
    if epochs_since == 0 and not is_within_epoch:
        # They are there, but not drawn by the generators of this epoch.
        fit_loop._last_train_dl_reload_epoch = -math.inf
        fit_loop.setup_data()
    fit_loop._last_train_dl_reload_epoch = trainer.current_epoch - epochs_since


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
