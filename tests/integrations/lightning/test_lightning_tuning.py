"""Lightning's Trainer under a trial."""

from __future__ import annotations

from collections.abc import Mapping
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, RandomSampler, SubsetRandomSampler

import frostline
from frostline.errors import ObjectiveError, OptionError
from frostline.objectives.kept_training import KeptTraining
from frostline.objectives.look import look
from frostline.objectives.suggestions import Suggestions
from frostline.objectives.surroundings import Surroundings
from frostline.objectives.trial import Trial
from frostline.records import Fidelity
from frostline.training.machine.randomness import seeded
from tests.forks import Fork

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's, and those of what it loads

lightning = pytest.importorskip("frostline.integrations.lightning.lightning_tuning")

from lightning.pytorch import Callback  # noqa: E402
from lightning.pytorch.callbacks import (  # noqa: E402
    GradientAccumulationScheduler,
    ModelCheckpoint,
    StochasticWeightAveraging,
)

from tests.integrations.lightning.lightning_digits import BATCH, Digits, build, digits, loaders  # noqa: E402

NUM_LAYERS = 4
EPOCH = 150


def fitting(**trainer: Any) -> Any:
    return lightning.Fitting(build=build, monitor="val_loss", trainer=trainer, data=loaders())


class Training:
    """One training of an objective at one rung, and what it left."""

    def __init__(
        self,
        objective: Any,
        samples: int,
        *,
        full_samples: int | None = None,
        layers: int = NUM_LAYERS,
        kept: KeptTraining | None = None,
    ) -> None:
        self.written: list[KeptTraining] = []
        fidelity = Fidelity(trainable_layers=layers, samples=samples)
        sketch = look(objective, samples=samples)
        surroundings = Surroundings(
            full_samples=full_samples or samples,
            num_layers=NUM_LAYERS,
            layers=sketch.layers,
            kept=kept,
            keep=self.written.append,
        )
        self.trial = Trial(0, fidelity, Suggestions(values={"rate": 0.01}, seed=0), surroundings)
        with seeded(3):
            self.curve = self.trial.ended(objective(self.trial))
        assert isinstance(self.trial.model, Digits)
        self.module = self.trial.model

    @property
    def weights(self) -> Mapping[str, torch.Tensor]:
        return self.module.state_dict()


def test_layers_stand_in_the_order_in_which_a_training_step_runs_them() -> None:
    sketch = look(fitting(), samples=100)
    assert sketch.layers is not None
    assert [layer.name for layer in sketch.layers][-1] == "head"
    assert list(sketch.space.distributions) == ["rate"]


def test_a_rung_trains_its_layers_on_its_samples() -> None:
    training = Training(fitting(), 130, layers=1)
    # Six whole batches of 20 fit into 130 samples, the seventh does not.
    assert training.trial.samples_seen == len(training.module.seen) == 120
    assert [point.samples for point in training.curve] == [120]
    optimizer = training.module.trainer.optimizers[0]
    assert {id(each) for group in optimizer.param_groups for each in group["params"]} == {
        id(each) for each in training.module.head.parameters()
    }
    with seeded(3):
        fresh = Digits(0.01)
    for name, parameter in fresh.named_parameters():
        assert torch.equal(parameter, training.weights[name]) == (not name.startswith("head"))


def test_a_score_is_reported_at_each_validation() -> None:
    training = Training(fitting(), 2 * EPOCH + 40)
    assert [point.samples for point in training.curve] == [EPOCH, 2 * EPOCH, 2 * EPOCH + 40]


def test_a_rung_ends_with_a_validation_in_whatever_epoch() -> None:
    assert [point.samples for point in Training(fitting(check_val_every_n_epoch=3), 2 * EPOCH + 40).curve] == [
        2 * EPOCH + 40
    ]


