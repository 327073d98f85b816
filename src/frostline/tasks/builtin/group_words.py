"""The task ``group-words``: the running product of words over a finite group, tracked by a DeltaProduct model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, cast

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from torch import Tensor
from torch.nn import functional
from torch.utils.data import TensorDataset

from frostline.errors import OptionError
from frostline.inputs.whole_numbers import shown
from frostline.search.spaces.space import SearchSpace
from frostline.seeding import derive_seed
from frostline.tasks.checks import require_positive
from frostline.tasks.data.groups import multiplication_table, random_words
from frostline.tasks.models.delta_product import DeltaProductModel, DeltaProductSettings
from frostline.training.supervised.supervised_task import SupervisedTask

if TYPE_CHECKING:
    from torch import nn

    from frostline.records import Configuration

_BATCH_SIZE = 32
_HEAD_WIDTH = 16
# So many words take 60 MB at a length of 128, and no search sees one of them more than a few times.
_MOST_WORDS = 2**15
_NUM_VALIDATION_WORDS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class _Words:
    """Words to train on, and longer ones to validate with."""

    training: TensorDataset
    validation: TensorDataset
    num_elements: int


# Eight arguments: each is an option of the command line, where a settings object cannot be written.
def group_words(
    *,
    group: str = "S3",
    length: int = 32,
    validation_length: int = 128,
    num_blocks: int = 2,
    width: int = 32,
    num_householders: int | None = 2,
    gated: bool | None = False,
    full_words: int = 16_384,
) -> SupervisedTask:
    """Return the task of telling, at each place of a word over a group, the product of the elements up to there.

    ``group`` is "S2" to "S5", "D3" to "D60" (dihedral), or "Z2" to "Z120"; words over Z2 are parity. Trained on words of
    ``length``, validated on those of ``validation_length``, and scored by the share of right products on the latter, at
    all places. With ``num_householders`` or ``gated`` at None (null on the command line), it is searched. Heads are 16
    wide. Units: ``full_words`` is the full budget in words. AdamW, gradients clipped to a norm of 1.
    Raises: OptionError if there is no such group, or an option is out of range.
    """
    for name, value in (("length", length), ("full_words", full_words), ("width", width)):
        require_positive(name, value)
    if width % _HEAD_WIDTH:
        raise OptionError(
            f"width is {width}, but must be a multiple of {_HEAD_WIDTH}, which is the width of a head."
        )
    require_positive("validation_length", validation_length)
    if validation_length < length:
        raise OptionError(
            f"validation_length is {validation_length}, but must be at least the length that is trained, {length}."
        )
    words = _draw_words(group, length=length, validation_length=validation_length, num_words=full_words)
    settings = DeltaProductSettings(
        num_blocks=num_blocks, num_heads=width // _HEAD_WIDTH, width=width, vocabulary_size=words.num_elements
    )
    architecture = _architecture(num_householders, gated)
    return SupervisedTask(
        name="group-words",
        model=partial(_build_model, settings),
        training_data=words.training,
        validation_data=words.validation,
        loss_function=product_loss,
        score_function=token_accuracy,
        direction="maximize",
        metric="token accuracy",
        space=_space({name: values for name, values in architecture.items() if len(values) > 1}),
        full_samples=full_words,
        defaults={
            "learning_rate": 1e-2,
            "weight_decay": 1e-2,
            "beta1": 0.9,
            "beta2": 0.95,
            "warmup_fraction": 0.05,
            "cooldown_fraction": 0.3,
            "largest_beta": 2.0,
            **{name: values[0] for name, values in architecture.items()},
        },
        sample_unit="words",
        batch_size=_BATCH_SIZE,
        gradient_clip_norm=1.0,
        data_fingerprint=f"{group} {length} {validation_length} {settings}",
    )


def product_loss(logits: Tensor, products: Tensor) -> Tensor:
    """Return the mean cross-entropy of the products, in nats per place."""
    return functional.cross_entropy(logits.flatten(0, 1), products.flatten())


def token_accuracy(logits: Tensor, products: Tensor) -> Tensor:
    """Return the share of places whose product is the most likely one."""
    return (logits.argmax(dim=-1) == products).to(logits.dtype).mean()


def _draw_words(group: str, *, length: int, validation_length: int, num_words: int) -> _Words:
    table = multiplication_table(group)
    training = random_words(
        table,
        num_words=max(_BATCH_SIZE, min(num_words, _MOST_WORDS)),
        length=length,
        seed=derive_seed(0, "group-words", "training"),
    )
    validation = random_words(
        table,
        num_words=_NUM_VALIDATION_WORDS,
        length=validation_length,
        seed=derive_seed(0, "group-words", "validation"),
    )
    return _Words(
        training=TensorDataset(*training), validation=TensorDataset(*validation), num_elements=len(table)
    )


def _architecture(num_householders: int | None, gated: bool | None) -> dict[str, tuple[int | bool, ...]]:
    """Return the values of the architecture that may be taken, the default first."""
    if num_householders is not None:
        require_positive("num_householders", num_householders)
    if gated is not None and not isinstance(gated, bool):
        raise OptionError(f"gated is {shown(gated)}, but must be true, false or null, which searches both.")
    return {
        "num_householders": (2, 1, 3) if num_householders is None else (num_householders,),
        "gated": (False, True) if gated is None else (gated,),
    }


def _space(architecture: dict[str, tuple[int | bool, ...]]) -> SearchSpace:
    distributions: dict[str, BaseDistribution] = {
        "learning_rate": FloatDistribution(1e-4, 1e-1, log=True),
        "weight_decay": FloatDistribution(1e-4, 1.0, log=True),
        "beta2": FloatDistribution(0.9, 0.999),
        "warmup_fraction": FloatDistribution(0.02, 0.3),
        "cooldown_fraction": FloatDistribution(0.05, 0.6),
        # Up to 1 no step reflects. Two values and no range: configurations are trained together where these agree.
        "largest_beta": CategoricalDistribution((2.0, 1.0)),
        **{name: CategoricalDistribution(sorted(values)) for name, values in architecture.items()},
    }
    return SearchSpace(distributions=distributions)


def _build_model(settings: DeltaProductSettings, configuration: Configuration) -> nn.Module:
    # The model says what of them is out of range.
    values = configuration.hyperparameters
    return DeltaProductModel(
        replace(
            settings,
            num_householders=cast("int", values["num_householders"]),
            gated=cast("bool", values["gated"]),
            largest_beta=cast("float", values["largest_beta"]),
        )
    )
