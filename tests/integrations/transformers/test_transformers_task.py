"""A Trainer of transformers as a task: it trains as the Trainer does, and what would not is refused."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

import frostline
from frostline.errors import TaskError
from frostline.records import Configuration, Fidelity
from frostline.seeding import derive_seed
from frostline.training.machine.randomness import borrowed_generators
from frostline.training.serial import train_model
from tests.training.cases import settings_of

pytestmark = pytest.mark.filterwarnings("ignore")  # those of transformers and accelerate

pytest.importorskip("accelerate")
pytest.importorskip("frostline.integrations.transformers.transformers_tuning")

from transformers import (  # noqa: E402
    EarlyStoppingCallback,
    GPT2Config,
    GPT2LMHeadModel,
    Trainer,
    TrainerCallback,
)

from frostline.integrations.transformers import task_from_trainer  # noqa: E402
from tests.integrations.transformers.transformers_digits import BATCH, arguments, digits, model  # noqa: E402

EPOCH = 160
TRAINING, HELD_OUT = digits(0, EPOCH), digits(EPOCH, 260)
SEED = settings_of().root_seed
CPU = torch.device("cpu")
SPACE = frostline.SearchSpace(
    distributions={
        "learning_rate": FloatDistribution(1e-4, 1e-1, log=True),
        "weight_decay": FloatDistribution(1e-4, 1.0, log=True),
    }
)


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


OF_TRAINER = ("train_dataset", "eval_dataset", "callbacks", "compute_loss_func", "optimizers", "data_collator")


def trainer(kind: type[Trainer] = Trainer, *, made: Any = None, **options: Any) -> Trainer:
    usual = {"learning_rate": 3e-3, "weight_decay": 0.1, "lr_scheduler_type": "cosine", "warmup_steps": 3}
    own = {name: options.pop(name) for name in OF_TRAINER if name in options}
    given = {"train_dataset": TRAINING, "eval_dataset": HELD_OUT, **own}
    return kind(model=model() if made is None else made, args=arguments(**{**usual, **options}), **given)


def task_of(make: Callable[[], Trainer], **options: Any) -> frostline.SupervisedTask:
    return task_from_trainer(lambda _: make(), **{"space": SPACE, "samples": 2 * EPOCH, **options})


def gpt2() -> GPT2LMHeadModel:
    shape = {"vocab_size": 17, "n_positions": 16, "n_embd": 16, "n_layer": 2, "n_head": 2}
    return GPT2LMHeadModel(GPT2Config(**shape, bos_token_id=0, eos_token_id=0))


def windows() -> dict[str, Any]:
    training, held_out = (
        [{"input_ids": each["input_ids"], "labels": each["input_ids"]} for each in examples]
        for examples in (TRAINING, HELD_OUT)
    )
    return {"train_dataset": training, "eval_dataset": held_out}


class Seeding(TrainerCallback):
    """Lets dropout draw in each step what it draws in frostline's."""

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        torch.manual_seed(derive_seed(SEED, "dropout", state.global_step * BATCH))


def trained_by_transformers(make: Callable[[], Trainer], task: frostline.SupervisedTask) -> tuple[Any, float]:
    """A whole training on the task's batches, and its score: nothing of frostline's derivation is used."""
    steps = task.full_samples // (BATCH * task.samples_per_example)
    configuration = Configuration(number=0, hyperparameters=dict(task.defaults))
    drawn = islice(task.training_batches(configuration, seed=SEED, skip_samples=0), steps)
    loader = DataLoader([inputs for inputs, _ in drawn], batch_size=None)
    with borrowed_generators(CPU):
        torch.manual_seed(derive_seed(SEED, "initialisation"))
        trainer = make()
        trainer.args.max_steps = steps
        trainer.get_train_dataloader = lambda: loader
        trainer.add_callback(Seeding())
        trainer.train()
        score = trainer.evaluate()["eval_loss"]
    return trainer.model, score


CASES: dict[str, Callable[[], Trainer]] = {
    "bert": lambda: trainer(),
    "sgd": lambda: trainer(optim="sgd", learning_rate=0.05, max_grad_norm=0.5),
    "gpt2": lambda: trainer(made=gpt2(), **windows()),
}


