"""What a search may ask for: whoever runs it looks before anything is claimed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.errors import RequestError

if TYPE_CHECKING:
    from frostline.records import Request
    from frostline.search.history import History
    from frostline.search.interface import Search


def check_request(request: Request, search: Search, history: History) -> None:
    """Raise RequestError if ``search`` may not ask for that now: see ``Search.next_requests``."""
    number, rung = request.number, request.rung
    wrong = _what_is_wrong(number, rung, len(search.ladder.rungs) - 1, history)
    if wrong is not None:
        raise RequestError(
            f"the search {type(search).__name__} asks for configuration {number} at rung {rung}, {wrong}."
        )


def _what_is_wrong(number: int, rung: int, last: int, history: History) -> str | None:
    """Return what speaks against evaluating a configuration at a rung, of which the ``last`` is the full training."""
    num_known = len(history.configurations)
    if not 0 <= rung <= last:
        return f"but its rungs are 0 to {last}: let it ask for one of them"
    if number == num_known:
        return None
    if not 0 <= number < num_known:
        return (
            f"but the next new configuration is {num_known}: let it number new ones from there on, without a gap"
        )
    if history.has_begun(number, rung):
        state = "is under way" if history.evaluation(number, rung) is None else "has ended"
        return f"which {state}: let it ask for every rung of a configuration once"
    if history.has_begun(number, last):
        return (
            f"but its full training, rung {last}, comes last: let it ask for nothing of a configuration after that"
        )
    if number in history.eliminated:
        return "but that configuration was ended: let it ask for nothing of one that it named as eliminated"
    if rung == last and history.is_pending(number):
        return "its full training, while another rung of it is under way: let it wait until that has ended"
    return None
