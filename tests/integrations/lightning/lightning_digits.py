"""A Lightning module on scikit-learn's digits, as its users write one."""

from __future__ import annotations

import lightning as L
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import frostline

BATCH = 20


def digits(first: int, last: int) -> TensorDataset:
    images, targets = load_digits(return_X_y=True)
    return TensorDataset(
        torch.tensor(images[first:last] / 16, dtype=torch.float32), torch.tensor(targets[first:last])
    )


def loaders() -> dict[str, DataLoader]:
    return {
        "train_dataloaders": DataLoader(digits(0, 150), batch_size=BATCH, shuffle=True),
        "val_dataloaders": DataLoader(digits(150, 250), batch_size=50),
    }


class Digits(L.LightningModule):
    def __init__(self, rate: float = 0.01, schedule: str | None = None) -> None:
        super().__init__()
        self.rate = rate
        self.schedule = schedule
        self.seen: list[int] = []
        self.rates: list[float] = []
        self.max_epochs: int | None = None
        # The head is registered first, and runs last.
        self.head = nn.Linear(16, 10)
        self.body = nn.Sequential(
            nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 16), nn.ReLU()
        )

    def training_step(self, batch: tuple[torch.Tensor, ...], batch_idx: int) -> torch.Tensor:
        images, targets = batch
        self.seen += targets.tolist()
        self.rates.append(self.optimizers().param_groups[0]["lr"])
        loss = nn.functional.cross_entropy(self.head(self.body(images)), targets)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: tuple[torch.Tensor, ...], batch_idx: int) -> None:
        images, targets = batch
        self.log("val_loss", nn.functional.cross_entropy(self.head(self.body(images)), targets), sync_dist=True)

    def configure_optimizers(self) -> object:
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.rate, weight_decay=0.1)
        self.max_epochs = self.trainer.max_epochs
        if self.schedule is None:
            return optimizer
        steps = self.trainer.estimated_stepping_batches
        if self.schedule == "cosine":
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.rate, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": self.schedule}}


def build(trial: frostline.Trial) -> Digits:
    return Digits(trial.suggest_float("rate", 1e-3, 1e-1, log=True))
