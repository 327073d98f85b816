"""Optuna's CMA-ES keeps its state beside a trial as a pickle (5.0), and loads it: whatever that says would be run.

A study is not trusted, so that before Optuna sees such a pickle it is loaded here by rules: of the classes that a state is
made of, and of nothing else.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from typing import Any

_KINDS = ("cma:", "sepcma:", "cmawm:")

_ALLOWED = {
    ("cmaes._cma", "CMA"),
    ("cmaes._sepcma", "SepCMA"),
    ("cmaes._cmawm", "CMAwM"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    *(
        (module, name)
        for module in ("numpy._core.multiarray", "numpy.core.multiarray")
        for name in ("_reconstruct", "scalar")
    ),
}


class _StateUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Return the class of a state; pickle.UnpicklingError if it is none."""
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is no part of a state")
        return super().find_class(module, name)


def is_sampler_state(state: Mapping[str, Any]) -> bool:
    """Return whether what a sampler wrote beside a trial runs nothing when it is loaded."""
    return all(_holds_no_other(f"{kind}optimizer", state) for kind in _KINDS)


def _holds_no_other(beginning: str, state: Mapping[str, Any]) -> bool:
    # As Optuna does: by the beginning of a key alone, the pieces put together by their numbers.
    pieces = {key: value for key, value in state.items() if key.startswith(beginning)}
    if not pieces:
        return True
    keys = [f"{beginning}:{index}" for index in range(len(pieces))]
    if set(keys) != pieces.keys() or not all(isinstance(piece, str) for piece in pieces.values()):
        return False
    try:
        loaded = _StateUnpickler(io.BytesIO(bytes.fromhex("".join(pieces[key] for key in keys)))).load()
    except Exception:  # a pickle may raise anything
        return False
    return type(loaded).__module__.startswith("cmaes.")
