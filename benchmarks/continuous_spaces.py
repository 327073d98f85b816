"""What searches find in continuous spaces, where a table of recorded configurations has nothing to refine.

    python benchmarks/continuous_spaces.py [--tasks perceptron,residual,convolutional,two-rates,constant-rate,attention]
        [--methods default,...] [--budgets 8] [--seeds 12] [--json FILE]

Real trainings on scikit-learn's digits, of tenths of a second, made as far as a search asks for them. The clock is
simulated: a step on a share u of the layers counts ((1 - u) / 16 + 3 u) / 3 of one on all, frozen layers being shared by
sixteen, and what a search decides costs nothing. So results do not depend on the machine, and all methods pay alike. Nobody
has a configuration of one's own. Printed is the validation loss of the best configuration that was trained in full, in the
mean and the median over the seeds; losses above 5 count as 5.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import patch

from frostline.process import prepare_process

prepare_process()

import numpy as np
import optuna
import torch
from optuna.distributions import FloatDistribution
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

from frostline.records import Cost, Evaluation, Job, Status
from frostline.run.execution.simulated import SimulatedExecutor
from frostline.run.ledger import MemoryLedger
from frostline.run.loop import Observer, climb
from frostline.search.algorithms.halving import SuccessiveHalving
from frostline.search.algorithms.sweep import FullFidelity
from frostline.search.budgets.budget import Budget
from frostline.search.budgets.budgeted import BudgetedHalving
from frostline.search.history import History
from frostline.search.interface import Search
from frostline.search.ladder import Ladder
from frostline.search.proposals.sampling import GP, RANDOM, TPE, Draws, Sampling
from frostline.search.spaces.space import space_of
from frostline.text_tables import text_table

NUM_TRAINED = 1200
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)
# Samples of a full training as a ladder counts them: shares of it are whole numbers.
FULL = 10_000
TOGETHER = 16
WORST = 5.0

Values = dict[str, Any]
Result = tuple[float, float]


def wide(low: float, high: float) -> FloatDistribution:
    return FloatDistribution(low, high, log=True)


TWO_RATES = {"rate": wide(1e-5, 1), "wd": wide(1e-4, 1)}
RATES = TWO_RATES | {"b1": FloatDistribution(0.5, 0.99)}
DROPOUT = {"dropout": FloatDistribution(0, 0.6)}
CLIPPED = {"clip": wide(0.01, 10), "warm": FloatDistribution(0, 0.5)}


@dataclass(frozen=True, kw_only=True)
class Task:
    """A small model on digits; ``layers`` builds it for a configuration."""

    layers: Callable[[Values], list[nn.Module]]
    num_layers: int
    samples: int
    batch: int
    space: dict[str, FloatDistribution]
    has_schedule: bool = True
    """Whether the rate falls by a cosine; else it is constant."""
    trainings: dict[Any, tuple[list[float], Iterator[float]]] = field(default_factory=dict)

    def losses(self, values: Values, trained: int, upto: int) -> list[float]:
        """Return the losses at the first ``upto`` of ``SHARES``; infinite from where a training diverges."""
        key = (tuple(sorted(values.items())), trained)
        losses, rest = self.trainings.setdefault(key, ([], self._training(values, trained)))
        while len(losses) < upto:
            losses.append(next(rest, math.inf))
        return losses[:upto]

    def _training(self, values: Values, trained: int) -> Iterator[float]:
        torch.manual_seed(0)
        layers = self.layers(values)
        model = nn.Sequential(*layers)
        for layer in layers[: self.num_layers - trained]:
            layer.requires_grad_(False)
        optimizer = torch.optim.AdamW(
            [each for each in model.parameters() if each.requires_grad],
            lr=values["rate"],
            weight_decay=values["wd"],
            betas=(values.get("b1", 0.9), values.get("b2", 0.999)),
            eps=values.get("eps", 1e-8),
        )
        num_steps = self.samples // self.batch
        warm_up = max(1.0, values.get("warm", 0.0) * num_steps)

        def factor(step: int) -> float:
            cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, step / num_steps))) if self.has_schedule else 1.0
            return min(1.0, (step + 1) / warm_up) * cosine

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        due = {round(share * num_steps) for share in SHARES}
        batches = shuffled_batches(self.batch)
        for step in range(1, num_steps + 1):
            chosen = next(batches)
            model.train()
            optimizer.zero_grad()
            loss = functional.cross_entropy(
                model(DIGITS[chosen]), LABELS[chosen], label_smoothing=values.get("smooth", 0.0)
            )
            if not torch.isfinite(loss):
                return
            loss.backward()
            if "clip" in values:
                nn.utils.clip_grad_norm_(model.parameters(), values["clip"])
            optimizer.step()
            schedule.step()
            if step in due:
                model.eval()
                with torch.no_grad():
                    score = functional.cross_entropy(model(DIGITS[NUM_TRAINED:]), LABELS[NUM_TRAINED:]).item()
                yield score if math.isfinite(score) else math.inf


def shuffled_digits() -> tuple[Tensor, Tensor]:
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    return torch.tensor(images[order] / 16, dtype=torch.float32), torch.tensor(labels[order])


def shuffled_batches(size: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(1)
    while True:
        order = torch.randperm(NUM_TRAINED, generator=generator)
        yield from order[: NUM_TRAINED // size * size].split(size)


DIGITS, LABELS = shuffled_digits()


class Residual(nn.Module):
    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm, self.first, self.second = nn.LayerNorm(width), nn.Linear(width, width), nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, inputs: Tensor) -> Tensor:
        added: Tensor = self.second(functional.gelu(self.first(self.norm(inputs))))
        return inputs + self.dropout(added)


class Patches(nn.Module):
    """The rows of an image as a sequence."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.rows, self.places = nn.Linear(8, width), nn.Parameter(0.02 * torch.randn(8, width))

    def forward(self, images: Tensor) -> Tensor:
        rows: Tensor = self.rows(images.view(-1, 8, 8))
        return rows + self.places


