"""A Hydra application that trains on the digits, and is tuned by its sweeper: python app.py --multirun."""

from __future__ import annotations

import hydra
import torch
from omegaconf import DictConfig
from sklearn.datasets import load_digits
from torch import nn

import frostline


@hydra.main(version_base="1.3", config_path=".", config_name="config")
def train(cfg: DictConfig) -> float:
    images, targets = load_digits(return_X_y=True)
    inputs, labels = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(targets)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10))
    frostline.freeze(model, trainable_layers=cfg.trainable_layers)
    trained = [each for each in model.parameters() if each.requires_grad]
    optimizer = getattr(torch.optim, cfg.optimizer)(trained, lr=cfg.rate)
    for start in range(0, cfg.samples, 50):
        batch = torch.arange(start, min(start + 50, cfg.samples)) % 1500
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs[batch]), labels[batch]).backward()
        optimizer.step()
    return nn.functional.cross_entropy(model(inputs[1500:]), labels[1500:]).item()


if __name__ == "__main__":
    train()
