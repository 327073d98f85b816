"""Write the audit of a built-in task as a table for replay, with the seconds of a quiet machine.

The scores take hours to record, on a machine that does other things meanwhile:

    frostline audit TASK --set OPTION --configurations 104 --repeats 104 --repeat-seeds 2 --storage STORAGE

(one thread a process, several processes on the storage). What a cell costs does not depend on the configuration, so seconds
are measured apart, by a process that has the machine for itself, and are the same in every row: at each number of layers a
population of nine configurations, as a rung of a search trains them, on a fifth of the samples with a fifth of the
validations; full trainings one by one. A training's seconds are shared out evenly over its samples.

An audit of the same configurations under an alignment becomes a table of its own:

    frostline audit TASK --set OPTION --configurations 104 --align FACTORS --storage STORAGE
    python benchmarks/record_table.py TASK --storage STORAGE --align FACTORS
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from pathlib import Path

from frostline.process import prepare_process

prepare_process()

import numpy as np

from frostline.audit.auditor import predicted_costs
from frostline.audit.csv_table import write_table
from frostline.audit.landscape import Landscape
from frostline.audit.stored_landscape import read_landscape
from frostline.records import Fidelity, Job
from frostline.run.execution.local import local_executor
from frostline.run.execution.options import TrainingOptions
from frostline.run.execution.workload import TaskTraining, Workload
from frostline.run.plan import SearchPlan
from frostline.run.tuning import default_ladder
from frostline.search.history import History
from frostline.search.proposals.sampling import RANDOM, Draws
from frostline.tasks.loading import load_task
from frostline.training.supervised.task_layers import layers_of

OPTIONS = {
    "python-source-gpt": {"full_tokens": 96 * 2048},
    "digits-resnet": {"full_images": 100 * 64},
    "digits-mlp": {"full_images": 200 * 64},
}
TOGETHER = 9
ALONE = 3
# Of the samples, and of the ten budgets' validations, in what is timed.
SHARE = 5
VALIDATIONS = 10
FOLDER = Path(__file__).parent / "tables"


def seconds_of_cells(name: str, *, measure: bool) -> np.ndarray:
    """Return the seconds of a training up to each cell, (Z, S), measured now or before."""
    path = FOLDER / f"{name}-seconds.json"
    if measure:
        [(option, full)] = OPTIONS[name].items()
        task = load_task(name, {option: full // SHARE})
        num_layers = layers_of(task).num_layers
        with tempfile.TemporaryDirectory() as runs:
            options = TrainingOptions(
                device="cpu", runs=Path(runs), horizon="full", num_validations=VALIDATIONS // SHARE
            )
            training = TaskTraining(task=task, options=options, study="timing", seed=0)
            executor = local_executor(
                Workload(training=training, ladder=default_ladder(task, SearchPlan(configurations=TOGETHER)))
            )
            draws = Draws(space=task.space, sampling=RANDOM, root_seed=0, direction=task.direction)
            history = History(task.direction)
            for _ in range(TOGETHER):
                history.add_configuration(draws.draw(history))
            whole = []
            for layers in range(1, num_layers + 1):
                number = ALONE if layers == num_layers else TOGETHER
                fidelity = Fidelity(trainable_layers=layers, samples=task.full_samples)
                jobs = [
                    Job(configuration=one, rung=0, fidelity=fidelity, may_continue=False)
                    for one in history.configurations[:number]
                ]
                executor.submit(jobs)
                seconds = [executor.next_ended().cost.seconds for _ in jobs]
                whole.append(SHARE * float(np.median(seconds)))
                print(f"{layers} layers: {whole[-1]:.2f} s for each of {number}", flush=True)
        shares = np.arange(1, VALIDATIONS + 1) / VALIDATIONS
        FOLDER.mkdir(exist_ok=True)
        path.write_text(json.dumps(np.outer(whole, shares).round(4).tolist()) + "\n")
    return np.array(json.loads(path.read_text()))


def aligned(landscape: Landscape, other: Landscape) -> Landscape:
    """Return ``landscape`` with the layers that the audit ``other`` trained under its alignment as they are there."""
    if landscape.configurations != other.configurations:
        raise SystemExit("the two audits hold different configurations: let both run to their end.")
    scores = landscape.scores.copy()
    for layers in other.alignment.factors:
        scores[:, landscape.layers.index(layers)] = other.scores[:, other.layers.index(layers)]
    return dataclasses.replace(landscape, scores=scores, alignment=other.alignment)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=OPTIONS)
    parser.add_argument("--storage", help="Where the audit lies; without it the seconds alone are measured.")
    parser.add_argument(
        "--measure-seconds", action="store_true", help="On a quiet machine; else those measured before."
    )
    parser.add_argument("--align", help="Of the audit under this alignment.")
    words = parser.parse_args()
    seconds = seconds_of_cells(words.task, measure=words.measure_seconds)
    if words.storage is None:
        return
    landscape = read_landscape(words.storage, f"{words.task} audit")
    if words.align:
        landscape = aligned(landscape, read_landscape(words.storage, f"{words.task} audit, {words.align}"))
    task = load_task(words.task, OPTIONS[words.task])
    costs = [cost for _, cost in sorted(predicted_costs(task, landscape.layers).items())]
    flops = np.outer([cost.flops_per_sample for cost in costs], landscape.samples)
    peaks = np.array([cost.peak_bytes for cost in costs])[:, None]
    landscape = dataclasses.replace(
        landscape,
        seconds=np.broadcast_to(seconds, landscape.scores.shape).copy(),
        flops=np.broadcast_to(flops, landscape.scores.shape).copy(),
        peak_bytes=np.broadcast_to(peaks, landscape.scores.shape).copy(),
    )
    path = FOLDER / f"{words.task}{'-aligned' if words.align else ''}.csv.gz"
    write_table(landscape, path)
    print(f"{path}: {landscape.num_configurations} configurations, {landscape.scores.size} rows")


if __name__ == "__main__":
    main()
