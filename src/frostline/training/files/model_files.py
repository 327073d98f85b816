"""A model's weights in a safetensors file: every tensor once, whatever names it is tied under."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar

from frostline.atomic import write_whole
from frostline.errors import ModelError

# What loads torch is imported where it is used: who only looks for a file need not wait for it.
if TYPE_CHECKING:
    from torch import Tensor, nn

Model = TypeVar("Model", bound="nn.Module")

SUFFIX = ".safetensors"


def write_model(path: Path, model: nn.Module, *, about: Mapping[str, str] | None = None) -> None:
    """Write the weights and buffers of ``model``, whole or not at all; ``about`` goes into the file's header.

    Of a tied weight the header names the other names, as ``safetensors.torch.save_model`` does, so that its ``load_model``
    reads the file too. Frozen weights are written as they are: those that were rounded stay rounded.
    Raises: ModelError if the model has a state that is no tensor, or no weights yet; OptionError if it cannot be written.
    """
    write_whole(path, model_writer(model, about=about))


def model_writer(model: nn.Module, *, about: Mapping[str, str] | None = None) -> Callable[[IO[bytes]], object]:
    """Return what writes the weights of ``model`` into an open file, by its name: see ``write_model``.

    Raises: ModelError as ``write_model``; what is returned raises OSError or ValueError.
    """
    tensors, names = _tensors_of(model)
    return partial(_write, tensors, {**names, **(about or {}), "format": "pt"})


def read_model(path: Path, model: Model, *, place: str | None = None) -> Model:
    """Return ``model``, filled with the weights of a file that ``write_model`` wrote; ``place`` is where it was copied from.

    Raises: ModelError if it is no such file, or of another model.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            names: Mapping[str, str] = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"{place or path} cannot be read as safetensors: {' '.join(str(error).split())}."
        ) from error
    tied = [name for name in model.state_dict() if name not in state and names.get(name) in state]
    try:
        model.load_state_dict({**state, **{name: state[names[name]] for name in tied}})
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ModelError(
            f"{place or path} is of another model: {reason} Build the model as it was trained."
        ) from error
    return model


def _tensors_of(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of ``model`` by their first names, and for every further name the first one."""
    from torch import Tensor

    tensors: dict[str, Tensor] = {}
    names: dict[str, str] = {}
    first_names: dict[int, str] = {}
    storages: set[int] = set()
    for name, value in model.state_dict(keep_vars=True).items():
        if not isinstance(value, Tensor) or value.is_meta:
            what = "a state that is no tensor" if not isinstance(value, Tensor) else "no weights yet"
            raise ModelError(f"the model cannot be written as safetensors: {name} has {what}.")
        first = first_names.setdefault(id(value), name)
        if first != name:
            names[name] = first
            continue
        tensor = value.detach().contiguous()
        # Tensors that overlap in memory without being one are refused.
        if tensor.untyped_storage().data_ptr() in storages:
            tensor = tensor.clone()
        storages.add(tensor.untyped_storage().data_ptr())
        tensors[name] = tensor
    return tensors, names


def _write(tensors: Mapping[str, Tensor], header: Mapping[str, str], file: IO[bytes]) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        # By its name: the bytes of all tensors are never in memory a second time.
        save_file(dict(tensors), file.name, metadata=dict(header))
    except SafetensorError as error:
        raise ValueError(" ".join(str(error).split())) from error
