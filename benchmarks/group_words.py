"""Words over finite groups, tracked by DeltaProduct models: each architecture tuned at the same budget, over several seeds.

    python benchmarks/group_words.py [--seeds 5] [--budget 4] [--groups Z2,S3,D4] [--json FILE]

The task is the built-in ``group-words`` on words of 16 elements, validated on words of 48. A search is what `frostline tune`
does: its default ladder and sampling, the task's own configuration first, a budget in full trainings. Printed is the share
of right products of the best configuration that was trained in full, and that of the task's own. What stands in FILE
already is not measured again: a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

import torch
from rich.console import Console
from rich.table import Table

import frostline
from frostline.records import Status
from frostline.tasks.group_words import group_words

LENGTH, VALIDATION_LENGTH = 16, 48


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A group, and a model that may track its words."""

    group: str
    num_blocks: int
    num_householders: int


ARCHITECTURES = (
    Architecture(group="Z2", num_blocks=1, num_householders=1),
    Architecture(group="S3", num_blocks=1, num_householders=1),
    Architecture(group="S3", num_blocks=1, num_householders=2),
    Architecture(group="D4", num_blocks=1, num_householders=1),
    Architecture(group="D4", num_blocks=2, num_householders=1),
)
# Two layers take longer to find how to track a dihedral group; what is compared is trained on the same number.
FULL_WORDS = {"Z2": 9600, "S3": 9600, "D4": 19_200}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a search found: ``score`` of its best configuration, ``own`` of the task's own."""

    group: str
    num_blocks: int
    num_householders: int
    seed: int
    budget: float
    words: int
    score: float
    own: float
    configurations: int
    seconds: float

    @property
    def architecture(self) -> Architecture:
        return Architecture(group=self.group, num_blocks=self.num_blocks, num_householders=self.num_householders)


def tuned(architecture: Architecture, *, seed: int, budget: float) -> Outcome:
    words = FULL_WORDS[architecture.group]
    task = group_words(
        **asdict(architecture), length=LENGTH, validation_length=VALIDATION_LENGTH, full_words=words
    )
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        result = frostline.tune_task(
            task,
            study="words",
            plan=frostline.SearchPlan(budget=str(budget), seed=seed),
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
        **asdict(architecture),
        seed=seed,
        budget=budget,
        words=words,
        score=result.score,
        own=own[-1],
        configurations=len(result.history.configurations),
        seconds=time.perf_counter() - begin,
    )


def table(outcomes: Iterable[Outcome]) -> Table:
    shown = Table("group", "blocks", "steps a token", "best", "each seed", "own configuration", "seconds")
    rows = list(outcomes)
    for architecture in dict.fromkeys(each.architecture for each in rows):
        seeds = [each for each in rows if each.architecture == architecture]
        shown.add_row(
            architecture.group,
            str(architecture.num_blocks),
            str(architecture.num_householders),
            f"{fmean(each.score for each in seeds):.3f}",
            " ".join(f"{each.score:.3f}" for each in seeds),
            f"{fmean(each.own for each in seeds):.3f}",
            f"{fmean(each.seconds for each in seeds):.0f}",
        )
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--budget", type=float, default=4.0, help="of a search, in full trainings")
    parser.add_argument("--groups", default="Z2,S3,D4")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    kept = json.loads(options.json.read_text()) if options.json is not None and options.json.exists() else []
    outcomes = [Outcome(**row) for row in kept]
    measured = {(each.architecture, each.seed, each.budget) for each in outcomes}
    wanted = [each for each in ARCHITECTURES if each.group in options.groups.split(",")]
    for seed in range(options.seeds):
        for architecture in wanted:
            if (architecture, seed, options.budget) in measured:
                continue
            outcomes.append(tuned(architecture, seed=seed, budget=options.budget))
            print(outcomes[-1], flush=True)
            if options.json is not None:
                options.json.write_text(json.dumps([asdict(each) for each in outcomes], indent=1) + "\n")
    Console().print(table(outcomes))


if __name__ == "__main__":
    main()
