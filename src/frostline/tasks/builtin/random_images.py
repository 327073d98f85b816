"""The task ``random-images``: a well-known image model on random images, to see what it costs; there is nothing to learn."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from frostline.errors import OptionError, TaskError
from frostline.seeding import derive_seed
from frostline.tasks.checks import require_positive
from frostline.tasks.spaces import image_space
from frostline.training.supervised.supervised_task import SupervisedTask

if TYPE_CHECKING:
    from frostline.records import Configuration

_NUM_IMAGES = 65_536
_NUM_VALIDATION_IMAGES = 64

# Blocks in each of the four stages, and whether they are bottlenecks. Source: He et al. 2016, arXiv:1512.03385, Table 1.
_RESNETS = {
    "resnet-18": ((2, 2, 2, 2), False),
    "resnet-34": ((3, 4, 6, 3), False),
    "resnet-50": ((3, 4, 6, 3), True),
    "resnet-101": ((3, 4, 23, 3), True),
    "resnet-152": ((3, 8, 36, 3), True),
}
_VIT = "vit-b"
_VIT_PATCH = 16


class RandomImages(Dataset[tuple[Tensor, Tensor]]):
    """Images of noise, drawn when they are asked for, each from a seed of its own.

    An item is (image, label): float32 of shape (3, size, size), and an int64 scalar.
    """

    def __init__(self, *, size: int, num_classes: int, num_images: int = _NUM_IMAGES) -> None:
        self.size = size
        self.num_classes = num_classes
        self.num_images = num_images

    def __len__(self) -> int:
        return self.num_images

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return the image ``index``; IndexError beyond the last one ends an iteration."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        generator = torch.Generator().manual_seed(derive_seed(0, "random-images", index))
        image = torch.randn(3, self.size, self.size, generator=generator)
        return image, torch.randint(self.num_classes, (), generator=generator)


def random_images(
    *,
    model: Literal["resnet-18", "resnet-34", "resnet-50", "resnet-101", "resnet-152", "vit-b"] = "resnet-18",
    image_size: int = 224,
    classes: int = 1000,
    batch_size: int = 32,
) -> SupervisedTask:
    """Return the task of training transformers' ResNet or ViT-B/16 on random images: for its costs, not for its score.

    The model is made from its configuration; nothing is downloaded. Adam, or whatever the space offers.
    Raises: TaskError if transformers is missing; OptionError for a model that does not exist, a number below 1, or images
        that ViT's patches of 16 pixels do not fill.
    """
    if model not in _RESNETS and model != _VIT:
        raise OptionError(f"model is {model!r}, but must be {', '.join(map(repr, _RESNETS))} or {_VIT!r}.")
    for name, value in (("image_size", image_size), ("classes", classes), ("batch_size", batch_size)):
        require_positive(name, value)
    if model == _VIT and image_size % _VIT_PATCH:
        raise OptionError(
            f"image_size is {image_size}, but {_VIT} needs a multiple of its patches' {_VIT_PATCH} pixels."
        )
    _transformers()
    images = partial(RandomImages, size=image_size, num_classes=classes)
    return SupervisedTask(
        name="random-images",
        model=partial(_build_model, model, image_size, classes),
        training_data=images(),
        validation_data=images(num_images=_NUM_VALIDATION_IMAGES),
        loss_function=functional.cross_entropy,
        space=image_space(),
        full_samples=max(_NUM_IMAGES, batch_size),
        defaults={
            "learning_rate": 1e-3,
            "weight_decay": 1e-4,
            "optimizer": "Adam",
            "beta1": 0.9,
            "beta2": 0.999,
            # Named here, it can be set without building a model to see whether anybody reads it.
            "batch_size": batch_size,
        },
        sample_unit="images",
        batch_size=batch_size,
        validation_batch_size=batch_size,
        num_calibration_batches=1,
        data_fingerprint=f"{model} {image_size} {classes}",
    )


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise TaskError(
            f"random-images needs the package 'transformers' ({error}): pip install 'frostline[hf]'."
        ) from None
    return transformers


def _build_model(model: str, image_size: int, classes: int, _configuration: Configuration) -> nn.Module:
    transformers = _transformers()
    built: nn.Module
    if model == _VIT:
        settings = transformers.ViTConfig(image_size=image_size, patch_size=_VIT_PATCH, num_labels=classes)
        built = transformers.ViTForImageClassification(settings)
        return built
    depths, has_bottlenecks = _RESNETS[model]
    narrowest = 256 if has_bottlenecks else 64
    settings = transformers.ResNetConfig(
        depths=list(depths),
        hidden_sizes=[narrowest * 2**stage for stage in range(4)],
        layer_type="bottleneck" if has_bottlenecks else "basic",
        num_labels=classes,
    )
    built = transformers.ResNetForImageClassification(settings)
    return built
