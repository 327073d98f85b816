"""LoRA on a model of GPT-2 small's size: K members behind one base, against PEFT in a plain loop, one by one.

    python benchmarks/adapters.py [--layers 1,2,4,8,13] [--members 8] [--steps 3] [--json FILE]
    python benchmarks/adapters.py --epochs 3 [--turns 3] [--json FILE]
    python benchmarks/adapters.py --memory [--json FILE]

The weights are random, which changes no time. "One by one" is PEFT's model with its last layers' adapters trained, whose
frozen layers build no graph, and ``torch.optim.AdamW`` in a plain loop; the population's members make their steps in turn
with it, so that a busy machine slows both alike. The limit is by exactly counted FLOPs of a step, everything else free of
charge. Memory is the peak of each process's resident set, without what it has before the model is built, where freed memory
goes back to the system at once and where it is kept, as the command does.
"""

from __future__ import annotations

from frostline.process import prepare_process, return_freed_memory

prepare_process()  # as the frostline command does, before torch is loaded

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from optuna.distributions import FloatDistribution
from peft import LoraConfig, get_peft_model
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.nn import functional
from torch.utils.data import TensorDataset
from transformers import GPT2Config, GPT2ForSequenceClassification, GPT2LMHeadModel

from frostline import Configuration, SearchSpace, SupervisedTask
from frostline.costs.predicted.flops import count_flops
from frostline.populations.engines import Engine
from frostline.populations.population import Population
from frostline.populations.prefix.prefix_store import PrefixStore
from frostline.records import Fidelity, Job
from frostline.tasks.models.gpt import next_token_loss
from frostline.training.course import TrainingSettings
from frostline.training.machine.devices import DevicePlan
from frostline.training.machine.randomness import borrowed_generators
from frostline.training.session import Session, begin_session

BATCH, LENGTH, CLASSES = 4, 128, 2
PLAN = DevicePlan(device=torch.device("cpu"))
SETTINGS = TrainingSettings(device_plan=PLAN, root_seed=0, num_validations=1)


def build(kind: type[nn.Module], _configuration: Configuration) -> nn.Module:
    """Return a model of 124 million parameters with adapters of rank 8 on its attention."""
    config = GPT2Config(
        num_labels=CLASSES, pad_token_id=0, use_cache=False, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0
    )
    saved = ["score"] if kind is GPT2ForSequenceClassification else None
    lora = LoraConfig(r=8, target_modules=["c_attn"], fan_in_fan_out=True, modules_to_save=saved)
    return get_peft_model(kind(config), lora)


def task_of(*, classifier: bool, examples: int) -> SupervisedTask:
    """Return the task of training it on random tokens."""
    tokens = torch.randint(1, 50_257, (examples, LENGTH + 1), generator=torch.Generator().manual_seed(0))
    inputs = tokens[:, :-1]
    targets = tokens[:, 0] % CLASSES if classifier else tokens[:, 1:]
    return SupervisedTask(
        name="lora",
        model=partial(build, GPT2ForSequenceClassification if classifier else GPT2LMHeadModel),
        training_data=TensorDataset(inputs, targets),
        validation_data=TensorDataset(inputs[:BATCH], targets[:BATCH]),
        loss_function=functional.cross_entropy if classifier else next_token_loss,
        space=SearchSpace(distributions={"learning_rate": FloatDistribution(1e-5, 1e-1, log=True)}),
        full_samples=10**6,
        defaults={"learning_rate": 1e-4},
        batch_size=BATCH,
        validation_batch_size=BATCH,
    )


def jobs_of(members: int, layers: int, samples: int) -> list[Job]:
    """Return the jobs of ``members`` configurations that differ in their rate."""
    fidelity = Fidelity(trainable_layers=layers, samples=samples)
    return [
        Job(
            configuration=Configuration(number=number, hyperparameters={"learning_rate": 1e-4 * (number + 1)}),
            rung=0,
            fidelity=fidelity,
        )
        for number in range(members)
    ]


def plain_session(task: SupervisedTask, layers: int) -> Session:
    """Return PEFT's model with its last layers' adapters trained, which is stepped in a plain loop."""
    (job,) = jobs_of(1, layers, BATCH)
    with borrowed_generators(PLAN.device):
        return begin_session(task, job.configuration, trainable_layers=layers, device_plan=PLAN, root_seed=0)


def plain_step(session: Session, optimizer: torch.optim.Optimizer, batch: Any) -> None:
    inputs, targets = batch
    optimizer.zero_grad()
    session.task.loss(session.model, (inputs, targets)).backward()
    optimizer.step()


def batches_of(task: SupervisedTask) -> Iterator[Any]:
    return task.training_batches(jobs_of(1, 1, 1)[0].configuration, seed=0, skip_samples=0)


