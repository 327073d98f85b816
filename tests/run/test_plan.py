"""What a plan takes: searches and samplings as objects, or by the names that they have on the command line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import FloatDistribution

from frostline.errors import OptionError, SearchSpaceError
from frostline.run.execution.options import TrainingOptions
from frostline.run.loop import SILENT
from frostline.run.plan import SearchPlan
from frostline.run.tuning import search_function, tune_task
from frostline.search.algorithms.halving import SuccessiveHalving
from frostline.search.algorithms.hyperband import Hyperband
from frostline.search.algorithms.sweep import FullFidelity
from frostline.search.ladder import Ladder
from frostline.search.proposals import sampling
from frostline.search.spaces.space import SearchSpace, space_of
from tests import tiny_task

LADDER = Ladder.diagonal(num_layers=4, full_samples=400)
SPACE = {"rate": FloatDistribution(1e-3, 1.0, log=True)}


def test_searches_and_samplings_have_names() -> None:
    assert SearchPlan(search="halving").search is SuccessiveHalving
    assert SearchPlan(search="halving").is_budgeted
    assert SearchPlan(search="hyperband", configurations=30).search_on(LADDER) == Hyperband(
        ladder=LADDER, configurations=30
    )
    assert isinstance(SearchPlan(search="full").search_on(LADDER), FullFidelity)
    assert SearchPlan(sampling="tpe").sampler == sampling.TPE
    assert SearchPlan(sampling="tpe").learns


def test_the_search_of_a_task_takes_a_plan_or_its_fields() -> None:
    options = {"storage": ":memory:", "observer": SILENT}
    result = tune_task(tiny_task.task, plan=SearchPlan(configurations=20, seed=3), configurations=9, **options)
    assert result.study_name == tiny_task.task.name
    assert len(result.study.trials) == 9
    whole = tune_task(tiny_task.task, study="s", plan=SearchPlan(configurations=9, seed=3), **options)
    assert result.configuration == whole.configuration


def test_a_study_that_was_begun_with_another_configuration_of_ones_own_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for rate in (1e-3, 1e-3, 1e-2):
        tune_task(
            tiny_task.task,
            configurations=9,
            initial={"learning_rate": rate, "optimizer": "Adam"},
            storage=f"{tmp_path}/s.log",
            observer=SILENT,
        )
    [record] = [each for each in caplog.records if each.name == "frostline.run.tuning"]
    assert "configuration 0 of the study is {'learning_rate': 0.001" in record.getMessage()
    assert "and not {'learning_rate': 0.01" in record.getMessage()


def test_a_configuration_of_ones_own_that_lies_outside_the_space_is_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    task = replace(tiny_task.task, defaults={"learning_rate": 1.0, "optimizer": "Adam"})
    options = TrainingOptions(runs=tmp_path)
    assert tune_task(task, budget=2, storage=":memory:", training=options, observer=SILENT).own is None
    assert (
        "the task's own configuration takes no part: learning_rate is 1.0, but the search space allows"
        in caplog.text
    )


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "search": (
        {"search": "hyperbond"},
        "there is no search 'hyperbond': choose one of .*Did you mean 'hyperband'",
    ),
    "no search": ({"search": 3}, "search is 3, but must be a name or a class of searches"),
    "sampler": ({"sampling": "tpee"}, "there is no sampler 'tpee'"),
    "no sampling": ({"sampling": SPACE}, "sampling is .*, but must be a name or a sampling, such as frostline"),
    "grid": ({"sampling": "grid"}, "pass frostline.sampling.grid"),
    "budget": ({"budget": [3]}, r"budget is \[3\], but must be a number of full trainings, such as 6, or a time"),
    "budget that is yes": ({"budget": True}, "budget is True, but must be a number"),
    "initial": ({"initial": [None]}, "initial holds None, but must be a configuration, such as {'learning_rate'"),
    "initial that is text": ({"initial": "x"}, "initial holds 'x', but must be a configuration"),
    "initial that is a number": ({"initial": 3}, "initial holds 3, but must be a configuration"),
    "against": (
        {"against": "byte"},
        "against is 'byte', but must be one of bytes, flops, seconds. Did you mean bytes",
    ),
    "against by CMA-ES": (
        {"against": "bytes", "sampling": "cmaes"},
        "the sampler cma-es knows one score: leave out",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_none_is_named(case: str) -> None:
    keywords, words = WRONG[case]
    with pytest.raises(OptionError, match=words):
        SearchPlan(**keywords)


def test_configurations_of_ones_own_may_come_from_a_generator() -> None:
    plan = SearchPlan(initial=({"rate": rate} for rate in (1e-3, 1e-2)))  # type: ignore[arg-type]
    assert plan.first == plan.first == ({"rate": 1e-3}, {"rate": 1e-2})


def test_a_mapping_of_names_to_distributions_is_a_space() -> None:
    assert space_of(SPACE).distributions == SPACE
    assert space_of(SearchSpace(distributions=SPACE)).distributions == SPACE
    with pytest.raises(SearchSpaceError, match="SearchSpace, or a mapping of names"):
        space_of({"rate": (1e-3, 1.0)})  # type: ignore[dict-item]
    plan = SearchPlan(configurations=17, search="hyperband", sampling="qmc")
    result = search_function(
        lambda c, _: float(c["rate"]), SPACE, LADDER, study="s", storage=":memory:", plan=plan
    )
    assert result.terms.search.startswith("hyperband")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"task": "digits-mlp"}, "task is 'digits-mlp', but must be a task, such as"),
        ({"task": None}, "task is None, but must be a task, such as"),
        ({"plan": 3}, "plan is 3, but must be a plan, such as"),
        ({"training": "cpu"}, "training is 'cpu', but must be options, such as"),
        ({"ladder": int}, "ladder is <class 'int'>, but must be a ladder"),
        ({"observer": True}, "observer is True, but must be an observer, such as"),
        ({"observer": type(SILENT)}, "observer is <class .*, but must be an observer, such as"),
    ],
)
def test_arguments_of_another_kind_are_refused_in_one_line(arguments: dict[str, Any], words: str) -> None:
    given = {"task": tiny_task.task, "storage": ":memory:", **arguments}
    with pytest.raises(OptionError, match=words) as refused:
        tune_task(**given)
    assert "\n" not in f"{refused.value}"


class HandedOn:
    """A task that hands on to another one whatever it is asked for."""

    def __init__(self, task: Any) -> None:
        self._task = task

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)


def test_a_task_may_be_one_that_hands_on_to_another() -> None:
    task: Any = HandedOn(tiny_task.task)
    result = tune_task(task, configurations=9, storage=":memory:", observer=SILENT)
    assert result.score == tune_task(tiny_task.task, configurations=9, storage=":memory:", observer=SILENT).score