class MeanHead(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.linear(self.norm(inputs).mean(dim=1))
        return outputs


def perceptron(values: Values) -> list[nn.Module]:
    hidden = [nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(values["dropout"])) for _ in range(6)]
    return [*hidden, nn.Linear(64, 10)]


def residual(values: Values, *, num_blocks: int = 8) -> list[nn.Module]:
    blocks = [Residual(48, values.get("dropout", 0.0)) for _ in range(num_blocks)]
    return [nn.Linear(64, 48), *blocks, nn.Sequential(nn.LayerNorm(48), nn.Linear(48, 10))]


def convolutional(values: Values) -> list[nn.Module]:
    def block(before: int, after: int, stride: int = 1) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU())

    head = nn.Sequential(nn.Flatten(), nn.Dropout(values["dropout"]), nn.Linear(24 * 16, 10))
    first = nn.Sequential(nn.Unflatten(1, (1, 8, 8)), block(1, 12))
    return [first, block(12, 12), block(12, 24, 2), block(24, 24), block(24, 24), head]


def attention(_values: Values) -> list[nn.Module]:
    blocks = [
        nn.TransformerEncoderLayer(32, 2, 64, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)
        for _ in range(4)
    ]
    return [Patches(32), *blocks, MeanHead(32)]


TASKS = {
    "perceptron": Task(layers=perceptron, num_layers=7, samples=9 * NUM_TRAINED, batch=100, space=RATES | DROPOUT),
    "residual": Task(
        layers=residual,
        num_layers=10,
        samples=3200,
        batch=32,
        space=RATES | DROPOUT | CLIPPED | {"b2": FloatDistribution(0.8, 0.9999), "eps": wide(1e-10, 1e-2)},
    ),
    "convolutional": Task(
        layers=convolutional,
        num_layers=6,
        samples=4000,
        batch=32,
        space=RATES | DROPOUT | CLIPPED | {"smooth": FloatDistribution(0, 0.3)},
    ),
    "two-rates": Task(layers=residual, num_layers=10, samples=12_800, batch=32, space=TWO_RATES),
    "constant-rate": Task(
        layers=partial(residual, num_blocks=6),
        num_layers=8,
        samples=12_800,
        batch=32,
        space=TWO_RATES,
        has_schedule=False,
    ),
    "attention": Task(layers=attention, num_layers=6, samples=12_800, batch=32, space=TWO_RATES),
}


class OverError(Exception):
    """A budget is spent."""


class Best(Observer):
    """Keeps the best loss of a full training, and ends a search when its time is over."""

    def __init__(self, executor: SimulatedExecutor, full: Any, budget: float) -> None:
        self.loss = math.inf
        self._executor, self._full, self._budget = executor, full, budget

    def ended(self, evaluation: Evaluation, history: History) -> None:
        if self._executor.seconds > self._budget:
            raise OverError
        if evaluation.fidelity == self._full and evaluation.score is not None:
            self.loss = min(self.loss, evaluation.score)


def searched(
    task: Task, search: Search, *, seed: int, sampling: Sampling = RANDOM, budget: float = math.inf
) -> Result:
    """Return the loss of a search's answer, and what it has spent in full trainings."""

    def price(trained: int, samples: int) -> float:
        share = trained / task.num_layers
        return ((1 - share) / TOGETHER + 3 * share) / 3 * samples / FULL

    def evaluate(job: Job) -> Evaluation:
        fidelity = job.fidelity
        upto = 1 + int(np.abs(np.array(SHARES) - fidelity.samples / FULL).argmin())
        loss = task.losses(dict(job.configuration.hyperparameters), fidelity.trainable_layers, upto)[-1]
        before = job.continued_from[-1].samples if job.continued_from else 0
        cost = price(fidelity.trainable_layers, fidelity.samples) - price(fidelity.trainable_layers, before)
        finished = math.isfinite(loss)
        return Evaluation(
            number=job.configuration.number,
            rung=job.rung,
            fidelity=fidelity,
            status=Status.FINISHED if finished else Status.DIVERGED,
            score=loss if finished else None,
            cost=Cost(seconds=cost, samples=fidelity.samples - before),
        )

    executor = SimulatedExecutor(evaluate)
    best = Best(executor, search.ladder.rungs[-1], budget)
    draws = Draws(space=space_of(task.space), sampling=sampling, root_seed=seed, direction="minimize")
    with suppress(OverError):
        climb(MemoryLedger("minimize"), search, draws, executor, best)
    return best.loss, executor.seconds


