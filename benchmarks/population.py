"""Populations against one-by-one training, and against the limit that sharing the frozen layers allows.

    python benchmarks/population.py [--models gpt-128,gpt-512,resnet-18,vit,mlp] [--layers 1,2,half,n-1]
        [--members 1,2,4,8] [--engines shared,stacked] [--steps 10] [--json FILE]
    python benchmarks/population.py --epochs 20 [--json FILE]
    python benchmarks/population.py --searches digits-resnet,python-source-gpt [--json FILE]

Each is a part of its own, the first runs without any. Rows that FILE holds are measured again only with ``--again``.

Two baselines: "one by one" is freezing as the method's own code has it, a frozen model and ``torch.optim.AdamW`` in a plain
loop; "serial" is frostline's own way of training one configuration, and the stricter one. They and the engines take turns,
step by step, so that a busy machine slows all alike; their models share frozen tensors, which can only help the baselines.
The limit is by exactly counted FLOPs, everything else free of charge.
"""

from __future__ import annotations

from frostline.process import prepare_process

prepare_process()  # as the frostline command does, before torch is loaded

import argparse
import gc
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from optuna.distributions import FloatDistribution
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import TensorDataset
from torch.utils.flop_counter import FlopCounterMode

from frostline import Configuration, SearchSpace, SuccessiveHalving, SupervisedTask, Task, tune_task
from frostline.layers import Freezing, freezing_of
from frostline.layers.cutting.nesting import tensors
from frostline.layers.freezing.saved_tensors import SavedTensors
from frostline.populations.prefix.prefix_store import PrefixStore
from frostline.populations.prefix.proof import prove
from frostline.populations.prefix.shared_prefix import SharedPrefix
from frostline.populations.prefix.shared_weights import copy_sharing_frozen
from frostline.populations.stacking.captured import WARM_UP_STEPS as WARM_UP_STEPS_TO_CAPTURE
from frostline.populations.stacking.stacked import StackedStep
from frostline.run.execution.options import TrainingOptions
from frostline.run.plan import SearchPlan
from frostline.run.tuning import default_ladder
from frostline.store.backends.storage import open_storage
from frostline.tasks.loading import load_task
from frostline.tasks.models.gpt import GPT, GPTSettings, next_token_loss
from frostline.tasks.models.mlp import MLPSettings, build_mlp
from frostline.tasks.models.resnet import ResNet, ResNetSettings
from frostline.training.course import TrainingSettings
from frostline.training.machine.devices import DevicePlan, move_batch, resolve_device, synchronise
from frostline.training.machine.randomness import borrowed_generators
from frostline.training.session import Session, begin_session, session_of
from frostline.training.supervised.task_layers import layers_of

STACKED_WAYS: dict[str, dict[str, bool]] = {
    "stacked": {}, "updated_each": {"joint": False}, "updated_at_once": {"joint": True}, "compiled": {"compiled": True},
    "captured": {"captured": True},
}  # fmt: skip
"""Ways to stack, by what ``StackedStep`` is to be told."""
NUM_STEPS_TO_REPLAY = WARM_UP_STEPS_TO_CAPTURE + 2
WAYS = ("one_by_one", "serial", "shared", *STACKED_WAYS)
WARM_UP_STEPS = 2
EPOCHS_EXAMPLES, EPOCHS_MEMBERS, SEARCH_CONFIGURATIONS = 256, 8, 27

Batch = Any
Row = Mapping[str, Any]
Contestant = Callable[[Batch], object]
"""Lets each of its configurations make a step."""
Contestants = dict[str, Contestant]


def draw_tokens(settings: GPTSettings, num_examples: int, seed: int) -> TensorDataset:
    generator, size = torch.Generator().manual_seed(seed), (2, num_examples, settings.context_length)
    return TensorDataset(*torch.randint(settings.vocabulary_size, size, generator=generator))


