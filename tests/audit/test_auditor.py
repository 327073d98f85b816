"""Audits of a real, tiny task: what they train, what they find again, and what a search takes over from them."""

from __future__ import annotations

import dataclasses
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from optuna.distributions import FloatDistribution

from frostline.audit.audited_search import alignment_of_audit, search_of_audit, small_audit
from frostline.audit.auditor import AuditPlan, audit_task, predicted_costs
from frostline.audit.csv_table import read_table, write_table
from frostline.audit.reuse import AuditedEvaluations
from frostline.audit.stored_landscape import landscape_of, read_aligned, repeat_study
from frostline.costs.predicted.prediction import predict_step
from frostline.errors import AlignmentError, AuditError, OptionError, StudyError
from frostline.records import Configuration, Cost, Evaluation, Fidelity, Job, Status
from frostline.run.execution.executors import RememberingExecutor
from frostline.run.execution.options import TrainingOptions
from frostline.run.execution.simulated import SimulatedExecutor
from frostline.run.plan import SearchPlan
from frostline.run.single_training import train_task
from frostline.run.task_search import TaskSearch
from frostline.run.tuning import search_task
from frostline.search.algorithms.halving import SuccessiveHalving
from frostline.search.alignment import Alignment
from frostline.search.ladder import Ladder
from frostline.search.spaces.space import SearchSpace
from frostline.store.backends.storage import MEMORY
from frostline.store.reading import read_study
from tests.executing import Watching
from tests.tiny_task import make

LAYERS = (1, 3, 6)
CPU = TrainingOptions(device="cpu")


def plan_of(task, **changes) -> AuditPlan:
    return AuditPlan.of(task, **{"configurations": 6, "layers": LAYERS, "budgets": 4, "repeats": 5, **changes})


def options(tmp_path: Path, **changes) -> TrainingOptions:
    return TrainingOptions(**{"device": "cpu", "runs": tmp_path / "runs", **changes})


def training(tmp_path: Path, *, horizon: str = "full", **changes) -> TaskSearch:
    return TaskSearch(**{"options": options(tmp_path, horizon=horizon), **changes})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory):
    folder, task = tmp_path_factory.mktemp("audit"), make()
    storage = f"sqlite:///{folder}/audit.db"
    landscape = audit_task(task, plan_of(task), study="audit", storage=storage, training=training(folder))
    return task, folder / "audit.db", landscape


@pytest.fixture
def audited(made, tmp_path: Path):
    """An audit in a storage of this test's own."""
    task, database, landscape = made
    copied = shutil.copy(database, tmp_path / "audit.db")
    return task, f"sqlite:///{copied}", landscape


def test_every_cell_is_what_training_to_it_alone_gives(audited) -> None:
    task, _, landscape = audited
    assert (landscape.layers, landscape.samples) == (LAYERS, (256, 512, 768, 1024))
    assert landscape.num_configurations == 6
    alone = partial(
        search_task,
        task,
        study="alone",
        storage=MEMORY,
        training=TaskSearch(options=TrainingOptions(device="cpu", horizon="full", engine="serial")),
        plan=SearchPlan(initial=[dict(landscape.configurations[4].hyperparameters)]),
    )
    ladder = Ladder.explicit([(3, 512), (6, 1024)], num_layers=6, full_samples=1024)
    found = alone(SuccessiveHalving(ladder=ladder, configurations=3))
    assert found.history.evaluation(0, 0).score == landscape.scores[4, 1, 1]


def test_costs_rise_along_both_axes_and_flops_and_bytes_are_those_of_prediction(audited) -> None:
    task, _, landscape = audited
    assert (np.diff(landscape.seconds, axis=2) > 0).all()
    step = predict_step(task, trainable_layers=3)
    assert landscape.flops[2, 1, 3] == pytest.approx(step.flops / 32 * 1024)
    assert landscape.peak_bytes[2, 1, 3] == step.memory.peak


