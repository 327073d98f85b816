"""transformers' Trainer under a trial."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

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

pytestmark = pytest.mark.filterwarnings("ignore")  # those of transformers and accelerate

pytest.importorskip("accelerate")
ours = pytest.importorskip("frostline.integrations.transformers.transformers_tuning")

from transformers import Trainer, TrainerCallback  # noqa: E402

from tests.integrations.transformers.transformers_digits import (  # noqa: E402
    BATCH,
    LAYERS,
    arguments,
    digits,
    make_trainer,
    model,
)

EPOCH = 160  # eight batches, of which the last is half as large


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class Watching(TrainerCallback):
    def __init__(self) -> None:
        self.schedule: list[float] = []
        self.optimized: set[int] = set()
        self.num_evaluations = 0

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.num_evaluations += 1

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.schedule.append(kwargs["lr_scheduler"].get_last_lr()[0])
        self.optimized = {id(each) for group in kwargs["optimizer"].param_groups for each in group["params"]}


class Training:
    """One training at one rung, and what it left."""

    def __init__(
        self,
        make: Callable[[Trial], Trainer],
        samples: int,
        *,
        full_samples: int | None = None,
        layers: int | None = None,
        kept: KeptTraining | None = None,
        **options: Any,
    ) -> None:
        self.watching = Watching()

        def objective(trial: Trial) -> float:
            trainer = make(trial)
            trainer.add_callback(self.watching)
            return ours.train(trainer, trial, **options)

        self.written: list[KeptTraining] = []
        sketch = look(objective, samples=samples)
        self.watching.schedule.clear()
        surroundings = Surroundings(
            full_samples=full_samples or samples,
            num_layers=sketch.num_layers,
            layers=sketch.layers,
            kept=kept,
            keep=self.written.append,
        )
        fidelity = Fidelity(trainable_layers=layers or sketch.num_layers, samples=samples)
        self.trial = Trial(0, fidelity, Suggestions(values={"rate": 0.01}, seed=0), surroundings)
        with seeded(3):
            self.curve = self.trial.ended(objective(self.trial))
        assert self.trial.model is not None

    @property
    def weights(self) -> Mapping[str, torch.Tensor]:
        assert self.trial.model is not None
        return self.trial.model.state_dict()


def test_a_rung_trains_its_layers_on_its_samples() -> None:
    training = Training(make_trainer, 130, layers=1)
    assert training.trial.samples_seen == 120
    assert [point.samples for point in training.curve] == [120]
    assert training.watching.optimized == {id(each) for each in training.trial.parameters}
    with seeded(3):
        fresh = model().state_dict()
    changed = {name for name, value in training.weights.items() if not torch.equal(fresh[name], value)}
    assert changed
    assert not any(name.startswith(("bert.embeddings", "bert.encoder")) for name in changed)


def test_a_rung_cuts_the_schedule_of_a_full_training_short() -> None:
    first = Training(make_trainer, 100, full_samples=200)
    second = Training(make_trainer, 200, kept=KeptTraining.of(first.written[-1].contents()))
    rates = pytest.approx([0.01 * (1 - step / 10) for step in range(1, 11)])
    assert [*first.watching.schedule, *second.watching.schedule] == rates


@pytest.mark.parametrize("stop", [EPOCH, 100], ids=["at an epoch's end", "in it"])
def test_a_rung_that_goes_on_is_what_it_would_have_been(stop: int) -> None:
    def make(trial: Trial) -> Trainer:
        return make_trainer(trial, lr_scheduler_type="cosine")

    whole = Training(make, 2 * EPOCH)
    first = Training(make, stop, full_samples=2 * EPOCH)
    second = Training(make, 2 * EPOCH, kept=KeptTraining.of(first.written[-1].contents()))
    assert second.curve[-1] == whole.curve[-1]
    assert all(torch.equal(value, second.weights[name]) for name, value in whole.weights.items())


FOLLOWING = {"lr_scheduler_type": "reduce_lr_on_plateau", "lr_scheduler_kwargs": {"patience": 0, "threshold": 0.5}}


@pytest.mark.parametrize("stops", [(EPOCH,), (60, EPOCH + 60)], ids=["at an epoch's end", "in epochs"])
@pytest.mark.parametrize(
    "options",
    [
        {"train_sampling_strategy": "group_by_length"},
        {**FOLLOWING, "eval_strategy": "epoch"},
        {**FOLLOWING, "eval_strategy": "steps", "eval_steps": 2},
    ],
    ids=["grouped by length", "following epochs", "following steps"],
)
def test_a_training_in_rungs_is_the_whole_one(options: dict[str, Any], stops: tuple[int, ...]) -> None:
    def make(trial: Trial) -> Trainer:
        return make_trainer(trial, **options)

    whole, kept = Training(make, 2 * EPOCH), None
    for stop in (*stops, 2 * EPOCH):
        part = Training(make, stop, full_samples=2 * EPOCH, kept=kept)
        kept = KeptTraining.of(part.written[-1].contents())
    assert part.watching.schedule[-1] == whole.watching.schedule[-1]
    assert part.curve[-1] == whole.curve[-1]
    assert all(torch.equal(value, part.weights[name]) for name, value in whole.weights.items())


def test_a_training_that_was_killed_at_an_epoch_s_end_goes_on_as_it_would_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("frostline.integrations.transformers.transformers_callback.SECONDS_BETWEEN_CHECKPOINTS", 0)
    monkeypatch.setattr("frostline.objectives.pending_checkpoint.SECONDS_BETWEEN_CHECKPOINTS", 0)
    monkeypatch.setattr("frostline.objectives.pending_checkpoint._PAUSES_BETWEEN_WRITES", 0)

    def make(trial: Trial) -> Trainer:
        return make_trainer(trial, **FOLLOWING, eval_strategy="epoch")

    whole = Training(make, 2 * EPOCH)
    kept = [each for each in whole.written if each.samples_seen == EPOCH]
    assert kept
    second = Training(make, 2 * EPOCH, kept=KeptTraining.of(kept[-1].contents()))
    assert second.curve == whole.curve
    assert second.watching.schedule[-1] == whole.watching.schedule[-1]


def test_what_a_trainer_keeps_in_folders_of_its_own_is_kept() -> None:
    class Apart(Trainer):
        """Keeps its model in a folder of the checkpoint's, as sentence-transformers' trainer does with its parts."""

        def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
            assert output_dir is not None
            part = Path(output_dir) / "parts" / "0_model"
            part.mkdir(parents=True)
            torch.save(self.model.state_dict(), part / "weights.pt")

        def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
            path = Path(resume_from_checkpoint) / "parts" / "0_model" / "weights.pt"
            self.model.load_state_dict(torch.load(path, weights_only=True))

    def make(trial: Trial) -> Trainer:
        usual = make_trainer(trial)
        return Apart(
            model=usual.model,
            args=usual.args,
            train_dataset=usual.train_dataset,
            eval_dataset=usual.eval_dataset,
        )

    whole = Training(make, EPOCH)
    first = Training(make, 100, full_samples=EPOCH)
    second = Training(make, EPOCH, kept=KeptTraining.of(first.written[-1].contents()))
    assert second.curve[-1] == whole.curve[-1]


@pytest.mark.parametrize("kwargs", [None, {"use_reentrant": True}])
def test_what_is_trained_is_trained_with_activations_computed_again(kwargs: dict[str, Any] | None) -> None:
    def make(trial: Trial) -> Trainer:
        return make_trainer(trial, gradient_checkpointing=True, gradient_checkpointing_kwargs=kwargs)

    usual, again = (Training(each, 100, layers=LAYERS + 1) for each in (make_trainer, make))
    assert again.curve == usual.curve
    assert all(torch.equal(value, again.weights[name]) for name, value in usual.weights.items())


def test_adapters_are_trained_from_the_last_layer_that_has_one() -> None:
    def make(trial: Trial) -> Trainer:
        usual = make_trainer(trial)
        adapted = get_peft_model(usual.model, LoraConfig(r=2, target_modules=["query"]))
        return Trainer(
            model=adapted,
            args=usual.args,
            train_dataset=usual.train_dataset,
            eval_dataset=usual.eval_dataset,
        )

    training = Training(make, 60, layers=1)
    assert training.trial.model is not None
    trained = {name for name, each in training.trial.model.named_parameters() if each.requires_grad}
    assert trained
    assert all(".layer.1." in name and "lora_" in name for name in trained)


def test_a_model_init_that_reads_the_trial() -> None:
    seen: list[object] = []

    def make(trial: Trial) -> Trainer:
        def model_init(given: Trial | None) -> Any:
            seen.append(given)
            return model(0.1 if given is None else given.suggest_float("dropout", 0.0, 0.5))

        rate = trial.suggest_float("rate", 1e-3, 1e-1, log=True)
        return Trainer(
            model_init=model_init,
            args=arguments(learning_rate=rate),
            train_dataset=digits(0, 150),
            eval_dataset=digits(150, 250),
        )

    training = Training(make, 60, layers=1)
    assert seen[-1] is training.trial
    assert set(training.trial.params) == {"rate", "dropout"}
    assert training.watching.optimized == {id(each) for each in training.trial.parameters}


def test_an_optimizer_of_ones_own_holds_what_is_trained() -> None:
    def make(trial: Trial) -> Trainer:
        own = model()
        optimizer = torch.optim.SGD(own.parameters(), lr=trial.suggest_float("rate", 1e-3, 1e-1))
        return Trainer(
            model=own,
            args=arguments(),
            train_dataset=digits(0, 150),
            eval_dataset=digits(150, 250),
            optimizers=(optimizer, None),
        )

    training = Training(make, 60, layers=1)
    assert training.watching.optimized == {id(each) for each in training.trial.parameters}


def test_accumulated_gradients_count_as_one_step_and_samples_may_be_tokens() -> None:
    def make(trial: Trial) -> Trainer:
        return make_trainer(trial, gradient_accumulation_steps=2)

    training = Training(make, 2_000, samples_per_example=16)
    assert training.trial.samples_seen == 3 * 2 * BATCH * 16


def test_evaluations_of_ones_own_are_the_curve() -> None:
    def make(trial: Trial) -> Trainer:
        return make_trainer(trial, eval_strategy="steps", eval_steps=2)

    assert [point.samples for point in Training(make, 100).curve] == [40, 80, 100]


@pytest.mark.parametrize("strategy", ["no", "steps", "epoch"])
@pytest.mark.parametrize(("samples", "epochs"), [(EPOCH, 1), (EPOCH + 40, 2)])
def test_the_end_of_a_rung_is_evaluated_once(strategy: str, samples: int, epochs: int) -> None:
    training = Training(lambda trial: make_trainer(trial, eval_strategy=strategy, eval_steps=100), samples)
    assert training.watching.num_evaluations == (epochs if strategy == "epoch" else 1)


def test_several_data_may_be_evaluated_on() -> None:
    def make(trial: Trial) -> Trainer:
        trainer = make_trainer(
            trial, eval_strategy="steps", eval_steps=2, load_best_model_at_end=True, save_steps=2
        )
        trainer.args.metric_for_best_model = "second_loss"
        trainer.eval_dataset = {"first": digits(150, 200), "second": digits(200, 250)}
        return trainer

    with pytest.raises(
        ObjectiveError, match=r"monitor is 'eval_loss', but .* gives .*eval_first_loss, .*eval_second_loss"
    ):
        Training(make, 100)
    first, second = (Training(make, 100, monitor=f"eval_{name}_loss") for name in ("first", "second"))
    assert [point.samples for point in first.curve] == [40, 80, 100]
    assert first.curve[0].score != second.curve[0].score
    assert same_weights(first, second.weights)


def test_an_evaluation_of_something_else_is_no_matter() -> None:
    class Testing(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.trainer.evaluate(digits(250, 260), metric_key_prefix="test")

    def make(trial: Trial) -> Trainer:
        trainer, testing = make_trainer(trial), Testing()
        testing.trainer = trainer
        trainer.add_callback(testing)
        return trainer

    first = Training(make, 60, full_samples=120)
    assert [point.samples for point in first.curve] == [60]
    second = Training(make, 120, kept=KeptTraining.of(first.written[-1].contents()))
    assert second.curve[-1] == Training(make, 120).curve[-1]


class Judged(TrainerCallback):
    """Says what each evaluation gives, and keeps the weights that it was of."""

    def __init__(self, *accuracies: float) -> None:
        self._accuracies = iter(accuracies)
        self.weights: list[dict[str, torch.Tensor]] = []

    def compute_metrics(self, _: Any) -> dict[str, float]:
        return {"accuracy": next(self._accuracies), "answered": 1.0}

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.weights.append({name: value.clone() for name, value in kwargs["model"].state_dict().items()})


def judged(judge: Judged, **options: Any) -> Callable[[Trial], Trainer]:
    best = {"load_best_model_at_end": True, "metric_for_best_model": "accuracy", "save_strategy": "steps"}

    def make(trial: Trial) -> Trainer:
        trainer = make_trainer(
            trial, **{"eval_strategy": "steps", "eval_steps": 2, "save_steps": 2, **best, **options}
        )
        trainer.compute_metrics = judge.compute_metrics
        if trial.trains:
            trainer.add_callback(judge)
        return trainer

    return make


def same_weights(training: Training, weights: Mapping[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, weights[name]) for name, value in training.weights.items())


def test_the_best_model_is_loaded_at_the_end_as_its_trainer_would() -> None:
    judge = Judged(0.5, 0.9, 0.7)
    training = Training(judged(judge), 100, monitor="eval_accuracy")
    assert training.curve[-1].score == 0.9
    assert same_weights(training, judge.weights[1])
    assert not same_weights(training, judge.weights[2])
    # As its own metric has it, which need not be the one that is searched by.
    judge = Judged(0.5, 0.9, 0.7)
    lowest = judged(judge, greater_is_better=False)
    training = Training(lowest, 100, monitor="eval_answered")
    assert training.curve[-1].score == 1.0
    assert same_weights(training, judge.weights[0])


def test_the_best_model_of_a_lower_rung_is_remembered() -> None:
    judge = Judged(0.9, 0.4)
    first = Training(judged(judge), 60, full_samples=120, monitor="eval_accuracy")
    assert first.curve[-1].score == 0.9
    best = judge.weights[0]
    later = Judged(0.6, 0.7, 0.5)
    kept = KeptTraining.of(first.written[-1].contents())
    second = Training(judged(later), 120, kept=kept, monitor="eval_accuracy")
    assert len(later.weights) == 2
    assert second.curve[-1].score == 0.9
    assert same_weights(second, best)


def test_a_metric_for_the_best_model_that_nobody_computes_is_one_line() -> None:
    make = judged(Judged(0.5, 0.9, 0.7), metric_for_best_model="f1")
    with pytest.raises(ObjectiveError, match=r"metric_for_best_model is 'eval_f1', but .* gives .*eval_accuracy"):
        Training(make, 100, monitor="eval_accuracy")


def test_a_search_in_a_line(tmp_path: Path) -> None:
    def compute_metrics(prediction: Any) -> dict[str, float]:
        return {"accuracy": float((prediction.predictions.argmax(1) == prediction.label_ids).mean())}

    def make(trial: Trial) -> Trainer:
        trainer = make_trainer(trial)
        trainer.compute_metrics = compute_metrics
        return trainer

    result = ours.tune_trainer(
        make,
        samples=300,
        monitor="eval_accuracy",
        direction="maximize",
        budget=2,
        observer=frostline.SILENT,
    )
    best = result.load_model(model()).eval()
    examples = digits(150, 250)
    with torch.no_grad():
        logits = best(input_ids=torch.stack([each["input_ids"] for each in examples])).logits
    labels = torch.stack([each["labels"] for each in examples])
    assert float((logits.argmax(1) == labels).float().mean()) == pytest.approx(result.score)
    assert result.terms.num_layers > LAYERS
    # Its own folder is made by the Trainer, and stays empty.
    assert not [*(tmp_path / "out").iterdir()]


def test_what_is_wrong_is_said_in_a_line() -> None:
    with pytest.raises(ObjectiveError, match=r"the function returned a int: return a transformers\.Trainer"):
        ours.tune_trainer(lambda trial: 3, samples=100)
    with pytest.raises(OptionError, match="against is 'flops', but a Trainer returns a score alone"):
        ours.tune_trainer(lambda trial: 3, samples=100, against="flops")
    with pytest.raises(
        ObjectiveError, match=r"monitor is 'eval_f1', but Trainer\.evaluate gives epoch, eval_loss"
    ):
        Training(make_trainer, 60, monitor="eval_f1")


def test_without_transformers_the_extra_is_named(processes: ForkServerContext) -> None:
    code = "import sys; sys.modules['transformers'] = None; import frostline.integrations.transformers"
    with Fork(processes, exec, code) as fork:
        ended = fork.ended()
    assert "pip install 'frostline[hf]'" in ended.stderr.splitlines()[-1]
