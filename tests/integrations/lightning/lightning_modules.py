"""Lightning modules that a task can be made of, on scikit-learn's digits, and a task as the command line finds one."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from optuna.distributions import FloatDistribution
from torch import Tensor, nn
from torch.utils.data import DataLoader

import frostline
from frostline.integrations.lightning import task_from_module
from tests.integrations.lightning.lightning_digits import digits

BATCH = 20
EPOCH = 160
SPACE = frostline.SearchSpace(
    distributions={
        "learning_rate": FloatDistribution(1e-4, 1e-1, log=True),
        "weight_decay": FloatDistribution(1e-4, 1.0, log=True),
    }
)


class Plain(L.LightningModule):
    """As people write one: it logs, and its step calls the module."""

    def __init__(self, dropout: float = 0.1, optimizer: str = "adamw", schedule: str = "cosine") -> None:
        super().__init__()
        self.kind, self.schedule = optimizer, schedule
        # The head is registered first, and runs last.
        self.head = nn.Linear(16, 10)
        self.body = nn.Sequential(
            nn.Linear(64, 16, bias=False),
            nn.BatchNorm1d(16),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(16, 16),
            nn.ReLU(),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        images, targets = batch
        loss = nn.functional.cross_entropy(self(images), targets)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        images, targets = batch
        logits = self(images)
        accuracy = (logits.argmax(1) == targets).float().mean()
        self.log_dict({"val_loss": nn.functional.cross_entropy(logits, targets), "val_acc": accuracy})

    def configure_optimizers(self) -> Any:
        if self.kind == "sgd":
            optimizer: Any = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9, nesterov=True)
        else:
            kept = [each for each in self.parameters() if each.dim() < 2]
            decayed = [each for each in self.parameters() if each.dim() >= 2]
            groups = [{"params": decayed, "weight_decay": 0.1}, {"params": kept, "weight_decay": 0.0}]
            optimizer = torch.optim.AdamW(groups, lr=0.01, betas=(0.8, 0.99))
        steps = self.trainer.estimated_stepping_batches
        if self.schedule == "epochs":
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)]
        cosine = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, optimizer.defaults["lr"], total_steps=steps + 1, cycle_momentum=False
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cosine, "interval": "step"}}


def loaders(**options: Any) -> dict[str, Any]:
    return {
        "train_dataloaders": DataLoader(digits(0, EPOCH), **{"batch_size": BATCH, "shuffle": True, **options}),
        "val_dataloaders": DataLoader(digits(EPOCH, 260), batch_size=40),
    }


def task_of(build: Any, **options: Any) -> frostline.SupervisedTask:
    usual = {"space": SPACE, "monitor": "val_loss", "samples": 2 * EPOCH}
    given = {} if "datamodule" in options or "train_dataloaders" in options else loaders()
    return task_from_module(build, **{**usual, **given, **options})


def made() -> frostline.SupervisedTask:
    """The task of a file, for the command line."""
    return task_of(lambda _: Plain())
