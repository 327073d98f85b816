"""LoRA adapters, by PEFT, with hyperparameters of their own: rank, scale, dropout, and which modules get one."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from frostline.errors import HyperparameterError, ModelError, TaskError

if TYPE_CHECKING:
    from torch import nn

    from frostline.records import Configuration, Value

LORA_DEFAULTS: dict[str, Value] = {
    "lora_rank": 8,
    "lora_alpha": 16,
    "lora_dropout": 0.0,
    "target_modules": "all-linear",
}
"""PEFT's rank and the scale that its papers use with it; an adapter on every linear map but the head."""


def require_peft() -> None:
    """Raise TaskError unless PEFT is installed."""
    try:
        import peft  # noqa: F401
    except ImportError:
        raise TaskError(
            "adapters need the package 'peft', which is not installed: pip install 'frostline[peft]'."
        ) from None


def with_lora(model: nn.Module, configuration: Configuration, *, new_modules: Sequence[str] = ()) -> nn.Module:
    """Return ``model`` with adapters, which are trained; of the rest only the ``new_modules`` are.

    Reads ``lora_rank``, ``lora_alpha``, ``lora_dropout`` and ``target_modules``: names of modules, or their last parts, with
    commas between them; "all-linear" (of transformers' models) is every linear map but the head. What is not there has
    ``LORA_DEFAULTS``.
    Raises: ModelError if no module has such a name; HyperparameterError if a number is none that PEFT takes.
    """
    from peft import LoraConfig, get_peft_model

    values = {name: configuration.get(name, default) for name, default in LORA_DEFAULTS.items()}
    targets = str(values["target_modules"])
    settings = LoraConfig(
        r=_whole("lora_rank", values["lora_rank"]),
        lora_alpha=_whole("lora_alpha", values["lora_alpha"]),
        lora_dropout=_share("lora_dropout", values["lora_dropout"]),
        target_modules=targets if targets == "all-linear" else [name.strip() for name in targets.split(",")],
        modules_to_save=[*new_modules] or None,
    )
    try:
        with warnings.catch_warnings():
            # It finds out by itself how GPT-2's maps lie, and says so at every one of them; and it asks transformers 5.23
            # for what is called otherwise there (peft 0.21).
            warnings.filterwarnings("ignore", ".*fan_in_fan_out.*", UserWarning)
            warnings.filterwarnings("ignore", ".*is_gradient_checkpointing.*", FutureWarning)
            adapted: nn.Module = get_peft_model(model, settings)
    except ValueError as error:
        reason = " ".join(str(error).split()).removesuffix(".")
        raise ModelError(
            f"target_modules is {targets!r}, which gives no adapters to {type(model).__name__} ({reason}): give names with "
            f"commas between them, of {', '.join(_linear_maps(model))}."
        ) from error
    return adapted


def _linear_maps(model: nn.Module) -> list[str]:
    """Return the last parts of the names of modules that hold a matrix and nothing below them."""
    names = (
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if not any(module.children()) and any(parameter.dim() == 2 for parameter in module.parameters())
    )
    return list(dict.fromkeys(names))[:12]


def _whole(name: str, value: Value) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 2**16:
        raise HyperparameterError(f"{name} is {value!r}, but must be a whole number of at least 1.")
    return value


def _share(name: str, value: Value) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise HyperparameterError(f"{name} is {value!r}, but must be a number of at least 0 and below 1.")
    return float(value)
