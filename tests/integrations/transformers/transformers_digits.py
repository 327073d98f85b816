"""A Trainer on scikit-learn's digits, read as sequences: as its users write one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_digits
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

import frostline

LAYERS = 2
BATCH = 20


def digits(first: int, last: int) -> list[dict[str, torch.Tensor]]:
    """Each image is 16 tokens: the ink of its 2 by 2 squares."""
    images, targets = load_digits(return_X_y=True)
    squares = torch.tensor(images[first:last]).reshape(-1, 4, 2, 4, 2).mean((2, 4)).long().flatten(1)
    return [
        {"input_ids": each, "labels": torch.tensor(int(target))}
        for each, target in zip(squares, targets[first:last], strict=True)
    ]


def model(dropout: float = 0.1) -> BertForSequenceClassification:
    return BertForSequenceClassification(
        BertConfig(
            vocab_size=17,
            hidden_size=16,
            num_hidden_layers=LAYERS,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=16,
            num_labels=10,
            hidden_dropout_prob=dropout,
        )
    )


def arguments(folder: Path | str = "out", **options: Any) -> TrainingArguments:
    return TrainingArguments(
        **{
            "output_dir": str(folder),
            "per_device_train_batch_size": BATCH,
            "use_cpu": True,
            "report_to": [],
            "disable_tqdm": True,
            **options,
        }
    )


def make_trainer(trial: frostline.Trial, **options: Any) -> Trainer:
    rate = trial.suggest_float("rate", 1e-3, 1e-1, log=True)
    return Trainer(
        model=model(),
        args=arguments(learning_rate=rate, weight_decay=0.1, **options),
        train_dataset=digits(0, 150),
        eval_dataset=digits(150, 250),
    )
