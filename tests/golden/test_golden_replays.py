"""Pinned: every step of every method that is compared by replay, on a recorded table and on a synthetic one."""

from __future__ import annotations

import math
from functools import cache

import pytest

import frostline
from frostline import Ladder
from frostline.audit.csv_table import read_table
from frostline.audit.landscape import Landscape
from frostline.audit.recommendation import recommend
from frostline.research.replay.methods import (
    Method,
    Replayed,
    SearchMethod,
    halving,
    realigned,
    recommended,
    usual_methods,
)
from frostline.research.replay.recorded import RecordedTask, goal_of
from frostline.research.replay.simulation import replay
from frostline.research.replay.synthetic import hartmann
from frostline.research.replay.synthetic_tables import SyntheticGrid, synthetic_landscape
from frostline.research.replay.trace import Patience, Trace
from frostline.search.proposals.sampling import TPE
from tests.golden.golden_files import TABLES, GoldenFiles, columns, rounded

NUM_AUDITED = 16
CONFIGURATIONS = 18


@cache
def table_of(name: str) -> Landscape:
    if name == "digits-mlp":
        return read_table(TABLES / "digits-mlp.csv.gz")
    return synthetic_landscape(
        hartmann(3), configurations=80, seed=0, grid=SyntheticGrid(num_layers=4, num_budgets=6), num_repeats=1
    )


def parts(landscape: Landscape) -> tuple[Landscape, Landscape]:
    """The first configurations, which are audited, and the others, which are searched."""
    numbers = range(landscape.num_configurations)
    audited, searched = numbers[:NUM_AUDITED], numbers[NUM_AUDITED:]
    return landscape.of(audited), landscape.of(searched)


def _learning_halving(ladder: Ladder) -> SearchMethod:
    """Successive halving of what a sampler suggests: its draws go into the trace."""
    return SearchMethod(
        name="halving of TPE's",
        configurations=CONFIGURATIONS,
        build=lambda _: (
            lambda *, configurations: frostline.SuccessiveHalving(ladder=ladder, configurations=configurations)
        ),
        sampling=TPE,
    )


def methods_of(landscape: Landscape) -> list[Method]:
    full = landscape.full
    sizes = {"num_layers": full.trainable_layers, "full_samples": full.samples}
    rungs = [
        (1, full.samples // 2),
        (full.trainable_layers, full.samples // 2),
        (full.trainable_layers, full.samples),
    ]
    ladder = Ladder.explicit(rungs, **sizes)
    continuing = Ladder.explicit([(full.trainable_layers, full.samples // 2), rungs[-1]], **sizes)
    return [
        *usual_methods(landscape, configurations=CONFIGURATIONS),
        halving("halving from one layer on a half", ladder, configurations=CONFIGURATIONS),
        # Of as many that the lowest rung is read.
        realigned("realigned from one layer on a half", ladder, configurations=27),
        recommended(_recommend, configurations=CONFIGURATIONS),
        _learning_halving(continuing),
    ]


def _recommend(audited: Landscape) -> tuple[Ladder, int]:
    chosen = recommend(audited, configurations=CONFIGURATIONS).chosen
    return chosen.ladder, chosen.reduction_factor


def record_of(trace: Trace) -> dict[str, object]:
    """The trace in columns; a loss of what diverged is null."""
    steps = [
        [
            step.index,
            step.run,
            step.fidelity.trainable_layers,
            step.fidelity.samples,
            float(f"{step.loss:.6g}") if math.isfinite(step.loss) else None,
            float(f"{step.seconds:.6g}"),
        ]
        for step in trace.steps
    ]
    names = ("index", "run", "layers", "samples", "loss", "seconds")
    return {**dict(zip(names, columns(steps), strict=True)), "run ends": rounded(trace.run_ends, 6)}


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("table", ["digits-mlp", "hartmann"])
def test_every_step_of_every_method(table: str, workers: int, golden: GoldenFiles) -> None:
    found: dict[str, object] = {}
    for seed in (0, 1):
        audited, searched = parts(table_of(table))
        replayed = Replayed(
            task=RecordedTask(landscape=searched),
            audited=audited,
            seed=seed,
            workers=workers,
            # Good enough that few searches are restarted, and some are.
            patience=Patience(goal=goal_of(searched, share=0.15)),
        )
        for method in methods_of(searched):
            found[f"{method.name}, seed {seed}"] = record_of(method.trace(replayed))
    golden.check(f"replays/{table}-{workers}-workers.json", found, rel=1e-5)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("search", [frostline.AsynchronousHalving, frostline.Hyperband, frostline.Sweep])
def test_every_step_of_searches_that_are_not_compared(search: type, workers: int, golden: GoldenFiles) -> None:
    task = RecordedTask(landscape=parts(table_of("hartmann"))[1])
    full = task.full
    # Continued, from scratch, and continued again: what each costs follows from what it goes on with.
    rungs = [(1, full.samples // 6), (1, full.samples // 2), (4, full.samples // 2), (4, full.samples)]
    ladder = task.snapped(Ladder.explicit(rungs, num_layers=4, full_samples=full.samples))
    trace = replay(
        task,
        lambda *, configurations: search(ladder=ladder, configurations=configurations),
        configurations=60,
        seed=0,
        workers=workers,
    )
    golden.check(f"replays/{search.__name__}-{workers}-workers.json", record_of(trace), rel=1e-5)
