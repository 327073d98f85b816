"""Why the frozen layers of a model are not computed once for all."""

from __future__ import annotations

from frostline.errors import FrostlineError


class CannotShareError(FrostlineError, RuntimeError):
    """Why the frozen layers of a model cannot be computed for several configurations at once."""
