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
    number, rung, last = request.number, request.rung, len(search.ladder.rungs) - 1
    num_known = len(history.configurations)
    # Of every request, so that what is wrong with one is looked for only where there is something.
    is_there = 0 <= rung <= last and 0 <= number <= num_known
    if is_there and (number == num_known or _may_go_on(number, rung, last, history)):
        return
    raise RequestError(
        f"the search {type(search).__name__} asks for configuration {number} at rung {rung}, "
        f"{_what_is_wrong(number, rung, last, history)}."
    )


def _may_go_on(number: int, rung: int, last: int, history: History) -> bool:
    """Return whether a rung that is there of a configuration that is known may be evaluated."""
    if history.has_begun(number, rung) or history.has_begun(number, last) or number in history.eliminated:
        return False
    return rung != last or not history.is_pending(number)


def _what_is_wrong(number: int, rung: int, last: int, history: History) -> str:
    num_known = len(history.configurations)
    if not 0 <= rung <= last:
        return f"but its rungs are 0 to {last}: let it ask for one of them"
    if not 0 <= number <= num_known:
        return (
            f"but the next new configuration is {num_known}: let it number new ones from there on, without a gap"
        )
    if history.evaluation(number, rung) is not None:
        return "which has ended: let it ask for every rung of a configuration once"
    if history.has_begun(number, rung):
        return "which is under way: let it ask for every rung of a configuration once"
    if history.has_begun(number, last):
        return (
            f"but its full training, rung {last}, comes last: let it ask for nothing of a configuration after that"
        )
    if number in history.eliminated:
        return "but that configuration was ended: let it ask for nothing of one that it named as eliminated"
    return "its full training, while another rung of it is under way: let it wait until that has ended"
