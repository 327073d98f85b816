"""A Lightning module as a task: it trains as Lightning does, and what would not is refused."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from optuna.distributions import FloatDistribution
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, WeightedRandomSampler

import frostline
from frostline.errors import TaskError
from frostline.records import Configuration, Fidelity
from frostline.seeding import derive_seed
from frostline.training.machine.randomness import borrowed_generators, seed_generators
from frostline.training.serial import train_model
from tests.cli.command_line import run
from tests.training.cases import settings_of

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's, and those of what it loads

pytest.importorskip("frostline.integrations.lightning.lightning_tuning")

import lightning as L  # noqa: E402
from lightning.pytorch.callbacks import (  # noqa: E402
    LearningRateMonitor,
    ModelCheckpoint,
    StochasticWeightAveraging,
)

from tests.integrations.lightning.lightning_digits import digits  # noqa: E402
from tests.integrations.lightning.lightning_modules import (  # noqa: E402
    BATCH,
    EPOCH,
    SPACE,
    Plain,
    loaders,
    made,
    task_of,
)

NUM_LAYERS = 4
SEED = settings_of().root_seed
CPU = torch.device("cpu")


class Seeding(L.Callback):
    """Lets dropout draw in each step what it draws in frostline's."""

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        seed_generators(derive_seed(SEED, "dropout", trainer.global_step * BATCH), CPU)


def trained_by_lightning(
    build: Callable[[], L.LightningModule], task: frostline.SupervisedTask, **trainer: Any
) -> tuple[L.LightningModule, float]:
    """A whole training on the task's batches, and its score: nothing of frostline's derivation is used."""
    steps = task.full_samples // BATCH
    configuration = Configuration(number=0, hyperparameters=dict(task.defaults))
    drawn = islice(task.training_batches(configuration, seed=SEED, skip_samples=0), steps)
    batches = [inputs[1] for inputs, _ in drawn]
    epochs = [DataLoader(batches[first : first + 8], batch_size=None) for first in range(0, steps, 8)]
    with borrowed_generators(CPU):
        torch.manual_seed(derive_seed(SEED, "initialisation"))
        module = build()
        quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
        fitting = L.Trainer(
            **quiet,
            **trainer,
            accelerator="cpu",
            devices=1,
            max_epochs=len(epochs),
            max_steps=steps,
            reload_dataloaders_every_n_epochs=1,
            callbacks=[Seeding()],
            enable_model_summary=False,
        )
        module.train_dataloader = lambda: epochs[module.current_epoch]
        fitting.fit(module)
        (metrics,) = fitting.validate(module, loaders()["val_dataloaders"], verbose=False)
    return module, metrics[task.metric]


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("schedule", ["cosine", "epochs"])
def test_a_training_is_the_one_that_lightning_makes(optimizer: str, schedule: str) -> None:
    norm = {"gradient_clip_val": 0.5}

    def build() -> Plain:
        return Plain(optimizer=optimizer, schedule=schedule)

    task = task_of(lambda _: build(), trainer=norm)
    configuration = Configuration(number=0, hyperparameters=dict(task.defaults))
    fidelity = Fidelity(trainable_layers=NUM_LAYERS, samples=task.full_samples)
    ours, model = train_model(task, configuration, fidelity, settings_of())
    module, score = trained_by_lightning(build, task, **norm)
    # The fused steps of AdamW and SGD, which frostline makes, are those of Lightning's to rounding.
    assert ours.score == pytest.approx(score, rel=1e-5)
    for name, value in module.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=1e-4, atol=2e-6, msg=name)


@pytest.mark.parametrize("batch_size", [EPOCH, 110, 90])
@pytest.mark.parametrize("drop_last", [False, True])
def test_epochs_may_be_of_a_batch_or_two(batch_size: int, drop_last: bool) -> None:
    class Annealed(Plain):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.AdamW(self.parameters(), lr=0.01)
            epochs = self.trainer.max_epochs
            return [optimizer], [torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=epochs)]

    data = loaders(batch_size=batch_size, drop_last=drop_last)
    task = task_of(lambda _: Annealed(), samples=10 * EPOCH, **data)
    steps = 10 * EPOCH // batch_size
    schedule = task.build_schedule(Configuration(number=0, hyperparameters=dict(task.defaults)))
    assert schedule((steps - 1) / steps) < 0.26  # a rate of a few epochs, the last of them begun
    assert task_of(lambda _: Plain(), samples=10 * EPOCH, **data).batch_size == batch_size