def default(task: Task, seed: int, budget: float, *, sampling: Sampling = RANDOM) -> Result:
    ladder = Ladder.sieve(num_layers=task.num_layers, full_samples=FULL)
    search = BudgetedHalving.usual(ladder, Budget(full_trainings=budget))
    return searched(task, search, seed=seed, sampling=sampling)


def by_score_alone(task: Task, seed: int, budget: float) -> Result:
    """The default, but who climbs from few layers may be like others (docs/decisions/0046-unlike-each-other.md)."""
    with patch("frostline.search.variety.varied_order", lambda ranking, _values: [*ranking]):
        return default(task, seed, budget)


def on_samples(task: Task, shares: tuple[float, ...]) -> Ladder:
    rungs = [(task.num_layers, round(share * FULL)) for share in shares]
    return Ladder.explicit(rungs, num_layers=task.num_layers, full_samples=FULL)


def full_trainings(task: Task, seed: int, budget: float, *, sampling: Sampling = RANDOM) -> Result:
    search = FullFidelity(ladder=on_samples(task, (0.5, 1.0)), configurations=int(budget) + 1)
    return searched(task, search, seed=seed, sampling=sampling, budget=budget + 1e-6)


def halving(task: Task, seed: int, budget: float) -> Result:
    """Successive halving over samples by thirds, with as many configurations as the budget pays for."""
    ladder = on_samples(task, (0.1, 0.3, 1.0))
    found = SuccessiveHalving(ladder=ladder, configurations=9, reduction_factor=3)
    for number in count(10):
        search = SuccessiveHalving(ladder=ladder, configurations=number, reduction_factor=3)
        if sum(row.cost for row in ladder.rows(search.evaluations_per_rung())) > budget:
            break
        found = search
    return searched(task, found, seed=seed)


def optuna_hyperband(task: Task, seed: int, budget: float) -> Result:
    study = optuna.create_study(
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=optuna.pruners.HyperbandPruner(min_resource=1, max_resource=10),
        study_name=f"{seed}",
    )
    spent, best = 0.0, math.inf
    while spent < budget:
        trial, before, state = study.ask(dict(task.space)), 0.0, optuna.trial.TrialState.COMPLETE
        for upto, share in enumerate(SHARES, start=1):
            loss = task.losses(dict(trial.params), task.num_layers, upto)[-1]
            if not math.isfinite(loss):
                state = optuna.trial.TrialState.FAIL
                break
            spent, before = spent + share - before, share
            if spent > budget:
                return best, spent
            trial.report(loss, round(10 * share))
            if share < 1 and trial.should_prune():
                state = optuna.trial.TrialState.PRUNED
                break
        if state is optuna.trial.TrialState.COMPLETE:
            study.tell(trial, loss)
            best = min(best, loss)
        else:
            study.tell(trial, state=state)
    return best, spent


METHODS: dict[str, Callable[[Task, int, float], Result]] = {
    "default": default,
    "default, TPE proposes": partial(default, sampling=TPE),
    "default, GP proposes": partial(default, sampling=GP),
    "default, climbing by score alone": by_score_alone,
    "halving over samples, thirds": halving,
    "Optuna's Hyperband pruner with TPE": optuna_hyperband,
    "TPE, full trainings": partial(full_trainings, sampling=TPE),
    "random, full trainings": full_trainings,
}


def measured(
    task: Task, method: Callable[[Task, int, float], Result], budget: float, seeds: int
) -> dict[str, Any]:
    results = []
    for seed in range(seeds):
        task.trainings.clear()
        results.append(method(task, seed, budget))
    losses = np.minimum([loss for loss, _ in results], WORST)
    return {"losses": losses.tolist(), "spent": float(np.mean([spent for _, spent in results]))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--methods", default="|".join(METHODS), help="Names, separated by |.")
    parser.add_argument("--budgets", default="8")
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--json", type=Path, help="What stands there already is not measured again.")
    options = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    is_begun = options.json is not None and options.json.exists()
    record: list[dict[str, Any]] = json.loads(options.json.read_text()) if is_begun else []
    for name in options.tasks.split(","):
        for budget in map(float, options.budgets.split(",")):
            rows = [(f"{name}, a budget of {budget:g}", "mean loss", "median", "spent")]
            for method in options.methods.split("|"):
                case = {"task": name, "budget": budget, "method": method}
                kept = next((row for row in record if row.items() >= case.items()), None)
                row = kept or case | measured(TASKS[name], METHODS[method], budget, options.seeds)
                losses = row["losses"]
                rows.append((method, f"{np.mean(losses):.3f}", f"{np.median(losses):.3f}", f"{row['spent']:.2f}"))
                if kept is None:
                    record.append(row)
                if options.json is not None:
                    options.json.write_text(json.dumps(record, indent=1) + "\n")
            print(text_table(rows), flush=True)


if __name__ == "__main__":
    main()