def draw_inputs(shape: tuple[int, ...], num_examples: int, seed: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(num_examples, *shape, generator=generator)
    return TensorDataset(drawn, torch.randint(10, (num_examples,), generator=generator))


GPT_128 = GPTSettings(num_blocks=8, num_heads=2, width=128, context_length=256, vocabulary_size=4096)
GPT_512 = GPTSettings(num_blocks=8, num_heads=8, width=512, context_length=128, vocabulary_size=4096)
RESNET_18 = ResNetSettings(widths=(64, 64, 128, 128, 256, 256, 512, 512), num_channels=3)


def build_vit() -> nn.Module:
    from transformers import ViTConfig, ViTForImageClassification  # the other models are measured without

    shape = {"image_size": 32, "patch_size": 4, "num_labels": 10}
    width = {"hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768, "num_hidden_layers": 6}
    return ViTForImageClassification(ViTConfig(**shape, **width))


Model = tuple[Callable[[], nn.Module], Callable[[int, int], TensorDataset], int]
"""How it is built, its data for a number of examples and a seed, its batch size."""
MODELS: dict[str, Model] = {
    "gpt-128": (partial(GPT, GPT_128), partial(draw_tokens, GPT_128), 8),
    "gpt-512": (partial(GPT, GPT_512), partial(draw_tokens, GPT_512), 4),
    "resnet-18": (partial(ResNet, RESNET_18), partial(draw_inputs, (3, 32, 32)), 32),
    "vit": (build_vit, partial(draw_inputs, (3, 32, 32)), 32),
    "mlp": (partial(build_mlp, MLPSettings()), partial(draw_inputs, (64,)), 32),
}

SPACE = SearchSpace(  # AdamW's own five
    distributions={
        "learning_rate": FloatDistribution(1e-5, 1e-2, log=True), "weight_decay": FloatDistribution(0.0, 1.0),
        "beta1": FloatDistribution(0.85, 0.99), "beta2": FloatDistribution(0.9, 0.999),
        "epsilon": FloatDistribution(1e-10, 1e-6, log=True),
    }
)  # fmt: skip
DEFAULTS = {"learning_rate": 1e-4, "weight_decay": 0.01, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}


def task_of(name: str, *, num_batches: int, models: Mapping[str, Model] = MODELS) -> SupervisedTask:
    build, data, batch_size = models[name]
    num_examples = num_batches * batch_size
    return SupervisedTask(
        name=name, model=lambda _: build(), training_data=data(num_examples, 0), validation_data=data(batch_size, 1),
        loss_function=next_token_loss,  # which for a single label is the cross-entropy
        space=SPACE, defaults=DEFAULTS, full_samples=num_examples, batch_size=batch_size,
    )  # fmt: skip


@dataclass(frozen=True)
class Ground:
    """What the contestants have in common: a task with so many layers trained, its configurations, a device."""

    task: Task
    freezing: Freezing
    configurations: Sequence[Configuration]
    plan: DevicePlan

    @classmethod
    def of(cls, task: Task, layers: int, members: int, device: torch.device) -> Ground:
        plan = DevicePlan(device=device)
        values = [{**DEFAULTS, "learning_rate": 1e-4 * (k + 1), "weight_decay": 0.01 * k} for k in range(members)]
        configurations = [Configuration(number=k, hyperparameters=each) for k, each in enumerate(values)]
        template = begin_session(task, configurations[0], trainable_layers=layers, device_plan=plan, root_seed=0)
        return cls(task, freezing_of(template.model), configurations, plan)

    def batches(self) -> Iterator[Batch]:
        return self.task.training_batches(self.configurations[0], seed=0, skip_samples=0)

    def one_by_one(self) -> Contestant:
        pairs = []
        for values in self.configurations:
            model = copy_sharing_frozen(self.freezing).train()
            trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
            rate, decay = values["learning_rate"], values["weight_decay"]
            pairs.append((model, torch.optim.AdamW(trained, lr=rate, weight_decay=decay)))
        return partial(plain_steps, self.task, self.plan.device, pairs)

    def sessions(self) -> list[Session]:
        begin = partial(session_of, self.task, device_plan=self.plan, root_seed=0)
        return [begin(each, copy_sharing_frozen(self.freezing)) for each in self.configurations]

    def sharing(self) -> tuple[list[Session], SharedPrefix]:
        sessions = self.sessions()
        prefix = SharedPrefix(sessions)
        prove(prefix)
        return sessions, prefix

    def stacked(self, batch: Batch, way: str) -> Contestant | str:
        """Return the contestant, or why there is none. One that is captured makes the steps that it needs for that."""
        sessions, _ = self.sharing()
        stacked = StackedStep(sessions, **STACKED_WAYS[way])
        complaint = stacked.prove(batch)
        contestant = partial(stacked.step, rate_factors=[1.0] * len(sessions))
        for _, again in zip(range(NUM_STEPS_TO_REPLAY if way == "captured" else 0), self.batches(), strict=False):
            contestant(again)
        return complaint or stacked.why_not_captured or contestant


def plain_steps(task: Task, device: torch.device, pairs: Sequence[tuple[nn.Module, Any]], batch: Batch) -> None:
    for model, optimizer in pairs:
        optimizer.zero_grad()
        loss = task.loss(model, move_batch(batch, device))
        loss.backward()
        optimizer.step()


def session_steps(sessions: Sequence[Session], batch: Batch) -> None:
    for session in sessions:
        session.step(batch, rate_factor=1.0)


def take_turns(contestants: Contestants, batches: Iterable[Batch], device: torch.device) -> dict[str, list[float]]:
    """Return every contestant's seconds for each batch; making the batch is not among them."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for batch in batches:
        for name, contestant in contestants.items():
            synchronise(device)
            begin = time.perf_counter()
            contestant(batch)
            synchronise(device)
            seconds[name].append(time.perf_counter() - begin)
    return seconds


@dataclass(frozen=True)
class Flops:
    """Of one configuration by itself, and of its frozen layers alone."""

    whole: int
    prefix: int

    @classmethod
    def of_step(cls, session: Session, batch: Batch) -> Flops:
        return cls(counted(lambda: session.step(batch, rate_factor=0.0)), prefix_flops(session, [batch]))

    @classmethod
    def of_score(cls, session: Session) -> Flops:
        batches = list(session.task.validation_batches(session.configuration))
        whole = counted(lambda: session.score(batches))
        session.model.eval()
        return cls(whole, prefix_flops(session, batches))

    def shared(self, members: int) -> int:
        """Those of ``members`` configurations behind one prefix."""
        return self.prefix + members * (self.whole - self.prefix)


def counted(function: Callable[[], object]) -> int:
    # On the CPU fused attention is not counted (torch 2.13): the plain one is.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        function()
    return int(counter.get_total_flops())


def prefix_flops(session: Session, batches: Iterable[Batch]) -> int:
    """Return the FLOPs of the frozen layers' forward pass, in the model's present mode; 0 where all are trained."""
    prefix = SharedPrefix([session])
    flops = sum(counted(partial(share.record, batch)) for share in prefix.shares for batch in batches)
    prefix.release()
    return flops


def bytes_kept(sessions: Sequence[Session], batch: Batch, prefix: SharedPrefix | None = None) -> int:
    """Return the bytes kept by ``sessions`` that have made a step, while one of them has made its next forward pass.

    These are parameters, buffers, gradients and the optimizers' states, each storage once; the recorded outputs of the
    prefix; and what that pass keeps for the backward pass. What lives as long as one operation does not count.
    """
    held = tensors([parameter.grad for session in sessions for parameter in session.parameters])
    for session in sessions:
        held += tensors([*session.model.parameters(), *session.model.buffers(), *session.optimizer.state.values()])
    if prefix is not None:
        held += tensors(prefix.recording(prefix.deepest, batch).outputs)
    storages = {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in held}
    with SavedTensors(ignored=[*held, *tensors(batch)]) as saved:
        _loss = sessions[0].loss(batch)  # its graph holds what is counted
        return sum(storages.values()) + saved.num_bytes()


@dataclass(frozen=True, kw_only=True)
class Watched:
    """How steps are measured."""

    engines: Collection[str]
    steps: int
    device: torch.device


def step_row(task: SupervisedTask, layers: int, members: int, watched: Watched) -> Row:
    """Measure a model with ``layers`` trained; seconds are per configuration and step, ``serial_bytes`` those of one."""
    ground = Ground.of(task, layers, members, watched.device)
    batches = ground.batches()
    batch = next(batches)
    flops = Flops.of_step(ground.sessions()[0], batch)
    serial, (shared, prefix) = ground.sessions(), ground.sharing()
    contestants: Contestants = {
        "one_by_one": ground.one_by_one(),
        "serial": partial(session_steps, serial),
        "shared": partial(session_steps, shared),
    }
    skipped = {}
    for engine in sorted({*watched.engines} - {"shared"}):
        found = ground.stacked(batch, engine)
        (skipped if isinstance(found, str) else contestants)[engine] = found
    taken = take_turns(contestants, islice(batches, WARM_UP_STEPS + watched.steps), watched.device)
    seconds = {who: [each / members for each in times[WARM_UP_STEPS:]] for who, times in taken.items()}
    return {
        "model": task.name, "layers": layers, "members": members, "batch_size": task.batch_size, "steps": watched.steps,
        "seconds": {who: statistics.median(times) for who, times in seconds.items()},
        "quartiles": {who: statistics.quantiles(times, n=4)[::2] for who, times in seconds.items()},
        "skipped": skipped, "flops": asdict(flops), "limit": members * flops.whole / flops.shared(members),
        "population_bytes": bytes_kept(shared, batch, prefix), "serial_bytes": bytes_kept(serial[:1], batch),
    }  # fmt: skip


def epochs(num_epochs: int, store: PrefixStore, device: torch.device) -> Row:
    """Train a population for several epochs, its prefix's outputs kept in ``store``; seconds are per configuration, of all.

    Of the baselines, whose configurations all cost the same, a single one is trained, in turns with the population. The
    limit computes the prefix of every example once for all: E F / (P / K + E S), for E epochs, K members, F FLOPs of a
    step by itself, P of its frozen layers and S of the others.
    """
    num_batches = EPOCHS_EXAMPLES // MODELS["resnet-18"][2]
    ground = Ground.of(task_of("resnet-18", num_batches=num_batches), 1, EPOCHS_MEMBERS, device)
    alone = replace(ground, configurations=ground.configurations[:1])
    population, prefix = ground.sharing()
    contestants: Contestants = {
        "one_by_one": alone.one_by_one(),
        "serial": partial(session_steps, alone.sessions()),
        "population": partial(session_steps, population),
    }
    take_turns(contestants, islice(ground.batches(), WARM_UP_STEPS), device)
    prefix.store = store
    taken = take_turns(contestants, islice(ground.batches(), num_epochs * num_batches), device)
    taken["population"] = [seconds / EPOCHS_MEMBERS for seconds in taken["population"]]
    flops = Flops.of_step(alone.sessions()[0], next(ground.batches()))
    shared = flops.prefix / EPOCHS_MEMBERS + num_epochs * (flops.whole - flops.prefix)
    return {
        "seconds": {who: sum(times) for who, times in taken.items()},
        "first_epoch_seconds": {who: sum(times[:num_batches]) for who, times in taken.items()},
        "limit": num_epochs * flops.whole / shared,
    }  # fmt: skip


def search_row(task: Task, engine: str, device: torch.device, configurations: int = SEARCH_CONFIGURATIONS) -> Row:
    """Make a whole search with one engine."""
    limit = search_limit(task, device, configurations)  # and with it what torch imports for its first optimizer
    with tempfile.TemporaryDirectory() as folder:
        open_storage(f"sqlite:///{folder}/warm-up.db")
        begin = time.perf_counter()
        result = tune_task(
            task, study=task.name, storage=f"sqlite:///{folder}/study.db",
            plan=SearchPlan(configurations=configurations),
            training=TrainingOptions(device=device.type, engine=engine, runs=Path(folder) / "runs"),
        )  # fmt: skip
        seconds = time.perf_counter() - begin
    return {
        "seconds": seconds, "limit": limit, "winner": result.best.number, "score": result.score,
        "hyperparameters": dict(result.configuration), "evaluations": len(list(result.history.evaluations())),
    }  # fmt: skip


def search_limit(task: Task, device: torch.device, configurations: int) -> float:
    """Return how many times fewer FLOPs a search takes with populations: the ratio of two sums over the rungs.

    One by one: sum of E (T F + V A). Populations: sum of T (P + E S) + Q + E V (A - Q). A rung has E evaluations of T
    training steps, which cost F FLOPs, P of them the frozen layers' and S = F - P the others'; each makes V validations
    of A FLOPs, Q of them the frozen layers', which are the same every time and kept after the first. All E are taken for
    one population. What diverges is taken to train to its end; building models, calibrating and optimizing are in neither
    sum. Training examples are taken never to come again: where they do, a search may go beyond the limit.
    """
    ladder = default_ladder(task, SearchPlan(configurations=configurations))
    counts = SuccessiveHalving(ladder=ladder, configurations=configurations).evaluations_per_rung()
    configuration = Configuration(number=0, hyperparameters=task.defaults)
    batch = next(task.training_batches(configuration, seed=0, skip_samples=0))
    settings = TrainingSettings(device_plan=DevicePlan(device=device), root_seed=0)
    begin = partial(begin_session, task, configuration, device_plan=settings.device_plan, root_seed=0)
    alone = together = 0
    assert not any(map(ladder.continues, range(len(counts))))
    for rung, evaluations in zip(ladder.rungs, counts, strict=True):
        session = begin(trainable_layers=rung.trainable_layers)
        step, score = Flops.of_step(session, batch), Flops.of_score(session)
        steps, validations = max(1, rung.samples // task.num_samples(batch)), settings.num_validations
        alone += evaluations * (steps * step.whole + validations * score.whole)
        together += steps * step.shared(evaluations) + score.shared(evaluations * validations)
    return alone / together


class Results:
    """All rows, by part and by name, in a file that is written after every row."""

    def __init__(self, arguments: argparse.Namespace, device: torch.device) -> None:
        self.path, self.again, self.device = arguments.json, arguments.again, device
        machine = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        self.where = f"{machine}, {torch.get_num_threads()} threads, torch {torch.__version__}"
        self.parts = json.loads(self.path.read_text()) if self.path is not None and self.path.exists() else {}

    def row(self, part: str, name: str, measure: Callable[[], Row]) -> Row:
        rows = self.parts.setdefault(part, {})
        name = f"{name}: {self.where}"
        if self.again or name not in rows:
            print(f"{part}: {name}", flush=True)
            with borrowed_generators(self.device):
                rows[name] = measure()
            gc.collect()  # models and their freezings hold each other
            if self.path is not None:
                self.path.write_text(json.dumps(self.parts, indent=1) + "\n")
        return rows[name]


def gain_cells(baseline: float, population: float, limit: float) -> tuple[str, str]:
    return f"{baseline / population:.2f}", f"{baseline / population / limit:.0%}"


def measure_steps(name: str, arguments: argparse.Namespace, results: Results) -> None:
    """Print a model's table: milliseconds per configuration and step, speed-ups of the shared engine, MiB per member."""
    task = task_of(name, num_batches=8)
    watched = Watched(engines=arguments.engines.split(","), steps=arguments.steps, device=results.device)
    num_layers = layers_of(task).num_layers
    named = {"half": num_layers // 2, "n-1": num_layers - 1}
    table = Table(
        "trained", "K", *(f"{way} ms" for way in WAYS), "limit", "over one by one", "of limit", "over serial",
        "of limit", "MiB each", "serial MiB", "less", title=f"{name}: {results.where}",
    )  # fmt: skip
    reasons = set()
    for layers in sorted({named[each] if each in named else int(each) for each in arguments.layers.split(",")}):
        for members in map(int, arguments.members.split(",")):
            title = f"{name}, {layers} of {num_layers} layers, K={members}, {arguments.engines}"

            row = results.row("steps", title, partial(step_row, task, layers, members, watched))
            seconds, limit, serial = row["seconds"], row["limit"], row["serial_bytes"] / 2**20
            each = row["population_bytes"] / members / 2**20
            table.add_row(
                f"{layers} of {num_layers}", f"{members}",
                *(f"{1e3 * seconds[way]:.2f}" if way in seconds else "-" for way in WAYS), f"{limit:.2f}",
                *gain_cells(seconds["one_by_one"], seconds["shared"], limit),
                *gain_cells(seconds["serial"], seconds["shared"], limit),
                f"{each:.1f}", f"{serial:.1f}", f"{serial / each:.2f}",
            )  # fmt: skip
            reasons |= {f"{engine} is left out: {reason}" for engine, reason in row["skipped"].items()}
    Console(width=170).print(table, *sorted(reasons), sep="\n")


def measure_epochs(num_epochs: int, results: Results) -> None:
    store = PrefixStore(training_bytes=1 << 30, validation_bytes=0)
    title = f"resnet-18, 1 layer trained, K={EPOCHS_MEMBERS}, {num_epochs} epochs of {EPOCHS_EXAMPLES} examples"
    row = results.row("epochs", title, partial(epochs, num_epochs, store, results.device))
    table = Table("", "all s", "first s", "speed-up", "of limit", title=f"{title}: limit {row['limit']:.1f}")
    for who, seconds in row["seconds"].items():
        gain = gain_cells(seconds, row["seconds"]["population"], row["limit"])
        table.add_row(who, f"{seconds:.3f}", f"{row['first_epoch_seconds'][who]:.3f}", *gain)
    Console(width=120).print(table)


def measure_searches(names: Sequence[str], results: Results) -> None:
    table = Table("task", "serial s", "auto s", "speed-up", "of limit", "limit", "winners", title="whole searches")
    for name in names:
        serial, auto = (
            results.row(
                "searches", f"{name}, {engine}", partial(search_row, load_task(name, {}), engine, results.device)
            )
            for engine in ("serial", "auto")
        )
        same = "the same" if serial["hyperparameters"] == auto["hyperparameters"] else "DIFFERENT"
        table.add_row(
            name, f"{serial['seconds']:.1f}", f"{auto['seconds']:.1f}",
            *gain_cells(serial["seconds"], auto["seconds"], serial["limit"]), f"{serial['limit']:.2f}",
            f"{serial['winner']} and {auto['winner']}: {same}",
        )  # fmt: skip
    Console(width=120).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", help=",".join(MODELS))
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--searches", help="tasks, as on frostline's command line")
    parser.add_argument("--layers", default="1,2,half,n-1")
    parser.add_argument("--members", default="1,2,4,8")
    parser.add_argument("--engines", default="shared,stacked", help=f"shared, {', '.join(STACKED_WAYS)}")
    parser.add_argument("--steps", type=int, default=10, help="at least 2")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--again", action="store_true", help="measure what FILE holds already, too")
    arguments = parser.parse_args()
    results = Results(arguments, resolve_device(arguments.device))
    all_models = "" if arguments.epochs or arguments.searches else ",".join(MODELS)
    for name in filter(None, (arguments.models or all_models).split(",")):
        measure_steps(name, arguments, results)
    if arguments.epochs:
        measure_epochs(arguments.epochs, results)
    if arguments.searches:
        measure_searches(arguments.searches.split(","), results)


if __name__ == "__main__":
    main()
