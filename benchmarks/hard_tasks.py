r"""Tasks that are hard to tune: deep models, ten hyperparameters, ranges as wide as what people do not know.

Each is recorded once, for `benchmarks/contest.py`, by one command:

    frostline audit benchmarks/hard_tasks.py:digits_vit -n 160 --layers 2,5,16 --repeats 16 --repeat-seeds 2 \
        --table benchmarks/tables/digits-vit.csv.gz

One training takes a second or two of one core, so that hundreds can be recorded.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from frostline import Configuration, SearchSpace, SupervisedTask
from frostline.records import Value
from frostline.seeding import derive_seed
from frostline.tasks.builtin.python_source_gpt import python_source_gpt
from frostline.tasks.data.corpus import python_source
from frostline.tasks.data.digits import load_digits
from frostline.tasks.data.images import shift_images
from frostline.tasks.data.tokenization import cache_directory
from frostline.tasks.models.mlp import MLPSettings, build_mlp
from frostline.training.files.model_files import write_model

DEFAULTS: dict[str, Value] = {
    "learning_rate": 1e-3,
    "optimizer": "AdamW",
    "weight_decay": 1e-2,
    "beta1": 0.9,
    "beta2": 0.999,
    "epsilon": 1e-8,
    "gradient_clip_norm": 1.0,
    "warmup_fraction": 0.1,
    "cooldown_fraction": 0.5,
}
"""torch's own for AdamW, and a schedule that most would choose."""


def wide_space(*batch_sizes: int) -> SearchSpace:
    """Return the space of somebody who knows nothing but the names: five decades of learning rate, and the rest alike."""
    return SearchSpace(
        distributions={
            "learning_rate": FloatDistribution(1e-6, 1e-1, log=True),
            "optimizer": CategoricalDistribution(("AdamW", "SGD", "RMSprop")),
            "weight_decay": FloatDistribution(1e-6, 1.0, log=True),
            "beta1": FloatDistribution(0.5, 0.99),
            "beta2": FloatDistribution(0.8, 0.9999),
            "epsilon": FloatDistribution(1e-10, 1e-3, log=True),
            "gradient_clip_norm": FloatDistribution(1e-2, 1e2, log=True),
            "warmup_fraction": FloatDistribution(0.0, 0.5),
            "cooldown_fraction": FloatDistribution(0.0, 0.5),
            "batch_size": CategoricalDistribution(batch_sizes),
        }
    )


# --- A vision transformer of 16 layers, from random weights and from a checkpoint -------------------------------------

WIDTH = 32
NUM_HEADS = 2


class Patches(nn.Module):
    """The 2x2 patches of an 8x8 image as tokens, a class token before them, and where each lies: 17 tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.projection = nn.Conv2d(1, WIDTH, kernel_size=2, stride=2)
        self.class_token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.positions = nn.Parameter(0.02 * torch.randn(1, 17, WIDTH))

    def forward(self, images: Tensor) -> Tensor:
        """Return the tokens, of shape (batch, 17, width)."""
        patches = self.projection(images).flatten(2).transpose(1, 2)
        return torch.cat((self.class_token.expand(len(images), -1, -1), patches), dim=1) + self.positions


class Encoder(nn.Module):
    """Attention and feed-forward, each behind its norm and beside its skip connection."""

    def __init__(self) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(WIDTH)
        self.query_key_value = nn.Linear(WIDTH, 3 * WIDTH)
        self.projection = nn.Linear(WIDTH, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.expansion = nn.Linear(WIDTH, 4 * WIDTH)
        self.contraction = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, of the shape of its input."""
        query, key, value = (
            part.unflatten(-1, (NUM_HEADS, -1)).transpose(1, 2)
            for part in self.query_key_value(self.attention_norm(x)).chunk(3, dim=-1)
        )
        mixed = functional.scaled_dot_product_attention(query, key, value)
        x = x + self.projection(mixed.transpose(1, 2).flatten(2))
        return x + self.contraction(functional.gelu(self.expansion(self.norm(x))))


class ClassHead(nn.Module):
    """The final norm, and the class token's logits."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.projection = nn.Linear(WIDTH, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits, of shape (batch, classes)."""
        return self.projection(self.norm(x[:, 0]))


def build_vit(num_classes: int) -> nn.Sequential:
    """Return a vision transformer of 14 blocks: 16 layers."""
    blocks = [(f"block_{number + 1}", Encoder()) for number in range(14)]
    return nn.Sequential(OrderedDict([("patches", Patches()), *blocks, ("head", ClassHead(num_classes))]))


def digits_vit(*, full_images: int = 3072) -> SupervisedTask:
    """Return the task of training a vision transformer on the handwritten digits."""
    digits = load_digits(size=8)
    return _images_task(
        "digits-vit", lambda _configuration: build_vit(10), digits.training, digits.validation, full_images
    )


def finetuned_vit(*, full_images: int = 2048) -> SupervisedTask:
    """Return the task of fine-tuning to the digits 5 to 9 a vision transformer that was trained on 0 to 4."""
    digits = load_digits(size=8)
    training, validation = (_of_classes(part, 5, 10) for part in (digits.training, digits.validation))
    task = _images_task("finetuned-vit", lambda _configuration: build_vit(5), training, validation, full_images)
    return replace(task, pretrained=_pretrained(), new_modules=("head",))


@cache
def _pretrained() -> Path:
    """Return the weights of a model trained on the digits 0 to 4 for 200 steps."""
    folder = cache_directory()
    assert folder is not None
    path = folder / "digits-0-to-4-vit.safetensors"
    if path.exists():
        return path
    images, targets = _of_classes(load_digits(size=8).training, 0, 5).tensors
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_vit(5)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        for _ in range(200):
            batch = torch.randint(len(images), (64,))
            optimizer.zero_grad()
            functional.cross_entropy(model(images[batch]), targets[batch]).backward()
            optimizer.step()
    folder.mkdir(parents=True, exist_ok=True)
    write_model(path, model)
    return path