def test_every_pass_begins_at_the_input() -> None:
    modes: list[bool] = []

    def make(trial: Trial) -> Digits:
        module = build(trial)
        module.body[3].register_forward_hook(lambda dropout, *_: modes.append(dropout.training))
        return module

    Training(lightning.Fitting(build=make, monitor="val_loss", data=loaders()), 100, layers=1)
    # Dropout of the frozen part is off in the second step as in the first.
    assert len(modes) > 5
    assert not any(modes)


@pytest.mark.parametrize("stop", [EPOCH, 100, EPOCH + 60], ids=["at an epoch's end", "in it", "in the second"])
def test_a_rung_that_goes_on_is_what_it_would_have_been(stop: int) -> None:
    whole = Training(fitting(), 3 * EPOCH)
    first = Training(fitting(), stop)
    second = Training(fitting(), 3 * EPOCH, kept=KeptTraining.of(first.written[-1].contents()))
    assert first.module.seen + second.module.seen == whole.module.seen
    assert second.curve[-1] == whole.curve[-1]
    assert all(torch.equal(value, second.weights[name]) for name, value in whole.weights.items())


class Plateau(Digits):
    def configure_optimizers(self) -> object:
        optimizer = torch.optim.SGD(self.parameters(), lr=self.rate)
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=0.1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "monitor": "val_loss"}}


class Warming(Digits):
    """Knows the epoch from its beginning, and how far the training is."""

    heat = 1.0

    def on_train_epoch_start(self) -> None:
        self.heat = 1 + self.current_epoch

    def training_step(self, batch: tuple[torch.Tensor, ...], batch_idx: int) -> torch.Tensor:
        share = self.global_step / self.trainer.estimated_stepping_batches
        return super().training_step(batch, batch_idx) * self.heat / self.trainer.max_epochs * (1 + share)


class Mean(Callback):
    """Validates the mean of the weights, and leaves the module with it."""

    mean: Mapping[str, torch.Tensor] | None = None

    def on_fit_start(self, trainer: Any, pl_module: nn.Module) -> None:
        if self.mean is None:
            self.mean = {name: value.clone() for name, value in pl_module.state_dict().items()}

    def on_train_batch_end(self, trainer: Any, pl_module: nn.Module, *_: Any) -> None:
        for name, value in pl_module.state_dict().items():
            if value.is_floating_point():
                self.mean[name].lerp_(value, 0.1)

    def swap(self, trainer: Any, pl_module: nn.Module) -> None:
        own = {name: value.clone() for name, value in pl_module.state_dict().items()}
        pl_module.load_state_dict(self.mean)
        self.mean = own

    on_validation_start = on_validation_end = on_train_end = swap

    def state_dict(self) -> dict[str, Any]:
        return {"mean": self.mean}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.mean = state_dict["mean"]


@pytest.mark.parametrize(
    "stops", [(EPOCH, 2 * EPOCH), (EPOCH + 40, 2 * EPOCH + 60)], ids=["at epochs' ends", "in epochs"]
)
@pytest.mark.parametrize(
    ("module", "trainer"),
    [
        (Digits, dict),
        (Plateau, dict),
        (Warming, dict),
        (Digits, lambda: {"callbacks": Mean()}),
        (Digits, lambda: {"callbacks": GradientAccumulationScheduler({0: 1, 1: 2})}),
        (Digits, lambda: {"val_check_interval": 3, "check_val_every_n_epoch": None}),
        (Digits, lambda: {"reload_dataloaders_every_n_epochs": 1}),
    ],
    ids=["plainly", "plateau", "epochs", "mean", "accumulated", "own validations", "reloaded"],
)
def test_a_training_in_three_rungs_is_the_whole_one(
    module: type[Digits], trainer: Any, stops: tuple[int, ...]
) -> None:
    def objective() -> Any:
        return lightning.Fitting(
            build=lambda trial: module(trial.suggest_float("rate", 1e-3, 1e-1)),
            monitor="val_loss",
            trainer=trainer(),
            data=loaders(),
        )

    whole, kept = Training(objective(), 3 * EPOCH, layers=2), None
    for stop in (*stops, 3 * EPOCH):
        part = Training(objective(), stop, full_samples=3 * EPOCH, layers=2, kept=kept)
        kept = KeptTraining.of(part.written[-1].contents())
    assert part.curve[-1] == whole.curve[-1]
    assert same(whole.weights, part.weights)