def test_full_trainings_are_repeated_under_another_seed_for_a_spread_of_the_ranking(audited) -> None:
    task, storage, landscape = audited
    assert landscape.repeats.shape == (1, 6)
    repeated = ~np.isnan(landscape.repeats[0])
    assert repeated.sum() == 5
    ranking = np.argsort(landscape.full_losses)
    assert repeated[ranking[0]]
    assert repeated[ranking[-1]]
    index = ranking[0]
    again, _ = train_task(task, landscape.configurations[index].hyperparameters, seed=1, options=CPU)
    assert landscape.repeats[0, index] == pytest.approx(again.score)
    assert read_study(storage, repeat_study("audit", 1)).terms.seed == 1


def test_an_audit_goes_on_where_it_was_and_may_grow(audited, tmp_path: Path) -> None:
    task, storage, landscape = audited
    audit = partial(audit_task, task, study="audit", storage=storage, training=training(tmp_path))
    trained: list[Evaluation] = []

    seen = Watching(trained.append)
    same = audit(plan_of(task), observer=seen)
    assert trained == []
    assert np.array_equal(same.scores, landscape.scores)
    grown = audit(plan_of(task, configurations=8, repeats=7), observer=seen)
    assert {evaluation.number for evaluation in trained} == {6, 7}
    assert np.array_equal(grown.scores[:6], landscape.scores)
    assert (~np.isnan(grown.repeats)).sum() == 7
    assert (~np.isnan(grown.repeats[0, :6]))[~np.isnan(landscape.repeats[0])].all()


def test_audits_in_memory_and_without_repeats(tmp_path: Path) -> None:
    task = make()
    plan = plan_of(task, repeats=0)
    landscape = audit_task(task, plan, study="audit", storage=MEMORY, training=training(tmp_path))
    assert landscape.repeats.shape == (0, 6)
    assert not np.isnan(landscape.flops).any()


def test_under_the_horizon_of_the_rung_every_cell_is_a_training_of_its_own(tmp_path: Path) -> None:
    task = make()
    plan = plan_of(task, horizon="rung", budgets=2, layers=(3, 6), repeats=0, configurations=5)
    assert plan.trainings() == 20
    landscape = audit_task(task, plan, study="audit", storage=MEMORY, training=training(tmp_path))
    assert landscape.scores.shape == (5, 2, 2)
    values = landscape.configurations[2].hyperparameters
    alone, _ = train_task(task, values, fidelity=Fidelity(trainable_layers=3, samples=512), options=CPU)
    assert landscape.scores[2, 0, 0] == pytest.approx(alone.score)


def test_a_plan_says_what_its_cells_would_cost_one_by_one() -> None:
    plan = AuditPlan(configurations=10, layers=(1, 2, 4), samples=(50, 100), repeats=0)
    # (4 + 2z) / 12 of a full training for each z, at half and at all samples.
    assert plan.one_by_one() == pytest.approx(10 * (6 + 8 + 12) / 12 * 1.5)
    assert plan.trainings() == 30


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"configurations": 4}, "4 configurations were asked for, but a rank correlation over fewer than 5"),
        ({"layers": (0, 3)}, "layers are 0, 3, 6, but tiny has 6 layers"),
        ({"layers": (7,)}, "layers are 6, 7, but tiny has 6 layers"),
        ({"budgets": 0}, "budgets is 0"),
        ({"budgets": 1025}, "budgets is 1025, but must be at least 1, and at most 1000 and the 1,024"),
        ({"repeats": -1}, "repeats is -1"),
        (
            {"layers": (6,), "budgets": 1},
            "the only cell, all 6 layers on all 1,024 samples, is full training itself",
        ),
    ],
)
def test_plans_that_could_say_nothing_are_refused(changes, words: str) -> None:
    with pytest.raises(AuditError, match=words):
        plan_of(make(), **changes)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"task": None}, "task is None, but must be a task, such as"),
        ({"audit": 3}, "audit is 3, but must be a plan, such as"),
        ({"plan": 3}, "plan is 3, but must be a plan, such as"),
        (
            {"training": TrainingOptions()},
            r"training is TrainingOptions.*, but must be a search of a task, such as",
        ),
        ({"study": 3}, "the name of a study is 3, but must be text"),
        ({"storage": None}, "storage is None, but must be a database's URL"),
        ({"executor": None}, "executor is None, but must be what makes one"),
        ({"observer": 3}, "observer is 3, but must be an observer, such as"),
    ],
)
def test_arguments_of_another_kind_are_refused_in_one_line(arguments, words: str) -> None:
    plan = AuditPlan(configurations=5, layers=(1, 6), samples=(256, 1024))
    with pytest.raises(OptionError, match=words):
        audit_task(**{"task": make(), "audit": plan, "study": "s", "storage": MEMORY, **arguments})


