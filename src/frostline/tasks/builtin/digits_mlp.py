"""The task ``digits-mlp``: a deep MLP on scikit-learn's handwritten digits."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from frostline.tasks.data.digits import digits_task
from frostline.tasks.models.mlp import MLPSettings, build_mlp
from frostline.training.supervised.supervised_task import SupervisedTask

if TYPE_CHECKING:
    from torch import nn

    from frostline.records import Configuration


def digits_mlp(
    *,
    num_hidden_layers: int = 8,
    width: int = 128,
    full_images: int = 400 * 64,
) -> SupervisedTask:
    """Return the task of training an MLP of nine layers on the digits, scored by the loss on those held out.

    ``full_images`` is the full budget in images, about 21 epochs. Images are moved by up to a pixel as augmentation.
    The defaults are scikit-learn's for its own MLP: Adam at 1e-3. Every configuration's learning rate falls to 0 over
    the second half of its training: at a constant one the last score is mostly noise.
    """
    settings = MLPSettings(num_hidden_layers=num_hidden_layers, width=width)
    return digits_task(
        "digits-mlp",
        model=partial(_build_mlp, settings),
        settings=f"{settings}",
        image_size=8,
        full_images=full_images,
        optimizer="Adam",
        learning_rate=1e-3,
    )


def _build_mlp(settings: MLPSettings, _configuration: Configuration) -> nn.Module:
    return build_mlp(settings)
