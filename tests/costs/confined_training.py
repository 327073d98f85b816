"""A child process that trains within an address space as large as a device's memory: run by ``test_fits_really``."""

from __future__ import annotations

import gc
import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

import torch
from optuna.distributions import FloatDistribution
from torch import Tensor, nn
from torch.nn import functional

from frostline.layers.storages import storage_bytes
from frostline.populations.engines import Engine
from frostline.populations.population import Population
from frostline.records import Configuration, Fidelity, Job
from frostline.search.spaces.space import SearchSpace
from frostline.tasks.builtin.random_images import RandomImages
from frostline.tasks.builtin.random_tokens import RandomTokens
from frostline.tasks.models.gpt import GPT, GPTSettings, next_token_loss
from frostline.tasks.models.mlp import MLPSettings, build_mlp
from frostline.training.course import TrainingSettings
from frostline.training.failures import is_out_of_memory
from frostline.training.machine.devices import DevicePlan
from frostline.training.session import begin_session
from frostline.training.supervised.supervised_task import SupervisedTask

CPU = DevicePlan(device=torch.device("cpu"))
VOCABULARY, CONTEXT, IMAGE, SMALL_IMAGE = 2000, 128, 64, 8
# The first step makes the state of the optimizer, the second one holds it throughout: the others are like it.
STEPS = 2


def gpt(_configuration: Configuration) -> nn.Module:
    sizes = {"num_blocks": 4, "num_heads": 4, "width": 128}
    return GPT(GPTSettings(context_length=CONTEXT, vocabulary_size=VOCABULARY, **sizes))


def resnet(_configuration: Configuration) -> nn.Module:
    import transformers

    sizes = {"embedding_size": 32, "hidden_sizes": [32, 64, 128, 256], "depths": [1, 1, 1, 1]}
    settings = transformers.ResNetConfig(layer_type="basic", num_labels=10, **sizes)
    built: nn.Module = transformers.ResNetForImageClassification(settings)
    return built


def vit(_configuration: Configuration) -> nn.Module:
    import transformers

    sizes = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 512}
    settings = transformers.ViTConfig(image_size=IMAGE, patch_size=8, num_labels=10, **sizes)
    built: nn.Module = transformers.ViTForImageClassification(settings)
    return built


def mlp(_configuration: Configuration) -> nn.Module:
    inputs = 3 * SMALL_IMAGE**2
    return nn.Sequential(nn.Flatten(), build_mlp(MLPSettings(num_hidden_layers=4, width=512, num_inputs=inputs)))


FAMILIES = {"gpt": gpt, "resnet": resnet, "vit": vit, "mlp": mlp}


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs, targets)


def task_of(family: str) -> SupervisedTask:
    """A task whose own batches are of 8 examples."""
    size = SMALL_IMAGE if family == "mlp" else IMAGE

    def data(length: int) -> Any:
        if family == "gpt":
            return RandomTokens(context_length=CONTEXT, vocabulary_size=VOCABULARY, num_windows=length)
        return RandomImages(size=size, num_classes=10, num_images=length)

    return SupervisedTask(
        name=family,
        model=FAMILIES[family],
        training_data=data(512),
        validation_data=data(2),
        loss_function=next_token_loss if family == "gpt" else cross_entropy,
        space=SearchSpace(distributions={"learning_rate": FloatDistribution(1e-5, 1e-3)}),
        full_samples=1000,
        defaults={"learning_rate": 1e-4, "optimizer": "AdamW", "batch_size": 8},
        batch_size=8,
        num_calibration_batches=1,
        data_fingerprint=family,
    )


def train(task: SupervisedTask, trainable_layers: int, batch_size: int, device_memory: int) -> None:
    """Make steps on one batch, within ``device_memory`` bytes for weights, batch and all that the steps take."""
    configuration = Configuration(number=0, hyperparameters={"learning_rate": 1e-4})
    session = begin_session(task, configuration, trainable_layers=trainable_layers, device_plan=CPU, root_seed=0)
    few = next(iter(task.training_batches(configuration, seed=0, skip_samples=0)))
    batch = tuple(part[:1].repeat(batch_size, *[1] * (part.dim() - 1)) for part in few)
    del few
    held = storage_bytes([*session.model.parameters(), *session.model.buffers(), *batch])
    confine(device_memory - held)
    for _ in range(STEPS):
        session.step(batch, rate_factor=1.0)


def train_together(task: SupervisedTask, trainable_layers: int, members: int, device_memory: int) -> None:
    """Train a population within ``device_memory`` bytes, models and all."""
    fidelity = Fidelity(trainable_layers=trainable_layers, samples=STEPS * task.batch_size)
    jobs = [
        Job(
            configuration=Configuration(number=number, hyperparameters={"learning_rate": 1e-4}),
            rung=0,
            fidelity=fidelity,
        )
        for number in range(members)
    ]
    settings = TrainingSettings(device_plan=CPU, root_seed=0, num_validations=1)
    confine(device_memory)
    evaluations = list(Population(task, jobs, settings, engine=Engine.SHARED).run())
    assert len(evaluations) == members
    reasons = {evaluation.reason for evaluation in evaluations if evaluation.reason}
    assert not reasons, reasons


def confine(more: int) -> None:
    """Let this process take ``more`` bytes of address space beyond those that it has."""
    gc.collect()
    status = Path("/proc/self/status").read_text()
    taken = 1024 * int(status.split("VmSize:")[1].split()[0])
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + more, most))


def outcome(case: dict[str, Any]) -> str:
    """Run a case in a process of its own, and return how it ended."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            task = task_of(case["family"])
            if "members" in case:
                train_together(task, case["layers"], case["members"], case["device_memory"])
            else:
                train(task, case["layers"], case["batch_size"], case["device_memory"])
            said = "trained"
        except BaseException as error:
            said = "out of memory" if is_out_of_memory(error) else f"{type(error).__name__}: {error}"
        os.write(writer, said.encode()[:4000])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said or "ended without a word"


def main() -> None:
    """Read cases, run each, and print how they ended."""
    cases = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    # What a first step imports and sets up once for the process is no part of a training's memory.
    for family in {case["family"] for case in cases}:
        train_together(task_of(family), 2, 2, 2**40)
    sys.stdout.write(json.dumps([outcome(case) for case in cases]))


if __name__ == "__main__":
    main()
