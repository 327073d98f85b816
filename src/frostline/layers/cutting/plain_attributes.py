"""What modules keep in Python beside their tensors: counters, factors and switches, which running a model may change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

_PLAIN = (bool, int, float, str, type(None))

# What torch keeps there itself, the mode among it.
_TORCHS_OWN = frozenset(vars(nn.Module()))

PlainAttributes = Mapping[str, Mapping[str, Any]]
"""By the names of modules, then of attributes."""


def plain_attributes(model: nn.Module) -> PlainAttributes:
    """Return the attributes of all modules that are numbers, truth values, strings or None."""
    found = {
        name: {
            own: value for own, value in vars(module).items() if type(value) in _PLAIN and own not in _TORCHS_OWN
        }
        for name, module in model.named_modules()
    }
    return {name: attributes for name, attributes in found.items() if attributes}


def changed_attributes(before: PlainAttributes, now: PlainAttributes) -> PlainAttributes:
    """Return those of ``now`` that are not there ``before``, or are others."""
    changed = {
        # A value that is no number is not equal to itself.
        name: {
            own: value for own, value in attributes.items() if [before.get(name, {}).get(own, _PLAIN)] != [value]
        }
        for name, attributes in now.items()
    }
    return {name: attributes for name, attributes in changed.items() if attributes}


def put_back(model: nn.Module, attributes: PlainAttributes) -> None:
    """Give modules these attributes; those that they are not told of stay as they are. Raises: KeyError without a module."""
    modules = dict(model.named_modules())
    for name, values in attributes.items():
        modules[name].__dict__.update(values)
