"""Hundreds of configurations of one small model at the rungs of the default's ladder: so many that a space is dense in them.

    python benchmarks/dense_configurations.py FILE.npz [--configurations 900]

A residual perceptron of eight layers on scikit-learn's digits, AdamW, nine hyperparameters over wide ranges; the last two
layers on a tenth of the samples, and all layers on 10, 40 and 100 % of them. Configurations are trained sixty at a time, on
one thread; a training of the last layers counts what `continuous_spaces.py` counts for it. For `joint_model.py --dense`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from frostline.process import prepare_process

prepare_process()

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor

Array = NDArray[np.float64]

NUM_LAYERS, FEW, WIDTH = 8, 2, 32
NUM_TRAINED, EPOCHS, BATCH = 1198, 10, 48
SHARES = (0.1, 0.4, 1.0)
TOGETHER, OF_SHARED = 60, 16


def logarithmic(low: float, high: float, points: Array) -> Array:
    """Return values between ten to the powers ``low`` and ``high``."""
    return 10 ** (low + points * (high - low))


def hyperparameters(points: Array) -> dict[str, Tensor]:
    """Return the hyperparameters at ``points`` of the unit cube (C, 9), each (C, 1, 1)."""
    columns = points.T
    values = {
        "rate": logarithmic(-5, 0, columns[0]),
        "weight_decay": logarithmic(-4, 0.5, columns[1]),
        "beta1": 0.5 + 0.49 * columns[2],
        "beta2": 1 - logarithmic(-4, -0.5, columns[3]),
        "epsilon": logarithmic(-10, -1, columns[4]),
        "warm_up": 0.5 * columns[5],
        "cool_down": 0.7 * columns[6],
        "clip": logarithmic(-2, 1, columns[7]),
        "smoothing": 0.3 * columns[8],
    }
    return {name: torch.tensor(value, dtype=torch.float32)[:, None, None] for name, value in values.items()}


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return images and labels to train on and to validate on."""
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.data))
    images = torch.tensor(digits.data[order] / 16 - 0.3, dtype=torch.float32)
    labels = torch.tensor(digits.target[order])
    return images[:NUM_TRAINED], labels[:NUM_TRAINED], images[NUM_TRAINED:], labels[NUM_TRAINED:]


def initial_weights() -> list[Tensor]:
    """Return the weights that all configurations begin with."""
    generator = torch.Generator().manual_seed(1)
    sizes = [64, *[WIDTH] * (NUM_LAYERS - 1), 10]
    gains = [1.4, *[0.7] * (NUM_LAYERS - 2), 1.0]
    return [
        gain * torch.randn(inputs, outputs, generator=generator) / inputs**0.5
        for gain, (inputs, outputs) in zip(gains, pairwise(sizes), strict=True)
    ]


def batches(num_steps: int) -> Iterator[Tensor]:
    """Yield the same batches for every configuration."""
    generator = torch.Generator().manual_seed(2)
    per_epoch = NUM_TRAINED // BATCH
    for step in range(num_steps):
        if step % per_epoch == 0:
            order = torch.randperm(NUM_TRAINED, generator=generator)
        position = step % per_epoch * BATCH
        yield order[position : position + BATCH]


def outputs(images: Tensor, weights: list[Tensor]) -> Tensor:
    """Return the logits of images (B, 64), (K, B, 10). Weights that are trained have K in front."""
    hidden = images @ weights[0]
    for weight in weights[1:-1]:
        hidden = hidden + torch.relu(hidden @ weight)
    return hidden @ weights[-1]


def losses(points: Array, trained: int) -> Array:
    """Return the validation losses at ``SHARES`` of the samples if so many of the last layers are trained, (K, S)."""
    images, labels, held_out, held_out_labels = digits()
    h, num = hyperparameters(points), len(points)
    weights = initial_weights()
    frozen = weights[: NUM_LAYERS - trained]
    trainable = [weight.repeat(num, 1, 1).requires_grad_() for weight in weights[len(frozen) :]]
    means, squares = ([torch.zeros_like(weight) for weight in trainable] for _ in range(2))
    num_steps = NUM_TRAINED // BATCH * EPOCHS
    due = {round(share * num_steps) for share in SHARES}
    found = []
    for step, chosen in enumerate(batches(num_steps), start=1):
        logs = torch.log_softmax(outputs(images[chosen], frozen + trainable), dim=-1)
        of_labels = -logs.gather(-1, labels[chosen][None, :, None].expand(num, -1, 1))
        smoothed = (1 - h["smoothing"]) * of_labels - h["smoothing"] * logs.mean(dim=-1, keepdim=True)
        gradients = torch.autograd.grad(smoothed.mean(dim=1).sum(), trainable)
        with torch.no_grad():
            norms = torch.stack([(gradient**2).sum(dim=(1, 2)) for gradient in gradients]).sum(dim=0).sqrt()
            clip = (h["clip"] / (norms[:, None, None] + 1e-12)).clamp(max=1)
            share = step / num_steps
            warm = (share / h["warm_up"].clamp(min=1e-6)).clamp(max=1)
            rate = h["rate"] * warm * ((1 - share) / h["cool_down"].clamp(min=1e-6)).clamp(max=1)
            for weight, gradient, mean, square in zip(trainable, gradients, means, squares, strict=True):
                clipped = clip * gradient
                mean.mul_(h["beta1"]).add_((1 - h["beta1"]) * clipped)
                square.mul_(h["beta2"]).add_((1 - h["beta2"]) * clipped**2)
                root = (square / (1 - h["beta2"] ** step)).sqrt() + h["epsilon"]
                weight -= rate * (mean / (1 - h["beta1"] ** step) / root + h["weight_decay"] * weight)
            if step in due:
                logits = outputs(held_out, frozen + trainable).transpose(1, 2)
                targets = held_out_labels.expand(num, -1)
                found.append(torch.nn.functional.cross_entropy(logits, targets, reduction="none").mean(dim=1))
    return torch.stack(found, dim=1).double().nan_to_num(nan=np.inf).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--configurations", type=int, default=900)
    options = parser.parse_args()
    torch.set_num_threads(1)
    # Moments that have died out would otherwise take most of the time.
    torch.set_flush_denormal(True)
    points = np.random.default_rng(11).random((options.configurations, 9))
    found = []
    for start in range(0, len(points), TOGETHER):
        some = points[start : start + TOGETHER]
        found.append(np.concatenate([losses(some, FEW)[:, :1], losses(some, NUM_LAYERS)], axis=1))
        print(f"{start + len(some)} of {len(points)}", flush=True)
    layers = np.array([FEW / NUM_LAYERS, 1, 1, 1])
    shares = np.stack([layers, [SHARES[0], *SHARES]], axis=1)
    seconds = ((1 - layers) / OF_SHARED + 3 * layers) / 3 * shares[:, 1]
    np.savez(options.file, losses=np.concatenate(found), points=points, shares=shares, seconds=seconds)


if __name__ == "__main__":
    main()
