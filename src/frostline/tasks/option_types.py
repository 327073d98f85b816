"""Whether the options of a task are what the function that makes it says of them."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from typing import Any, get_type_hints

from frostline.errors import OptionError
from frostline.inputs.whole_numbers import shown


def options_of(made: Any) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of the function ``made``, by name; none if it is no function, or says none."""
    try:
        return inspect.signature(made).parameters
    except (TypeError, ValueError):
        return {}


def check_options(made: Any, options: Mapping[str, Any]) -> None:
    """Raise OptionError unless the JSON values ``options`` are of the types that the function ``made`` names for them.

    What has no annotation, or one that says nothing of JSON, may be anything.
    """
    if not options:
        return
    from pydantic import PydanticUserError, TypeAdapter, ValidationError

    try:
        hints = get_type_hints(made) if inspect.isfunction(made) else {}
    except Exception:  # names that are imported for type checkers alone
        return
    for name, value in options.items():
        if name not in hints:
            continue
        try:
            TypeAdapter(hints[name]).validate_json(json.dumps(value), strict=True)
        except PydanticUserError:
            continue
        except ValidationError as error:
            reason = error.errors()[0]["msg"].removeprefix("Input ")
            raise OptionError(
                f"{name} is {shown(value)}, but {reason} (it is annotated {inspect.formatannotation(hints[name])})."
            ) from None
