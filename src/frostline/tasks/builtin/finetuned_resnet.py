"""The task ``finetuned-resnet``: a small ResNet that knows the digits 0 to 4, fine-tuned to 5 to 9."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from torch import nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from frostline.records import Configuration, Value
from frostline.tasks.builtin.own_checkpoints import own_checkpoint
from frostline.tasks.checks import require_one_of, require_positive
from frostline.tasks.data.digits import load_digits
from frostline.tasks.data.images import shift_images
from frostline.tasks.models.lora import LORA_DEFAULTS, require_peft, with_lora
from frostline.tasks.models.resnet import ResNet, ResNetSettings
from frostline.tasks.spaces import FINETUNING_DEFAULTS, finetuning_space
from frostline.training.supervised.supervised_task import SupervisedTask

_IMAGE_SIZE = 8
_NUM_CLASSES = 5
_BATCH_SIZES = (8, 16, 32)
_NEW_MODULES = ("head",)
# The stem has none: with few channels it would be all adapter.
_TARGETS = "convolution_1,convolution_2"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Model:
    """What is built for every configuration: a picklable function of it."""

    settings: ResNetSettings
    adapter: Literal["none", "lora"] = "none"

    def __call__(self, configuration: Configuration) -> nn.Module:
        """Return the model at random weights, with its adapters."""
        model = ResNet(self.settings)
        return model if self.adapter == "none" else with_lora(model, configuration, new_modules=_NEW_MODULES)


def finetuned_resnet(
    *,
    adapter: Literal["none", "lora"] = "none",
    weights: Literal["pretrained", "random"] = "pretrained",
    widths: Sequence[int] = (16, 16, 32, 32, 64, 64),
    full_images: int = 64 * 16,
    pretraining_images: int = 200 * 32,
) -> SupervisedTask:
    """Return the task of fine-tuning to the digits 5 to 9 a ResNet of eight layers that was trained on 0 to 4.

    It is pretrained once, on ``pretraining_images``, and kept in the cache; its head is new. Scored by the loss on
    digits held out. With ``adapter`` "lora" the weights stay, and the head and adapters beside the blocks' convolutions are
    trained. With ``weights`` "random" all is the same, but nothing was pretrained.
    Raises: TaskError if ``peft`` is missing; OptionError if a number makes no model.
    """
    require_one_of("adapter", adapter, ("none", "lora"))
    require_one_of("weights", weights, ("pretrained", "random"))
    for name, value in (("full_images", full_images), ("pretraining_images", pretraining_images)):
        require_positive(name, value)
    if adapter == "lora":
        require_peft()
    settings = ResNetSettings(widths=tuple(widths), num_classes=_NUM_CLASSES)
    defaults: dict[str, Value] = {**FINETUNING_DEFAULTS}
    choices: dict[str, tuple[float, ...]] = {}
    if adapter == "lora":
        defaults |= {**LORA_DEFAULTS, "target_modules": _TARGETS}
        choices = {"lora_rank": (2, 8), "lora_alpha": (4, 16, 64)}
    training, validation, sha256 = _digits(_NUM_CLASSES)
    task = SupervisedTask(
        name="finetuned-resnet",
        model=_Model(settings=settings, adapter=adapter),
        training_data=training,
        validation_data=validation,
        loss_function=functional.cross_entropy,
        metric="validation loss",
        space=finetuning_space(batch_sizes=_BATCH_SIZES, choices=choices),
        full_samples=full_images,
        defaults=defaults,
        sample_unit="images",
        batch_size=16,
        gradient_clip_norm=1.0,
        augment=shift_images,
        data_fingerprint=f"{sha256} 5 to 9 {settings}",
    )
    if weights == "random":
        return task
    return replace(
        task, pretrained=own_checkpoint(_pretraining(settings, pretraining_images)), new_modules=_NEW_MODULES
    )


def _pretraining(settings: ResNetSettings, full_images: int) -> SupervisedTask:
    """Return the task of training the same model on the digits 0 to 4."""
    training, validation, sha256 = _digits(0)
    return SupervisedTask(
        name="digits-0-to-4",
        model=_Model(settings=settings),
        training_data=training,
        validation_data=validation,
        loss_function=functional.cross_entropy,
        space=finetuning_space(batch_sizes=_BATCH_SIZES, choices={}),
        full_samples=full_images,
        defaults=FINETUNING_DEFAULTS | {"learning_rate": 3e-3, "batch_size": 32},
        sample_unit="images",
        augment=shift_images,
        data_fingerprint=f"{sha256} 0 to 4 {settings}",
    )


def _digits(first: int) -> tuple[TensorDataset, TensorDataset, str]:
    """Return the images of the five classes from ``first`` on, counted from 0: those to train on, and those held out."""
    digits = load_digits(size=_IMAGE_SIZE)
    parts = []
    for data in (digits.training, digits.validation):
        images, targets = data.tensors
        chosen = (targets >= first) & (targets < first + _NUM_CLASSES)
        parts.append(TensorDataset(images[chosen], targets[chosen] - first))
    return parts[0], parts[1], digits.sha256