def test_a_callback_is_another_one_in_each_training() -> None:
    mean = Mean()
    objective = fitting(callbacks=[mean])
    assert Training(objective, 100).curve == Training(objective, 100).curve
    assert mean.mean is None


def test_a_callback_s_state_that_cannot_be_kept_is_named(caplog: pytest.LogCaptureFixture) -> None:
    class Odd(Callback):
        def state_dict(self) -> dict[str, Any]:
            return {"seen": [object()]}

    training = Training(fitting(callbacks=[Odd()]), 100)
    assert training.written[-1].state["checkpoint"]["callbacks"] == {}
    assert "Odd is not kept, and begins anew where a training goes on: it holds a object" in caplog.text


def test_accumulated_gradients_count_as_one_step() -> None:
    training = Training(fitting(accumulate_grad_batches=3), 110)
    assert training.trial.samples_seen == 60
    assert training.module.trainer.global_step == 1


def test_several_loaders_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    both = {name: DataLoader(digits(0, 150), batch_size=BATCH, shuffle=True) for name in ("left", "right")}

    class Two(Digits):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            return super().training_step(batch["left"], batch_idx)

    objective = lightning.Fitting(
        build=lambda trial: Two(trial.suggest_float("rate", 1e-3, 1e-1)),
        monitor="val_loss",
        data={**loaders(), "train_dataloaders": both},
    )
    assert Training(objective, 100).trial.samples_seen == 100


@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_a_schedule_knows_the_length_of_a_full_training(interval: str) -> None:
    objective = lightning.Fitting(
        build=lambda trial: Digits(trial.suggest_float("rate", 1e-3, 1e-1), schedule=interval),
        monitor="val_loss",
        data=loaders(),
    )
    training = Training(objective, 100, full_samples=440)
    assert training.trial.samples_seen == 100
    assert training.module.trainer.lr_scheduler_configs[0].scheduler.total_steps == 24  # rounded up
    assert training.module.max_epochs == 3


