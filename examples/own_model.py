"""Tune models of your own: a GPT-2 from transformers with your own training loop, and an nn.Module as a ready-made task.

    python examples/own_model.py [--study NAME] [--storage URL]

The first search takes an objective in Optuna's manner: plain PyTorch, which goes on where it was when it gets more
samples. The second describes model, data and loss, and leaves the training to frostline. Needs
`pip install "frostline[hf]"`.
"""

from __future__ import annotations

import argparse

import torch
from optuna.distributions import FloatDistribution
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from transformers import GPT2Config, GPT2LMHeadModel

import frostline
from frostline.store.backends.storage import DEFAULT_STORAGE

CONTEXT, BATCH = 32, 8

# --- 1. A transformers model and your own training loop ---------------------------------------------------------------


def counting_text(num_rows: int) -> torch.Tensor:
    """Rows of tokens that count up from random places: something a small model can learn."""
    generator = torch.Generator().manual_seed(0)
    starts = torch.randint(0, 64, (num_rows, 1), generator=generator)
    return (starts + torch.arange(CONTEXT)) % 64


def objective(trial: frostline.Trial) -> float:
    config = GPT2Config(
        vocab_size=64, n_positions=CONTEXT, n_embd=32, n_layer=4, n_head=2, tie_word_embeddings=False
    )
    model = GPT2LMHeadModel(config)
    trial.freeze(model)
    optimizer = torch.optim.AdamW(
        trial.parameters,
        lr=trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True),
        weight_decay=trial.suggest_float("weight_decay", 1e-6, 1e-1, log=True),
    )
    if trial.resumed:
        model.load_state_dict(trial.resumed["model"])
        optimizer.load_state_dict(trial.resumed["optimizer"])
    text = counting_text(64 * BATCH + BATCH)
    validation = text[:BATCH]
    loader = DataLoader(text[BATCH:], batch_size=BATCH)  # type: ignore[arg-type]
    for batch in trial.batches(loader, num_samples=torch.numel):
        optimizer.zero_grad()
        model(input_ids=batch, labels=batch).loss.backward()
        optimizer.step()
        trial.checkpoint({"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    model.eval()
    with torch.no_grad():
        loss: float = model(input_ids=validation, labels=validation).loss.item()
    return loss


def tune_gpt2(study: str, storage: str) -> frostline.TuneResult:
    return frostline.tune(
        objective,
        samples=64 * BATCH * CONTEXT,
        unit="tokens",
        configurations=9,
        initial={"learning_rate": 1e-3, "weight_decay": 1e-2},
        study=study,
        storage=storage,
    )


# --- 2. A model of your own, described as a task ----------------------------------------------------------------------


class Network(nn.Module):
    """Two kinds of blocks, registered in another order than they run in."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(32, 3)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(32, 32), nn.BatchNorm1d(32), nn.ReLU()) for _ in range(4)
        )
        self.stem = nn.Linear(8, 32)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden = self.stem(inputs).relu()
        for block in self.blocks:
            hidden = hidden + block(hidden)
        return self.head(hidden)


def rings(num_points: int, seed: int) -> TensorDataset:
    """Points of three nested shells in eight dimensions."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, 3, (num_points,), generator=generator)
    points = torch.randn(num_points, 8, generator=generator)
    radius = 1 + targets + 0.3 * torch.randn(num_points, generator=generator)
    return TensorDataset(points / points.norm(dim=1, keepdim=True) * radius[:, None], targets)


def own_task() -> frostline.SupervisedTask:
    return frostline.SupervisedTask(
        name="rings",
        model=lambda configuration: Network(),
        training_data=rings(2048, seed=0),
        validation_data=rings(512, seed=1),
        loss_function=nn.functional.cross_entropy,
        optimizer=torch.optim.AdamW,
        space=frostline.SearchSpace(
            distributions={
                "learning_rate": FloatDistribution(1e-4, 1e-1, log=True),
                "weight_decay": FloatDistribution(1e-6, 1e-1, log=True),
            }
        ),
        defaults={"learning_rate": 1e-3, "weight_decay": 1e-2},
        full_samples=4 * 2048,
        batch_size=64,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--study", default="own-model")
    parser.add_argument("--storage", default=DEFAULT_STORAGE)
    arguments = parser.parse_args()
    gpt2 = tune_gpt2(f"{arguments.study}-gpt2", arguments.storage)
    print(f"GPT-2: {dict(gpt2.configuration)} reaches a loss of {gpt2.score:.4f}")
    rings = frostline.tune_task(
        own_task(),
        study=f"{arguments.study}-rings",
        storage=arguments.storage,
        configurations=9,
    )
    print(f"rings: {dict(rings.configuration)} reaches a loss of {rings.score:.4f}")


if __name__ == "__main__":
    main()
