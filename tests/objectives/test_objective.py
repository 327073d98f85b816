"""The door for a script of one's own: what an objective may do, what it may not, and that nothing of it is lost."""

from __future__ import annotations

import gc
import logging
import pickle
import time
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from optuna.distributions import FloatDistribution
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.data import DataLoader, SubsetRandomSampler, TensorDataset

import frostline
from frostline.errors import LadderError, ObjectiveError, OptionError, SearchSpaceError, StudyError
from frostline.folders.local_folder import LocalFolder
from frostline.folders.places import folder_at
from frostline.folders.study_place import StudyPlace
from frostline.objectives.look import look
from frostline.records import Progress, Status
from frostline.run.execution.executors import SerialExecutor
from frostline.run.own_objective import study_name_of
from frostline.search.proposals.sampling import TPE
from frostline.seeding import derive_seed
from frostline.store.reading import read_study
from frostline.training.files.checkpoints import CheckpointKey, Checkpoints
from frostline.training.files.kept_models import KeptModels
from tests.executing import Watching

GENERATOR = torch.Generator().manual_seed(0)
POINTS = torch.randn(64, 4, generator=GENERATOR)
TARGETS = POINTS.sum(1, keepdim=True).sin()
LOADER = DataLoader(TensorDataset(POINTS, TARGETS), 8, shuffle=True)
SAMPLES = 320


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def network() -> nn.Sequential:
    hidden = [nn.Sequential(nn.Linear(n, 8), nn.BatchNorm1d(8), nn.Tanh()) for n in (4, 8, 8)]
    return nn.Sequential(*hidden, nn.Linear(8, 1))


def step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: tuple[Tensor, Tensor]) -> None:
    optimizer.zero_grad()
    nn.functional.mse_loss(model(batch[0]), batch[1]).backward()
    optimizer.step()


@torch.no_grad()
def loss_of(model: nn.Module) -> float:
    training = model.training
    value = nn.functional.mse_loss(model.eval()(POINTS), TARGETS).item()
    model.train(training)
    return value


def objective(trial: frostline.Trial) -> float:
    model = network()
    trial.freeze(model)
    optimizer = torch.optim.SGD(trial.parameters, lr=trial.suggest_float("learning_rate", 1e-3, 1.0, log=True))
    for batch in trial.batches(LOADER):
        step(model, optimizer, batch)
    return loss_of(model)


def tune(objective: Callable[[frostline.Trial], Any], **options: Any) -> frostline.TuneResult:
    defaults: dict[str, Any] = {"samples": SAMPLES, "storage": ":memory:", "configurations": 9}
    return frostline.tune(objective, **defaults | options)


def test_what_lies_around_the_steps_is_told_of_each_training_and_kept(tmp_path: Path) -> None:
    def with_loading(trial: frostline.Trial) -> float:
        time.sleep(0.2)
        loss = objective(trial)
        time.sleep(0.1)
        return loss

    storage = f"sqlite:///{tmp_path / 'studies.db'}"
    tune(with_loading, storage=storage, study="loading")
    costs = [each.cost for each in read_study(storage, "loading").history.evaluations()]
    assert len(costs) >= 4
    assert all(0.3 <= cost.fixed_seconds <= cost.seconds for cost in costs)


@pytest.mark.parametrize(
    "ladder",
    [
        "samples-only",
        frostline.Ladder.samples_only,
        frostline.Ladder.samples_only(num_layers=4, full_samples=SAMPLES),
    ],
)
def test_a_ladder_is_given_by_its_name_by_what_makes_it_or_itself(ladder: Any) -> None:
    rungs = tune(objective, ladder=ladder).terms.rungs
    assert [(rung.trainable_layers, rung.samples) for rung in rungs] == [(4, 64), (4, 143), (4, 320)]


