"""A frozen module's forward by ``torch.compile``, or as it is where that is not possible."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch

from frostline.inputs.printable import first_line

logger = logging.getLogger(__name__)

_COMPILERS = ("torch._dynamo", "torch._inductor")


class CompiledForward:
    """Computes what ``plain`` computes, to rounding; compiled when it is first called, which takes its time.

    Torch compiles it anew for other shapes and modes, and after eight of them computes the next as they are.
    """

    def __init__(self, plain: Callable[..., Any], name: str) -> None:
        self._plain = plain
        self._name = name
        self._compiled: Callable[..., Any] | None = torch.compile(plain)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return what ``plain`` returns."""
        if self._compiled is not None:
            try:
                return self._compiled(*args, **kwargs)
            except Exception as error:
                # What the module itself raises is not the compiler's.
                if not type(error).__module__.startswith(_COMPILERS):
                    raise
                self._compiled = None
                logger.warning("%s is not compiled: %s: %s", self._name, type(error).__name__, first_line(error))
        return self._plain(*args, **kwargs)
