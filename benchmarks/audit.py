"""What an audit costs against training its cells one by one.

One configuration is trained at every cell of the grid by itself, from scratch: layers × ten budgets, the engine "serial",
one validation each. Beside it, in the same run, an audit of as many configurations as are trained together. Both are given
for each configuration; an audit of 24 is five such populations. Prints a table and writes JSON.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from functools import partial
from pathlib import Path

from frostline.process import prepare_process

prepare_process()

import torch

from frostline.audit.auditor import AuditPlan, audit_task
from frostline.run.execution.options import TrainingOptions
from frostline.run.task_search import TaskSearch
from frostline.run.tuning import search_task
from frostline.search.algorithms.grid import Grid
from frostline.search.algorithms.sweep import Sweep
from frostline.store.backends.storage import MEMORY
from frostline.tasks.loading import load_task

TASKS = {"python-source-gpt": {"full_tokens": 96 * 2048}, "digits-resnet": {"full_images": 200 * 64}}
# As many as are taken from a study at once, with eight numbers of layers each.
TOGETHER = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--budgets", type=int, default=10)
    parser.add_argument("--out", type=Path)
    words = parser.parse_args()
    task = load_task(words.task, TASKS[words.task])
    plan = AuditPlan.of(task, configurations=TOGETHER, budgets=words.budgets, repeats=0)
    with tempfile.TemporaryDirectory() as folder:
        options = partial(TrainingOptions, device="cpu", runs=Path(folder))
        together = audit_task(task, plan, study="audit", storage=MEMORY, training=TaskSearch(options=options()))
        cells = Grid.product(plan.layers, plan.samples)
        alone = search_task(
            task,
            Sweep(ladder=cells, configurations=1),
            study="alone",
            storage=MEMORY,
            training=TaskSearch(options=options(engine="serial", horizon="full", num_validations=1)),
        )
    one_by_one = sum(evaluation.cost.seconds for evaluation in alone.history.evaluations())
    audited = float(together.seconds[:, :, -1].sum()) / TOGETHER
    full = float(together.seconds[:, -1, -1].mean())
    found = {
        "task": words.task,
        "options": TASKS[words.task],
        "layers": len(plan.layers),
        "budgets": len(plan.samples),
        "one by one, seconds per configuration": one_by_one,
        "audit, seconds per configuration": audited,
        "full training, seconds": full,
        "ratio": audited / one_by_one,
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
    }
    for name, value in found.items():
        print(f"{name:>40}  {value:.3f}" if isinstance(value, float) else f"{name:>40}  {value}")
    if words.out is not None:
        words.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