@pytest.mark.parametrize("case", CASES)
def test_a_training_is_the_one_that_transformers_makes(case: str) -> None:
    make = CASES[case]
    task = task_of(make)
    configuration = Configuration(number=0, hyperparameters=dict(task.defaults))
    layers = len(task.split(task.build_model(configuration)).layers)
    fidelity = Fidelity(trainable_layers=layers, samples=task.full_samples)
    ours, trained = train_model(task, configuration, fidelity, settings_of())
    theirs, score = trained_by_transformers(make, task)
    assert ours.score == pytest.approx(score, rel=1e-5)
    moved = 0.0
    for name, value in theirs.state_dict().items():
        off = (trained.state_dict()[name] - value).norm()
        moved = max(moved, float(off / (value.norm() + 1e-3)))
    assert moved < 1e-3, moved


def test_what_is_used_today_is_the_default() -> None:
    task = task_of(trainer)
    assert task.defaults == {"learning_rate": 3e-3, "weight_decay": 0.1}
    assert (task.optimizer, task.batch_size, task.gradient_clip_norm) == (torch.optim.AdamW, BATCH, 1.0)
    assert (task.name, task.metric) == ("BertForSequenceClassification", "eval_loss")
    assert all("bias" in name or "LayerNorm" in name for name in task.undecayed)
    # Without decay the Trainer's groups look alike, and are the same.
    assert task_of(lambda: trainer(weight_decay=0.0)).undecayed == task.undecayed != ()


def test_a_search_is_one_of_populations_and_its_model_is_loaded() -> None:
    space = frostline.SearchSpace(
        distributions={**SPACE.distributions, "dropout": FloatDistribution(0.0, 0.3, step=0.3)}
    )
    task = task_from_trainer(
        lambda values: trainer(made=model(values["dropout"])),
        space=space,
        samples=2 * EPOCH,
        defaults={"dropout": 0.0},
    )
    plan = frostline.SearchPlan(budget=3)
    result = frostline.tune_task(task, study="bert", plan=plan, storage=":memory:", observer=frostline.SILENT)
    assert max(each.cost.population for each in result.history.evaluations()) > 1
    loaded = result.load_model(model()).eval()
    assert type(loaded) is type(model())
    batch = task.validation_data.batch([*range(len(HELD_OUT))])
    with torch.no_grad():
        assert float(loaded(**batch).loss) == pytest.approx(result.score, rel=1e-5)


def test_tokens_are_counted_as_samples() -> None:
    task = task_of(lambda: trainer(made=gpt2(), **windows()), samples=16 * EPOCH, samples_per_example=16)
    batch = next(task.training_batches(Configuration(number=0, hyperparameters={}), seed=0, skip_samples=0))
    assert task.num_samples(batch) == 16 * BATCH


# --- What is refused ----------------------------------------------------------------------------------------------------


class OwnLoss(Trainer):
    def compute_loss(self, model: Any, inputs: Any, *given: Any, **named: Any) -> Any:
        return super().compute_loss(model, inputs, *given, **named)


class OwnStep(Trainer):
    def training_step(self, *given: Any, **named: Any) -> Any:
        return super().training_step(*given, **named)


class Harmless(TrainerCallback):
    pass


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(TRAINING)


class Doubled(Trainer):
    """Its optimizer does what nobody sees."""

    def create_optimizer(self, model: Any = None) -> Any:
        optimizer = super().create_optimizer(model)

        def shrunk(made: Any, *_: Any) -> None:
            for group in made.param_groups:
                for parameter in group["params"]:
                    parameter.data.mul_(0.99)

        optimizer.register_step_post_hook(shrunk)
        return optimizer


class Strange(torch.optim.SGD):
    pass


def strange() -> Trainer:
    built = model()
    return trainer(made=built, optimizers=(Strange(built.parameters(), 0.1), None))


def words(examples: Any) -> Any:
    return {"words": ["a"] * len(examples), "labels": 3}


