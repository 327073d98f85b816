"""The names of devices that trainings run on."""

from __future__ import annotations

from frostline.errors import OptionError

DEVICES = ("auto", "cpu", "cuda", "mps")


def check_device(name: object) -> None:
    """Raise OptionError unless ``name`` is one of ``DEVICES``."""
    if name in DEVICES:
        return
    kind, _, index = name.partition(":") if isinstance(name, str) else ("", "", "")
    one = f" For that card alone set CUDA_VISIBLE_DEVICES={index}." if kind == "cuda" and index.isdecimal() else ""
    raise OptionError(f"device is {name!r}, but must be one of {', '.join(DEVICES)}.{one}")