@pytest.mark.parametrize(
    ("ladder", "error", "message"),
    [
        ("samples", OptionError, r"there is no ladder 'samples'.*Did you mean 'samples-only'"),
        (3, OptionError, "ladder is 3, but must be a ladder, what makes one"),
        (frostline.Ladder.diagonal(num_layers=5, full_samples=320), LadderError, "ends at 5 layers.*is 4 layers"),
    ],
)
def test_what_is_no_ladder_of_the_objective_is_one_line(ladder: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as raised:
        tune(objective, ladder=ladder)
    assert "\n" not in str(raised.value)


def test_a_search_knows_layers_and_space_from_the_objective_alone() -> None:
    result = tune(objective, unit="points", configurations=None, budget=6, initial={"learning_rate": 0.01})
    assert result.study_name == "test_objective-objective"
    assert (result.terms.num_layers, result.terms.sample_unit) == (4, "points")
    assert result.own is not None
    assert result.own.score is not None
    assert result.score <= result.own.score
    assert [*result.configuration] == ["learning_rate"]
    assert len(result.history.configurations) > 6


def test_a_finished_search_trains_nothing_again_and_shows_what_it_found() -> None:
    there = tune(objective, storage="sqlite:///own.db")
    trained = []

    def watched(trial: frostline.Trial) -> float:
        score = objective(trial)
        trained.append(trial.number)
        return score

    watched.__qualname__ = objective.__qualname__
    again = tune(watched, storage="sqlite:///own.db", study=there.study_name)
    assert again.score == there.score
    assert not trained


def test_what_evaluates_can_be_pickled_whoever_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frostline.objectives.training._SECONDS_BETWEEN_REPORTS", 0.0)

    def elsewhere(workload: frostline.Workload) -> SerialExecutor:
        return SerialExecutor(pickle.loads(pickle.dumps(workload.evaluate)))

    told: list[Progress] = []
    score = tune(objective, study="here", observer=Watching(progressed=told.append)).score
    assert told
    told.clear()
    there = {"study": "there", "executor": elsewhere}
    assert tune(objective, **there, observer=Watching(progressed=told.append)).score == score
    assert not told
    # The usual view holds locks.
    assert tune(objective, **there).score == score


def test_the_score_is_that_of_a_loop_without_frostline() -> None:
    found = tune(objective, configurations=1, initial={"learning_rate": 0.1}, search=frostline.FullFidelity)
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(0, "initialisation"))
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(SAMPLES // len(POINTS)):
            for batch in LOADER:
                step(model, optimizer, batch)
        assert found.score == loss_of(model)
    assert found.best.cost.samples == SAMPLES


def test_the_layers_stand_in_the_order_in_which_they_run() -> None:
    class HeadFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Linear(8, 1)
            self.tower = nn.ModuleList(nn.Linear(n, 8) for n in (4, 8))

        def forward(self, points: Tensor) -> Tensor:
            for layer in self.tower:
                points = layer(points).tanh()
            return self.out(points)

    trained = []

    def own(trial: frostline.Trial) -> float:
        model = HeadFirst()
        freezing = trial.freeze(model)
        optimizer = torch.optim.SGD(trial.parameters, lr=trial.suggest_float("learning_rate", 1e-3, 1.0, log=True))
        for inputs, targets in trial.batches(LOADER):
            step(model, optimizer, (inputs, targets))
        trained.append([layer.name for layer in freezing.trained_layers])
        return loss_of(model)

    tune(own, ladder=frostline.Ladder.layers_only)
    assert ["out"] in trained
    assert ["tower.0", "tower.1", "out"] in trained
    assert look(own, samples=SAMPLES).layers is not None


def test_what_is_asked_for_under_a_condition_is_drawn_kept_and_shown() -> None:
    def own(trial: frostline.Trial) -> float:
        model = network()
        trial.freeze(model)
        kind = trial.suggest_categorical("optimizer", ["adam", "sgd"])
        rate = trial.suggest_float("learning_rate", 1e-3, 0.1, log=True)
        assert trial.suggest_float("learning_rate", 1e-3, 0.1, log=True) == rate
        if kind == "sgd":
            optimizer: Any = torch.optim.SGD(
                trial.parameters, lr=rate, momentum=trial.suggest_float("momentum", 0.0, 0.9)
            )
        else:
            optimizer = torch.optim.Adam(
                trial.parameters, lr=rate, betas=(trial.suggest_float("beta", 0.8, 0.9), 0.99)
            )
        assert trial.suggest_int("fixed", 3, 3) == 3
        for batch in trial.batches(LOADER):
            model(batch[0]).sum().backward()
            nn.utils.clip_grad_norm_(trial.parameters, trial.suggest_float("clip", 0.1, 10.0, log=True))
            step(model, optimizer, batch)
        return loss_of(model)

    found = tune(own, storage="sqlite:///own.db")
    assert set(look(own, samples=SAMPLES).space.distributions) == {"optimizer", "learning_rate", "beta", "clip"}
    shown = {
        frozenset(found.history.configuration_of(evaluation)): found.history.configuration_of(evaluation)[
            "optimizer"
        ]
        for evaluation in found.history.evaluations()
    }
    assert shown == {
        frozenset({"optimizer", "learning_rate", "momentum", "fixed", "clip"}): "sgd",
        frozenset({"optimizer", "learning_rate", "beta", "fixed", "clip"}): "adam",
    }
    # What is drawn on the way depends on the seed and the configuration alone: rungs and runs agree.
    of_rungs: dict[int, set[Any]] = {}
    for evaluation in found.history.evaluations():
        of_rungs.setdefault(evaluation.number, set()).add(evaluation.suggested.get("momentum"))
    assert all(len(values) == 1 for values in of_rungs.values())
    stored = read_study("sqlite:///own.db", found.study_name)
    of_both = [
        {e.request: (e.suggested, e.ranges) for e in each.history.evaluations()} for each in (stored, found)
    ]
    assert of_both[0] == of_both[1]
    # The ranges of what was drawn are those of the space; of what holds one value there is none.
    ranges = [ranges for suggested, ranges in of_both[0].values() if "momentum" in suggested]
    assert ranges == [{"momentum": FloatDistribution(0.0, 0.9)}] * len(ranges)
    assert ranges
    assert tune(own).configuration == found.configuration


# Checkpoints.


def two_rungs(*, num_layers: int, full_samples: int) -> frostline.Ladder:
    rungs = [(num_layers, full_samples // 2), (num_layers, full_samples)]
    return frostline.Ladder.explicit(rungs, num_layers=num_layers, full_samples=full_samples)


def keeping(trial: frostline.Trial, *, after: Callable[[frostline.Trial], None] = lambda _: None) -> float:
    model = network()
    trial.freeze(model)
    rate = trial.suggest_float("learning_rate", 1e-3, 1.0, log=True)
    optimizer = torch.optim.SGD(trial.parameters, lr=rate, momentum=0.9)
    # Of a full training: the first rung ends in the middle of it.
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, trial.full_samples // 8)
    parts: dict[str, Any] = {"model": model, "optimizer": optimizer, "schedule": schedule}
    if trial.resumed is not None:
        for name, part in parts.items():
            part.load_state_dict(trial.resumed[name])
    for batch in trial.batches(LOADER):
        # Dropout by hand: what is drawn on the way has to come back, too.
        step(model, optimizer, (batch[0] * (torch.rand(()) > 0.1), batch[1]))
        schedule.step()
        trial.report(loss_of(model))
        trial.checkpoint({name: each.state_dict() for name, each in parts.items()})
        after(trial)
    return loss_of(model)


def scores(result: frostline.TuneResult) -> dict[tuple[int, int], tuple[Any, ...]]:
    return {(e.number, e.rung): (e.score, e.curve) for e in result.history.evaluations()}


@pytest.fixture(params=[0.0, 10.0], ids=["written each time", "written at times"])
def seconds_between(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frostline.objectives.pending_checkpoint.SECONDS_BETWEEN_CHECKPOINTS", request.param)
    if not request.param:
        monkeypatch.setattr("frostline.objectives.pending_checkpoint._PAUSES_BETWEEN_WRITES", 0)


@pytest.mark.usefixtures("seconds_between")
def test_a_promoted_configuration_goes_on_to_the_bit() -> None:
    def without(trial: frostline.Trial) -> float:
        trial.checkpoint = lambda state: None  # type: ignore[method-assign]
        return keeping(trial)

    apart = tune(without, ladder=two_rungs, study="apart")
    resumed = tune(keeping, ladder=two_rungs, study="resumed")
    assert scores(resumed) == scores(apart)
    of_full = [e.cost.samples for e in resumed.history.evaluations() if e.rung == 1]
    assert set(of_full) == {SAMPLES // 2}
    assert {e.cost.samples for e in apart.history.evaluations() if e.rung == 1} == {SAMPLES}
    # Nothing is left of what will never be continued.
    assert not [*Path("frostline-runs").rglob("*.pt")]


def test_a_short_training_is_written_down_once_and_only_if_it_may_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    save = Checkpoints.save_newer

    def counted(self: Checkpoints, key: CheckpointKey, contents: dict[str, Any]) -> bool:
        written.append(key.rung)
        return save(self, key, contents)

    monkeypatch.setattr(Checkpoints, "save_newer", counted)
    history = tune(keeping, ladder=two_rungs).history
    assert len(history.rung(1).ranking) > 0
    assert written == [0] * history.rung(0).num_ended


@pytest.mark.usefixtures("seconds_between")
@pytest.mark.parametrize("runs", ["frostline-runs", "memory://objective"])
def test_a_search_that_was_stopped_in_a_rung_goes_on_from_the_last_checkpoint(runs: str) -> None:
    undisturbed = tune(keeping, ladder=two_rungs, study="undisturbed")
    num_steps = 0

    def stop(trial: frostline.Trial) -> None:
        nonlocal num_steps
        num_steps += 1
        if num_steps % 37 == 0:
            raise KeyboardInterrupt

    stopped = partial(keeping, after=stop)
    for _ in range(100):
        try:
            found = tune(stopped, ladder=two_rungs, study="stopped", storage="sqlite:///own.db", runs=runs)
            break
        except KeyboardInterrupt:
            continue
    assert scores(found) == scores(undisturbed)
    in_all = sum(evaluation.cost.samples for evaluation in undisturbed.history.evaluations()) // 8
    assert num_steps == in_all
    assert loss_of(found.load_model(network())) == found.score
    left = folder_at(runs).below("stopped")
    assert [name for part in left.folders() if part != "models" for name in left.below(part).names()] == []
    assert Path("frostline-runs/stopped").exists() == (runs == "frostline-runs")


@pytest.mark.usefixtures("seconds_between")
@pytest.mark.parametrize("place", ["every step", "every third step", "after the loop"])
def test_what_becomes_of_a_model_after_its_training_is_in_no_checkpoint(place: str) -> None:
    """Averaged or rounded weights are validated; training goes on with its own."""

    def rounding(trial: frostline.Trial, *, keeps: bool) -> float:
        model = network()
        trial.freeze(model)
        optimizer = torch.optim.SGD(trial.parameters, lr=trial.suggest_float("learning_rate", 1e-3, 1.0, log=True))
        if trial.resumed is not None:
            model.load_state_dict(trial.resumed["model"])
        for number, batch in enumerate(trial.batches(LOADER)):
            step(model, optimizer, batch)
            if keeps and (place == "every step" or (place == "every third step" and number % 3 == 0)):
                trial.checkpoint({"model": model.state_dict()})
        if keeps and place == "after the loop":
            trial.checkpoint({"model": model.state_dict()})
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(4).round_().div_(4)
        return loss_of(model)

    apart = tune(partial(rounding, keeps=False), ladder=two_rungs, study="apart")
    resumed = tune(partial(rounding, keeps=True), ladder=two_rungs, study="resumed")
    assert {key: score for key, (score, _) in scores(resumed).items()} == {
        key: score for key, (score, _) in scores(apart).items()
    }
    assert all(
        evaluation.cost.samples < SAMPLES for evaluation in resumed.history.evaluations() if evaluation.rung
    )


def test_copying_a_large_state_takes_little_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    num_copies = 0

    def slowly(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal num_copies
        num_copies += 1
        time.sleep(0.0005)
        return tensor.clone()

    monkeypatch.setattr("frostline.objectives.pending_checkpoint._copied", slowly)
    monkeypatch.setattr("frostline.objectives.pending_checkpoint._PAUSES_BETWEEN_COPIES", 1e6)
    tune(keeping, ladder=two_rungs, study="copying")
    num_trainings = len(tune(keeping, ladder=two_rungs, study="copying").trials)
    tensors = len(network().state_dict()) * 3
    # Of each rung's training one at most, and not one for each of its steps.
    assert 0 < num_copies <= 2 * num_trainings * tensors


def test_a_checkpoint_that_is_lost_is_made_again() -> None:
    undisturbed = tune(keeping, ladder=two_rungs, study="undisturbed")

    def lose(trial: frostline.Trial) -> None:
        if trial.samples == SAMPLES:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(partial(keeping, after=lose), ladder=two_rungs, study="lost", storage="sqlite:///own.db")
    files = [*Path("frostline-runs/lost").rglob("*.pt")]
    assert files
    for file in files:
        file.write_bytes(file.read_bytes()[:-100])
    found = tune(keeping, ladder=two_rungs, study="lost", storage="sqlite:///own.db")
    assert scores(found) == scores(undisturbed)


def test_the_best_model_is_kept_and_loaded() -> None:
    found = tune(keeping, ladder=two_rungs)
    assert loss_of(found.load_model(network())) == found.score
    assert len([*Path("frostline-runs").rglob("*.safetensors")]) == 1
    # The command line finds it, too, of a study that it could read.
    stored = read_study(found.place, found.study_name)
    place = StudyPlace(runs=LocalFolder(path=Path("frostline-runs")), name=stored.name, identity=stored.identity)
    models = KeptModels.in_folder(place.folder, data=stored.terms.data)
    assert found.weights == models.existing(found.history.configurations[found.best.number])


@pytest.mark.usefixtures("nothing_frozen")
def test_models_of_ended_trials_do_not_pile_up_and_those_that_are_kept_stay_as_they_are() -> None:
    alive: weakref.WeakSet[nn.Module] = weakref.WeakSet()
    kept: list[tuple[nn.Module, float, bool]] = []
    num_ended: list[int] = []

    def own(trial: frostline.Trial) -> float:
        num_ended.append(len(alive) - len(kept))
        model = network()
        alive.add(model)
        trial.freeze(model)
        optimizer = torch.optim.SGD(trial.parameters, lr=trial.suggest_float("learning_rate", 1e-3, 1.0, log=True))
        for batch in trial.batches(LOADER):
            step(model, optimizer, batch)
        score = loss_of(model)
        if trial.trainable_layers < 4 and trial.number % 3 == 0:
            kept.append((model, score, next(model.parameters()).requires_grad))
        return score

    gc.disable()
    try:
        tune(own)
    finally:
        gc.enable()
    assert kept
    assert set(num_ended) == {0}
    # Their calibrated statistics above all.
    assert all(loss_of(model) == score and not requires_grad for model, score, requires_grad in kept)


# Words of Optuna.


def test_an_optuna_study_brings_its_storage_its_sampler_and_its_direction() -> None:
    study = optuna.create_study(study_name="theirs", direction="maximize", sampler=optuna.samplers.TPESampler())
    found = tune(lambda trial: -objective(trial), study=study)
    assert (found.study_name, found.terms.direction, found.terms.sampler) == ("theirs", "maximize", TPE.name)
    assert study.best_value == found.score
    assert study.best_params == dict(found.configuration)
    for directions, sampler, words in (
        (["minimize", "maximize"], None, "has 2 directions"),
        (["minimize"], optuna.samplers.NSGAIISampler(), "sampler is a NSGAIISampler"),
    ):
        with pytest.raises(OptionError, match=words):
            tune(objective, study=optuna.create_study(directions=directions, sampler=sampler))


@pytest.mark.parametrize("by_name", [True, False])
def test_a_study_of_optunas_with_another_direction_is_refused(by_name: bool) -> None:
    study = optuna.create_study(study_name="theirs", storage="sqlite:///own.db", direction="maximize")
    options = (
        {"study": "theirs", "storage": "sqlite:///own.db"}
        if by_name
        else {"study": study, "direction": "minimize"}
    )
    with pytest.raises(
        StudyError, match="'theirs' is to maximize its value, and this search to minimize its score"
    ):
        tune(objective, **options)
    assert study.trials == []
    assert tune(objective, **options | {"direction": "maximize"}).score == study.best_value


def test_a_training_that_is_lost_may_stop_as_in_optuna() -> None:
    def own(trial: frostline.Trial) -> float:
        model = network()
        trial.freeze(model)
        optimizer = torch.optim.SGD(
            trial.parameters, lr=trial.suggest_float("learning_rate", 1e-3, 1e30, log=True)
        )
        for batch in trial.batches(LOADER):
            step(model, optimizer, batch)
            trial.report(loss_of(model), trial.samples_seen // SAMPLES)
            if trial.should_prune():
                raise optuna.TrialPruned
        return loss_of(model)

    found = tune(own)
    lost = [e for e in found.history.evaluations() if e.status is Status.DIVERGED]
    assert lost
    assert all(e.reason is not None and e.reason.startswith("the score after") for e in lost)


def test_names_of_studies() -> None:
    assert study_name_of(objective) == "test_objective-objective"
    assert study_name_of(partial(keeping, after=print)) == "test_objective-keeping"
    assert study_name_of(lambda trial: 0.0) == "test_objective-test_names_of_studies.locals.lambda"


# What is refused, before anything is trained or where it shows.


def never_freezes(trial: frostline.Trial) -> float:
    return trial.suggest_float("learning_rate", 1e-3, 1.0, log=True)


def asks_for_nothing(trial: frostline.Trial) -> float:
    model = network()
    trial.freeze(model)
    for batch in trial.batches(LOADER):
        step(model, torch.optim.SGD(trial.parameters, lr=0.1), batch)
    return loss_of(model)


def reports_too_soon(trial: frostline.Trial) -> float:
    model = network()
    trial.freeze(model)
    trial.report(loss_of(model))
    return objective(trial)


def freezes_two(trial: frostline.Trial) -> float:
    trial.freeze(network())
    trial.freeze(network())
    return 0.0


def yields(trial: frostline.Trial) -> Iterator[float]:
    yield objective(trial)


async def waits(trial: frostline.Trial) -> float:
    return objective(trial)


def trains_before_freezing(trial: frostline.Trial) -> float:
    return len(trial.parameters)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (never_freezes, "never froze a model"),
        (asks_for_nothing, "asks for no hyperparameter"),
        (freezes_two, "freezes two models"),
        (reports_too_soon, "trial.report came before any sample was trained on"),
        (yields, "the objective yields"),
        (waits, "the objective is an async function"),
        (trains_before_freezing, "call trial.freeze\\(model\\) before"),
        (lambda configuration, fidelity: 0.0, "called with a trial alone"),
        ("train", "give a function of a trial"),
    ],
)
def test_what_shows_before_training(wrong: Any, words: str) -> None:
    with pytest.raises(ObjectiveError, match=words):
        tune(wrong)


def test_other_words_of_optuna_are_named() -> None:
    with pytest.raises(AttributeError, match=r"a trial of frostline has no 'set_user_attr'.*suggest_float"):
        tune(lambda trial: trial.set_user_attr("epochs", 3))


def test_options_that_are_none() -> None:
    for samples in (0, -1, 1.5, True, int):
        with pytest.raises(OptionError, match="a full training takes a whole number"):
            tune(objective, samples=samples)
    with pytest.raises(SearchSpaceError, match="has no 'rate'"):
        tune(objective, initial={"rate": 0.1})
    for options, words in (
        ({"n_trials": 100}, "there is no option 'n_trials'.*Did you mean budget"),
        ({"configuration": 9}, "there is no option 'configuration'.*Did you mean configurations"),
        ({"executor": "ray"}, "executor is 'ray', but must be what makes one"),
        ({"storage": None}, "storage is None, but must be a database's URL"),
        ({"study": 3}, "the name of a study is 3"),
        ({"initial": [0.1]}, r"initial holds 0.1, but must be a configuration"),
        ({"unit": 3}, "the unit of samples is 3, but must be a word"),
        ({"unit": " "}, "the unit of samples is ' ', but must be a word"),
        ({"runs": 3}, "runs is 3, but must be a path, or a URL"),
        ({"observer": 3}, "observer is 3, but must be an observer, such as frostline.SILENT"),
        ({"ladder": int}, "ladder is <class 'int'>, but must be a ladder"),
    ):
        with pytest.raises(OptionError, match=words):
            tune(objective, **options)


def test_numbers_of_numpy_and_paths_are_taken() -> None:
    found = tune(objective, samples=np.int64(SAMPLES), storage=Path("journal.log"), configurations=9)
    assert found.terms.rungs[-1].samples == SAMPLES
    there = read_study("journal.log", found.study_name).history
    assert sorted(each.score for each in there.evaluations()) == sorted(
        e.score for e in found.history.evaluations()
    )


def test_an_error_of_the_users_own_comes_as_it_is() -> None:
    def broken(trial: frostline.Trial) -> float:
        trial.freeze(network())
        return {}["no such key"]

    with pytest.raises(KeyError, match="no such key"):
        tune(broken)


def test_nothing_is_trained_to_look() -> None:
    steps = []
    handle = register_optimizer_step_post_hook(lambda *_: steps.append(1))
    before = torch.get_rng_state()
    sketch = look(objective, samples=SAMPLES)
    assert torch.equal(before, torch.get_rng_state())

    def by_parts(trial: frostline.Trial) -> float:
        model = network()
        trial.freeze(model)
        optimizer = torch.optim.SGD(trial.parameters, lr=trial.suggest_float("learning_rate", 1e-3, 1.0))
        for inputs, _ in LOADER:
            hidden = inputs
            for part in model:
                hidden = part(hidden)
            hidden.sum().backward()
            optimizer.step()
        return loss_of(model)

    assert look(by_parts, samples=SAMPLES).layers is None

    def by_hand(trial: frostline.Trial, *, updated: Callable[[nn.Parameter], Tensor]) -> float:
        model = network()
        trial.freeze(model)
        rate = trial.suggest_float("learning_rate", 1e-3, 1.0)
        for number, (inputs, _) in enumerate(trial.batches(LOADER), start=1):
            model(inputs).sum().backward()
            with torch.no_grad():
                for parameter in trial.parameters:
                    updated(parameter).sub_(rate * parameter.grad)
            num_batches.append(number)
        return 0.0

    num_batches: list[int] = []
    look(partial(by_hand, updated=lambda parameter: parameter), samples=SAMPLES)
    look(partial(by_hand, updated=lambda parameter: parameter.data), samples=SAMPLES)
    assert num_batches == [1, 1]
    handle.remove()
    assert not steps
    assert (sketch.num_layers, [*sketch.space.distributions]) == (4, ["learning_rate"])


@pytest.mark.parametrize("gathered", [1, 3])
def test_a_look_goes_on_while_gradients_are_gathered(gathered: int) -> None:
    def own(trial: frostline.Trial) -> float:
        model = network()
        trial.freeze(model)
        optimizer = torch.optim.SGD(trial.parameters, lr=trial.suggest_float("learning_rate", 1e-3, 1.0))
        for number, (inputs, _) in enumerate(trial.batches(LOADER), start=1):
            model(inputs).sum().backward()
            if number % gathered == 0:
                nn.utils.clip_grad_norm_(trial.parameters, trial.suggest_float("clip", 0.1, 10.0))
                optimizer.step()
        return 0.0

    assert {*look(own, samples=SAMPLES).space.distributions} == {"learning_rate", "clip"}


def test_models_that_are_called_as_functions_of_their_parameters() -> None:
    def own(trial: frostline.Trial, **options: Any) -> float:
        model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1))
        trial.freeze(model, **options)
        rate = trial.suggest_float("learning_rate", 1e-3, 1.0, log=True)
        values = {name: each.detach() for name, each in model.named_parameters() if each.requires_grad}

        def loss(values: dict[str, Tensor], batch: tuple[Tensor, Tensor]) -> Tensor:
            called = torch.func.functional_call(model, values, (batch[0],))
            return nn.functional.mse_loss(called, batch[1])

        for batch in trial.batches(LOADER):
            gradients = torch.func.grad(loss)(values, batch)
            values = {name: value - rate * gradients[name] for name, value in values.items()}
        model.load_state_dict(values, strict=False)
        return loss_of(model)

    scores = [tune(partial(own, **options)).score for options in ({}, {"example_inputs": POINTS})]
    assert scores[0] == scores[1]


def failure_of(own: Callable[[frostline.Trial], Any]) -> str:
    """Return what ended the search of ``own``."""
    with pytest.raises(ObjectiveError) as raised:
        tune(own)
    return str(raised.value)


def test_what_shows_in_training() -> None:
    def ends_early(trial: frostline.Trial) -> float:
        model = network()
        trial.freeze(model)
        trial.suggest_float("learning_rate", 1e-3, 1.0)
        for inputs, _ in trial.batches(LOADER):
            model(inputs)
            break
        return 0.0

    def own_loop(trial: frostline.Trial, *, reads: bool) -> float:
        model = network()
        trial.freeze(model)
        trial.suggest_float("learning_rate", 1e-3, 1.0)
        # What a full training takes says nothing of how long this rung is.
        model(POINTS[: trial.samples if reads else trial.full_samples])
        return 0.0

    def returns_nothing(trial: frostline.Trial) -> None:
        objective(trial)

    def grows(trial: frostline.Trial) -> float:
        depth = trial.suggest_int("depth", 1, 3)
        model = nn.Sequential(*(nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(depth)), nn.Linear(4, 1))
        trial.freeze(model)
        model(POINTS[: trial.samples])
        return 0.0

    shared = network()

    def reuses(trial: frostline.Trial) -> float:
        trial.suggest_float("learning_rate", 1e-3, 1.0)
        trial.freeze(shared)
        shared(POINTS)
        return 0.0

    def prunes(trial: frostline.Trial) -> float:
        objective(trial)
        raise optuna.TrialPruned

    assert "ended after 8 of the" in failure_of(ends_early)
    assert "never asked how much to train on" in failure_of(partial(own_loop, reads=False))
    assert "returned None: return the validation score" in failure_of(returns_nothing)
    assert "but one of 3 before" in failure_of(grows)
    assert "build it inside the objective" in failure_of(reuses)
    assert "though trial.should_prune() says no" in failure_of(prunes)
    assert tune(partial(own_loop, reads=True)).score == 0.0


def test_batches_of_any_kind() -> None:
    def own(trial: frostline.Trial, loader: Any, **options: Any) -> float:
        model = network()
        trial.freeze(model)
        trial.suggest_float("learning_rate", 1e-3, 1.0)
        counts.append(
            [len(batch["x"]) for batch in trial.batches(loader, **options) if model(batch["x"]) is not None]
        )
        assert [*trial.batches(loader)] == []
        return 0.0

    counts: list[list[int]] = []
    batches = [{"x": POINTS[:30]}, {"x": POINTS[30:50]}]
    options: dict[str, Any] = {"configurations": 1, "search": frostline.FullFidelity}
    tune(partial(own, loader=batches), samples=100, **options)
    tune(partial(own, loader=batches), samples=10, study="little", **options)
    tune(
        partial(own, loader=batches, num_samples=lambda batch: batch["x"].numel()),
        samples=480,
        study="numbers",
        **options,
    )
    assert counts[-3:] == [[30, 20, 30, 20], [30], [30, 20, 30, 20][:4]]
    for loader in ([], iter(batches)):
        assert "holds no batches, or can be gone through only once" in failure_of(partial(own, loader=loader))


@pytest.mark.parametrize(
    ("others", "is_refused"),
    [
        pytest.param(lambda: LOADER, False, id="the same"),
        pytest.param(lambda: DataLoader(LOADER.dataset, 8, shuffle=True), False, id="made anew"),
        pytest.param(lambda: DataLoader(LOADER.dataset, 8), True, id="another order"),
        pytest.param(lambda: DataLoader(LOADER.dataset, 16, shuffle=True), True, id="another size"),
        pytest.param(lambda: DataLoader(TensorDataset(-POINTS, TARGETS), 8, shuffle=True), True, id="other data"),
        pytest.param(lambda: [(POINTS, TARGETS)], True, id="a list"),
        pytest.param(
            lambda: DataLoader(LOADER.dataset, 8, sampler=SubsetRandomSampler(range(64))), True, id="a choice"
        ),
    ],
)
def test_batches_of_a_second_loader_are_its_own_or_refused(others: Callable[[], Any], is_refused: bool) -> None:
    drawn: list[int] = []

    def own(trial: frostline.Trial) -> float:
        model = network()
        trial.freeze(model)
        trial.suggest_float("learning_rate", 1e-3, 1.0)
        for number, (inputs, _) in enumerate(trial.batches(LOADER), start=1):
            model(inputs)
            if number == 3:
                break
        second = others()
        batches = trial.batches(second)
        next(batches)
        if trial.trains:
            drawn.append(sum(1 for _ in batches))
        return 0.0

    if is_refused:
        error = failure_of(own)
        assert "was given a second loader" in error
        assert "\n" not in error
    else:
        tune(own, configurations=1, search=frostline.FullFidelity)
        assert drawn == [SAMPLES // 8 - 4]


def test_whoever_leaves_the_loop_and_comes_back_goes_on_from_where_the_generators_are() -> None:
    orders: list[list[Tensor]] = []

    def own(trial: frostline.Trial) -> float:
        model = network()
        trial.freeze(model)
        trial.suggest_float("learning_rate", 1e-3, 1.0)
        orders.append([])
        while trial.samples_seen < trial.samples:
            for inputs, _ in trial.batches(LOADER):
                model(inputs)
                orders[-1].append(inputs)
                trial.checkpoint({})
                if len(orders[-1]) % 8 == 0:
                    break
        return 0.0

    tune(own, configurations=3, ladder=two_rungs)
    resumed = orders[-1]
    assert len(resumed) == SAMPLES // 2 // 8
    assert not torch.equal(torch.stack(resumed[:8]), torch.stack(resumed[8:16]))


def test_it_is_said_what_is_frozen(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="frostline"):
        tune(objective, configurations=1, search=frostline.FullFidelity)
    assert (
        "Sequential: the last 4 of 4 layers are trained, from 0.0 ... 0.1 on, in the order of the layers given"
        in caplog.text
    )