def test_a_step_may_mix_examples_by_numpy_and_write_into_them() -> None:
    class Mixing(Plain):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            images, targets = batch
            images -= 0.1
            share = np.random.beta(0.4, 0.4)  # noqa: NPY002 (as people do)
            others = torch.as_tensor(np.random.permutation(len(targets)))  # noqa: NPY002
            logits = self(share * images + (1 - share) * images[others])
            first, second = (nn.functional.cross_entropy(logits, each) for each in (targets, targets[others]))
            return share * first + (1 - share) * second

    task = task_of(lambda _: Mixing(optimizer="sgd"))
    configuration = Configuration(number=0, hyperparameters=dict(task.defaults))
    fidelity = Fidelity(trainable_layers=NUM_LAYERS, samples=task.full_samples)
    ours, _ = train_model(task, configuration, fidelity, settings_of())
    _, score = trained_by_lightning(lambda: Mixing(optimizer="sgd"), task)
    assert ours.score == pytest.approx(score, rel=1e-5)


def test_what_is_used_today_is_the_default() -> None:
    task = task_of(lambda _: Plain())
    assert task.defaults == {"learning_rate": 0.01, "weight_decay": 0.1, "beta1": 0.8, "beta2": 0.99}
    assert (task.optimizer, task.batch_size, task.validation_batch_size) == (torch.optim.AdamW, BATCH, 40)
    assert set(task.undecayed) == {"head.bias", "body.1.weight", "body.1.bias", "body.4.bias"}
    assert (task.name, task.metric, task.gradient_clip_norm) == ("Plain", "val_loss", None)


def test_a_search_is_one_of_populations_and_its_model_is_loaded(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    heard: list[Any] = []

    class Hearing:
        def __getattr__(self, name: str) -> Any:
            return lambda *given, **named: heard.append((name, given))

    task = made()
    plan = frostline.SearchPlan(budget=3)
    result = frostline.tune_task(task, study="plain", plan=plan, storage=":memory:", observer=Hearing())
    populations = {
        each.cost.population for each in result.history.evaluations() if each.fidelity.trainable_layers == 1
    }
    assert max(populations) > 1
    loaded = result.load_model(Plain()).eval()
    images, targets = digits(EPOCH, 260).tensors
    with torch.no_grad():
        score = float(nn.functional.cross_entropy(loaded(images), targets))
    assert score == pytest.approx(result.score, rel=1e-5)


@pytest.mark.parametrize(
    "command",
    [
        "layers",
        "cost --layers 1,4 --repetitions 1 --device cpu",
        "fit --device-memory 8GiB",
    ],
)
def test_the_command_line_takes_the_task_of_a_file(
    command: str, tmp_path: Path, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    name, *options = command.split()
    file = Path(__file__).with_name("lightning_modules.py")
    code, out, _ = run(f"{name} {file}:made {' '.join(options)}", capsys)
    assert code == 0
    assert out


def test_an_audit_trains_each_configuration_at_each_cell() -> None:
    plan = frostline.AuditPlan(configurations=5, layers=(1, NUM_LAYERS), samples=(EPOCH, 2 * EPOCH), repeats=1)
    landscape = frostline.audit_task(made(), plan, study="audit", storage=":memory:", observer=frostline.SILENT)
    assert landscape.scores.shape[0] == 5


def test_a_fingerprint_tells_data_schedules_and_modules_apart() -> None:
    class Other(Plain):
        pass

    other = DataLoader(digits(20, 20 + EPOCH), batch_size=BATCH, shuffle=True)
    tasks = [
        task_of(lambda _: Plain()),
        task_of(lambda _: Plain(schedule="epochs")),
        task_of(lambda _: Other(), name="Plain"),
        task_of(lambda _: Plain(), **{**loaders(), "train_dataloaders": other}),
    ]
    prints = [each.fingerprint for each in tasks]
    assert len(set(prints)) == 4
    assert task_of(lambda _: Plain()).fingerprint == prints[0]


def test_what_makes_the_model_may_read_what_is_no_optimizers() -> None:
    space = frostline.SearchSpace(distributions={**SPACE.distributions, "dropout": FloatDistribution(0.0, 0.5)})
    task = task_of(lambda values: Plain(values["dropout"]), space=space, defaults={"dropout": 0.2})
    assert task.defaults["dropout"] == 0.2
    built = task.build_model(Configuration(number=0, hyperparameters={**task.defaults, "dropout": 0.4}))
    assert built.body[3].p == 0.4
    assert len(task.fingerprint) == 16  # refused if one of the names were read by nobody


# --- What is refused ----------------------------------------------------------------------------------------------------


class EveryStep(Plain):
    def on_after_backward(self) -> None:
        for parameter in self.parameters():
            parameter.grad.mul_(2)


class OwnStep(Plain):
    def optimizer_step(self, *given: Any, **named: Any) -> None:
        super().optimizer_step(*given, **named)


class OwnClipping(Plain):
    def configure_gradient_clipping(self, *given: Any, **named: Any) -> None:
        pass


class Manual(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False


class Two(Plain):
    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(self.head.parameters(), 0.1), torch.optim.SGD(self.body.parameters(), 0.1)]


class HeadAlone(Plain):
    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.head.parameters(), 0.1)


class TwoRates(Plain):
    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(
            [{"params": self.head.parameters(), "lr": 0.2}, {"params": self.body.parameters()}], lr=0.1
        )


class Plateau(Plain):
    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), 0.1)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
        return {"optimizer": optimizer, "lr_scheduler": plateau, "monitor": "val_loss"}