def test_a_small_audit_trains_few_numbers_of_layers() -> None:
    plan = small_audit(make())
    assert plan.layers == (1, 3, 6)
    assert plan.configurations == 12


def test_a_search_study_is_no_landscape(tmp_path: Path) -> None:
    task = make()
    ladder = Ladder.diagonal(num_layers=6, full_samples=1024)
    found = search_task(
        task,
        SuccessiveHalving(ladder=ladder, configurations=9),
        study="search",
        storage=MEMORY,
        training=training(tmp_path, horizon="rung"),
    )
    with pytest.raises(AuditError, match="its survivors alone were trained further"):
        landscape_of(found.terms, found.history, task.space)


def test_a_search_on_an_audit_makes_none_of_its_evaluations_again(audited, tmp_path: Path) -> None:
    task, storage, landscape = audited
    search = search_of_audit(task, storage=storage, study="audit", options=options(tmp_path), seed=0)
    assert (search.num_known, search.configurations, search.horizon) == (6, 33, "full")
    answered = dict.fromkeys(range(6), 0)

    def known(job: Job) -> Evaluation | None:
        evaluation = search.known(job)
        if evaluation is not None:
            answered[job.configuration.number] += 1
        return evaluation

    found = search_task(
        task,
        search.watched(ladder=search.ladder, configurations=search.configurations),
        study="search",
        storage=storage,
        plan=SearchPlan(initial=search.initial),
        training=training(tmp_path, known=known),
    )
    evaluations = list(found.history.evaluations())
    assert sum(answered.values()) == sum(evaluation.number < 6 for evaluation in evaluations)
    z = landscape.layers.index(search.ladder.rungs[0].trainable_layers)
    s = landscape.samples.index(search.ladder.rungs[0].samples)
    for number in range(6):
        assert found.history.evaluation(number, 0).score == landscape.scores[number, z, s]


def test_an_audit_and_the_searches_on_it_keep_its_statistics(tmp_path: Path) -> None:
    task, storage = make(), f"sqlite:///{tmp_path}/audit.db"
    plan = plan_of(task, configurations=5)
    before = training(tmp_path, options=options(tmp_path, statistics="running"))
    audit_task(task, plan, study="before", storage=storage, training=before)
    # Made on by a version that measures.
    audit_task(task, plan_of(task), study="before", storage=storage, training=training(tmp_path))
    assert read_study(storage, "before").terms.training.statistics == "running"
    found = partial(search_of_audit, task, storage=storage, options=options(tmp_path), seed=0)
    assert found(study="before").statistics == "running"
    audit_task(task, plan, study="now", storage=storage, training=training(tmp_path))
    assert found(study="now").statistics == "batches"


def test_under_another_seed_or_precision_nothing_is_known(audited, tmp_path: Path) -> None:
    task, storage, _ = audited
    find = partial(search_of_audit, task, storage=storage, study="audit")
    assert find(options=options(tmp_path), seed=1).num_known == 0
    assert find(options=options(tmp_path, precision="bfloat16"), seed=0).num_known == 0
    assert find(options=options(tmp_path), seed=0, configurations=4).num_known == 4


