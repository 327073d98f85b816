"""When a training that raises is taken for a bug in the user's code, and not for a configuration that cannot be trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.errors import TrainingBugError

if TYPE_CHECKING:
    from frostline.records import Evaluation
    from frostline.search.history import History

_IN_A_ROW = 2


class ForeignTracebackError(Exception):
    """An error that another process raised: its traceback, as text."""

    def __str__(self) -> str:
        return f"in another process\n{self.args[0]}"


def stop_at_bug(history: History) -> None:
    """Raise TrainingBugError if the last evaluations failed by the same error at the same place, and none has ever finished.

    Where one has finished the code can be run: what fails is then the configuration's own doing, and no reason to stop.
    """
    if history.has_finished or history.num_evaluations < _IN_A_ROW:
        return
    last = list(history.evaluations(since=history.num_evaluations - _IN_A_ROW))
    signatures = {_signature(evaluation) for evaluation in last}
    failure = last[-1].failure
    if failure is None or len(signatures) > 1:
        return
    raise TrainingBugError(
        f"the training raises, {_IN_A_ROW} times in a row and before any has ended: "
        f"{f'{last[-1].reason}'.removesuffix('.')}. Mend it, or return nan for what cannot be trained, and run the same "
        f"search again: what failed is tried once more.",
        traceback=failure.traceback,
    ) from (failure.exception or ForeignTracebackError(failure.traceback))


def _signature(evaluation: Evaluation) -> tuple[str, str] | None:
    failure = evaluation.failure
    return None if failure is None else (failure.error, failure.place)
