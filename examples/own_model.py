"""Tune models of your own: a GPT-2 from transformers with your own training loop, and an nn.Module as a ready-made task.

    python examples/own_model.py [--study NAME] [--storage URL]

The first search goes through the black-box door: the training function is plain PyTorch, and one line of it is
frostline's. The second describes model, data and loss, and leaves the training to frostline. Needs
`pip install "frostline[hf]"`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import torch
from optuna.distributions import FloatDistribution
from torch import nn
from torch.utils.data import TensorDataset
from transformers import GPT2Config, GPT2LMHeadModel

import frostline
from frostline.store.storage import DEFAULT_STORAGE

CONTEXT, BATCH = 32, 8

# --- 1. A transformers model and your own training loop ---------------------------------------------------------------


def counting_text(num_rows: int) -> torch.Tensor:
    """Rows of tokens that count up from random places: something a small model can learn."""
    generator = torch.Generator().manual_seed(0)
    starts = torch.randint(0, 64, (num_rows, 1), generator=generator)
    return (starts + torch.arange(CONTEXT)) % 64


def train(configuration: frostline.Configuration, fidelity: frostline.Fidelity) -> Iterator[tuple[int, float]]:
    config = GPT2Config(
        vocab_size=64, n_positions=CONTEXT, n_embd=32, n_layer=4, n_head=2, tie_word_embeddings=False
    )
    model = GPT2LMHeadModel(config)
    frostline.freeze(model, trainable_layers=fidelity.trainable_layers)  # the one line
    optimizer = torch.optim.AdamW(
        (parameter for parameter in model.parameters() if parameter.requires_grad),
        lr=configuration["learning_rate"],
        weight_decay=configuration["weight_decay"],
    )
    text = counting_text(fidelity.samples // CONTEXT + BATCH)
    validation, training = text[:BATCH], text[BATCH:]
    for step, batch in enumerate(training.split(BATCH), start=1):
        model.train()
        optimizer.zero_grad()
        model(input_ids=batch, labels=batch).loss.backward()
        optimizer.step()
        if step % 8 == 0 or step * BATCH >= len(training):
            model.eval()
            with torch.no_grad():
                yield step * BATCH * CONTEXT, model(input_ids=validation, labels=validation).loss.item()


def tune_gpt2(study: str, storage: str) -> frostline.TuneResult:
    space = frostline.SearchSpace(
        distributions={
            "learning_rate": FloatDistribution(1e-4, 1e-1, log=True),
            "weight_decay": FloatDistribution(1e-6, 1e-1, log=True),
        }
    )
    ladder = frostline.Ladder.diagonal(num_layers=6, full_samples=64 * BATCH * CONTEXT)
    return frostline.tune(
        train, space, ladder, study=study, storage=storage, plan=frostline.SearchPlan(configurations=9)
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
        plan=frostline.SearchPlan(configurations=9),
    )
    print(f"rings: {dict(rings.configuration)} reaches a loss of {rings.score:.4f}")


if __name__ == "__main__":
    main()