def seconds_of(function: Callable[[], object]) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def step_row(task: SupervisedTask, layers: int, members: int, steps: int) -> dict[str, Any]:
    """Return a step's seconds in a population and one by one, and the FLOPs of one, of which the prefix is shared."""
    session = plain_session(task, layers)
    optimizer = torch.optim.AdamW(session.parameters, lr=1e-4)
    batches = list(islice(batches_of(task), steps + 1))
    loss, forward = count_flops(lambda: session.loss(batches[0]))
    _, backward = count_flops(loss.backward)
    population = Population(
        task, jobs_of(members, layers, (steps + 2) * BATCH), SETTINGS, engine=Engine.SHARED, store=None
    )
    courses = population._living
    shared = population._prefix.shares
    prefix = 0
    if shared:
        with borrowed_generators(PLAN.device):
            _, prefix = count_flops(lambda: population._prefix.deepest.record(batches[0]))
        population._prefix.forget()
    alone, together = [], []
    with borrowed_generators(PLAN.device):
        for number, batch in enumerate(batches):
            own = seconds_of(partial(plain_step, session, optimizer, batch))
            every = seconds_of(lambda batch=batch: [course.learn(batch) for course in courses])
            if number:  # the first one warms up
                alone.append(own)
                together.append(every)
    limit = (forward + backward) / ((forward + backward - prefix) + prefix / members)
    speed_up = members * statistics.median(alone) / statistics.median(together)
    return {
        "layers": layers,
        "one_by_one_seconds": statistics.median(alone),
        "together_seconds": statistics.median(together) / members,
        "speed_up": speed_up,
        "limit": limit,
        "share_of_limit": speed_up / limit,
    }


def epochs_row(task: SupervisedTask, layers: int, members: int, epochs: int, turns: int) -> dict[str, Any]:
    """Return what whole trainings take with outputs kept, and PEFT in a plain loop: one, of as many members; in turns."""
    examples = len(task.training_data)
    steps = list(islice(batches_of(task), epochs * examples // BATCH))
    # Built and warm before it is timed, which ours is not.
    session = plain_session(task, layers)
    optimizer = torch.optim.AdamW(session.parameters, lr=1e-4)
    plain_step(session, optimizer, steps[0])

    def together() -> None:
        store = PrefixStore(training_bytes=2**31, validation_bytes=2**28)
        jobs = jobs_of(members, layers, epochs * examples)
        list(Population(task, jobs, SETTINGS, engine=Engine.SHARED, store=store).run())

    def alone() -> None:
        for batch in steps:
            plain_step(session, optimizer, batch)

    taken: dict[str, list[tuple[float, float]]] = {"together": [], "one_by_one": []}
    for _ in range(turns):
        for name, function in (("together", together), ("one_by_one", alone)):
            begin, processor = time.perf_counter(), time.process_time()
            function()
            taken[name].append((time.perf_counter() - begin, time.process_time() - processor))
    row: dict[str, Any] = {"layers": layers, "epochs": epochs, "examples": examples, "turns": turns}
    for index, kind in enumerate(("seconds", "processor_seconds")):
        ours, theirs = (statistics.median(turn[index] for turn in taken[name]) for name in taken)
        row |= {
            f"one_by_one_{kind}": members * theirs,
            f"together_{kind}": ours,
            f"faster_{kind}": members * theirs / ours,
        }
    return row


def resident(members: int, layers: int, *, freed: str) -> dict[str, float]:
    """Return what a process of its own takes at most for two steps of each of the members, and their seconds."""
    command = [sys.executable, __file__, "--resident", f"{members},{layers},{freed}"]
    ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    row: dict[str, float] = json.loads(ended.stdout.splitlines()[-1])
    return row


def own_resident(members: int, layers: int, freed: str) -> dict[str, float]:
    if freed == "returned":
        return_freed_memory()
    task = task_of(classifier=False, examples=2 * BATCH)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    population = Population(task, jobs_of(members, layers, 2 * BATCH), SETTINGS, engine=Engine.SHARED)
    begin, processor = time.perf_counter(), time.process_time()
    list(population.run())
    return {
        "bytes": 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before),
        "seconds": time.perf_counter() - begin,
        "processor_seconds": time.process_time() - processor,
    }


def memory_row(layers: int, members: int) -> dict[str, Any]:
    """Return the peaks of a population and of one alone, with freed memory returned at once and as the command keeps it."""
    row: dict[str, Any] = {"layers": layers}
    for freed in ("returned", "kept"):
        one, every = (resident(number, layers, freed=freed) for number in (1, members))
        row |= {
            f"{freed}_one_bytes": one["bytes"],
            f"{freed}_population_bytes": every["bytes"],
            f"{freed}_ratio": every["bytes"] / one["bytes"],
            f"{freed}_seconds": every["seconds"],
            f"{freed}_processor_seconds": every["processor_seconds"],
        }
    return row


def show(title: str, rows: list[dict[str, Any]]) -> None:
    table = Table(*rows[0], title=title)
    for row in rows:
        table.add_row(*(f"{value:.3g}" if isinstance(value, float) else f"{value:,}" for value in row.values()))
    Console().print(table)


def main() -> None:
    """Measure what is asked for, print it, and write it into the file beside what is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", default="1,2,4,8,12")
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--examples", type=int, default=32)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--resident")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.resident:
        members, own_layers, freed = options.resident.split(",")
        print(json.dumps(own_resident(int(members), int(own_layers), freed)))
        return
    layers = [int(each) for each in options.layers.split(",")]
    if options.memory:
        kind, rows = "memory", [memory_row(each, options.members) for each in layers]
    elif options.epochs:
        task = task_of(classifier=True, examples=options.examples)
        kind = "epochs"
        rows = [epochs_row(task, each, options.members, options.epochs, options.turns) for each in layers]
    else:
        task = task_of(classifier=False, examples=4 * BATCH)
        kind, rows = "steps", [step_row(task, each, options.members, options.steps) for each in layers]
    show(f"{kind}, {options.members} members", rows)
    if options.json:
        results = json.loads(options.json.read_text()) if options.json.exists() else {}
        options.json.write_text(json.dumps({**results, kind: rows, "members": options.members}, indent=1) + "\n")


if __name__ == "__main__":
    main()
