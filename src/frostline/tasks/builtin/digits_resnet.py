"""The task ``digits-resnet``: a small ResNet on scikit-learn's handwritten digits."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from frostline.tasks.data.digits import digits_task
from frostline.tasks.models.resnet import ResNet, ResNetSettings
from frostline.training.supervised.supervised_task import SupervisedTask

if TYPE_CHECKING:
    from torch import nn

    from frostline.records import Configuration


def digits_resnet(
    *,
    widths: Sequence[int] = (16, 16, 32, 32, 64, 64, 128, 128),
    full_images: int = 400 * 64,
    image_size: int = 16,
) -> SupervisedTask:
    """Return the task of training a ResNet of ten layers on the digits, scored by the loss on those held out.

    ``full_images`` is the full budget in images, about 21 epochs. Images are moved by up to a pixel as augmentation.
    The defaults are those of the ResNet's own paper (arXiv:1512.03385): SGD at 0.1 with a momentum of 0.9 and a weight
    decay of 1e-4. Every configuration's learning rate falls to 0 over the second half of its training: at a constant
    one the last score is mostly noise.
    """
    settings = ResNetSettings(widths=tuple(widths))
    return digits_task(
        "digits-resnet",
        model=partial(_build_resnet, settings),
        settings=f"{settings}",
        image_size=image_size,
        full_images=full_images,
        optimizer="SGD",
        learning_rate=0.1,
    )


def _build_resnet(settings: ResNetSettings, _configuration: Configuration) -> nn.Module:
    return ResNet(settings)
