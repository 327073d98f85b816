"""A Lightning module tuned as trials, each under a Trainer of its own, and as the task that is made of it.

    python benchmarks/derived_tasks.py [--seeds 3] [--configurations 27] [--threads 1] [--json FILE]

The example is that of docs/tutorials/lightning.md, on scikit-learn's digits. Both search the same space under the same seeds
on the same ladder, which is given: the same trainings, made one by one or in populations. Printed are the seconds of each
search, the ratio of each pair of one seed, and what was found. What making the task takes, its comparison with the Trainer
included, counts among the task's seconds.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import tempfile
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

import lightning as L
import torch
from optuna.distributions import FloatDistribution
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

import frostline
from frostline.integrations.lightning import task_from_module, tune
from frostline.run.outcome.result import TuneResult
from frostline.search.ladder import Ladder

FULL = 6 * 1500
NUM_LAYERS = 3
RUNGS = [(1, FULL // 10), (1, FULL * 3 // 10), (NUM_LAYERS, FULL * 3 // 10), (NUM_LAYERS, FULL)]
RATE = (1e-4, 1e-1)
DECAY = (1e-4, 1.0)
TODAY = {"learning_rate": 0.01, "weight_decay": 0.01}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    way: str
    seed: int
    seconds: float
    score: float
    evaluations: int
    samples: int
    largest_population: int


class Digits(L.LightningModule):
    def __init__(self, learning_rate: float = 0.01, weight_decay: float = 0.01) -> None:
        super().__init__()
        self.settings = {"lr": learning_rate, "weight_decay": weight_decay}
        self.encoder = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
        self.head = nn.Linear(64, 10)

    def training_step(self, batch, batch_idx):
        images, targets = batch
        return nn.functional.cross_entropy(self.head(self.encoder(images)), targets)

    def validation_step(self, batch, batch_idx):
        images, targets = batch
        self.log("val_loss", nn.functional.cross_entropy(self.head(self.encoder(images)), targets))

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), **self.settings)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            self.settings["lr"],
            total_steps=self.trainer.estimated_stepping_batches,
            cycle_momentum=False,
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def loaders() -> dict[str, DataLoader]:
    images, targets = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(images / 16, dtype=torch.float32), torch.tensor(targets))
    training, validation = random_split(data, [1500, 297], torch.Generator().manual_seed(0))
    return {
        "train_dataloaders": DataLoader(training, batch_size=50, shuffle=True),
        "val_dataloaders": DataLoader(validation, batch_size=297),
    }


def ladder(*, num_layers: int, full_samples: int) -> Ladder:
    return Ladder.explicit(RUNGS, num_layers=num_layers, full_samples=full_samples)


def as_trials(seed: int, configurations: int, runs: Path) -> TuneResult:
    def build(trial: frostline.Trial) -> Digits:
        return Digits(
            trial.suggest_float("learning_rate", *RATE, log=True),
            trial.suggest_float("weight_decay", *DECAY, log=True),
        )

    return tune(
        build,
        monitor="val_loss",
        samples=FULL,
        initial=TODAY,
        configurations=configurations,
        budget=None,
        ladder=ladder,
        seed=seed,
        study=f"trials {seed}",
        storage=":memory:",
        runs=runs,
        observer=frostline.SILENT,
        **loaders(),
    )


def as_task(seed: int, configurations: int, runs: Path) -> TuneResult:
    space = frostline.SearchSpace(
        distributions={
            "learning_rate": FloatDistribution(*RATE, log=True),
            "weight_decay": FloatDistribution(*DECAY, log=True),
        }
    )
    task = task_from_module(lambda _: Digits(), space=space, monitor="val_loss", samples=FULL, **loaders())
    return frostline.tune_task(
        task,
        study=f"task {seed}",
        ladder=ladder(num_layers=NUM_LAYERS, full_samples=FULL),
        plan=frostline.SearchPlan(budget=None, configurations=configurations, seed=seed),
        training=frostline.TrainingOptions(device="cpu", num_validations=1, horizon="full", runs=runs),
        storage=":memory:",
        observer=frostline.SILENT,
    )


WAYS = {"trials, one Trainer each": as_trials, "a task, populations": as_task}


def measured(way: str, seed: int, configurations: int) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        result = WAYS[way](seed, configurations, Path(folder))
        seconds = time.perf_counter() - begin
    evaluations = list(result.history.evaluations())
    return Outcome(
        way=way,
        seed=seed,
        seconds=seconds,
        score=result.score,
        evaluations=len(evaluations),
        samples=sum(each.cost.samples for each in evaluations),
        largest_population=max(each.cost.population for each in evaluations),
    )


def table(outcomes: list[Outcome]) -> Table:
    shown = Table("way", "seconds", "each seed", "trainings", "samples", "largest population", "val_loss")
    for way in WAYS:
        rows = [each for each in outcomes if each.way == way]
        shown.add_row(
            way,
            f"{fmean(each.seconds for each in rows):.1f}",
            " ".join(f"{each.seconds:.1f}" for each in rows),
            " ".join(str(each.evaluations) for each in rows),
            f"{fmean(each.samples for each in rows):,.0f}",
            str(max(each.largest_population for each in rows)),
            " ".join(f"{each.score:.4f}" for each in rows),
        )
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--configurations", type=int, default=27)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(options.threads)
    outcomes = []
    for way in WAYS:  # what a process's first training loads is nobody's
        measured(way, 99, options.configurations)
    for seed in range(options.seeds):
        outcomes += [measured(way, seed, options.configurations) for way in WAYS]
        print(*outcomes[-2:], sep="\n", flush=True)
    Console().print(table(outcomes))
    if options.json is not None:
        facts = {
            "machine": f"{platform.machine()}, {options.threads} thread, torch {torch.__version__}",
            "configurations": options.configurations,
            "outcomes": [asdict(each) for each in outcomes],
        }
        options.json.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
