"""Record what trainings of the recorded tables score by measured statistics of batch normalisation, and how that ranks.

    OMP_NUM_THREADS=1 python benchmarks/measured_scores.py [TABLE ...] [--json FILE]

The tables hold scores by running statistics. A search scores the rungs below its full trainings by statistics that are
measured where a training stands (docs/decisions/0047-measured-statistics.md); where no layer is normalised over batches
that is the same. This trains each configuration of the tables with such layers once more, to the rungs below the full
training of every ladder that `ladders.py` compares, and writes those scores to tables/measured: a table that is there is
left alone. What a training costs is in the table.

Printed is Spearman's correlation of each rung's scores with the full trainings', in the mean over their seeds: by running
statistics, by measured ones, and the difference with its 95 % interval, from the bootstrap over configurations.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from frostline.process import prepare_process

prepare_process()

import numpy as np
import torch
from contest import BOOTSTRAPS, MEASURED, Table, recorded, table_of
from ladders import LADDERS, ladder_of

from frostline.records import Evaluation, Fidelity, Job
from frostline.run.execution.options import TrainingOptions
from frostline.statistics.bootstrap import estimate_of, resampled_counts
from frostline.statistics.ranks import rank_correlation_replicates
from frostline.store.terms import TaskReference
from frostline.tasks.loading import task_named
from frostline.text_tables import text_table
from frostline.training.serial import train_serially

COLUMNS = ("configuration", "layers", "samples", "score")
NORMALISED = ("digits-resnet", "finetuned-resnet")
ALL_LAYERS = (0.1, 0.3, 0.4, 1.0)


def trainings_of(table: Table) -> list[tuple[Fidelity, ...]]:
    """Return the trainings of each configuration, as the fidelities that each goes through."""
    rungs = {rung for rungs in LADDERS.values() for rung in ladder_of(table, rungs).rungs[:-1]}
    layers = sorted({rung.trainable_layers for rung in rungs})
    return [
        tuple(sorted((rung for rung in rungs if rung.trainable_layers == number), key=lambda rung: rung.samples))
        for number in layers
    ]


def evaluations(table: Table) -> Iterator[Evaluation]:
    landscape = table.task.landscape
    reference = TaskReference.of_words(landscape.reference)
    task = task_named(reference.name, [*reference.options])
    with tempfile.TemporaryDirectory() as runs:
        options = TrainingOptions(device="cpu", runs=Path(runs), horizon="full", num_validations=1)
        settings = options.settings(folder=options.folder, seed=landscape.seed)
        for configuration in landscape.configurations:
            for path in trainings_of(table):
                for rung, fidelity in enumerate(path):
                    job = Job(
                        configuration=configuration, rung=rung, fidelity=fidelity, continued_from=path[:rung]
                    )
                    yield train_serially(task, job, settings)


def agreements(table: Table) -> Iterator[dict[str, Any]]:
    """Yield how the rungs of the usual ladder, and of that of before, rank by both kinds of statistics."""
    landscapes, full = (table.task.landscape, table.measured.landscape), table.task.full
    # What diverged is the worst.
    qualities = np.nan_to_num(table.goal.qualities, nan=np.inf)
    counts = resampled_counts(len(qualities), resamples=BOOTSTRAPS, seed=0)
    for rung in (table.sieve.rungs[0], *table.samples_only(ALL_LAYERS).rungs[:-1]):
        z, s = landscapes[0].layers.index(rung.trainable_layers), landscapes[0].samples.index(rung.samples)
        losses = np.stack([each.losses[:, z, s] for each in landscapes])
        running, measured = rank_correlation_replicates(losses, qualities, counts).T
        difference = estimate_of(measured - running)
        yield {
            "table": table.name,
            "layers": "all" if rung.trainable_layers == full.trainable_layers else "few",
            "share": rung.samples / full.samples,
            "running": float(running[0]),
            "measured": float(measured[0]),
            "difference": {name: float(getattr(difference, name)) for name in ("value", "low", "high")},
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    MEASURED.mkdir(exist_ok=True)
    found = []
    for path in arguments.tables or [path for path in recorded() if path.name.startswith(NORMALISED)]:
        if not (MEASURED / path.name).exists():
            record(path)
        found += agreements(table_of(path))
    rows = [
        (
            each["table"],
            f"{each['layers']} layers on {each['share']:.0%}",
            f"{each['running']:.2f}",
            f"{each['measured']:.2f}",
            "{value:+.2f} ({low:+.2f} to {high:+.2f})".format(**each["difference"]),
        )
        for each in found
    ]
    print(text_table([("table", "rung", "running", "measured", "difference"), *rows]))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


def record(path: Path) -> None:
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(COLUMNS)
    for each in evaluations(table_of(path)):
        score = "" if each.score is None else f"{each.score:.9g}"
        writer.writerow((each.number, each.fidelity.trainable_layers, each.fidelity.samples, score))
    (MEASURED / path.name).write_bytes(gzip.compress(lines.getvalue().encode(), mtime=0))


if __name__ == "__main__":
    main()
