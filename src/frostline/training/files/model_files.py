"""A model's weights in a safetensors file: every tensor once, whatever names it is tied under.

Those beside a model's adapters may be in a file of their own (``AdapterBase``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import IO, TYPE_CHECKING, Any, TypeVar

from frostline.atomic import write_whole
from frostline.errors import ModelError
from frostline.training.files.adapter_base import AdapterBase

# What loads torch is imported where it is used: who only looks for a file need not wait for it.
if TYPE_CHECKING:
    from torch import Tensor, nn

Model = TypeVar("Model", bound="nn.Module")

SUFFIX = ".safetensors"

# In letters: torch names every tensor that does not fit.
_LONGEST_REASON = 400


def write_model(path: Path, model: nn.Module, *, about: Mapping[str, str] | None = None) -> None:
    """Write the weights and buffers of ``model``, whole or not at all; ``about`` goes into the file's header.

    Of a tied weight the header names the other names, as ``safetensors.torch.save_model`` does, so that its ``load_model``
    reads the file too. Frozen weights are written as they are: those that were rounded stay rounded.
    Raises: ModelError if the model has a state that is no tensor, or no weights yet; OptionError if it cannot be written.
    """
    write_whole(path, model_writer(model, about=about))


def model_writer(
    model: nn.Module, *, about: Mapping[str, str] | None = None, takes: Callable[[str], bool] = lambda _: True
) -> Callable[[IO[bytes]], object]:
    """Return what writes the weights of ``model`` into an open file, by its name: see ``write_model``.

    Only those whose names it ``takes`` are written.
    Raises: ModelError as ``write_model``; what is returned raises OSError or ValueError.
    """
    tensors, names = _tensors_of(model, takes)
    return partial(_write, tensors, {**names, **(about or {}), "format": "pt"})


def write_joined(path: Path, parts: Sequence[Path], *, without: str) -> None:
    """Write the weights of several files into one, whole or not at all, the headers too, ``without`` one of their names.

    Raises: ModelError if a file is not as ``write_model`` writes it; OptionError if it cannot be written.
    """
    header: dict[str, str] = {}
    tensors: dict[str, Tensor] = {}
    for part in parts:
        names, found = _read(part)
        header, tensors = {**header, **names}, {**tensors, **found}
    del header[without]
    write_whole(path, partial(_write, tensors, header))


def header_of(path: Path, *, place: str | None = None) -> Mapping[str, str]:
    """Return what ``write_model`` wrote into a file's header. Raises: ModelError if it is no such file."""
    with _opened(path, place, framework="np") as file:  # without torch
        return file.metadata() or {}


def read_model(
    path: Path, model: Model, *, place: str | None = None, base: AdapterBase | Path | None = None
) -> Model:
    """Return ``model``, filled with the weights of a file that ``write_model`` wrote; ``place`` is where it was copied from.

    What the file leaves out is the model's own ``base``, or in a file of its own.
    Raises: ModelError if it is no such file, or of another model.
    """
    names, state = _read(path, place)
    if isinstance(base, Path):
        others, beside = _read(base)
        names, state = {**others, **names}, {**beside, **state}
    tied = [name for name in model.state_dict() if name not in state and names.get(name) in state]
    given = {**state, **{name: state[names[name]] for name in tied}}
    try:
        if isinstance(base, AdapterBase):
            _load_beside(base, model, given)
        else:
            model.load_state_dict(given)
    except RuntimeError as error:
        reason = shorten(str(error), _LONGEST_REASON, placeholder=" ...")
        raise ModelError(
            f"{place or path} is of another model: {reason} Build the model as it was trained."
        ) from error
    return model


def _load_beside(base: AdapterBase, model: nn.Module, state: Mapping[str, Tensor]) -> None:
    missing, unexpected = model.load_state_dict(state, strict=False)
    lacking = [name for name in missing if not base.holds(name)]
    if lacking or unexpected:
        raise RuntimeError(f"missing are {lacking[:3]}, unexpected {unexpected[:3]}.")


def _read(path: Path, place: str | None = None) -> tuple[Mapping[str, str], dict[str, Tensor]]:
    """Return the header of a file and its tensors."""
    with _opened(path, place) as file:
        return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


@contextmanager
def _opened(path: Path, place: str | None, *, framework: str = "pt") -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework=framework) as file:
            yield file
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"{place or path} cannot be read as safetensors: {' '.join(str(error).split())}."
        ) from error


def _tensors_of(model: nn.Module, takes: Callable[[str], bool]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of ``model`` by their first names, and for every further name the first one."""
    from torch import Tensor

    tensors: dict[str, Tensor] = {}
    names: dict[str, str] = {}
    first_names: dict[int, str] = {}
    storages: set[int] = set()
    for name, value in model.state_dict(keep_vars=True).items():
        if not takes(name):
            continue
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
