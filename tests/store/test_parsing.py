"""A study is not trusted: a foreign or damaged record is one sentence that names it, in bounded time."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cmaes
import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState

from frostline.errors import StudyError
from frostline.records import Configuration, Fidelity
from frostline.run.plan import SearchPlan
from frostline.run.tuning import search_function
from frostline.search.ladder import Ladder
from frostline.search.spaces.space import SearchSpace
from frostline.store.backends.storage import Storage
from frostline.store.parsing import parse_state
from frostline.store.reading import TERMS, StoredStudy, read_study

SPACE = SearchSpace(distributions={"rate": FloatDistribution(0.0, 1.0)})
LADDER = Ladder.diagonal(num_layers=5, full_samples=100)


def score(configuration: Configuration, fidelity: Fidelity) -> float:
    rate = configuration["rate"]
    assert isinstance(rate, float)
    return rate


def search(place: str) -> None:
    search_function(score, SPACE, LADDER, study="s", storage=place, plan=SearchPlan(configurations=9))


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> optuna.storages.BaseStorage:
    place = str(tmp_path_factory.mktemp("studies") / "study.log")
    search(place)
    return optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(place))


def changed(
    searched: optuna.storages.BaseStorage, change: Callable[[dict[str, Any]], None], trial: int = 0
) -> Storage:
    """A copy in memory of which ``change`` has changed the attributes of the study, or those of one trial."""
    old = searched.get_study_id_from_name("s")
    memory = optuna.storages.InMemoryStorage()
    new = memory.create_new_study(searched.get_study_directions(old), "s")
    attributes = {"study": dict(searched.get_study_user_attrs(old))}
    trials = searched.get_all_trials(old)
    attributes |= {"user": trials[trial].user_attrs, "system": trials[trial].system_attrs}
    change(attributes)
    for key, value in attributes["study"].items():
        memory.set_study_user_attr(new, key, value)
    for each in trials:
        memory.create_new_trial(new, each)
    return Storage(":memory:", memory)


def refusal(place: Storage) -> str:
    begin = time.process_time()
    with pytest.raises(StudyError) as caught:
        read_study(place, "s")
    assert time.process_time() - begin < 2
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500
    return str(caught.value)


def setting(name: str, value: object) -> Callable[[dict[str, Any]], None]:
    """Set a field of the record of trial 0 at the lowest rung."""
    return lambda attributes: attributes["user"]["rung 0"].__setitem__(name, value)


RECORDS = {
    "a list": (
        lambda attributes: attributes["user"].__setitem__("rung 0", [1, 2]),
        "rung 0 is damaged: it should be a valid dictionary",
    ),
    "no status": (lambda attributes: attributes["user"]["rung 0"].pop("status"), "'status' field required"),
    "another status": (setting("status", "done"), "'status' should be 'finished', 'diverged' or 'failed'"),
    "score is text": (setting("score", "1"), "'score' should be a valid number"),
    "score is infinite": (setting("score", float("inf")), "'score' should be a finite number"),
    "no score": (setting("score", None), "is finished with the score None"),
    "layers below 1": (setting("trainable_layers", 0), "'trainable_layers' should be greater than or equal to 1"),
    "other layers": (
        setting("trainable_layers", 4),
        "is of 4 layers and 20 samples, and that of the study is of 1 and 20",
    ),
    "huge samples": (setting("samples", 10**30), "'samples' should be less than or equal to 9007199254740991"),
    "seconds below 0": (setting("seconds", -1.0), "'seconds' should be greater than or equal to 0"),
    "a model's cost below 0": (setting("model_cost", -1.0), "'model_cost' should be greater than or equal to 0"),
    "curve of triples": (setting("curve", [[1, 2, 3]]), "'curve' list should have at most 2 items"),
    "trained with a list": (setting("trained_with", {"rate": [1]}), "'trained_with'"),
    "a range that is text": (setting("ranges", {"rate": "wide"}), "the range of 'rate' at its rung 0 is damaged"),
    "a range of nothing": (
        setting("ranges", {"rate": '{"name": "CategoricalDistribution", "attributes": {"choices": []}}'}),
        "the range of 'rate' at its rung 0 is damaged",
    ),
    "a range with signs that control a terminal": (
        setting(
            "ranges", {"rate": '{"name": "CategoricalDistribution", "attributes": {"choices": ["\\u001b[2J"]}}'}
        ),
        "the range of 'rate' at its rung 0 is damaged: it is none that can be searched",
    ),
    "a range that is long": (
        setting("ranges", {"rate": " " * 10_001}),
        "'ranges' value should have at most 10000",
    ),
    "rung 7 of 3": (
        lambda attributes: attributes["user"].__setitem__("rung 7", {}),
        "holds 'rung 7', but the study has rungs 0 to 2",
    ),
    "rung 1000000000": (
        lambda attributes: attributes["user"].__setitem__("rung 1000000000", {}),
        "the study has rungs 0 to 2",
    ),
    "rung x": (lambda attributes: attributes["user"].__setitem__("rung x", {}), "holds 'rung x'"),
    "rung 01": (lambda attributes: attributes["user"].__setitem__("rung 01", {}), "holds 'rung 01'"),
    "claim of rung 9": (
        lambda attributes: attributes["system"].__setitem__("frostline:claim 9", {}),
        "holds 'frostline:claim 9'",
    ),
    "claim by nobody": (
        lambda attributes: attributes["system"].__setitem__("frostline:claim 0", {}),
        "'worker' field required",
    ),
    "sampler's note": (
        lambda attributes: attributes["system"].__setitem__("frostline:sampler", 3),
        "its sampler's note is damaged",
    ),
}


@pytest.mark.parametrize("case", RECORDS)
def test_a_damaged_record_is_one_sentence_that_names_the_trial(
    case: str, searched: optuna.storages.BaseStorage
) -> None:
    change, words = RECORDS[case]
    message = refusal(changed(searched, change, trial=3))
    assert words in message
    assert message.startswith("trial 3 of the study")


def term(name: str, value: object) -> Callable[[dict[str, Any]], None]:
    return lambda attributes: attributes["study"].__setitem__(TERMS, {**attributes["study"][TERMS], name: value})


TERMS_CASES = {
    "text": (lambda attributes: attributes["study"].__setitem__(TERMS, "x"), "should be a valid dictionary"),
    "no task": (term("task", None), "'task' should be a valid string"),
    "unprintable": (term("sample_unit", "\x1b[2J"), "'sample_unit' should be printable text"),
    "50,000 rungs": (
        term("rungs", [[1, 2]] * 50_000),
        "'rungs' list should have at most 2000 items",
    ),
    "rungs of three": (term("rungs", [[1, 2, 3]]), "'rungs' list should have at most 2 items"),
    "no rungs": (term("rungs", []), "'rungs' list should have at least 1 item"),
    "against": (term("against", "size"), "'against' should be 'bytes', 'flops' or 'seconds'"),
    "direction": (term("direction", "up"), "'direction' should be 'minimize' or 'maximize'"),
    "alignment": (
        term("training", {"horizon": "rung", "precision": "x", "num_validations": 1, "alignment": "1:"}),
        "the terms of the study are damaged (the alignment '1:' is none",
    ),
    "later version": (term("version", 9), "made by a later frostline"),
    "first version": (term("version", 1), "should be a valid string"),
}


@pytest.mark.parametrize("case", TERMS_CASES)
def test_damaged_terms_are_one_sentence(case: str, searched: optuna.storages.BaseStorage) -> None:
    change, words = TERMS_CASES[case]
    assert words in refusal(changed(searched, change))


def test_what_is_not_damaged_is_read_as_it_was(searched: optuna.storages.BaseStorage, tmp_path: Path) -> None:
    def nothing(attributes: dict[str, Any]) -> None:
        pass

    study: StoredStudy = read_study(changed(searched, nothing), "s")
    assert study.history.num_evaluations == 9 + 3 + 1
    assert study.terms.rungs == LADDER.rungs


def test_reasons_of_others_are_shown_as_one_printable_line(searched: optuna.storages.BaseStorage) -> None:
    def fail(attributes: dict[str, Any]) -> None:
        attributes["user"]["rung 0"] |= {"status": "failed", "score": None, "reason": "boom\n\x1b[2J"}

    evaluation = read_study(changed(searched, fail), "s").history.evaluation(0, 0)
    assert evaluation is not None
    assert evaluation.reason == "boom \\x1b[2J"


def test_a_trial_of_others_is_named(searched: optuna.storages.BaseStorage) -> None:
    place = changed(searched, lambda attributes: None)
    study_id = place.backend.get_study_id_from_name("s")
    place.backend.create_new_trial(study_id, optuna.trial.create_trial(state=TrialState.RUNNING))
    assert "trial 9 of the study was not made by frostline" in refusal(place)


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("exploded",)


@pytest.mark.parametrize("kind", ["cma", "sepcma", "cmawm"])
@pytest.mark.parametrize("key", ["optimizer:0", "optimizer"])
def test_a_pickle_in_a_samplers_note_is_not_run(
    kind: str,
    key: str,
    searched: optuna.storages.BaseStorage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    note = {f"{kind}:{key}": pickle.dumps(Bomb()).hex(), "cma:generation": 0}
    place = changed(
        searched, lambda attributes: attributes["system"].__setitem__("frostline:sampler", note), trial=3
    )
    assert "could run anything" in refusal(place)
    assert list(tmp_path.iterdir()) == []


def test_the_states_that_cma_es_writes_are_read() -> None:
    settings: dict[str, Any] = {"mean": np.zeros(2), "sigma": 1.0, "seed": 1}
    margins = {"bounds": np.array([[0, 1]] * 2), "steps": np.array([0.1, 0.2])}
    for kind, state in (
        ("cma", cmaes.CMA(**settings)),
        ("sepcma", cmaes.SepCMA(**settings)),
        ("cmawm", cmaes.CMAwM(**settings, **margins)),
    ):
        text = pickle.dumps(state).hex()
        note = {f"{kind}:optimizer:0": text[:1000], f"{kind}:optimizer:1": text[1000:], f"{kind}:generation": 3}
        assert parse_state(0, note) == note
        with pytest.raises(StudyError, match="could run anything"):
            parse_state(0, {**note, f"{kind}:optimizer:1": "zz"})
