"""What a study says of itself: kept as fields, and read from what the first version wrote."""

from __future__ import annotations

import dataclasses
import json

import pytest

from frostline.errors import StudyError
from frostline.records import Fidelity
from frostline.search.alignment import Alignment
from frostline.store.terms import TaskReference, Terms, TrainingTerms

FIRST_VERSION = {
    "task": "digits-mlp",
    "reference": "digits-mlp --set 'name=two words' --set full_images=100 --precision bfloat16",
    "data": "d",
    "space": "s",
    "rungs": [[2, 100], [9, 500]],
    "num_layers": 9,
    "search": "sweep",
    "sampler": "random",
    "seed": 3,
    "direction": "minimize",
    "sample_unit": "images",
    "expected": [5, 5],
    "settings": "horizon=full precision=bfloat16 validations=10 alignment=2:learning_rate=3",
}


def test_terms_of_the_first_version_are_read() -> None:
    terms = Terms.parse(FIRST_VERSION)
    assert terms.reference == TaskReference(
        name="digits-mlp", options=("name=two words", "full_images=100"), precision="bfloat16"
    )
    assert terms.is_sweep
    assert terms.rungs[0] == Fidelity(trainable_layers=2, samples=100)
    assert terms.training == TrainingTerms(
        horizon="full",
        precision="bfloat16",
        num_validations=10,
        statistics="running",
        alignment=Alignment.parse("2:learning_rate=3"),
    )
    # A training function of one's own had neither.
    own = Terms.parse({**FIRST_VERSION, "reference": "", "settings": "", "search": "full fidelity"})
    assert (own.reference, own.training, own.is_sweep) == (None, None, False)


@pytest.mark.parametrize("record", [FIRST_VERSION, {**FIRST_VERSION, "reference": "", "settings": ""}])
def test_terms_are_what_was_written(record) -> None:
    terms = Terms.parse(record)
    again = Terms.parse(json.loads(json.dumps(terms.record())))
    assert again == terms
    assert (again.reference, again.expected, again.is_sweep) == (terms.reference, terms.expected, terms.is_sweep)


def test_what_a_score_is_called_and_whose_the_first_configuration_is_are_kept_where_they_are_said() -> None:
    plain = Terms.parse(FIRST_VERSION)
    assert not {"metric", "has_own"} & plain.record().keys()
    said = dataclasses.replace(plain, metric="loss", has_own=True)
    again = Terms.parse(json.loads(json.dumps(said.record())))
    assert (again.metric, again.has_own) == ("loss", True)
    plain.check_equal(said, name="s")


def test_terms_of_a_later_version_are_refused_in_one_sentence() -> None:
    with pytest.raises(StudyError, match=r"made by a later frostline \(its terms are of version 9") as caught:
        Terms.parse({**Terms.parse(FIRST_VERSION).record(), "version": 9})
    assert "\n" not in str(caught.value)


def test_a_difference_is_named() -> None:
    terms = Terms.parse(FIRST_VERSION)
    other = Terms.parse({**FIRST_VERSION, "settings": "horizon=rung precision=bfloat16 validations=10"})
    with pytest.raises(StudyError, match=r"made with training 'horizon=full .*, and this run has 'horizon=rung"):
        terms.check_equal(other, name="s")
    # Where a task lies, and how many configurations are asked for, may change.
    terms.check_equal(Terms.parse({**FIRST_VERSION, "reference": "moved.py:task", "expected": [9, 9]}), name="s")


def test_a_reference_is_a_command_that_names_the_task_again() -> None:
    reference = TaskReference(name="my file.py:task", options=("text=a 'b'", "x=1"))
    assert f"{reference}" == "'my file.py:task' --set 'text=a '\"'\"'b'\"'\"'' --set x=1"
    assert TaskReference.of_words(f"{reference}") == reference