def test_an_audit_of_another_task_or_space_is_refused(audited, tmp_path: Path) -> None:
    _, storage, _ = audited
    with pytest.raises(StudyError, match="the audit 'audit' is of another task than this search"):
        search_of_audit(make(size=128), storage=storage, study="audit", options=options(tmp_path), seed=0)


def test_a_continued_rung_costs_the_rest_of_the_way(audited) -> None:
    _, storage, landscape = audited
    audit = read_study(storage, "audit")
    known = AuditedEvaluations(audit.terms, audit.history)
    lower, upper = (Fidelity(trainable_layers=3, samples=samples) for samples in (256, 768))
    job = Job(configuration=landscape.configurations[0], rung=1, fidelity=upper, continued_from=(lower,))
    evaluation = known(job)
    assert evaluation.cost.samples == 512
    assert evaluation.cost.seconds == pytest.approx(landscape.seconds[0, 1, 2] - landscape.seconds[0, 1, 0])
    assert evaluation.score == landscape.scores[0, 1, 2]
    assert [point.samples for point in evaluation.curve] == [256, 512, 768]
    between = Fidelity(trainable_layers=3, samples=300)
    assert known(Job(configuration=landscape.configurations[0], rung=0, fidelity=between)) is None
    strange = Configuration(number=0, hyperparameters={"learning_rate": 1e-2, "optimizer": "SGD"})
    assert known(Job(configuration=strange, rung=0, fidelity=upper)) is None


def test_what_is_known_is_answered_and_the_rest_handed_on() -> None:
    jobs = [
        Job(
            configuration=Configuration(number=number, hyperparameters={}),
            rung=0,
            fidelity=Fidelity(trainable_layers=1, samples=1),
        )
        for number in range(4)
    ]

    def ended(job: Job, score: float) -> Evaluation:
        return Evaluation(
            number=job.configuration.number,
            rung=0,
            fidelity=job.fidelity,
            status=Status.FINISHED,
            score=score,
            cost=Cost(seconds=1.0, samples=1),
        )

    handed_on: list[int] = []

    def rest(job: Job) -> Evaluation:
        handed_on.append(job.configuration.number)
        return ended(job, 2.0)

    executor = RememberingExecutor(
        known=lambda job: ended(job, 1.0) if job.configuration.number % 2 == 0 else None,
        executor=SimulatedExecutor(rest, workers=4),
    )
    assert executor.room() == 4
    executor.submit(jobs)
    # Two are with the workers, and two are answered but not told yet.
    assert executor.room() == 0
    assert handed_on == [1, 3]
    evaluations = [executor.next_ended() for _ in jobs]
    assert [(e.number, e.score) for e in evaluations] == [(0, 1.0), (2, 1.0), (1, 2.0), (3, 2.0)]
    assert executor.room() == 4


