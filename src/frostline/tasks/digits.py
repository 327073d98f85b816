"""scikit-learn's handwritten digits: 1,797 images of 8x8 pixels, shipped with the package."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch.nn import functional
from torch.utils.data import TensorDataset

from frostline.errors import TaskError
from frostline.tasks.options import require_positive

_VALIDATION_ONE_IN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Digits:
    """The digits to train on and those held out; inputs are float32 of shape (1, size, size), standardised."""

    training: TensorDataset
    validation: TensorDataset
    sha256: str


def load_digits(*, size: int) -> Digits:
    """Return the digits at ``size`` x ``size`` pixels, a fixed third of them held out.

    Raises: TaskError if scikit-learn is missing.
    """
    require_positive("image_size", size)
    try:
        from sklearn import datasets
    except ImportError:
        raise TaskError(
            "the digits come with scikit-learn, which is not installed: pip install 'frostline[tasks]'."
        ) from None
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
