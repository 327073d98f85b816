"""LoRA on a model of Pythia 1.4B's size, four configurations behind one base: resident memory beside what is predicted.

    python benchmarks/large_adapters.py [--checkpoint FOLDER] [--ways whole,bfloat16,streamed] [--json FILE]

The checkpoint is made here: Pythia 1.4B's shapes with random values, in bfloat16, in one file a block. No model is built for
that, and one block is in memory at a time. Adapters of rank 8 stand on the attention's two maps; those of the last blocks
are trained, by a population whose members differ in their rate.

Each way is a process of its own, which predicts what a population's step takes (``frostline.costs``) before it trains one,
as a search does. Its peak is the kernel's (VmHWM), from beginning to end: interpreter, libraries and pages of mapped files
count, the page cache does not. Predicted are the step's tensors; to be expected is that, and what the process has when it
begins to build the model.
"""

from __future__ import annotations

from frostline.process import prepare_process, resident_bytes, return_freed_memory

prepare_process()  # as the frostline command does, before torch is loaded

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from optuna.distributions import FloatDistribution
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import TensorDataset
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from frostline import Configuration, SearchSpace, SupervisedTask
from frostline.costs.capacity import Capacity
from frostline.populations.engines import Engine
from frostline.populations.population import Population
from frostline.records import Fidelity, Job
from frostline.sizes import format_size
from frostline.tasks.models.gpt import next_token_loss
from frostline.tasks.models.lora import with_lora
from frostline.training.course import TrainingSettings
from frostline.training.machine.devices import DevicePlan
from frostline.training.supervised.supervised_task import keeps_weights_small

LENGTH = 128
PYTHIA = {
    "vocab_size": 50_304, "hidden_size": 2048, "num_hidden_layers": 24, "num_attention_heads": 16,
    "intermediate_size": 8192, "max_position_embeddings": 2048, "rotary_pct": 0.25, "use_cache": False,
}  # fmt: skip
WAYS: dict[str, dict[str, Any]] = {
    "whole": {},
    "bfloat16": {"frozen_dtype": "bfloat16"},
    "streamed": {"frozen_dtype": "bfloat16", "frozen_placement": "stream"},
}


def build(_configuration: Configuration) -> nn.Module:
    """Return the model with adapters on its attention."""
    model = GPTNeoXForCausalLM(GPTNeoXConfig(**PYTHIA))
    return with_lora(
        model, Configuration(number=0, hyperparameters={"target_modules": "query_key_value,attention.dense"})
    )