def test_its_trainings_may_be_judged_by_the_best_of_their_validations() -> None:
    last, best = (task_of(trainer, keep_best=kept) for kept in (False, True))
    assert (last.keep_best, best.keep_best) == (False, True)
    assert last.fingerprint != best.fingerprint


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "no trainer": (lambda: model(), r"returned a BertForSequenceClassification: return a transformers.Trainer"),
    "own loss": (lambda: trainer(OwnLoss), r"OwnLoss has a compute_loss of its own"),
    "own step": (lambda: trainer(OwnStep), r"OwnStep has a training_step of its own"),
    "a loss function": (lambda: trainer(compute_loss_func=lambda *_, **__: 0), r"compute_loss_func is given"),
    "smoothing": (
        lambda: trainer(label_smoothing_factor=0.1),
        r"label_smoothing_factor is 0.1, but of a task it is 0",
    ),
    "the best model": (
        lambda: trainer(load_best_model_at_end=True, eval_strategy="epoch", save_strategy="epoch"),
        r"load_best_model_at_end is True, but of a task it is False: leave it out, or tune it as trials",
    ),
    "accumulation": (
        lambda: trainer(gradient_accumulation_steps=2),
        r"gradient_accumulation_steps is 2, but of a task it is 1",
    ),
    "precision": (lambda: trainer(bf16=True), r"bf16 is True"),
    "order": (lambda: trainer(train_sampling_strategy="sequential"), r"train_sampling_strategy is 'sequential'"),
    "stopping": (
        lambda: trainer(callbacks=[EarlyStoppingCallback(2)]),
        r"the callback EarlyStoppingCallback may change",
    ),
    "a callback": (lambda: trainer(callbacks=[Harmless()]), r"the callback Harmless may change the training"),
    "no evaluation": (lambda: trainer(eval_dataset=None), r"trains on a train_dataset and is scored on one"),
    "a stream": (
        lambda: trainer(train_dataset=Stream(), max_steps=10),
        r"the training data are an iterable Stream",
    ),
    "a plateau": (
        lambda: trainer(lr_scheduler_type="reduce_lr_on_plateau", warmup_steps=0, eval_strategy="epoch"),
        r"ReduceLROnPlateau cannot be followed",
    ),
    "an optimizer": (strange, r"the optimizer is \S+Strange, but a task takes those of torch.optim"),
    "adafactor": (lambda: trainer(optim="adafactor"), r"the optimizer is transformers.optimization.Adafactor"),
    "a hidden hook": (
        lambda: trainer(Doubled),
        r"would not be trained as transformers' Trainer trains it: its loss",
    ),
    "words": (lambda: trainer(data_collator=words), r"a batch of 2 training examples holds str"),
    "no labels": (
        lambda: trainer(
            train_dataset=[{"input_ids": each["input_ids"]} for each in TRAINING],
            eval_dataset=[{"input_ids": each["input_ids"]} for each in HELD_OUT],
        ),
        r"BertForSequenceClassification returned no loss for input_ids",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_trainer_that_does_more_is_refused_in_one_line(case: str) -> None:
    make, message = REFUSED[case]
    with pytest.raises(TaskError, match=message) as raised:
        task_of(make)
    assert "\n" not in str(raised.value)


def test_the_function_must_not_make_the_optimizer_of_what_is_searched() -> None:
    with pytest.raises(TaskError, match="reads learning_rate, but that is for the task to give"):
        task_from_trainer(
            lambda values: trainer(learning_rate=values["learning_rate"]),
            space=SPACE,
            samples=2 * EPOCH,
            defaults={"learning_rate": 0.1},
        )
    space = frostline.SearchSpace(distributions={"schedule": CategoricalDistribution(["linear", "cosine"])})
    with pytest.raises(
        TaskError, match="schedule, which the function reads, changes the optimizer or its schedule"
    ):
        task_from_trainer(
            lambda values: trainer(lr_scheduler_type=values["schedule"]),
            space=space,
            samples=2 * EPOCH,
            defaults={"schedule": "linear"},
        )


def test_a_model_that_returns_a_tuple_gives_its_loss_too() -> None:
    class Tupled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Embedding(17, 8), nn.Flatten(), nn.Linear(128, 16), nn.ReLU())
            self.head = nn.Linear(16, 10)

        def forward(self, input_ids: Any, labels: Any) -> Any:
            logits = self.head(self.body(input_ids))
            return nn.functional.cross_entropy(logits, labels), logits

    assert task_of(lambda: trainer(made=Tupled())).name == "Tupled"
