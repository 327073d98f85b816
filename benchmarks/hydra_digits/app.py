"""A Hydra application that trains seven layers on scikit-learn's digits, for ``hydra_sweepers.py``: whichever sweeper."""

from __future__ import annotations

from itertools import pairwise

import hydra
import torch
from omegaconf import DictConfig
from sklearn.datasets import load_digits
from torch import nn

NUM_TRAINED, NUM_LAYERS = 1500, 7


@hydra.main(version_base="1.3", config_path=".", config_name="config")
def train(cfg: DictConfig) -> float:
    torch.set_num_threads(1)
    torch.manual_seed(cfg.seed)
    images, targets = load_digits(return_X_y=True)
    inputs, labels = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(targets)
    hidden = [
        nn.Sequential(nn.Linear(before, after), nn.ReLU(), nn.Dropout(cfg.dropout))
        for before, after in pairwise([64] * NUM_LAYERS)
    ]
    model = nn.Sequential(*hidden, nn.Linear(64, 10))
    if cfg.trainable_layers < NUM_LAYERS:
        # Not there where the other sweeper is.
        import frostline

        frostline.freeze(model, trainable_layers=cfg.trainable_layers)
    trained = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=cfg.rate, weight_decay=cfg.weight_decay, betas=(cfg.momentum, 0.999))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, cfg.full_samples // cfg.batch)
    num_batches = NUM_TRAINED // cfg.batch
    for step in range(cfg.samples // cfg.batch):
        if step % num_batches == 0:
            order = torch.randperm(NUM_TRAINED)
        batch = order[step % num_batches * cfg.batch :][: cfg.batch]
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs[batch]), labels[batch]).backward()
        optimizer.step()
        schedule.step()
    model.eval()
    with torch.no_grad():
        return nn.functional.cross_entropy(model(inputs[NUM_TRAINED:]), labels[NUM_TRAINED:]).item()


if __name__ == "__main__":
    train()
