from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frostline.errors import HyperparameterError
from frostline.records import Configuration
from frostline.training.steps.schedules import (
    ConstantSchedule,
    WarmupCooldownSchedule,
    schedule_from_hyperparameters,
    share_done,
)

SHARES = st.floats(0.0, 1.0, exclude_max=True)


@given(warmup=st.floats(0, 1), cooldown=st.floats(0, 1), share=SHARES)
def test_warmup_cooldown_rises_stays_and_falls(warmup: float, cooldown: float, share: float) -> None:
    if warmup + cooldown > 1:
        warmup, cooldown = 1 - warmup, 1 - cooldown
    factor = WarmupCooldownSchedule(warmup_fraction=warmup, cooldown_fraction=cooldown)(share)
    assert 0.0 <= factor <= 1.0
    if warmup <= share <= 1 - cooldown:
        assert factor == pytest.approx(1.0)
    elif share < warmup:
        assert factor == pytest.approx(min(share / warmup, 1.0))
    else:
        assert factor == pytest.approx(min((1 - share) / cooldown, 1.0))


def test_steps_take_the_mean_of_a_linear_schedule_so_none_is_wasted() -> None:
    schedule = WarmupCooldownSchedule(warmup_fraction=0.25, cooldown_fraction=0.5)
    shares = [share_done(samples_seen=4 * step, batch_samples=4, horizon_samples=64) for step in range(16)]
    factors = [schedule(share) for share in shares]
    assert min(factors) > 0
    assert factors[:4] == [0.125, 0.375, 0.625, 0.875]
    assert sum(factors) == pytest.approx(16 * (1 - 0.25 / 2 - 0.5 / 2))


@given(seen=st.integers(0, 10**12), batch=st.integers(1, 10**6), horizon=st.integers(1, 10**12))
def test_the_share_is_always_below_one(seen: int, batch: int, horizon: int) -> None:
    assert 0.0 <= share_done(samples_seen=seen, batch_samples=batch, horizon_samples=horizon) < 1.0


def test_schedule_from_hyperparameters() -> None:
    def of(**hyperparameters: float) -> object:
        return schedule_from_hyperparameters(Configuration(number=0, hyperparameters=hyperparameters))

    assert of(learning_rate=0.1) == ConstantSchedule()
    assert of(warmup_fraction=0.1) == WarmupCooldownSchedule(warmup_fraction=0.1)
    both = of(warmup_fraction=0.1, cooldown_fraction=0.9)
    assert both == WarmupCooldownSchedule(warmup_fraction=0.1, cooldown_fraction=0.9)
    assert ConstantSchedule()(0.3) == 1.0


@pytest.mark.parametrize(
    ("hyperparameters", "words"),
    [
        (
            {"warmup_fraction": 0.6, "cooldown_fraction": 0.5},
            "0.6 and cooldown_fraction 0.5 add up to more than the",
        ),
        ({"warmup_fraction": -0.1}, "warmup_fraction is -0.1, but is a share of the training: it must be in 0..1"),
        ({"cooldown_fraction": float("nan")}, "cooldown_fraction is nan"),
        ({"cooldown_fraction": "long"}, "cooldown_fraction is 'long', but must be a number in 0..1"),
        ({"warmup_fraction": True}, "warmup_fraction is True, but must be a number"),
    ],
)
def test_impossible_fractions_are_refused(hyperparameters: dict[str, float], words: str) -> None:
    with pytest.raises(HyperparameterError, match=words) as caught:
        schedule_from_hyperparameters(Configuration(number=0, hyperparameters=hyperparameters))
    assert "\n" not in str(caught.value)
