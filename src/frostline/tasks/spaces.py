"""The method's search spaces (arXiv 2504.10735, Table 1), its grids widened to ranges where natural, and fine-tuning's."""

from __future__ import annotations

from collections.abc import Mapping

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from frostline.records import Value
from frostline.search.spaces.space import SearchSpace

TRANSFORMER_DEFAULTS = {
    "learning_rate": 4e-4,
    "weight_decay": 0.1,
    "beta1": 0.9,
    "beta2": 0.95,
    "warmup_fraction": 0.1,
    "cooldown_fraction": 0.25,
}
"""LitGPT's for pre-training, with AdamW."""


def transformer_space() -> SearchSpace:
    """Return the space of the 14M Transformer, and the learning rate that its table does not list.

    Its grid: weight decay 0, 1e-6, 1e-4, 1e-2; beta1 0.9, 0.95; beta2 0.95, 0.99; warm-up 0.05, 0.1, 0.25;
    cool-down 0.1, 0.25, 0.5. The upper weight decay is that of LitGPT's pre-training, the warm-up and cool-down
    fractions cannot add up to more than one.
    """
    return SearchSpace(
        distributions={
            "learning_rate": FloatDistribution(1e-4, 3e-2, log=True),
            "weight_decay": FloatDistribution(1e-6, 1e-1, log=True),
            "beta1": FloatDistribution(0.85, 0.98),
            "beta2": FloatDistribution(0.9, 0.999),
            "warmup_fraction": FloatDistribution(0.02, 0.3),
            "cooldown_fraction": FloatDistribution(0.05, 0.6),
        }
    )


def image_space() -> SearchSpace:
    """Return the space of the ResNet; beta1 is the momentum under SGD, and beta2 has no meaning there.

    Its grid: learning rate 1e-4, 1e-3, 1e-2; weight decay 1e-5, 1e-4, 1e-3, 1e-2; Adam or SGD; beta1 and beta2
    0.9, 0.95, 0.99. The learning rate goes up to 0.3 because SGD needs it.
    """
    return SearchSpace(
        distributions={
            "learning_rate": FloatDistribution(1e-4, 0.3, log=True),
            "weight_decay": FloatDistribution(1e-5, 1e-2, log=True),
            "optimizer": CategoricalDistribution(("Adam", "SGD")),
            "beta1": FloatDistribution(0.85, 0.99),
            "beta2": FloatDistribution(0.9, 0.999),
        }
    )


FINETUNING_DEFAULTS: dict[str, Value] = {
    "learning_rate": 1e-3,
    "layer_decay": 1.0,
    "weight_decay": 1e-2,
    "warmup_fraction": 0.1,
    "cooldown_fraction": 0.5,
}
"""torch's own for AdamW, and a schedule that most would choose."""


def finetuning_space(*, batch_sizes: tuple[int, ...], choices: Mapping[str, tuple[float, ...]]) -> SearchSpace:
    """Return the space of somebody who knows the names and nothing else, with further ``choices`` of the model.

    The learning rate spans five decades: the upper end wrecks a checkpoint, the lower one leaves it as it was.
    """
    distributions: dict[str, BaseDistribution] = {
        "learning_rate": FloatDistribution(1e-6, 1e-1, log=True),
        "layer_decay": FloatDistribution(0.5, 1.0),
        "weight_decay": FloatDistribution(1e-6, 1.0, log=True),
        "warmup_fraction": FloatDistribution(0.0, 0.3),
        "cooldown_fraction": FloatDistribution(0.1, 0.7),
        "batch_size": CategoricalDistribution(batch_sizes),
    }
    # Values and no ranges: configurations are trained together where these agree.
    distributions |= {name: CategoricalDistribution(values) for name, values in choices.items()}
    return SearchSpace(distributions=distributions)
