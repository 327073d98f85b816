"""The task ``digits-mlp``: a deep MLP on scikit-learn's handwritten digits."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from torch.nn import functional

from frostline.tasks.digits import load_digits
from frostline.tasks.images import shift_images
from frostline.tasks.mlp import MLPSettings, build_mlp
from frostline.tasks.options import require_positive
from frostline.tasks.spaces import image_space
from frostline.training.supervised import SupervisedTask

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
    Raises: TaskError if scikit-learn is missing.
    """
    settings = MLPSettings(num_hidden_layers=num_hidden_layers, width=width)
    require_positive("full_images", full_images)
    digits = load_digits(size=8)
    return SupervisedTask(
        name="digits-mlp",
        model=partial(_build_mlp, settings),
        training_data=digits.training,
        validation_data=digits.validation,
        loss_function=functional.cross_entropy,
        space=image_space(),
        full_samples=full_images,
        defaults={
            "learning_rate": 1e-3,
            "weight_decay": 1e-4,
            "optimizer": "Adam",
            "beta1": 0.9,
            "beta2": 0.999,
            "cooldown_fraction": 0.5,
        },
        sample_unit="images",
        batch_size=64,
        augment=shift_images,
        data_fingerprint=f"{digits.sha256} {settings}",
    )


def _build_mlp(settings: MLPSettings, _configuration: Configuration) -> nn.Module:
    return build_mlp(settings)
