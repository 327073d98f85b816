"""The task ``cifar100-resnet18``: torchvision's ResNet-18 on CIFAR-100, as the method trains it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from frostline.errors import TaskError
from frostline.tasks.checks import require_positive
from frostline.tasks.data.images import shift_images
from frostline.tasks.spaces import image_space
from frostline.training.supervised.supervised_task import SupervisedTask

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from frostline.records import Configuration

_NUM_CLASSES = 100
_VALIDATION_ONE_IN = 10

# Of the training images' red, green and blue, in [0, 1].
_MEAN = (0.5071, 0.4865, 0.4409)
_SPREAD = (0.2673, 0.2564, 0.2762)


def cifar100_resnet18(*, directory: str | os.PathLike[str] = "data", num_epochs: int = 20) -> SupervisedTask:
    """Return the task of training ResNet-18 on the CIFAR-100 that lies in ``directory``; nothing is downloaded.

    Scored by the error rate on a tenth of the training images, held out: the test images stay untouched by the
    search. The full budget is the method's, 20 epochs. Images are mirrored and moved by up to four pixels as
    augmentation.
    Raises: TaskError if torchvision or the data are missing.
    """
    require_positive("num_epochs", num_epochs)
    images, labels = _load(Path(directory))
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0)).numpy()
    held_out = len(images) // _VALIDATION_ONE_IN
    training = ColourImages(images[order[held_out:]], labels[order[held_out:]])
    return SupervisedTask(
        name="cifar100-resnet18",
        model=_build_resnet18,
        training_data=training,
        validation_data=ColourImages(images[order[:held_out]], labels[order[:held_out]]),
        loss_function=functional.cross_entropy,
        space=image_space(),
        full_samples=num_epochs * len(training),
        defaults={"learning_rate": 1e-3, "weight_decay": 1e-4, "optimizer": "Adam", "beta1": 0.9, "beta2": 0.999},
        score_function=error_rate,
        sample_unit="images",
        batch_size=128,
        augment=mirror_and_shift,
        data_fingerprint=hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest(),
    )


def _torchvision() -> Any:
    try:
        import torchvision
    except ImportError as error:
        raise TaskError(
            f"cifar100-resnet18 needs the package 'torchvision' ({error}): pip install 'frostline[vision]'."
        ) from None
    # A torchvision that was built for another torch fails while it registers its operators.
    except (RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise TaskError(
            f"torchvision does not load beside torch {torch.__version__} ({reason}): install the one made for it."
        ) from None
    return torchvision


def _load(directory: Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the training images, uint8 of shape (50000, 32, 32, 3), and their labels."""
    torchvision = _torchvision()
    try:
        data = torchvision.datasets.CIFAR100(root=str(directory), train=True, download=False)
    except (RuntimeError, OSError):
        raise TaskError(
            f"CIFAR-100 is not in {directory.absolute()}, or not whole, and frostline downloads nothing: fetch it "
            f"with torchvision.datasets.CIFAR100({str(directory)!r}, download=True), or give its directory."
        ) from None
    return data.data, np.asarray(data.targets, dtype=np.int64)


class ColourImages(Dataset[tuple[Tensor, Tensor]]):
    """Images kept as bytes, a quarter of what floats take, and standardised as they are asked for.

    An item is (image, label): float32 of shape (3, rows, columns), and an int64 scalar.
    """

    def __init__(self, images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> None:
        self.images = torch.from_numpy(images)
        self.labels = torch.from_numpy(labels)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return the image ``index``."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
        """Return several images, standardised in one go."""
        chosen = torch.as_tensor(indices)
        images = self.images[chosen].movedim(-1, 1).float() / 255
        images = (images - torch.tensor(_MEAN)[:, None, None]) / torch.tensor(_SPREAD)[:, None, None]
        return list(zip(images.contiguous(), self.labels[chosen], strict=True))


def mirror_and_shift(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return images of shape (batch, channels, rows, columns), half of them mirrored, moved by up to 4 pixels."""
    mirrored = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    images = torch.where(mirrored, images.flip(-1), images)
    return shift_images(images, generator, by=4)


def error_rate(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the share of wrong answers."""
    return (logits.argmax(dim=-1) != labels).float().mean()


def _build_resnet18(_configuration: Configuration) -> nn.Module:
    model: nn.Module = _torchvision().models.resnet18(num_classes=_NUM_CLASSES)
    return model
