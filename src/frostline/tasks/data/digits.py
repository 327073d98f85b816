"""scikit-learn's handwritten digits, 1,797 images of 8x8 pixels shipped with the package, and tasks on them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from frostline.records import Configuration
from frostline.tasks.checks import require_positive
from frostline.tasks.data.images import shift_images
from frostline.tasks.spaces import image_space
from frostline.training.supervised.supervised_task import SupervisedTask

_VALIDATION_ONE_IN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Digits:
    """The digits to train on and those held out; inputs are float32 of shape (1, size, size), standardised."""

    training: TensorDataset
    validation: TensorDataset
    sha256: str


def load_digits(*, size: int) -> Digits:
    """Return the digits at ``size`` x ``size`` pixels, a fixed third of them held out."""
    # Slow to import.
    from sklearn import datasets

    require_positive("image_size", size)
    pixels, labels = datasets.load_digits(return_X_y=True)
    images = torch.from_numpy(pixels).float().view(-1, 1, 8, 8)
    # Pixels are 0..16; the constants are the mean and the spread of all of them, to two digits.
    images = (images / 16 - 0.31) / 0.38
    if size != 8:
        images = functional.interpolate(images, size=(size, size), mode="bilinear", align_corners=False)
    targets = torch.from_numpy(labels).long()
    # The images come sorted by writer: held out at random, as the question here is not how to read a new hand.
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    images, targets = images[order].contiguous(), targets[order]
    held_out = len(images) // _VALIDATION_ONE_IN
    digest = hashlib.sha256(images.numpy().tobytes() + targets.numpy().tobytes())
    return Digits(
        training=TensorDataset(images[held_out:], targets[held_out:]),
        validation=TensorDataset(images[:held_out], targets[:held_out]),
        sha256=digest.hexdigest(),
    )


def digits_task(
    name: str,
    *,
    model: Callable[[Configuration], nn.Module],
    settings: str,
    image_size: int,
    full_images: int,
    optimizer: str,
    learning_rate: float,
) -> SupervisedTask:
    """Return the task of training ``model`` on the digits; ``settings`` tell it from other models of its kind.

    ``optimizer`` and ``learning_rate`` are where a practitioner would begin; the rest is the same for all models. Every
    configuration's learning rate falls to 0 over the second half of its training.
    """
    require_positive("full_images", full_images)
    digits = load_digits(size=image_size)
    return SupervisedTask(
        name=name,
        model=model,
        training_data=digits.training,
        validation_data=digits.validation,
        loss_function=functional.cross_entropy,
        space=image_space(),
        full_samples=full_images,
        defaults={
            "learning_rate": learning_rate,
            "weight_decay": 1e-4,
            "optimizer": optimizer,
            "beta1": 0.9,
            "beta2": 0.999,
            "cooldown_fraction": 0.5,
        },
        sample_unit="images",
        batch_size=64,
        augment=shift_images,
        data_fingerprint=f"{digits.sha256} {settings}",
    )
