"""Studies and landscapes made by hand: what a report is asked to show, without any training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from frostline.audit.landscape import Landscape
from frostline.records import Configuration, Cost, CurvePoint, Direction, Evaluation, Fidelity, Status
from frostline.report.study_record import StudyRecord
from frostline.search.history import History
from frostline.search.spaces.space import SearchSpace
from frostline.store.terms import TaskReference, Terms, TrainingTerms

RUNGS = ((2, 1000), (4, 3000), (9, 9000))
NASTY = "</script><img src=x onerror=alert(1)><b>"

PLAIN: Mapping[str, BaseDistribution] = {
    "learning_rate": FloatDistribution(1e-4, 1e-1, log=True),
    "optimizer": CategoricalDistribution(["Adam", "SGD"]),
    "width": IntDistribution(8, 64),
}


def drawn(
    distributions: Mapping[str, BaseDistribution], number: int, generator: np.random.Generator
) -> Configuration:
    values = {}
    for name, one in distributions.items():
        place = float(generator.random())
        if isinstance(one, CategoricalDistribution):
            values[name] = one.choices[int(place * len(one.choices))]
        elif isinstance(one, IntDistribution):
            values[name] = int(one.low + place * (one.high - one.low))
        else:
            assert isinstance(one, FloatDistribution)
            values[name] = float(one.low * (one.high / one.low) ** place)
    return Configuration(number=number, hyperparameters=values)


def evaluation(number: int, rung: int, score: float | None, status: Status = Status.FINISHED) -> Evaluation:
    layers, samples = RUNGS[rung]
    curve = () if score is None else tuple(CurvePoint(samples * k // 4, score * (2 - k / 4)) for k in range(1, 5))
    return Evaluation(
        number=number,
        rung=rung,
        fidelity=Fidelity(trainable_layers=layers, samples=samples),
        status=status,
        score=score,
        cost=Cost(seconds=0.1 * samples / 1000, samples=samples),
        curve=curve,
        reason=None if status is Status.FINISHED else f"because of <i>{status}</i>",
    )


def search_record(
    *,
    configurations: int = 27,
    distributions: Mapping[str, BaseDistribution] = PLAIN,
    direction: Direction = "minimize",
    name: str = "study",
    rungs_done: int = 3,
    diverged: int = 0,
    failed: int = 0,
    against: str | None = None,
    varies: bool = False,
) -> StudyRecord:
    """A search by halving in thirds, of which the first ``rungs_done`` rungs have ended.

    What models cost, if they are searched ``against`` it, is the square of their width. If it ``varies``, it is one under a
    budget, in which those climb that are unlike each other.
    """
    generator = np.random.default_rng(0)
    history = History(direction)
    for number in range(configurations):
        history.add_configuration(drawn(distributions, number, generator))
    quality = generator.random(configurations)
    sign = 1 if direction == "minimize" else -1
    alive = list(range(configurations))
    expected = []
    for rung in range(len(RUNGS)):
        expected.append(max(1, configurations // 3**rung))
        if rung < rungs_done:
            for number in alive:
                trouble = None
                if rung == 0 and number < diverged:
                    trouble = Status.DIVERGED
                elif rung == 0 and number < diverged + failed:
                    trouble = Status.FAILED
                score = sign * (float(quality[number]) + 0.1 * float(generator.random()) + 1)
                ended = evaluation(number, rung, None if trouble else score, trouble or Status.FINISHED)
                width = history.configurations[number].get("width")
                if against is not None and isinstance(width, int):
                    ended = replace(ended, model_cost=float(width**2))
                history.finish(ended)
            alive = history.rung(rung, varies=varies).order[: max(1, configurations // 3 ** (rung + 1))]
    space = SearchSpace(distributions=distributions)
    terms = Terms(
        task=name,
        reference=TaskReference(name="my_task.py:task"),
        data="0",
        space=space.fingerprint,
        rungs=tuple(Fidelity(trainable_layers=layers, samples=samples) for layers, samples in RUNGS),
        num_layers=9,
        search="halving",
        is_sweep=False,
        sampler="random",
        seed=0,
        direction=direction,
        sample_unit="images",
        expected=() if varies else tuple(expected),
        against=against,
        training=TrainingTerms(horizon="rung", precision="float32", num_validations=4),
    )
    return StudyRecord(name=name, storage="sqlite:///studies.db", terms=terms, history=history, space=space)


def landscape(
    *,
    configurations: int = 16,
    layers: tuple[int, ...] = (1, 2, 4),
    samples: tuple[int, ...] = (250, 500, 1000),
    direction: Direction = "minimize",
    distributions: Mapping[str, BaseDistribution] = PLAIN,
    task: str = "my task",
    diverged: int = 0,
    repeats: int = 1,
    noise: float = 0.5,
) -> Landscape:
    """Scores that rank the better the more layers and samples there are; the first ``diverged`` diverged everywhere."""
    generator = np.random.default_rng(1)
    drawn_configurations = tuple(drawn(distributions, number, generator) for number in range(configurations))
    quality = generator.random(configurations)
    share = np.outer(layers, samples) / (layers[-1] * samples[-1])
    shape = (configurations, len(layers), len(samples))
    scores = 1 + quality[:, None, None] + noise * (1 - share) * generator.random(shape)
    sign = 1 if direction == "minimize" else -1
    scores = sign * scores
    scores[:diverged] = np.nan
    seconds = np.broadcast_to(10 * share, shape).copy()
    return Landscape(
        task=task,
        reference="my_task.py:task",
        space=SearchSpace(distributions=distributions),
        direction=direction,
        sample_unit="images",
        horizon="full",
        seed=0,
        configurations=drawn_configurations,
        layers=layers,
        samples=samples,
        scores=scores,
        seconds=seconds,
        peak_bytes=np.full(shape, 2.0**20),
        flops=np.full(shape, np.nan),
        repeats=scores[None, :, -1, -1].repeat(repeats, axis=0)
        + sign * 0.01 * generator.random((repeats, configurations)),
    )