def test_flops_that_cannot_be_told_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    class NeedsValues(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(4, 2)

        def forward(self, x):
            return self.linear(x) if x.sum().item() > -1e9 else x

    task = make()
    assert set(predicted_costs(task, [1, 6])) == {1, 6}
    opaque = dataclasses.replace(task, model=lambda _: torch.nn.Sequential(NeedsValues(), torch.nn.Linear(2, 2)))
    assert predicted_costs(opaque, [1, 2]) == {}


def test_an_audit_under_an_alignment_trains_what_it_changes_and_takes_the_rest_from_its_base(
    audited, tmp_path
) -> None:
    task, storage, landscape = audited
    alignment = Alignment(factors={1: {"learning_rate": 10.0}})
    plan = plan_of(task, layers=(1, 3), base="audit")
    seen: list[Evaluation] = []
    found = audit_task(
        task,
        plan,
        study="audit, aligned",
        storage=storage,
        training=training(tmp_path, alignment=alignment),
        observer=Watching(seen.append),
    )
    assert found.alignment == alignment
    assert found.layers == (1, 3, 6)
    assert found.configurations == landscape.configurations
    assert np.array_equal(found.scores[:, 1:], landscape.scores[:, 1:])
    assert np.array_equal(found.repeats, landscape.repeats, equal_nan=True)
    assert (found.scores[:, 0] != landscape.scores[:, 0]).any()
    own = landscape.configurations[2]
    expected, _ = train_task(
        task,
        {**own, "learning_rate": 10 * own["learning_rate"]},
        fidelity=Fidelity(trainable_layers=1, samples=1024),
        options=CPU,
    )
    assert found.scores[2, 0, -1] == pytest.approx(expected.score, rel=1e-4)
    changed = [one for one in seen if one.trained_with]
    assert {one.fidelity.trainable_layers for one in changed} == {1}
    assert [dict(one.trained_with) for one in changed if one.number == 2] == [
        {"learning_rate": 10 * own["learning_rate"]}
    ]
    (again,) = read_aligned(storage, "audit")
    assert np.array_equal(again.scores, found.scores)
    assert again.alignment == alignment
    # What Optuna keeps is the configuration at full fidelity; what was trained is beside it.
    history = read_study(storage, "audit, aligned").history
    assert dict(history.configurations[2]) == dict(own)
    assert history.evaluation(2, 0).trained_with == {"learning_rate": 10 * own["learning_rate"]}
    write_table(found, tmp_path / "aligned.csv")
    assert read_table(tmp_path / "aligned.csv").alignment == alignment


def test_a_search_on_the_ladder_of_an_aligned_audit_is_aligned_and_nothing_is_trained_twice(
    audited, tmp_path
) -> None:
    task, storage, _ = audited
    alignment = Alignment(factors={1: {"learning_rate": 10.0}})
    audit_task(
        task,
        plan_of(task, layers=(1,), base="audit"),
        study="aligned",
        storage=storage,
        training=training(tmp_path, alignment=alignment),
    )
    audited_search = search_of_audit(task, storage=storage, study="aligned", options=options(tmp_path), seed=0)
    assert audited_search.alignment == alignment
    configuration = Configuration(number=0, hyperparameters=dict(audited_search.initial[0]))
    fidelity = Fidelity(trainable_layers=1, samples=512)
    aligned, plain = (
        audited_search.known(Job(configuration=trained, rung=0, fidelity=fidelity))
        for trained in (alignment.aligned(configuration, fidelity), configuration)
    )
    assert aligned is not None
    assert plain is None


def test_an_alignment_that_does_not_fit_is_refused(audited, tmp_path) -> None:
    task, storage, _ = audited
    audit = partial(audit_task, task, study="wrong", storage=storage)
    wrong = Alignment(factors={6: {"learning_rate": 10.0}})
    with pytest.raises(AlignmentError, match="trainings of 6 layers"):
        audit(plan_of(task, base="audit"), training=training(tmp_path, alignment=wrong))
    with pytest.raises(
        AuditError, match=r"no audit 'none' whose configurations.*make it first with `frostline audit tiny`"
    ):
        audit(plan_of(task, base="none"), training=training(tmp_path))
    with pytest.raises(AuditError, match="another seed than this one \\(0 and 3\\)"):
        audit(plan_of(task, base="audit"), plan=SearchPlan(seed=3), training=training(tmp_path))


def test_an_audit_says_how_to_align_a_ladder(audited) -> None:
    task, storage, _ = audited
    ladder = Ladder.explicit([(1, 512), (6, 1024)], num_layers=6, full_samples=1024)
    # Six configurations are too few to be sure of anything.
    assert alignment_of_audit(task, ladder, storage=storage, study="audit").is_identity
    other = make(size=128)
    assert alignment_of_audit(other, ladder, storage=storage, study="audit").is_identity
    narrow = SearchSpace(distributions={"learning_rate": FloatDistribution(1e-3, 1e-2, log=True)})
    narrowed = dataclasses.replace(task, space=narrow, defaults={"learning_rate": 2e-3})
    with pytest.raises(StudyError, match="another space or model"):
        alignment_of_audit(narrowed, ladder, storage=storage, study="audit")
