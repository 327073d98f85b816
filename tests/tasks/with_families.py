"""Run by ``tests.other_libraries``: what torchvision's images and LitGPT's model are to the built-in tasks."""

from __future__ import annotations

import itertools
import pickle
import tempfile
from dataclasses import replace
from pathlib import Path

import litgpt.model
import numpy as np
import torch
import torchvision

from frostline.errors import TaskError
from frostline.records import Configuration
from frostline.tasks.builtin.cifar100_resnet18 import cifar100_resnet18
from frostline.tasks.models.gpt import GPT, GPT_14M, PYTHIA_1_4B, count_parameters
from frostline.training.supervised.supervised_task import SupervisedTask


def counterpart(settings, **options):
    """The settings of LitGPT with the same sizes and its own defaults for the rest."""
    return litgpt.model.Config(
        n_layer=settings.num_blocks,
        n_head=settings.num_heads,
        n_embd=settings.width,
        block_size=settings.context_length,
        vocab_size=settings.vocabulary_size,
        **options,
    )


def with_weights_of(ours: GPT, theirs: torch.nn.Module) -> torch.nn.Module:
    """LitGPT's model with our weights."""
    names = {
        "embedding.tokens": "transformer.wte",
        "head.norm": "transformer.ln_f",
        "head.projection": "lm_head",
        "attention_norm": "norm_1",
        "attention.query_key_value": "attn.qkv",
        "attention.projection": "attn.proj",
        "feed_forward_norm": "norm_2",
        "feed_forward.expansion": "mlp.fc",
        "feed_forward.projection": "mlp.proj",
    }
    state = {}
    for key, value in ours.state_dict().items():
        key = key.replace("blocks.", "transformer.h.")
        for old, new in names.items():
            key = key.replace(f"{old}.weight", f"{new}.weight").replace(f"{old}.bias", f"{new}.bias")
        state[key] = value
    theirs.load_state_dict(state)
    return theirs


def compare_with_litgpt() -> dict[str, object]:
    small = replace(GPT_14M, num_blocks=3, context_length=32, vocabulary_size=300)
    torch.manual_seed(0)
    ours = GPT(small).double().eval()
    theirs = with_weights_of(ours, litgpt.model.GPT(counterpart(small)).double()).eval()
    tokens = torch.randint(300, (2, 32), generator=torch.Generator().manual_seed(0))
    # LitGPT keeps its table of angles in double precision here, ours is made in single precision.
    difference = (ours(tokens) - theirs(tokens)).abs().max().item()
    with torch.device("meta"):
        counts = [
            sum(parameter.numel() for parameter in litgpt.model.GPT(counterpart(settings, **options)).parameters())
            for settings, options in ((GPT_14M, {}), (PYTHIA_1_4B, {"padding_multiple": 128}))
        ]
    return {
        "difference": difference,
        "scale": ours(tokens).abs().max().item(),
        "litgpt_parameters": counts,
        "our_parameters": [count_parameters(GPT_14M), count_parameters(PYTHIA_1_4B)],
    }


def write_cifar100(folder: Path, *, num_images: int) -> None:
    """Write made-up images in the format of CIFAR-100."""
    generator = np.random.default_rng(0)
    target = folder / "cifar-100-python"
    target.mkdir()
    labels = generator.integers(100, size=num_images)
    images = generator.integers(0, 128, size=(num_images, 3072)) + labels[:, None]
    content = {"data": images.astype(np.uint8), "fine_labels": labels.tolist()}
    for name in ("train", "test"):
        (target / name).write_bytes(pickle.dumps(content))
    (target / "meta").write_bytes(pickle.dumps({"fine_label_names": [str(index) for index in range(100)]}))


def error_of(directory: Path) -> str:
    try:
        cifar100_resnet18(directory=directory)
    except TaskError as error:
        return str(error)
    return "no error"


def first_losses(task: SupervisedTask, num_steps: int) -> list[float]:
    values = {name: task.defaults[name] for name in task.space.distributions}
    configuration = Configuration(number=0, hyperparameters=values)
    torch.manual_seed(0)
    model = task.build_model(configuration)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    batch = next(iter(task.training_batches(configuration, seed=0, skip_samples=0)))
    batch = (batch[0][:16], batch[1][:16])
    for _ in range(num_steps):
        loss = task.loss(model, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def train_on_cifar100() -> dict[str, object]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        missing = error_of(folder / "nowhere")
        write_cifar100(folder, num_images=300)
        damaged = error_of(folder)  # torchvision knows the checksums of the real files
        torchvision.datasets.cifar.check_integrity = lambda *_: True
        task, again = (cifar100_resnet18(directory=str(folder), num_epochs=2) for _ in range(2))
        values = {name: task.defaults[name] for name in task.space.distributions}
        configuration = Configuration(number=0, hyperparameters=values)
        model = task.build_model(configuration).eval()
        with torch.no_grad():
            score = task.score(model, itertools.islice(task.validation_batches(configuration), 1))
        images, _ = next(iter(task.training_batches(configuration, seed=0, skip_samples=0)))
        return {
            "missing": missing,
            "damaged": damaged,
            "layers": task.split(model).num_layers,
            "sizes": [len(task.training_data), len(task.validation_data), task.full_samples],
            "same": task.fingerprint == again.fingerprint,
            "score": score,
            "batch": list(images.shape),
            "losses": first_losses(task, 4),
        }


def found() -> dict[str, dict[str, object]]:
    """Return what was compared, by the library or data."""
    return {"litgpt": compare_with_litgpt(), "cifar100": train_on_cifar100()}