def write_checkpoint(folder: Path) -> None:
    """Write the model's weights at random, one file for each of its blocks, holding one of them at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    with torch.device("meta"):
        model = GPTNeoXForCausalLM(GPTNeoXConfig(**PYTHIA))
    files: dict[str, dict[str, torch.Size]] = {}
    for name, tensor in model.state_dict().items():
        block = name.split(".")[2] if ".layers." in name else "ends"
        files.setdefault(f"model-{block}.safetensors", {})[name] = tensor.shape
    generator = torch.Generator().manual_seed(0)
    for file, shapes in files.items():
        tensors = {
            name: torch.empty(shape, dtype=torch.bfloat16).normal_(std=0.02, generator=generator)
            for name, shape in shapes.items()
        }
        for name, tensor in tensors.items():
            if name.endswith("norm.weight"):
                tensor.fill_(1.0)
        save_file(tensors, folder / file, metadata={"format": "pt"})
    places = {name: file for file, shapes in files.items() for name in shapes}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))


def task_of(checkpoint: Path, way: str, batch: int) -> SupervisedTask:
    """Return the task of training the adapters on random tokens."""
    tokens = torch.randint(0, PYTHIA["vocab_size"], (8, LENGTH + 1), generator=torch.Generator().manual_seed(0))
    examples = TensorDataset(tokens[:, :-1], tokens[:, 1:])
    return SupervisedTask(
        name="large-lora",
        model=build,
        training_data=examples,
        validation_data=TensorDataset(*examples[:batch]),
        loss_function=next_token_loss,
        space=SearchSpace(distributions={"learning_rate": FloatDistribution(1e-5, 1e-2, log=True)}),
        full_samples=10**6,
        defaults={"learning_rate": 1e-4},
        batch_size=batch,
        validation_batch_size=batch,
        pretrained=checkpoint,
        data_fingerprint="random tokens",
        **WAYS[way],
    )


def trained(task: SupervisedTask, *, layers: int, members: int, steps: int) -> dict[str, Any]:
    """Predict and train a population in this process; what it takes is the process's own peak."""
    if keeps_weights_small(task):
        return_freed_memory()  # as the command does
    begin = time.perf_counter()
    predicted = Capacity(task, margin=0.0).together(layers, members)
    predicting, peak_predicting = time.perf_counter() - begin, peak_resident()
    fidelity = Fidelity(trainable_layers=layers, samples=steps * task.batch_size)
    jobs = [
        Job(
            configuration=Configuration(number=number, hyperparameters={"learning_rate": 1e-4 * (number + 1)}),
            rung=0,
            fidelity=fidelity,
        )
        for number in range(members)
    ]
    settings = TrainingSettings(device_plan=DevicePlan(device=torch.device("cpu")), root_seed=0, num_validations=1)
    before = resident_bytes() or 0
    begin = time.perf_counter()
    population = Population(task, jobs, settings, engine=Engine.SHARED)
    built, peak_built = time.perf_counter() - begin, peak_resident()
    begin = time.perf_counter()
    evaluations = sorted(population.run(), key=lambda each: each.number)
    resident, expected = peak_resident(), before + predicted
    return {
        "predicted": predicted,
        "expected": expected,
        "share": resident / expected,
        "before": before,
        "predicting": peak_predicting,
        "building": peak_built,
        "resident": resident,
        "predicting_seconds": predicting,
        "building_seconds": built,
        "step_seconds": (time.perf_counter() - begin) / steps,
        "scores": [each.score for each in evaluations],
    }


def peak_resident() -> int:
    """Return the most bytes that this process had in memory."""
    # Linux's getrusage would count those of the process that started this one as well.
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def row_of(way: str, checkpoint: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Return what is predicted of a way, and what it took in a process of its own."""
    command = [sys.executable, __file__, "--checkpoint", checkpoint, "--one", way]
    for name in ("layers", "members", "steps", "batch"):
        command += [f"--{name}", str(getattr(options, name))]
    ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return {"way": way, **json.loads(ended.stdout.splitlines()[-1])}


def table_of(rows: list[dict[str, Any]]) -> Table:
    table = Table("base", "predicted", "and the process before", "peak resident", "share", "s a step")
    for row in rows:
        sizes = (format_size(row[name]) for name in ("predicted", "expected", "resident"))
        table.add_row(row["way"], *sizes, f"{row['share']:.3f}", f"{row['step_seconds']:.1f}")
    return table


def main() -> None:
    """Measure each way, print the table, and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=Path(tempfile.gettempdir()) / "pythia-1.4b-random")
    parser.add_argument("--ways", default=",".join(WAYS))
    for name, default in (("layers", 4), ("members", 4), ("steps", 3), ("batch", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        task = task_of(options.checkpoint, options.one, options.batch)
        measured = trained(task, layers=options.layers, members=options.members, steps=options.steps)
        print(json.dumps(measured))
        return
    if not (options.checkpoint / "model.safetensors.index.json").exists():
        write_checkpoint(options.checkpoint)
    rows = [row_of(way, options.checkpoint, options) for way in options.ways.split(",")]
    Console(width=120).print(table_of(rows))
    if options.json:
        facts = {name: getattr(options, name) for name in ("layers", "members", "steps", "batch")}
        facts |= {"torch": torch.__version__, "threads": torch.get_num_threads()}
        options.json.write_text(json.dumps({**facts, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
