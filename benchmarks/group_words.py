"""Words over finite groups, tracked by DeltaProduct models: architectures tuned at the same budget, over several seeds.

    python benchmarks/group_words.py [--seeds 5] [--groups Z2,S3,D4] [--json FILE]

The task is the built-in ``group-words``, validated on words three times as long as those trained. A search is what
`frostline tune` does: its default ladder and sampling, the task's own configuration first, a budget in full trainings; at a
budget of 1 it is the task's own configuration alone. Printed is the share of right products of the best configuration that
was trained in full, and that of the task's own. What stands in FILE already is not measured again: a run that was stopped
goes on.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from statistics import fmean

import torch
from rich.console import Console
from rich.table import Table

import frostline
from frostline.records import Status
from frostline.tasks.builtin.group_words import group_words

VALIDATED_TIMES = 3


@dataclass(frozen=True, kw_only=True)
class Case:
    """A group, a model that may track its words, and what its search may cost."""

    group: str
    num_blocks: int
    num_householders: int
    width: int
    length: int
    words: int
    budget: float


SHORT = {"width": 32, "length": 16, "words": 9600, "budget": 4.0}
MIDDLE = {"width": 32, "length": 16, "words": 19_200, "budget": 4.0}
# Two blocks take long to find how to track a dihedral group: there is time for one training each.
LONG = {"width": 64, "length": 12, "words": 76_800, "budget": 1.0}
CASES = (
    Case(group="Z2", num_blocks=1, num_householders=1, **SHORT),
    Case(group="S3", num_blocks=1, num_householders=1, **SHORT),
    Case(group="S3", num_blocks=1, num_householders=2, **SHORT),
    Case(group="D4", num_blocks=1, num_householders=1, **MIDDLE),
    Case(group="D4", num_blocks=2, num_householders=1, **MIDDLE),
    Case(group="D4", num_blocks=1, num_householders=1, **LONG),
    Case(group="D4", num_blocks=2, num_householders=1, **LONG),
)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a search found: ``score`` of its best configuration, ``own`` of the task's own."""

    case: Case
    seed: int
    score: float
    own: float
    configurations: int
    seconds: float


def tuned(case: Case, *, seed: int) -> Outcome:
    task = group_words(
        group=case.group,
        length=case.length,
        validation_length=VALIDATED_TIMES * case.length,
        num_blocks=case.num_blocks,
        width=case.width,
        num_householders=case.num_householders,
        full_words=case.words,
    )
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        result = frostline.tune_task(
            task,
            study="words",
            plan=frostline.SearchPlan(budget=str(case.budget), seed=seed),
            training=frostline.TrainingOptions(threads=1, runs=Path(folder)),
            storage=":memory:",
            observer=frostline.SILENT,
        )
    own = [
        each.score
        for each in result.history.evaluations()
        if each.number == 0 and each.status is Status.FINISHED and each.score is not None
    ]
    return Outcome(
        case=case,
        seed=seed,
        score=result.score,
        own=own[-1],
        configurations=len(result.history.configurations),
        seconds=time.perf_counter() - begin,
    )


def table(outcomes: Iterable[Outcome]) -> Table:
    shown = Table("group", "blocks", "steps a token", "words", "best", "each seed", "own configuration", "seconds")
    rows = list(outcomes)
    for case in dict.fromkeys(each.case for each in rows):
        seeds = [each for each in rows if each.case == case]
        shown.add_row(
            case.group,
            str(case.num_blocks),
            str(case.num_householders),
            f"{case.words:,}",
            f"{fmean(each.score for each in seeds):.3f}",
            " ".join(f"{each.score:.3f}" for each in seeds),
            f"{fmean(each.own for each in seeds):.3f}",
            f"{fmean(each.seconds for each in seeds):.0f}",
        )
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--groups", default="Z2,S3,D4")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    kept = json.loads(options.json.read_text()) if options.json is not None and options.json.exists() else []
    outcomes = [Outcome(**{**row, "case": Case(**row["case"])}) for row in kept]
    measured = {(each.case, each.seed) for each in outcomes}
    wanted = [each for each in CASES if each.group in options.groups.split(",")]
    for seed, case in product(range(options.seeds), wanted):
        if (case, seed) in measured:
            continue
        outcomes.append(tuned(case, seed=seed))
        print(outcomes[-1], flush=True)
        if options.json is not None:
            options.json.write_text(json.dumps([asdict(each) for each in outcomes], indent=1) + "\n")
    Console().print(table(outcomes))


if __name__ == "__main__":
    main()
