"""Write the audit of a built-in task as a table for replay, with the seconds of a quiet machine.

The scores take hours to record, on a machine that does other things meanwhile:

    frostline audit TASK --set OPTION --configurations 104 --repeats 104 --repeat-seeds 2 --storage STORAGE

(one thread a process, several processes on the storage). What a cell costs does not depend on the configuration, so seconds
are measured apart, in an audit of few configurations by a process that has the machine for itself, the same in every row.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from pathlib import Path

import frostline_launcher

frostline_launcher.prepare_process()

import numpy as np

from frostline.audit.reading import read_landscape
from frostline.audit.table import write_table
from frostline.auditor import AuditPlan, audit_task, predicted_costs
from frostline.running import TrainingOptions
from frostline.storage import MEMORY
from frostline.task_loading import load_task

OPTIONS = {"python-source-gpt": {"full_tokens": 96 * 2048}, "digits-resnet": {"full_images": 200 * 64}}
# Four with eight numbers of layers each are trained together, as in an audit of many; the median leaves the fifth out.
TIMED = 5
FOLDER = Path(__file__).parent / "tables"


def seconds_of_cells(name: str, *, measure: bool) -> np.ndarray:
    """Return the seconds of a training up to each cell, (Z, S), measured now or before."""
    path = FOLDER / f"{name}-seconds.json"
    if measure:
        task = load_task(name, OPTIONS[name])
        plan = AuditPlan.of(task, configurations=TIMED, repeats=0)
        with tempfile.TemporaryDirectory() as runs:
            timed = audit_task(
                task,
                plan,
                study="timing",
                storage=MEMORY,
                options=TrainingOptions(device="cpu", runs=Path(runs)),
                observer=lambda evaluation, _: print(evaluation.number, evaluation.rung, evaluation.cost.seconds),
            )
        FOLDER.mkdir(exist_ok=True)
        path.write_text(json.dumps(np.median(timed.seconds, axis=0).round(4).tolist()) + "\n")
    return np.array(json.loads(path.read_text()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=OPTIONS)
    parser.add_argument("--storage", help="Where the audit lies; without it the seconds alone are measured.")
    parser.add_argument(
        "--measure-seconds", action="store_true", help="On a quiet machine; else those measured before."
    )
    words = parser.parse_args()
    seconds = seconds_of_cells(words.task, measure=words.measure_seconds)
    if words.storage is None:
        return
    landscape = read_landscape(words.storage, f"{words.task} audit")
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
    path = FOLDER / f"{words.task}.csv.gz"
    write_table(landscape, path)
    print(f"{path}: {landscape.num_configurations} configurations, {landscape.scores.size} rows")


if __name__ == "__main__":
    main()
