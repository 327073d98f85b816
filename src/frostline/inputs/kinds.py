"""Arguments that must be of one kind."""

from __future__ import annotations

from frostline.errors import OptionError
from frostline.inputs.whole_numbers import shown


def check_kind(name: str, given: object, kind: type, what: str) -> None:
    """Raise OptionError unless the argument called ``name`` is a ``kind``; ``what`` says in words what that is."""
    if not isinstance(given, kind):
        raise OptionError(f"{name} is {shown(given)}, but must be {what}.")