class CycledMomentum(Plain):
    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), 0.1)
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=100)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}


class Annealed(Plain):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return super().training_step(batch, batch_idx) * min(1.0, self.current_epoch / 10)


class ByIndex(Plain):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        return loss * 2 if batch_idx % 100 == 0 and batch_idx > 0 else loss


class Remembering(Plain):
    mean = 1.0

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        self.mean = 0.9 * self.mean + 0.1 * float(loss)
        return loss / self.mean


class Writing(Plain):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        with torch.no_grad():
            self.head.weight.clamp_(-0.01, 0.01)
        return super().training_step(batch, batch_idx)


class Skipping(Plain):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return None


class NoMonitor(Plain):
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("loss", 1.0)


class Worst(Plain):
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        images, targets = batch
        self.log("val_loss", nn.functional.cross_entropy(self(images), targets), reduce_fx="max")


class HiddenHook(Plain):
    """Its hook stands where nobody looks: in the module that is the head."""

    def __init__(self) -> None:
        super().__init__()
        self.num_calls = 0

    def configure_optimizers(self) -> Any:
        configured = super().configure_optimizers()

        def doubled(optimizer: Any, *_: Any) -> None:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.data.mul_(0.999)

        configured["optimizer"].register_step_post_hook(doubled)
        return configured


MODULES: dict[type[L.LightningModule], str] = {
    EveryStep: r"EveryStep has a on_after_backward of its own",
    OwnStep: r"OwnStep has a optimizer_step of its own",
    OwnClipping: r"OwnClipping has a configure_gradient_clipping of its own",
    Manual: r"Manual optimizes by itself",
    Two: r"Lightning's Trainer cannot train Two: RuntimeError: Training with multiple optimizers",
    HeadAlone: r"the optimizer holds 2 parameters, but 7 of HeadAlone require a gradient",
    TwoRates: r"groups differ in lr",
    Plateau: r"ReduceLROnPlateau follows val_loss",
    CycledMomentum: r"OneCycleLR changes betas too",
    Annealed: r"a step reads current_epoch of the Trainer",
    ByIndex: r"a training_step of batch_idx 1000 gives a loss of",
    Remembering: r"a training_step made again gives a loss of",
    Writing: r"training_step itself changes head.weight",
    Skipping: r"training_step returned a NoneType",
    NoMonitor: r"validation_step logs no val_loss",
    Worst: r"val_loss is logged with reduce_fx='max'",
    HiddenHook: r"would not be trained as Lightning's Trainer trains it: its loss in step 2 is",
}


@pytest.mark.parametrize("kind", MODULES, ids=lambda kind: kind.__name__)
def test_a_module_that_does_more_is_refused_in_one_line(kind: type[L.LightningModule]) -> None:
    with pytest.raises(TaskError, match=MODULES[kind]) as raised:
        task_of(lambda _: kind())
    assert "\n" not in str(raised.value)
    assert "trials" in str(raised.value)


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(digits(0, EPOCH))


class Noisy(Dataset[Any]):
    """Draws what a task's seeds reach, as random crops do."""

    def __len__(self) -> int:
        return EPOCH

    def __getitem__(self, index: int) -> Any:
        return torch.rand(64), index % 10


class Unseeded(Noisy):
    def __getitem__(self, index: int) -> Any:
        return torch.from_numpy(np.random.default_rng().random(64, dtype=np.float32)), index % 10


def words(examples: Any) -> Any:
    return {"words": ["a"] * len(examples)}


def joined(examples: Any) -> Any:
    return torch.cat([image for image, _ in examples]), torch.tensor([target for _, target in examples])


