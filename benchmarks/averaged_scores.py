"""Record what the rungs of a search are scored by, for the configurations of the recorded tables.

    OMP_NUM_THREADS=1 python benchmarks/averaged_scores.py [TABLE ...]

The tables hold the scores of trainings as they are. Under a budget the rungs below the full training are scored by the mean
of the weights so far (docs/decisions/0047-the-mean-of-the-weights.md). This trains each configuration once more, up to 40 %
of the samples with all layers and to 10 % with as many as the usual ladder begins with, and writes those scores to
tables/averaged: a table that is there is left alone. What a training costs is in the table.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path

from frostline.process import prepare_process

prepare_process()

import torch
from contest import HERE, Table, recorded, table_of

from frostline.records import Evaluation, Fidelity, Job
from frostline.run.execution.options import TrainingOptions
from frostline.search.ladder import Ladder
from frostline.store.terms import TaskReference
from frostline.tasks.loading import task_named
from frostline.training.serial import train_serially

FOLDER = HERE / "tables" / "averaged"
COLUMNS = ("configuration", "layers", "samples", "score")
ALL_LAYERS = (0.1, 0.2, 0.4)
"""Of the samples: the rungs of the usual ladder, and of that without few layers."""


def jobs_of(table: Table) -> list[tuple[Fidelity, ...]]:
    """Return the trainings of each configuration, as the fidelities that each goes through."""
    full = table.task.full
    sieve = table.ladder(Ladder.sieve(num_layers=full.trainable_layers, full_samples=full.samples))
    few = tuple(rung for rung in sieve.rungs if rung.trainable_layers < full.trainable_layers)
    return [few, table.samples_only((*ALL_LAYERS, 1.0)).rungs[:-1]]


def evaluations(table: Table) -> Iterator[Evaluation]:
    landscape = table.task.landscape
    reference = TaskReference.of_words(landscape.reference)
    task = task_named(reference.name, [*reference.options])
    with tempfile.TemporaryDirectory() as runs:
        options = TrainingOptions(device="cpu", runs=Path(runs), horizon="averaged", num_validations=1)
        settings = options.settings(study="averaged", seed=landscape.seed)
        for configuration in landscape.configurations:
            for path in jobs_of(table):
                for rung, fidelity in enumerate(path):
                    job = Job(
                        configuration=configuration, rung=rung, fidelity=fidelity, continued_from=path[:rung]
                    )
                    yield train_serially(task, job, settings)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="*", type=Path)
    torch.set_num_threads(1)
    FOLDER.mkdir(exist_ok=True)
    for path in parser.parse_args().tables or recorded():
        if (FOLDER / path.name).exists():
            continue
        lines = io.StringIO()
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerow(COLUMNS)
        for each in evaluations(table_of(path)):
            score = "" if each.score is None else f"{each.score:.9g}"
            writer.writerow((each.number, each.fidelity.trainable_layers, each.fidelity.samples, score))
        (FOLDER / path.name).write_bytes(gzip.compress(lines.getvalue().encode(), mtime=0))
        print(path.name, flush=True)


if __name__ == "__main__":
    main()
