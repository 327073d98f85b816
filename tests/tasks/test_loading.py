"""A task is found by its name or its file, with the options of its function and those of freezing."""

from __future__ import annotations

from pathlib import Path

import pytest

from frostline.errors import OptionError, TaskError
from frostline.records import Configuration
from frostline.tasks.loading import load_task
from frostline.training.supervised.supervised_task import SupervisedTask

TINY = f"{Path(__file__).parents[1] / 'tiny_task.py'}:task"


def supervised(reference: str, **options: object) -> SupervisedTask:
    task = load_task(reference, options)
    assert isinstance(task, SupervisedTask)
    return task


def test_how_layers_are_frozen_may_be_said_of_every_supervised_task() -> None:
    made_by_a_function = supervised("digits-mlp", frozen_dtype="bfloat16", frozen_placement="stream")
    assert (made_by_a_function.frozen_dtype, made_by_a_function.frozen_placement) == ("bfloat16", "stream")
    in_a_file = supervised(TINY, frozen_dtype="bfloat16")
    assert in_a_file.frozen_dtype == "bfloat16"
    assert in_a_file.fingerprint != supervised(TINY).fingerprint
    assert supervised(TINY, frozen_placement="stream").fingerprint == supervised(TINY).fingerprint


def test_a_function_that_takes_such_an_option_itself_gets_it() -> None:
    tied = supervised("random-tokens", context_length=8, vocabulary_size=60, tied_embedding=True)
    configuration = Configuration(number=0, hyperparameters=tied.defaults)
    assert len(tied.split(tied.build_model(configuration)).ties) == 1


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"frozen_dtype": "int4"}, OptionError, "frozen_dtype is 'int4': it must be None or 'bfloat16'"),
        ({"frozen_placement": "cloud"}, OptionError, "frozen_placement is 'cloud'"),
        ({"tied": "knotted"}, OptionError, "tied is 'knotted'"),
        ({"depth": 3}, TaskError, "takes no options, but got depth"),
    ],
)
def test_other_options_are_refused(options: dict[str, object], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        load_task(TINY, options)


def test_a_task_of_the_users_own_class_is_not_changed(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(
        "from frostline.tasks.loading import load_task\n"
        "class Own:\n"
        "    def __init__(self, task): self._task = task\n"
        "    def __getattr__(self, name): return getattr(self._task, name)\n"
        f"task = Own(load_task({TINY!r}, {{}}))\n"
    )
    assert load_task(f"{file}:task", {}).name == supervised(TINY).name
    with pytest.raises(TaskError, match=r"no frostline.SupervisedTask, and takes no frozen_dtype"):
        load_task(f"{file}:task", {"frozen_dtype": "bfloat16"})