ARGUMENTS: dict[str, tuple[dict[str, Any], str]] = {
    "accumulation": (
        {"trainer": {"accumulate_grad_batches": 2}},
        r"accumulate_grad_batches=2, but of a task it is 1",
    ),
    "clipping values": (
        {"trainer": {"gradient_clip_val": 1.0, "gradient_clip_algorithm": "value"}},
        r"gradient_clip_algorithm='value'",
    ),
    "precision": (
        {"trainer": {"precision": "bf16-mixed"}},
        r"precision='bf16-mixed', but of a task it is None or 32",
    ),
    "an unknown argument": (
        {"trainer": {"overfit_batches": 3}},
        r"overfit_batches=3, which a task has no word for",
    ),
    "a callback": (
        {"trainer": {"callbacks": [ModelCheckpoint(), StochasticWeightAveraging(0.01)]}},
        r"the callback StochasticWeightAveraging may change the training",
    ),
    "a stream": ({"train_dataloaders": DataLoader(Stream(), batch_size=BATCH)}, r"an iterable Stream"),
    "a list of loaders": ({"train_dataloaders": [1]}, r"the training data are a list"),
    "an order of its own": (
        {
            "train_dataloaders": DataLoader(
                digits(0, EPOCH), batch_size=BATCH, sampler=WeightedRandomSampler([1.0] * EPOCH, EPOCH)
            )
        },
        r"drawn by a WeightedRandomSampler in an order of its own",
    ),
    "no shuffling": (loaders(shuffle=False), r"a SequentialSampler .* takes a batch_size with shuffle=True"),
    "words": (loaders(collate_fn=words), r"a batch of 2 training examples holds str"),
    "rows of no example": (loaders(collate_fn=joined), r"holds a tensor of \[128\], a tensor of \[2\]"),
    "noise": (
        {"train_dataloaders": DataLoader(Unseeded(), batch_size=BATCH, shuffle=True)},
        r"draw something at random whenever an example is fetched, from a generator that no seed reaches",
    ),
    "nothing": ({"train_dataloaders": DataLoader(TensorDataset(torch.zeros(0, 64)))}, r"drawn by a|are empty"),
    "a default of the optimizer's": ({"defaults": {"learning_rate": 0.1}}, r"defaults names learning_rate"),
}


def test_data_that_draw_are_fetched_by_as_many_processes_as_the_loader_has_and_are_the_same_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("frostline.training.supervised.feed._WORTH_STARTING", 0.0)
    training = [DataLoader(Noisy(), batch_size=BATCH, shuffle=True, num_workers=number) for number in (0, 2)]
    tasks = [task_of(lambda _: Plain(), **{**loaders(), "train_dataloaders": each}) for each in training]
    assert [task.num_workers for task in tasks] == [0, 2]
    assert tasks[0].fingerprint == tasks[1].fingerprint
    configuration = Configuration(number=0, hyperparameters=dict(tasks[0].defaults))
    fidelity = Fidelity(trainable_layers=NUM_LAYERS, samples=3 * BATCH)
    one, other = (train_model(task, configuration, fidelity, settings_of())[0] for task in tasks)
    assert one.score == other.score


@pytest.mark.parametrize("case", ARGUMENTS)
def test_arguments_and_data_that_a_task_has_no_word_for_are_refused(case: str) -> None:
    options, message = ARGUMENTS[case]
    given = {**loaders(), **options}
    with pytest.raises(TaskError, match=message) as raised:
        task_of(lambda _: Plain(), **given)
    assert "\n" not in str(raised.value)


def test_callbacks_that_only_look_are_no_matter() -> None:
    task_of(
        lambda _: Plain(),
        trainer={"callbacks": [ModelCheckpoint(), LearningRateMonitor()], "log_every_n_steps": 2},
    )


def test_the_function_must_not_make_the_optimizer_of_what_is_searched() -> None:
    with pytest.raises(TaskError, match="reads learning_rate, but that is for the task to give"):
        task_of(lambda values: Rated(values["learning_rate"]), defaults={"learning_rate": 0.1})
    space = frostline.SearchSpace(distributions={"rate": FloatDistribution(1e-4, 1e-1)})
    with pytest.raises(TaskError, match="rate, which the function reads, changes the optimizer"):
        task_of(lambda values: Rated(values["rate"]), space=space, defaults={"rate": 0.01})


class Rated(Plain):
    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), self.rate)


class Module(L.LightningDataModule):
    def setup(self, stage: str) -> None:
        self.training, self.held_out = digits(0, EPOCH), digits(EPOCH, 260)

    def train_dataloader(self) -> Any:
        return DataLoader(self.training, batch_size=BATCH, shuffle=True)

    def val_dataloader(self) -> Any:
        return DataLoader(self.held_out, batch_size=40)


class Changing(Module):
    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return batch[0] * 2, batch[1]


def test_a_datamodule_is_as_good_as_loaders_unless_it_changes_batches() -> None:
    assert task_of(lambda _: Plain(), datamodule=Module()).fingerprint == made().fingerprint
    with pytest.raises(TaskError, match="Changing has a on_after_batch_transfer of its own"):
        task_of(lambda _: Plain(), datamodule=Changing())
