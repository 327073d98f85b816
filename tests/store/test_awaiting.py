"""A study that is not there yet is waited for as long as was said."""

from __future__ import annotations

from pathlib import Path

import pytest

from frostline.errors import StudyError
from frostline.store.awaiting import awaited_terms


def test_it_is_waited_for_no_longer_than_was_said(tmp_path: Path) -> None:
    pauses: list[float] = []
    said: list[str] = []
    with pytest.raises(StudyError, match=r"there is no study 's' in .* after 0.05 seconds: begin it with"):
        awaited_terms(f"{tmp_path / 'x.log'}", "s", seconds=0.05, say=said.append, sleep=pauses.append)
    assert pauses
    assert max(pauses) <= 0.05
    assert len(said) == 1
