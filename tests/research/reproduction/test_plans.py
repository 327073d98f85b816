"""Every figure has a plan at every scale, and the original setting is the paper's."""

from __future__ import annotations

from pathlib import Path

import pytest

from frostline.audit.auditor import predicted_costs
from frostline.errors import OptionError
from frostline.research.reproduction import parallel_halving, steps
from frostline.research.reproduction.catalogue import FIGURES, figure_named
from frostline.research.reproduction.scales import BUDGETS, Data, Scale, recipe_of, resnet_grid, transformer_grid
from frostline.research.reproduction.workbench import Workbench, plan_of
from frostline.search.history import History
from frostline.search.proposals.sampling import Draws
from frostline.tasks.loading import load_task
from frostline.training.supervised.supervised_task import SupervisedTask
from tests.research.reproduction.recipes import micro

MODELS = sorted({model for figure in FIGURES for model in figure.models})


def test_every_figure_of_the_paper_is_there_once() -> None:
    figures = {f"fig{number}" for number in ("2-left", "2-right", 3, 4, 5, "6a", "6b", 7, 8, 9, 10, 11, 12)}
    compared = {f"choices-{what}" for what in ("tied", "statistics", "horizon", "dtype")}
    names = [figure.name for figure in FIGURES]
    assert len(names) == len(set(names))
    assert set(names) == figures | {"table3"} | compared


@pytest.mark.parametrize("scale", list(Scale))
@pytest.mark.parametrize("model", MODELS)
def test_what_a_landscape_trains_can_be_made_at_every_scale(model: str, scale: Scale) -> None:
    recipe = recipe_of(model, scale)
    task = recipe.planned_task()
    plan = plan_of(recipe, task)
    assert plan.layers[-1] >= 8
    assert plan.layers == tuple(range(1, plan.layers[-1] + 1))
    assert plan.configurations >= 5
    # What is drawn for one way is drawn for the other: they can be compared configuration by configuration.
    base = recipe_of(model.split("-")[0], scale).planned_task()
    assert task.space == base.space
    assert recipe.study.startswith(f"{scale} {model}")


def test_the_original_setting_is_the_papers() -> None:
    gpt, resnet = (
        recipe_of(model, Scale.PAPER, Data(text=Path("x"), images=Path("y"))) for model in ("gpt", "resnet")
    )
    assert (gpt.reference, gpt.options["model"]) == ("text-gpt", "14M")
    assert gpt.planned_task().full_samples == 20 * 14_562_560
    assert plan_of(gpt, gpt.planned_task()).trainings() == 144 * 10
    assert resnet.reference == "cifar100-resnet18"
    assert resnet.planned_task().full_samples == 20 * 45_000
    assert plan_of(resnet, resnet.planned_task()).trainings() == 216 * 11
    assert resnet.num_validations == 20


@pytest.mark.parametrize(
    ("space", "points"), [(transformer_grid(), 4 * 2 * 2 * 3 * 3), (resnet_grid(), 3 * 4 * 2 * 3 * 3)]
)
def test_a_grid_is_drawn_whole_and_each_point_once(space, points: int) -> None:
    recipe = recipe_of("gpt" if points == 144 else "resnet", Scale.PAPER)
    assert recipe.configurations == recipe.sampling.num_points == points
    draws = Draws(space=space, sampling=recipe.sampling, root_seed=0, direction="minimize")
    history = History("minimize")
    for _ in range(points):
        history.add_configuration(draws.draw(history))
    assert len({frozenset(one.hyperparameters.items()) for one in history.configurations}) == points


def test_ways_change_what_they_say_and_nothing_else() -> None:
    def task(model: str, scale: Scale = Scale.TINY) -> SupervisedTask:
        recipe = recipe_of(model, scale).task()
        assert isinstance(recipe, SupervisedTask)
        return recipe

    untied, tied, snapshot = task("gpt"), task("gpt-tied"), task("gpt-snapshot")
    assert (tied.tied, snapshot.tied) == ("detach", "snapshot")
    assert tied.data_fingerprint == snapshot.data_fingerprint != untied.data_fingerprint
    for scale in Scale:
        assert "--set tied=detach --set" in recipe_of("gpt-tied", scale).words
        assert "--set tied_embedding=true" in recipe_of("gpt-tied", scale).words
    assert task("gpt-bfloat16").frozen_dtype == "bfloat16"
    assert task("resnet-batch").frozen_statistics == "batch"
    assert task("resnet").frozen_statistics == "calibrated"
    for percent in BUDGETS:
        part = task(f"gpt-{percent}").full_samples
        assert part * 100 == untied.full_samples * percent
        # In whole steps of 2,048 tokens, as the training that is cut short is validated after one.
        part = task(f"gpt-{percent}", Scale.SMALL).full_samples
        assert part % 2048 == 0
        assert 0 <= part - 196_608 * percent / 100 < 2048


@pytest.mark.parametrize(
    ("model", "option"), [("gpt", "--text PATH"), ("gpt-20", "--text PATH"), ("resnet", "--images FOLDER")]
)
def test_the_original_setting_asks_for_its_data(model: str, option: str) -> None:
    with pytest.raises(OptionError, match=f"say where, with {option}"):
        recipe_of(model, Scale.PAPER).task()


def test_a_plan_tells_trainings_and_their_flops(tmp_path: Path) -> None:
    bench = Workbench(scale=Scale.TINY, out=tmp_path, recipes=micro)
    lines = figure_named("fig5").plan(bench)
    task = micro("gpt", Scale.TINY, Data()).task()
    rates = {z: cost.flops_per_sample for z, cost in predicted_costs(task, (1, 2, 3)).items()}
    whole = 6 * 640 * sum(rates.values())
    assert "6 configurations, layers 1 to 3, 640 images each, validated 5 times: 18 trainings" in lines[1]
    assert f"{whole:.3g} FLOPs one by one, {6 * sum(rates.values()) / rates[3]:.1f} full trainings" in lines[2]
    assert "memory of a step" in lines[3]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("scale", list(Scale))
@pytest.mark.parametrize("name", [figure.name for figure in FIGURES if not figure.models])
def test_figures_of_costs_have_plans_at_every_scale(name: str, scale: Scale, tmp_path: Path) -> None:
    lines = figure_named(name).plan(Workbench(scale=scale, out=tmp_path))
    assert lines
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("scale", list(Scale))
def test_every_case_of_costs_is_a_task(scale: Scale) -> None:
    for case in (*steps.FIGURE_2[scale], *steps.FIGURE_9[scale]):
        assert load_task(case.reference, case.options).name == case.reference
    assert any(case.name == "Pythia-1.4B" for case in steps.FIGURE_2[scale])
    assert parallel_halving.PLANS[scale].configurations >= 16


def test_a_spread_has_both_ends() -> None:
    assert steps.spread(26, None) == tuple(range(1, 27))
    assert steps.spread(3, 5) == (1, 2, 3)
    for count in range(2, 10):
        chosen = steps.spread(26, count)
        assert (chosen[0], chosen[-1], len(set(chosen))) == (1, 26, count)


def test_an_unknown_figure_is_told_with_those_there_are() -> None:
    with pytest.raises(OptionError, match=r"no figure 'fig1': choose one of fig2-left, .*choices-dtype"):
        figure_named("fig1")
