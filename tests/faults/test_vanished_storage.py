"""A storage that is deleted or moved while a search runs: it is said at the next write, and the search fails."""

from __future__ import annotations

import logging
import shutil
import time
from pathlib import Path

import pytest
from optuna.distributions import FloatDistribution

from frostline.errors import StudyError
from frostline.records import Configuration, Fidelity
from frostline.run.plan import SearchPlan
from frostline.run.tuning import search_function
from frostline.search.ladder import Ladder
from frostline.search.spaces.space import SearchSpace
from frostline.store.backends.storage import Storage, close_storage, open_storage
from frostline.store.backends.vanishing import StudyFile
from frostline.store.sharing import workers

SPACE = SearchSpace(distributions={"rate": FloatDistribution(0.0, 1.0)})
LADDER = Ladder.diagonal(num_layers=10, full_samples=1000)


@pytest.mark.parametrize("storage", ["sqlite", "journal"])
@pytest.mark.parametrize("what", ["deleted", "moved", "replaced", "made anew"])
@pytest.mark.parametrize("last", [False, True])
def test_a_storage_that_vanishes_ends_the_search(storage: str, what: str, last: bool, tmp_path: Path) -> None:
    file = tmp_path / "s.file"
    trained: list[tuple[int, int]] = []

    def train(configuration: Configuration, fidelity: Fidelity) -> float:
        trained.append((configuration.number, fidelity.trainable_layers))
        if len(trained) == (13 if last else 3):  # in the very last evaluation nothing is decided any more
            if what == "deleted":
                file.unlink()
            elif what == "moved":
                file.rename(tmp_path / "elsewhere")
            elif what == "made anew":
                # The file system gives it the number of the one before, if that is free.
                contents = file.read_bytes()
                file.unlink()
                file.write_bytes(contents)
            else:
                shutil.copy(file, tmp_path / "copy")
                (tmp_path / "copy").replace(file)
        rate = configuration["rate"]
        assert isinstance(rate, float)
        return rate

    place = f"sqlite:///{file}" if storage == "sqlite" else str(file)
    with pytest.raises(StudyError, match="was deleted, moved or replaced while the search ran") as raised:
        search_function(train, SPACE, LADDER, study="s", storage=place, plan=SearchPlan(configurations=9))
    assert str(file) in f"{raised.value}"
    assert "\n" not in f"{raised.value}"
    assert len(trained) == (13 if last else 3)
    assert file.exists() == (what in ("replaced", "made anew")), "nothing is made in its place"


def test_a_storage_that_vanishes_during_a_long_training_is_said_at_the_next_heartbeat(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_BEAT_SECONDS", 0.05)
    file = tmp_path / "s.log"

    def train(configuration: Configuration, fidelity: Fidelity) -> float:
        file.unlink()
        deadline = time.monotonic() + 20
        while not caplog.records and time.monotonic() < deadline:
            time.sleep(0.01)
        raise RuntimeError("it has been said")

    with caplog.at_level(logging.ERROR, logger="frostline"), pytest.raises(StudyError):
        search_function(train, SPACE, LADDER, study="s", storage=str(file), plan=SearchPlan(configurations=9))
    assert "was deleted, moved or replaced" in caplog.records[0].getMessage()


def test_a_storage_in_memory_cannot_vanish() -> None:
    for place in (":memory:", "sqlite://"):
        backend = open_storage(place)
        assert StudyFile.of(Storage(place, backend)) is None
        close_storage(backend)