def _of_classes(digits: TensorDataset, first: int, end: int) -> TensorDataset:
    """Return the images of the classes from ``first`` up to ``end``, counted from 0."""
    images, targets = digits.tensors
    chosen = (targets >= first) & (targets < end)
    return TensorDataset(images[chosen], targets[chosen] - first)


# --- A residual MLP of 20 layers, whose training takes a second -------------------------------------------------------


def deep_mlp(*, full_images: int = 12_800) -> SupervisedTask:
    """Return the task of training an MLP of 20 layers on the handwritten digits."""
    digits = load_digits(size=8)
    settings = MLPSettings(num_hidden_layers=19, width=64)
    return _images_task(
        "deep-mlp",
        lambda _configuration: build_mlp(settings),
        digits.training,
        digits.validation,
        full_images,
    )


def _images_task(
    name: str,
    model: Callable[[Configuration], nn.Module],
    training: TensorDataset,
    validation: TensorDataset,
    full_images: int,
) -> SupervisedTask:
    return SupervisedTask(
        name=name,
        model=model,
        training_data=training,
        validation_data=validation,
        loss_function=functional.cross_entropy,
        space=wide_space(16, 32, 64, 128),
        full_samples=full_images,
        defaults=DEFAULTS | {"batch_size": 32},
        sample_unit="images",
        augment=shift_images,
    )


# --- Language models: tied embeddings, and a linear recurrence --------------------------------------------------------


def tied_gpt(*, full_tokens: int = 32_768) -> SupervisedTask:
    """Return the task of training a GPT of 16 layers, its head tied to its embedding, on Python's source.

    Recorded with -n 36, 72 and 104 in turn, so that no more than nine were trained together, which is what a search does:
    --layers 2,16 --repeats 12 --repeat-seeds 2 (the repeats with the last).
    """
    task = python_source_gpt(
        num_blocks=14, num_heads=2, width=48, full_tokens=full_tokens, batch_size=4, tied_embedding=True
    )
    return replace(task, name="tied-gpt", space=wide_space(2, 4, 8, 16), defaults=DEFAULTS | {"batch_size": 4})


CONTEXT = 32
NUM_BYTES = 128


class Retention(nn.Module):
    """Linear attention whose memory of the past fades at another rate in each head, beside a skip connection.

    Source: Sun et al. 2023, arXiv:2307.08621, in its parallel form.
    """

    decay: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.query_key_value_gate = nn.Linear(WIDTH, 4 * WIDTH)
        self.projection = nn.Linear(WIDTH, WIDTH)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH)
        )
        distance = torch.arange(CONTEXT)[:, None] - torch.arange(CONTEXT)
        rates = 1 - 2.0 ** -torch.arange(2.0, 2.0 + NUM_HEADS)
        fading = rates[:, None, None] ** distance.clamp(min=0) * (distance >= 0)
        self.register_buffer("decay", fading / fading.sum(dim=-1, keepdim=True), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, of the shape of its input: (batch, CONTEXT, WIDTH)."""
        *parts, gate = self.query_key_value_gate(self.norm(x)).chunk(4, dim=-1)
        query, key, value = (part.unflatten(-1, (NUM_HEADS, -1)).transpose(1, 2) for part in parts)
        retained = (query @ key.transpose(-1, -2) * self.decay) @ value
        mixed = functional.layer_norm(retained.transpose(1, 2), retained.shape[-1:]).flatten(2)
        x = x + self.projection(functional.silu(gate) * mixed)
        return x + self.feed_forward(x)


def build_retention() -> nn.Sequential:
    """Return a language model over bytes of 12 layers: embedding, 10 blocks, head."""
    blocks = [(f"block_{number + 1}", Retention()) for number in range(10)]
    head = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, NUM_BYTES))
    return nn.Sequential(OrderedDict([("embedding", nn.Embedding(NUM_BYTES, WIDTH)), *blocks, ("head", head)]))


def byte_retention(*, full_tokens: int = 32_768) -> SupervisedTask:
    """Return the task of training a linear recurrence of 12 layers on the bytes of Python's source."""
    corpus = python_source(max_bytes=1_000_000)
    text = "\n".join(corpus.documents).encode()
    read = torch.frombuffer(bytearray(text), dtype=torch.uint8).long().clamp(max=NUM_BYTES - 1)
    windows = read[: len(read) // CONTEXT * CONTEXT].view(-1, CONTEXT)
    order = torch.randperm(len(windows), generator=torch.Generator().manual_seed(derive_seed(0, "windows")))
    windows = windows[order]
    held_out = 128
    return SupervisedTask(
        name="byte-retention",
        model=lambda _configuration: build_retention(),
        training_data=_next_bytes(windows[held_out:]),
        validation_data=_next_bytes(windows[:held_out]),
        loss_function=_next_byte_loss,
        space=wide_space(4, 8, 16, 32),
        full_samples=full_tokens,
        defaults=DEFAULTS | {"batch_size": 8},
        sample_unit="tokens",
        samples_per_example=CONTEXT,
        validation_batch_size=32,
        data_fingerprint=hashlib.sha256(text).hexdigest(),
    )


def _next_bytes(windows: Tensor) -> TensorDataset:
    """Return windows with what follows each byte; the last one's successor is not known, and is not scored."""
    following = torch.cat((windows[:, 1:], torch.full((len(windows), 1), -100)), dim=1)
    return TensorDataset(windows, following)


def _next_byte_loss(logits: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
