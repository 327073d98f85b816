from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch

import frostline
from frostline.errors import OptionError
from frostline.populations.programs import Programs
from frostline.records import Configuration
from frostline.tasks.builtin.group_words import group_words, product_loss, token_accuracy
from frostline.training.supervised.supervised_task import SupervisedTask

SMALL: dict[str, Any] = {"length": 6, "validation_length": 10, "full_words": 640}


def defaults_of(task: SupervisedTask, **changes: Any) -> Configuration:
    values = {name: task.defaults[name] for name in task.space.distributions}
    return Configuration(number=0, hyperparameters={**values, **changes})


def test_the_score_is_the_share_of_right_products() -> None:
    products = torch.tensor([[0, 1], [2, 2]])
    logits = torch.nn.functional.one_hot(torch.tensor([[0, 1], [2, 0]]), 3).double()
    assert token_accuracy(logits, products).item() == 0.75
    assert product_loss(100 * torch.nn.functional.one_hot(products, 3).double(), products).item() < 1e-9
    task = group_words(**SMALL)
    assert (task.direction, task.metric, task.sample_unit) == ("maximize", "token accuracy", "words")


def test_longer_words_than_trained_are_validated() -> None:
    task = group_words(group="D4", **SMALL)
    inputs, targets = task.validation_data[:]
    assert inputs.shape == targets.shape == (256, 10)
    assert inputs.max() == 7
    trained, _ = task.training_data[:]
    assert trained.shape == (640, 6)


def test_its_layers_are_embedding_blocks_and_head() -> None:
    task = group_words(num_blocks=3, **SMALL)
    stack = task.split(task.build_model(defaults_of(task)))
    assert stack.names == ("embedding", "blocks.0", "blocks.1", "blocks.2", "head")


def test_parity_is_learnt_and_holds_on_longer_words() -> None:
    task = group_words(group="Z2", length=8, validation_length=32, num_blocks=1, width=16, num_householders=1)
    configuration = defaults_of(task, learning_rate=2e-2)
    torch.manual_seed(0)
    model = task.build_model(configuration)
    optimizer = task.build_optimizer(list(model.parameters()), configuration)
    for _, batch in zip(range(80), task.training_batches(configuration, seed=0, skip_samples=0), strict=False):
        optimizer.zero_grad()
        task.loss(model, batch).backward()
        optimizer.step()
    assert task.score(model, task.validation_batches(configuration)) > 0.99


def test_a_search_of_the_architecture_reads_all_of_it(tmp_path: Any) -> None:
    task = group_words(num_householders=None, gated=None, num_blocks=1, width=16, **SMALL)
    assert {"num_householders", "gated", "largest_beta"} <= task.space.distributions.keys()
    parts = task.build_model(defaults_of(task, num_householders=3, gated=True, largest_beta=1.0)).blocks[0].mixing
    assert parts.key.weight.shape == (48, 16)
    assert parts.decay is not None
    assert parts.largest_beta == 1.0
    result = frostline.tune_task(
        task,
        study="words",
        plan=frostline.SearchPlan(configurations=3, search="full"),
        training=frostline.TrainingOptions(runs=tmp_path),
        storage=":memory:",
        observer=frostline.SILENT,
    )
    assert 0 <= result.score <= 1


def test_what_changes_the_program_is_trained_in_another_population() -> None:
    task = group_words(num_householders=None, gated=None, num_blocks=1, width=16, **SMALL)
    programs = Programs(task, root_seed=0)
    own = programs.of(defaults_of(task))
    for change in ({"num_householders": 3}, {"gated": True}, {"largest_beta": 1.0}):
        assert programs.of(defaults_of(task, **change)) != own
    assert programs.of(defaults_of(task, learning_rate=1e-3, weight_decay=0.5, beta2=0.99)) == own


def test_the_task_is_the_same_every_time_and_its_defaults_lie_in_the_space() -> None:
    first, second = group_words(**SMALL), group_words(**SMALL)
    assert first.fingerprint == second.fingerprint
    assert torch.equal(first.training_data[:][0], second.training_data[:][0])
    task = group_words(num_householders=None, gated=None, **SMALL)
    task.space.validate({name: task.defaults[name] for name in task.space.distributions})


def test_fingerprints_see_every_option() -> None:
    options: list[Mapping[str, Any]] = [
        {},
        {"group": "D3"},
        {"length": 7},
        {"validation_length": 11},
        {"full_words": 672},
        {"num_blocks": 1},
        {"width": 48},
        {"num_householders": 1},
        {"gated": True},
    ]
    assert len({group_words(**{**SMALL, **each}).fingerprint for each in options}) == len(options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"group": "M11"}, "group is 'M11', but must be a symmetric group"),
        ({"width": 40}, "width is 40, but must be a multiple of 16, which is the width of a head"),
        ({"validation_length": 5}, "validation_length is 5, but must be at least the length that is trained, 6"),
        ({"num_householders": 0}, "num_householders is 0, but must be a whole number of at least 1"),
        ({"gated": "yes"}, "gated is 'yes', but must be true, false or null, which searches both"),
        ({"num_blocks": 0}, "num_blocks is 0, but must be a whole number of at least 1"),
        ({"length": 2.5}, "length is 2.5, but must be a whole number"),
    ],
)
def test_options_that_make_no_task(options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        group_words(**{**SMALL, **options})
