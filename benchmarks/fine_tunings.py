r"""Whether few trained layers rank fine-tunings: from a checkpoint, the same from random weights, and with adapters.

    python benchmarks/fine_tunings.py [--json FILE]

reads the tables in benchmarks/tables/fine-tunings, each written by one process with one thread:

    frostline audit finetuned-resnet -n 64 --layers 1,2,4,8 --threads 1 --repeats 12 --table finetuned-resnet.csv.gz
    frostline audit finetuned-gpt -n 64 --layers 1,2,4,8 --threads 1 --repeats 12 --set full_tokens=8192 \
        --table finetuned-gpt.csv.gz

From random weights `--set weights=random` stands beside (`-random`, fewer `--budgets` and no repeats): the same
configurations, so that what the checkpoint changes has an interval of its own, over configurations drawn again for both.
With adapters it is `--set adapter=lora` (`-lora`, layers 1,2,4,7): another space, in which dropout's place is taken by the
adapters' rank and scale, so that both audits' configurations are drawn again, each for itself. What searches find is in
`contest.py`, and on the two tables `-lora` so (without `--flops` it went into contest-fine-tunings-lora.json):

    python benchmarks/contest.py benchmarks/tables/fine-tunings/finetuned-*-lora.csv.gz --seeds 20 --flops \
        --without 'GP, full trainings' --json benchmarks/results/contest-fine-tunings-lora-flops.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from frostline.audit.csv_table import read_table
from frostline.audit.landscape import Landscape
from frostline.audit.noise import seed_noise
from frostline.statistics.bootstrap import Estimate, estimate_of, resampled_counts
from frostline.statistics.ranks import rank_correlation_replicates
from frostline.statistics.replicates import pair_order_replicates, recall_replicates
from frostline.text_tables import text_table

FOLDER = Path(__file__).parent / "tables" / "fine-tunings"
RESULT = Path(__file__).parent / "results" / "fine-tunings.json"
TASKS = ("finetuned-gpt", "finetuned-resnet")
# What each audit of a task is called, and how its table's name ends.
AUDITS = {"pretrained": "", "random": "-random", "lora": "-lora"}
RESAMPLES = 1000
SHARE_OF_BEST = 4
# Of the samples, beside all of them, where the table has them.
CHEAP, TOLERANCE = 0.2, 0.01

Array = NDArray[np.float64]
Figure = dict[str, float]


def figure(estimate: Estimate) -> Figure:
    """Return one estimate with its interval, as JSON."""
    return {name: round(float(getattr(estimate, name)), 4) for name in ("value", "low", "high")}


def replicates(landscape: Landscape, column: int, *, seed: int = 0) -> dict[str, Array]:
    """Return how each number of layers ranks at a budget as full training does, in every resample: (B + 1, Z) each."""
    losses = np.moveaxis(landscape.losses[:, :, column], 0, -1)
    full = landscape.full_losses
    counts = resampled_counts(len(full), resamples=RESAMPLES, seed=seed)
    kendall, _ = pair_order_replicates(losses, full, counts)
    return {
        "spearman": rank_correlation_replicates(losses, full, counts),
        "kendall": kendall,
        "top_recall": recall_replicates(losses, full, counts, num_best=max(1, len(full) // SHARE_OF_BEST)),
    }


def rows_of(landscape: Landscape, column: int) -> list[dict[str, object]]:
    """Return the figures of every number of trained layers at a budget."""
    measures = replicates(landscape, column)
    return [
        {
            "layers": layers,
            "samples": landscape.samples[column],
            **{name: figure(estimate_of(values[:, index])) for name, values in measures.items()},
        }
        for index, layers in enumerate(landscape.layers)
    ]


def about(landscape: Landscape) -> dict[str, object]:
    """Return what one audit tells."""
    noise = seed_noise(landscape)
    full = landscape.full_losses
    shares = np.array(landscape.samples) / landscape.samples[-1]
    cheap = np.flatnonzero(np.abs(shares - CHEAP) < TOLERANCE).tolist()
    return {
        "configurations": landscape.num_configurations,
        "num_layers": landscape.layers[-1],
        "best": round(float(full.min()), 4),
        "median": round(float(np.median(full)), 4),
        # An audit begins with the task's own configuration.
        "own": round(float(full[0]), 4),
        "diverged": int(np.isinf(full).sum()),
        "rows": [row for column in (*cheap, len(landscape.samples) - 1) for row in rows_of(landscape, column)],
        "ceiling": None if noise is None or noise.ceiling is None else figure(noise.ceiling),
        "within_noise": None if noise is None else int((full <= full.min() + noise.tolerance).sum()),
    }


def differences(first: Landscape, second: Landscape, *, is_paired: bool) -> list[dict[str, object]]:
    """Return by how much more the first audit's full scores are ranked by each number of layers than the second's.

    ``is_paired`` says that both have the same configurations, which are then drawn again for both at once.
    """
    if is_paired and first.configurations != second.configurations:
        raise SystemExit(f"the two audits of {first.task} hold different configurations: record both anew.")
    ranked, beside = (
        replicates(each, len(each.samples) - 1, seed=seed)["kendall"]
        for each, seed in ((first, 0), (second, 0 if is_paired else 1))
    )
    return [
        {
            "layers": layers,
            "kendall": figure(estimate_of(ranked[:, index] - beside[:, second.layers.index(layers)])),
        }
        for index, layers in enumerate(first.layers)
        if layers in second.layers
    ]


def found_in(task: str) -> dict[str, object]:
    """Return what the audits of a task tell, and what the checkpoint and the adapters change."""
    tables = {name: FOLDER / f"{task}{ending}.csv.gz" for name, ending in AUDITS.items()}
    audits = {name: read_table(path) for name, path in tables.items() if path.exists()}
    found: dict[str, object] = {name: about(landscape) for name, landscape in audits.items()}
    if "random" in audits:
        found["difference"] = differences(audits["pretrained"], audits["random"], is_paired=True)
    if "lora" in audits:
        found["lora_difference"] = differences(audits["lora"], audits["pretrained"], is_paired=False)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=RESULT)
    arguments = parser.parse_args()
    results = {task: found_in(task) for task in TASKS}
    lines = [("task", "audit", "layers", "samples", "Spearman", "Kendall", "of the best quarter")]
    for task, found in results.items():
        for audit in AUDITS:
            for row in found.get(audit, {}).get("rows", []):  # type: ignore[attr-defined]
                cells = (
                    f"{row[name]['value']:.2f} ({row[name]['low']:.2f} to {row[name]['high']:.2f})"
                    for name in ("spearman", "kendall", "top_recall")
                )
                lines.append((task, audit, f"{row['layers']}", f"{row['samples']:,}", *cells))
    print(text_table(lines))
    arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
