"""What workers say of themselves lies in a study too, and is not trusted: one sentence, or nothing is believed of it."""

from __future__ import annotations

import time
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from frostline.errors import StudyError
from frostline.store.backends.fastest import access_to
from frostline.store.backends.storage import open_storage
from frostline.store.sharing.deaths import Deaths, deaths_in
from frostline.store.sharing.news import Claimed, Inbox
from frostline.store.sharing.presence import Presence, living_workers
from frostline.store.sharing.workers import SharedTurn
from tests.store.test_claims import Worker

RECORD: dict[str, Any] = {
    "host": "h", "boot": "", "pid": 1, "started": "1", "beat": 5.0, "deciding": None, "sent": 1, "news": [["ended", 0]],
    "heard": {"a": 1},
}  # fmt: skip
STATION: dict[str, Any] = {
    "host": "h", "pid": 7, "device": "cpu", "requests": [[3, 1]], "since": 5.0, "promised": 2**30, "used": None,
}  # fmt: skip
DAMAGED: dict[str, Any] = {
    "no mapping": 7,
    "nothing said": {},
    "a host of control characters": RECORD | {"host": "\x1b[2J"},
    "a process that is a path": RECORD | {"pid": "../../etc/passwd"},
    "a process below 1": RECORD | {"pid": -1},
    "a beat that is no time": RECORD | {"beat": "now"},
    "a beat for ever": RECORD | {"beat": float("inf")},
    "a turn that is no time": RECORD | {"deciding": [1]},
    "a turn before all": RECORD | {"deciding": float("-inf")},
    "less than no news": RECORD | {"sent": -1},
    "news that is none": RECORD | {"news": {"a": 1}},
    "heard by nobody": RECORD | {"heard": [1]},
    "heard in words": RECORD | {"heard": {"a": "all"}},
    "trained by nobody": RECORD | {"stations": [{"host": "h"}]},
    "a process of control characters": RECORD | {"stations": [STATION | {"host": "\x1b[2J"}]},
    "trained since never": RECORD | {"stations": [STATION | {"since": float("nan")}]},
    "trained at no rung": RECORD | {"stations": [STATION | {"requests": [[1]]}]},
    "trained by too many": RECORD | {"stations": [STATION] * 65},
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_worker_is_one_sentence_and_no_living_one(case: str) -> None:
    with pytest.raises(
        StudyError, match=r"^the record of the study's worker 'them' is damaged: .* another study name\.$"
    ):
        Presence.parse("them", DAMAGED[case])
    assert living_workers({"frostline:worker:them": DAMAGED[case]}) == {}


def test_whoever_would_decide_beside_a_damaged_worker_says_so(tmp_path: Any) -> None:
    storage = open_storage(f"sqlite:///{tmp_path}/s.db")
    optuna.create_study(storage=storage, study_name="s")
    turn = SharedTurn(access_to(storage, 1))
    storage.set_study_system_attr(1, "frostline:worker:them", 7)
    with pytest.raises(StudyError, match="worker 'them' is damaged"), turn.take():
        pass
    turn.leave()


@pytest.mark.parametrize(
    "piece",
    [
        7, [], ["unheard of", 1], ["claimed", 0], ["claimed", 0, 0, 0], ["claimed", -1, 0], ["claimed", 0, "x"],
        ["ended", [0]], ["made", 0, [], {}], ["recorded", 0, 0, None], [["ended"], 0], ["ended", 10**30],
    ],
)  # fmt: skip
def test_news_that_is_none_is_made_good_for_by_reading_the_study(piece: Any) -> None:
    inbox = Inbox()
    record = RECORD | {"sent": 2, "news": [["claimed", 0, 1], piece]}
    assert inbox.take({"them": Presence.parse("them", record)}) is None
    record = RECORD | {"sent": 3, "news": [["claimed", 0, 1], piece, ["claimed", 1, 2]]}
    assert inbox.take({"them": Presence.parse("them", record)}) == [Claimed(1, 2)]


def test_a_trial_that_was_told_of_and_is_not_there_is_one_sentence(tmp_path: Any) -> None:
    worker = Worker(f"sqlite:///{tmp_path}/s.db", configurations=3)
    worker.take(1)
    told = RECORD | {"host": "elsewhere", "beat": time.time(), "sent": 2}
    told["news"] = [["made", 1, {"rate": 0.5}, {}], ["claimed", 1, 0]]
    worker.study._access.set_attribute(("frostline:worker:them", told))
    worker.study._turn.wait()
    with pytest.raises(StudyError, match="has no trial 1, though a worker said"):
        worker.take(3)
    worker.study.close()


@pytest.mark.parametrize("record", [7, {}, {"alone": "w", "together": []}, {"alone": [], "together": [1]}])
def test_a_damaged_record_of_deaths_is_one_sentence(record: Any) -> None:
    trial = optuna.trial.create_trial(state=TrialState.RUNNING, system_attrs={"frostline:deaths 1": record})
    with pytest.raises(StudyError, match="who died of its rung 1 is damaged"):
        deaths_in(trial, 1)
    before = {"alone": ["w"], "together": []}
    trial = optuna.trial.create_trial(state=TrialState.RUNNING, system_attrs={"frostline:deaths 1": before})
    assert deaths_in(trial, 1) == Deaths(alone=("w",)), "what earlier versions wrote"
    assert deaths_in(trial, 0) == Deaths()
