"""The engine is chosen by the first steps of each, and only where it can matter."""

from __future__ import annotations

import pytest

from frostline.errors import OptionError
from frostline.populations.engines import Engine, EngineTrial


def chosen(shared: float, stacked: float, *, members: int = 4) -> tuple[Engine, list[Engine]]:
    """The engine after so many seconds a step, and the engines of the steps until then."""
    trial, used = EngineTrial(Engine.AUTO), []
    while trial.engine is Engine.AUTO:
        used.append(trial.next())
        trial.took(shared if used[-1] is Engine.SHARED else stacked, members=members)
        assert len(used) < 20
    return trial.engine, used


def test_the_faster_one_is_chosen() -> None:
    assert chosen(0.008, 0.004) == (Engine.STACKED, [Engine.SHARED] * 4 + [Engine.STACKED] * 4)
    assert chosen(0.008, 0.012)[0] is Engine.SHARED


def test_a_gain_within_noise_does_not_count() -> None:
    assert chosen(0.0080, 0.0078)[0] is Engine.SHARED


def test_long_steps_are_not_worth_a_trial() -> None:
    assert chosen(1.0, 0.001) == (Engine.SHARED, [Engine.SHARED] * 4)
    assert chosen(0.016, 0.001, members=4)[0] is Engine.STACKED


def test_the_first_step_of_each_is_warm_up() -> None:
    trial = EngineTrial(Engine.AUTO)
    for seconds in (9.0, 0.008, 0.008, 0.008, 9.0, 0.004, 0.004, 0.004):
        trial.took(seconds, members=4)
    assert trial.engine is Engine.STACKED
    assert trial.why == "8.0 ms a step shared, 4.0 ms stacked"


@pytest.mark.parametrize("engine", [Engine.SHARED, Engine.STACKED, Engine.COMPILED])
def test_what_is_asked_for_is_not_measured(engine: Engine) -> None:
    trial = EngineTrial(engine)
    trial.took(1.0, members=1)
    assert trial.next() is trial.engine is engine


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(
        OptionError, match="engine is 'fast', but must be one of auto, serial, shared, stacked, compiled, captured"
    ):
        Engine.parse("fast")
