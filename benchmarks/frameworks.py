"""Lightning and transformers, each tuned by frostline and by Optuna in that framework, for the same time on the clock.

    python benchmarks/frameworks.py [--seeds 3] [--budget 8] [--epochs 27] [--batch 32]
        [--frameworks Lightning,transformers] [--samples-alone] [--json FILE]

On scikit-learn's digits. frostline goes first, with a budget in full trainings; then Optuna has as many seconds: TPE with
its Hyperband pruner, in Lightning by a callback that reports each validation, in transformers by
``Trainer.hyperparameter_search``. Both search the same space from the same weights. Printed is the best validation loss of
a configuration that was trained in full, in the mean over the seeds, with the samples trained and the seconds. With
``--samples-alone`` frostline searches in Lightning once more, on a ladder of all layers on 10, 30 and 100 % of the samples.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import lightning as L
import optuna
import torch
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

import frostline
from frostline.integrations.lightning import lightning_tuning
from frostline.integrations.transformers import transformers_tuning
from frostline.run.outcome.result import TuneResult
from frostline.search.ladder import Ladder

NUM_TRAINED = 1500
QUIET = {
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
    "logger": False,
}


@dataclass(frozen=True, kw_only=True)
class Length:
    """A full training."""

    batch: int
    epochs: int

    @property
    def samples(self) -> int:
        return NUM_TRAINED * self.epochs


@dataclass(frozen=True, kw_only=True)
class Outcome:
    framework: str
    program: str
    seed: int
    score: float
    seconds: float
    samples: int
    trainings: int
    epochs: int
    batch: int


# --- Lightning --------------------------------------------------------------------------------------------------------


class Digits(L.LightningModule):
    def __init__(self, rate: float, weight_decay: float, momentum: float, dropout: float) -> None:
        super().__init__()
        self.settings = {"lr": rate, "weight_decay": weight_decay, "betas": (momentum, 0.999)}
        widths = [64] * 7
        layers = [
            nn.Sequential(nn.Linear(before, after), nn.ReLU(), nn.Dropout(dropout))
            for before, after in pairwise(widths)
        ]
        self.model = nn.Sequential(*layers, nn.Linear(64, 10))
        self.num_seen = 0

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.num_seen += len(batch[0])
        return nn.functional.cross_entropy(self.model(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", nn.functional.cross_entropy(self.model(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), **self.settings)
        steps = self.trainer.estimated_stepping_batches
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def module_of(trial: Any) -> Digits:
    return Digits(
        rate=trial.suggest_float("rate", 1e-5, 1.0, log=True),
        weight_decay=trial.suggest_float("weight_decay", 1e-4, 1.0, log=True),
        momentum=trial.suggest_float("momentum", 0.5, 0.99),
        dropout=trial.suggest_float("dropout", 0.0, 0.6),
    )


def loaders(full: Length) -> tuple[DataLoader, DataLoader]:
    images, targets = load_digits(return_X_y=True)
    inputs, labels = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(targets)
    training = TensorDataset(inputs[:NUM_TRAINED], labels[:NUM_TRAINED])
    validation = TensorDataset(inputs[NUM_TRAINED:], labels[NUM_TRAINED:])
    return DataLoader(training, batch_size=full.batch, shuffle=True), DataLoader(validation, batch_size=300)


class Pruning(L.Callback):
    """As ``optuna-integration`` has it."""

    def __init__(self, trial: optuna.Trial) -> None:
        self.trial = trial

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.sanity_checking:
            self.trial.report(float(trainer.callback_metrics["val_loss"]), trainer.current_epoch + 1)
            if self.trial.should_prune():
                raise optuna.TrialPruned


def lightning_by_optuna(full: Length, seed: int, seconds: float) -> Outcome:
    num_samples = 0

    def objective(trial: optuna.Trial) -> float:
        nonlocal num_samples
        torch.manual_seed(seed)
        module = module_of(trial)
        training, validation = loaders(full)
        trainer = L.Trainer(**QUIET, max_epochs=full.epochs, callbacks=[Pruning(trial)])
        try:
            trainer.fit(module, training, validation)
        finally:
            num_samples += module.num_seen
        return float(trainer.callback_metrics["val_loss"])

    study = optuna_study(full, seed)
    begin = time.perf_counter()
    study.optimize(objective, timeout=seconds)
    return optuna_outcome("Lightning", full, study, seed, time.perf_counter() - begin, num_samples)


def samples_alone(*, num_layers: int, full_samples: int) -> Ladder:
    rungs = [(num_layers, full_samples * percent // 100) for percent in (10, 30, 100)]
    return Ladder.explicit(rungs, num_layers=num_layers, full_samples=full_samples)


def lightning_by_frostline(
    full: Length, seed: int, budget: float, runs: Path, *, program: str = "frostline", **options: Any
) -> Outcome:
    training, validation = loaders(full)
    begin = time.perf_counter()
    result = lightning_tuning.tune(
        module_of,
        monitor="val_loss",
        samples=full.samples,
        train_dataloaders=training,
        val_dataloaders=validation,
        budget=budget,
        seed=seed,
        study=f"lightning {seed}",
        storage=":memory:",
        runs=runs,
        observer=frostline.SILENT,
        **options,
    )
    outcome = frostline_outcome("Lightning", full, result, seed, time.perf_counter() - begin)
    return replace(outcome, program=program)


# --- transformers -----------------------------------------------------------------------------------------------------


def examples(first: int, last: int) -> list[dict[str, torch.Tensor]]:
    """Images as sequences of 16 tokens: the ink of their squares of 2 by 2."""
    images, targets = load_digits(return_X_y=True)
    squares = torch.tensor(images[first:last]).reshape(-1, 4, 2, 4, 2).mean((2, 4)).long().flatten(1)
    labels = torch.tensor(targets[first:last])
    return [{"input_ids": tokens, "labels": label} for tokens, label in zip(squares, labels, strict=True)]


def bert(dropout: float = 0.1) -> BertForSequenceClassification:
    shape = {"vocab_size": 17, "max_position_embeddings": 16, "num_labels": 10}
    width = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64, "num_hidden_layers": 4}
    return BertForSequenceClassification(BertConfig(**shape, **width, hidden_dropout_prob=dropout))


def space(trial: Any) -> dict[str, float]:
    return {
        "learning_rate": trial.suggest_float("learning_rate", 1e-5, 1.0, log=True),
        "weight_decay": trial.suggest_float("weight_decay", 1e-4, 1.0, log=True),
        "adam_beta1": trial.suggest_float("adam_beta1", 0.5, 0.99),
    }


def model_init(trial: Any = None) -> BertForSequenceClassification:
    return bert(0.1 if trial is None else trial.suggest_float("dropout", 0.0, 0.6))


def trainer_of(full: Length, folder: Path, seed: int, values: dict[str, float], **options: Any) -> Trainer:
    arguments = TrainingArguments(
        output_dir=str(folder),
        seed=seed,
        num_train_epochs=full.epochs,
        per_device_train_batch_size=full.batch,
        per_device_eval_batch_size=300,
        lr_scheduler_type="cosine",
        eval_strategy="epoch",
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        **values,
    )
    trainer = Trainer(
        model_init=model_init,
        args=arguments,
        train_dataset=examples(0, NUM_TRAINED),
        eval_dataset=examples(NUM_TRAINED, 1797),
        **options,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


class Counting(TrainerCallback):
    def __init__(self) -> None:
        self.num_steps = 0

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.num_steps += 1


def transformers_by_optuna(full: Length, seed: int, seconds: float, folder: Path) -> Outcome:
    counting = Counting()
    trainer = trainer_of(full, folder, seed, {}, callbacks=[counting])
    study = optuna_study(full, seed)
    place = f"sqlite:///{folder}/optuna-{seed}.db"
    begin = time.perf_counter()
    trainer.hyperparameter_search(
        hp_space=space,
        compute_objective=lambda metrics: metrics["eval_loss"],
        n_trials=None,
        direction="minimize",
        timeout=seconds,
        sampler=study.sampler,
        pruner=study.pruner,
        storage=place,
        study_name="hf",
    )
    took = time.perf_counter() - begin
    study = optuna.load_study(study_name="hf", storage=place)
    return optuna_outcome("transformers", full, study, seed, took, counting.num_steps * full.batch)


def transformers_by_frostline(full: Length, seed: int, budget: float, folder: Path) -> Outcome:
    begin = time.perf_counter()
    result = transformers_tuning.tune_trainer(
        lambda trial: trainer_of(full, folder, seed, space(trial)),
        samples=full.samples,
        budget=budget,
        seed=seed,
        study=f"transformers {seed}",
        storage=":memory:",
        runs=folder,
        observer=frostline.SILENT,
    )
    return frostline_outcome("transformers", full, result, seed, time.perf_counter() - begin)


# --- Both -------------------------------------------------------------------------------------------------------------


def optuna_study(full: Length, seed: int) -> optuna.Study:
    return optuna.create_study(
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=optuna.pruners.HyperbandPruner(min_resource=1, max_resource=full.epochs),
        study_name=f"optuna {seed}",
    )


def optuna_outcome(
    framework: str, full: Length, study: optuna.Study, seed: int, seconds: float, samples: int
) -> Outcome:
    complete = [each for each in study.trials if each.state is optuna.trial.TrialState.COMPLETE]
    return Outcome(
        framework=framework,
        program="Optuna, TPE and Hyperband",
        seed=seed,
        score=study.best_value if complete else float("inf"),
        seconds=seconds,
        samples=samples,
        trainings=len(study.trials),
        **asdict(full),
    )


def frostline_outcome(framework: str, full: Length, result: TuneResult, seed: int, seconds: float) -> Outcome:
    evaluations = list(result.history.evaluations())
    return Outcome(
        framework=framework,
        program="frostline",
        seed=seed,
        score=result.score,
        seconds=seconds,
        samples=sum(each.cost.samples for each in evaluations),
        trainings=len(result.history.configurations),
        **asdict(full),
    )


def measured(
    frameworks: Collection[str],
    full: Length,
    seeds: int,
    budget: float,
    tell: Callable[[Outcome], None],
    *,
    with_samples_alone: bool,
) -> list[Outcome]:
    outcomes: list[Outcome] = []

    def note(outcome: Outcome) -> float:
        outcomes.append(outcome)
        tell(outcome)
        return outcome.seconds

    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            if "Lightning" in frameworks:
                seconds = note(lightning_by_frostline(full, seed, budget, folder))
                note(lightning_by_optuna(full, seed, seconds))
                if with_samples_alone:
                    name = "frostline, all layers"
                    note(lightning_by_frostline(full, seed, budget, folder, program=name, ladder=samples_alone))
            if "transformers" in frameworks:
                seconds = note(transformers_by_frostline(full, seed, budget, folder))
                note(transformers_by_optuna(full, seed, seconds, folder))
    return outcomes


def table(outcomes: list[Outcome]) -> Table:
    shown = Table("framework", "program", "best loss", "each seed", "seconds", "samples", "configurations")
    for framework, program in dict.fromkeys((each.framework, each.program) for each in outcomes):
        rows = [each for each in outcomes if (each.framework, each.program) == (framework, program)]
        shown.add_row(
            framework,
            program,
            f"{fmean(each.score for each in rows):.4f}",
            " ".join(f"{each.score:.4f}" for each in rows),
            f"{fmean(each.seconds for each in rows):.0f}",
            f"{fmean(each.samples for each in rows):,.0f}",
            f"{fmean(each.trainings for each in rows):.0f}",
        )
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--budget", type=float, default=8.0)
    parser.add_argument("--epochs", type=int, default=27, help="of a full training")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--frameworks", default="Lightning,transformers")
    parser.add_argument("--samples-alone", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    full = Length(batch=options.batch, epochs=options.epochs)
    outcomes = measured(
        options.frameworks.split(","),
        full,
        options.seeds,
        options.budget,
        lambda each: print(each, flush=True),
        with_samples_alone=options.samples_alone,
    )
    Console().print(table(outcomes))
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(each) for each in outcomes], indent=1) + "\n")


if __name__ == "__main__":
    main()