@pytest.mark.parametrize(
    ("train", "total"),
    [
        (lambda data: DataLoader(data, batch_size=BATCH, shuffle=True), 24),
        (lambda data: DataLoader(data, batch_size=100, shuffle=True, drop_last=True), 5),
        (lambda data: DataLoader(data, batch_size=BATCH, sampler=SubsetRandomSampler(range(50))), 27),
        (
            lambda data: DataLoader(data, batch_sampler=BatchSampler(RandomSampler(data), BATCH, drop_last=False)),
            24,
        ),
        (lambda data: [DataLoader(each, batch_size=len(each) // 5) for each in (data, digits(0, 500))], 15),
        (lambda data: [DataLoader(each, batch_size=30) for each in (data, digits(0, 500))], 15),
    ],
    ids=["all", "whole batches", "a part", "batch sampler", "larger batches beside", "longer one beside"],
)
def test_a_schedule_is_as_long_as_the_training(train: Any, total: int) -> None:
    class First(Digits):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            return super().training_step(batch if torch.is_tensor(batch[0]) else batch[0], batch_idx)

    objective = lightning.Fitting(
        build=lambda trial: First(trial.suggest_float("rate", 1e-3, 1e-1), schedule="step"),
        monitor="val_loss",
        data={**loaders(), "train_dataloaders": train(digits(0, 150))},
    )
    training = Training(objective, 3 * EPOCH)
    assert training.module.trainer.lr_scheduler_configs[0].scheduler.total_steps == total  # rounded up
    assert total - 1 <= len(training.module.rates) <= total


def test_a_stream_s_schedule_is_as_long_as_the_training() -> None:
    class Stream(IterableDataset):
        def __iter__(self) -> Any:
            return iter(digits(0, 160))

    objective = lightning.Fitting(
        build=lambda trial: Digits(trial.suggest_float("rate", 1e-3, 1e-1), schedule="step"),
        monitor="val_loss",
        data={**loaders(), "train_dataloaders": DataLoader(Stream(), batch_size=BATCH)},
    )
    training = Training(objective, 100, full_samples=320)
    assert training.module.trainer.lr_scheduler_configs[0].scheduler.total_steps == 16


@pytest.mark.parametrize("stop", [EPOCH, 100], ids=["at an epoch's end", "in it"])
@pytest.mark.parametrize("schedule", ["cosine", "epoch"])
def test_a_rung_cuts_a_schedule_short_and_the_next_goes_on_with_it(schedule: str, stop: int) -> None:
    objective = lightning.Fitting(
        build=lambda trial: Digits(trial.suggest_float("rate", 1e-3, 1e-1), schedule=schedule),
        monitor="val_loss",
        data=loaders(),
    )
    first = Training(objective, stop, full_samples=440)
    second = Training(objective, 440, kept=KeptTraining.of(first.written[-1].contents()))
    whole = Training(objective, 440)
    assert [*first.module.rates, *second.module.rates] == whole.module.rates
    assert second.curve[-1] == whole.curve[-1]
    assert all(torch.equal(value, second.weights[name]) for name, value in whole.weights.items())


def test_a_search_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = loaders()
    result = lightning.tune(
        build, monitor="val_loss", samples=4 * EPOCH, budget=3, observer=frostline.SILENT, **data
    )
    assert result.study_name == "lightning_digits-build"
    model = result.load_model(Digits()).eval()
    images, targets = digits(150, 250).tensors
    with torch.no_grad():
        assert nn.functional.cross_entropy(model.head(model.body(images)), targets).item() == pytest.approx(
            result.score, abs=1e-6
        )
    assert not list(tmp_path.glob("lightning_logs*"))


def test_a_trainer_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import lightning as L

    monkeypatch.chdir(tmp_path)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}

    def objective(trial: Trial) -> float:
        callback = lightning.TrialCallback(trial, monitor="val_loss")
        trainer = L.Trainer(max_epochs=1, callbacks=[callback], enable_checkpointing=False, **quiet)
        trainer.fit(build(trial), **loaders(), ckpt_path=callback.ckpt_path)
        return callback.score(trainer)

    # The last batch of an epoch holds ten.
    assert Training(objective, 2 * EPOCH).trial.samples_seen == 2 * EPOCH
    assert Training(objective, 2 * EPOCH - 1).trial.samples_seen == 2 * EPOCH - 10

    def forgetful(trial: Trial) -> float:
        callback = lightning.TrialCallback(trial, monitor="val_loss")
        trainer = L.Trainer(callbacks=[callback], enable_checkpointing=False, **quiet)
        trainer.fit(build(trial), **loaders())
        return callback.score(trainer)

    with pytest.raises(ObjectiveError, match=r"ckpt_path=callback\.ckpt_path"):
        look(forgetful, samples=100)


class Rising(Digits):
    """Unlearns from the third epoch on."""

    def on_train_epoch_start(self) -> None:
        for group in self.optimizers().param_groups:
            group["lr"] = 0.02 if self.current_epoch < 2 else 3.0


class Late(Digits):
    def setup(self, stage: str) -> None:
        self.more = nn.Linear(2, 2)


class Bare(Digits):
    def __init__(self, rate: float = 0.01) -> None:
        super().__init__(rate)
        self.made = (self.head, self.body)
        del self.head, self.body

    def configure_model(self) -> None:
        self.head, self.body = self.made


class Judged:
    """An objective whose validations give these accuracies; it keeps the weights that each was of."""

    def __init__(self, *accuracies: float, mode: str = "max", monitor: str = "accuracy", **trainer: Any) -> None:
        self.weights: list[dict[str, torch.Tensor]] = []
        self.checkpoint = ModelCheckpoint(monitor="accuracy", mode=mode)
        given, judge = iter(accuracies), self

        class Module(Digits):
            def on_validation_epoch_end(self) -> None:
                if judge.is_training and not self.trainer.sanity_checking:
                    self.log("accuracy", next(given))
                    judge.weights.append({name: value.clone() for name, value in self.state_dict().items()})

        self._fitting = lightning.Fitting(
            build=lambda trial: Module(trial.suggest_float("rate", 1e-3, 1e-1)),
            monitor=monitor,
            trainer={"callbacks": self.checkpoint, **trainer},
            data=loaders(),
        )

    def __call__(self, trial: Trial) -> float:
        self.is_training = trial.trains
        score: float = self._fitting(trial)
        return score


def same(left: Mapping[str, torch.Tensor], right: Mapping[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, right[name]) for name, value in left.items())


def test_a_model_checkpoint_keeps_the_best_and_writes_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    judge = Judged(0.5, 0.9, 0.7)
    training = Training(judge, 3 * EPOCH)
    assert training.curve[-1].score == pytest.approx(0.9)
    assert same(training.weights, judge.weights[1])
    assert not same(training.weights, judge.weights[2])
    assert judge.checkpoint.best_model_score is None
    assert not list(tmp_path.iterdir())
    judge = Judged(0.5, 0.9, 0.7, mode="min")
    assert same(Training(judge, 3 * EPOCH).weights, judge.weights[0])
    # By its metric, at the score that is searched by.
    judge = Judged(0.5, 0.9, 0.7, monitor="val_loss")
    training = Training(judge, 3 * EPOCH)
    assert training.curve[-1].score == training.curve[1].score
    assert same(training.weights, judge.weights[1])


@pytest.mark.parametrize("stop", [EPOCH, 100], ids=["at an epoch's end", "in it"])
def test_the_best_of_a_lower_rung_is_remembered(stop: int) -> None:
    judge, later = Judged(0.9), Judged(*([0.4] * 3))
    first = Training(judge, stop, full_samples=2 * EPOCH)
    kept = KeptTraining.of(first.written[-1].contents())
    second = Training(later, 2 * EPOCH, kept=kept)
    assert later.weights
    assert second.curve[-1].score == pytest.approx(0.9)
    assert same(second.weights, judge.weights[0])


def test_the_checkpoint_of_a_trainer_of_ones_own_keeps_the_best_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import lightning as L

    monkeypatch.chdir(tmp_path)
    weights: list[dict[str, torch.Tensor]] = []

    class Module(Digits):
        def on_validation_epoch_end(self) -> None:
            self.log("accuracy", [0.9, 0.5][len(weights)] if not self.trainer.sanity_checking else 0.0)
            if not self.trainer.sanity_checking:
                weights.append({name: value.clone() for name, value in self.state_dict().items()})

    def objective(trial: Trial) -> float:
        weights.clear()
        callback = lightning.TrialCallback(trial, monitor="accuracy")
        own = ModelCheckpoint(dirpath=tmp_path / "own", monitor="accuracy", mode="max")
        trainer = L.Trainer(callbacks=[own, callback], logger=False, enable_progress_bar=False)
        trainer.fit(Module(trial.suggest_float("rate", 1e-3, 1e-1)), **loaders(), ckpt_path=callback.ckpt_path)
        return callback.score(trainer)

    training = Training(objective, 2 * EPOCH)
    assert training.curve[-1].score == pytest.approx(0.9)
    assert same(training.weights, weights[0])
    assert list((tmp_path / "own").iterdir())


def test_layers_that_are_made_later() -> None:
    def objective(module: type[Digits]) -> Any:
        def make(trial: Trial) -> Digits:
            return module(trial.suggest_float("rate", 1e-3, 1e-1))

        return lightning.Fitting(build=make, monitor="val_loss", data=loaders())

    assert Training(objective(Bare), 100).trial.samples_seen == 100
    with pytest.raises(ObjectiveError, match=r"more\.weight was made after the model was frozen"):
        look(objective(Late), samples=100)


def test_what_is_wrong_is_said_in_a_line() -> None:
    def tuned(**options: Any) -> None:
        lightning.tune(**{"build": build, "monitor": "val_loss", "samples": 100, **loaders(), **options})

    with pytest.raises(OptionError, match="the trainer is given max_epochs, but how long it trains say the rungs"):
        tuned(trainer={"max_epochs": 3})
    with pytest.raises(OptionError, match="'ddp' starts the whole script again"):
        tuned(trainer={"strategy": "ddp"})
    with pytest.raises(OptionError, match="against is 'seconds', but a LightningModule returns a score alone"):
        tuned(against="seconds")
    with pytest.raises(ObjectiveError, match="the function returned a int: return a LightningModule"):
        tuned(build=lambda trial: 3)
    averaged = fitting(callbacks=[StochasticWeightAveraging(swa_lrs=0.1, swa_epoch_start=1)])
    with pytest.raises(
        ObjectiveError, match="StochasticWeightAveraging ends with weights that were never validated"
    ):
        Training(averaged, 100)
    missing = lightning.Fitting(build=build, monitor="accuracy", data=loaders())
    with pytest.raises(ObjectiveError, match="monitor is 'accuracy', but the module logs train_loss, val_loss"):
        Training(missing, 100)


def test_without_lightning_the_extra_is_named(processes: ForkServerContext) -> None:
    code = "import sys; sys.modules['lightning'] = None; import frostline.integrations.lightning"
    with Fork(processes, exec, code) as fork:
        ended = fork.ended()
    assert "pip install 'frostline[lightning]'" in ended.stderr.splitlines()[-1]


FORKS = pytest.mark.skipif(
    torch.version.cuda is not None, reason="torch for CUDA has threads that no fork goes with"
)


@pytest.mark.multiprocess
@pytest.mark.parametrize(
    "strategy", [pytest.param("ddp_fork", marks=FORKS), pytest.param("ddp_spawn", marks=pytest.mark.torture)]
)
def test_two_processes_train_one_configuration(strategy: str) -> None:
    training = Training(fitting(strategy=strategy, devices=2, accelerator="cpu"), 130, layers=1)
    # Each step is one on 20 samples in each of two processes.
    assert training.trial.samples_seen == 120
    assert [point.samples for point in training.curve] == [120]
    assert training.trial.model is training.module
    model = training.module.eval()
    images, targets = digits(150, 250).tensors
    with torch.no_grad():
        loss = nn.functional.cross_entropy(model.head(model.body(images)), targets).item()
    assert loss == pytest.approx(training.curve[-1].score, abs=1e-5)
    kept = training.written[-1]
    assert kept.samples_seen == 120
    # A rung that goes on begins all of its processes with it.
    further = Training(
        fitting(strategy=strategy, devices=2, accelerator="cpu"),
        240,
        layers=1,
        kept=KeptTraining.of(kept.contents()),
    )
    assert [point.samples for point in further.curve] == [120, 150, 230]


@pytest.mark.multiprocess
@FORKS
def test_two_processes_keep_the_best_of_their_training() -> None:
    best = ModelCheckpoint(monitor="val_loss")
    objective = lightning.Fitting(
        build=lambda trial: Rising(trial.suggest_float("rate", 1e-3, 1e-1)),
        monitor="val_loss",
        trainer={"strategy": "ddp_fork", "devices": 2, "accelerator": "cpu", "callbacks": [best]},
        data=loaders(),
    )
    training = Training(objective, 600)
    scores = [point.score for point in training.curve]
    assert scores[-1] == min(scores) < scores[-2]
    model = training.module.eval()
    images, targets = digits(150, 250).tensors
    with torch.no_grad():
        loss = nn.functional.cross_entropy(model.head(model.body(images)), targets).item()
    assert loss == pytest.approx(scores[-1], abs=1e-5)
    assert training.written[-1].state["best"]["score"] == pytest.approx(scores[-1])
