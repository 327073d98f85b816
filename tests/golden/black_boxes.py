"""Training functions whose scores are exact everywhere: sums and products of small whole numbers and powers of two."""

from __future__ import annotations

from collections.abc import Iterator

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

import frostline

SPACE = frostline.SearchSpace(
    distributions={
        "rate": FloatDistribution(1e-4, 1.0, log=True),
        "momentum": FloatDistribution(0.0, 0.99),
        "width": IntDistribution(8, 64),
        "optimizer": CategoricalDistribution(["Adam", "SGD"]),
    }
)
SCALES = frostline.SearchSpace(
    distributions={
        "rate": FloatDistribution(1e-4, 1.0, log=True),
        "momentum": FloatDistribution(0.0, 0.99),
    }
)
LADDER = frostline.Ladder.explicit([(1, 100), (2, 100), (2, 300), (4, 900)], num_layers=4, full_samples=900)


def bowl(configuration: frostline.Configuration, fidelity: frostline.Fidelity) -> Iterator[tuple[int, float]]:
    """Yield a curve that falls with the samples; the lower rungs rank a little otherwise, and some diverge."""
    rate, momentum = float(configuration["rate"]), float(configuration["momentum"])
    if rate > 0.7:
        yield fidelity.samples // 2, 8.0
        yield fidelity.samples, float("nan")
        return
    misled = (4 - fidelity.trainable_layers) * 0.0625
    distance = abs(rate - 0.05) * 4 + abs(momentum - 0.75) + misled * (configuration.number % 3)
    for quarter in (2, 4):
        yield fidelity.samples * quarter // 4, distance + 100 / (fidelity.samples * quarter)


def failing(configuration: frostline.Configuration, fidelity: frostline.Fidelity) -> float:
    """Return a score to maximise; every seventh configuration raises."""
    if configuration.number % 7 == 3:
        raise ValueError(f"no training of {configuration.number}")
    return (
        float(configuration["width"]) / 64 - abs(float(configuration["momentum"]) - 0.5) * fidelity.samples / 900
    )
