"""What people give as the place of a folder: a path, or a URL."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

from frostline.errors import OptionError
from frostline.folders.local_folder import LocalFolder
from frostline.folders.remote_folder import RemoteFolder
from frostline.inputs.credentials import without_password
from frostline.inputs.whole_numbers import shown

# One letter is a drive of Windows.
_URL = re.compile(r"(?P<protocol>[a-z][a-z0-9+.-]+)://(?P<place>.*)", re.IGNORECASE | re.DOTALL)
_LOCAL_PROTOCOLS = ("file", "local")

# What pathlib makes of a URL.
_WAS_URL = re.compile(r"[a-z][a-z0-9+.-]+:", re.IGNORECASE)

# The packages of fsspec's that have an extra of their own here.
_EXTRAS = {"s3fs": "s3", "gcsfs": "gcs"}


def folder_at(place: Path | str) -> LocalFolder | RemoteFolder:
    """Return the folder at a path, or at a URL; file:///... is the path.

    Raises: OptionError for a URL that is none.
    """
    if not isinstance(place, str | Path):
        raise OptionError(f"runs is {shown(place)}, but must be a path, or a URL such as s3://bucket/folder.")
    path = local_path(place)
    if path is not None:
        return LocalFolder(path=path)
    protocol, _, inner = f"{place}".partition("://")
    if "::" in inner or not inner.strip("/"):
        raise OptionError(
            f"{without_password(f'{place}')!r} names no folder: write PROTOCOL://PLACE, such as s3://bucket/folder."
        )
    return RemoteFolder(url=f"{protocol.lower()}://{inner.rstrip('/')}")


def local_path(place: Path | str) -> Path | None:
    """Return the path that a place is on this machine; None: it lies elsewhere. Raises: OptionError as ``folder_at``."""
    if isinstance(place, Path):
        if len(place.parts) > 1 and _WAS_URL.fullmatch(place.parts[0]) and not Path(place.parts[0]).exists():
            url = without_password(f"{place.parts[0]}//{'/'.join(place.parts[1:])}")
            raise OptionError(f"Path({url!r}) is no URL any more: give the text, {url!r}.")
        return place
    if (match := _URL.fullmatch(place)) is None:
        return Path(place)
    if match["protocol"].lower() not in _LOCAL_PROTOCOLS:
        return None
    path = Path(match["place"])
    if not path.is_absolute():
        raise OptionError(f"{place!r} names no folder: write file:///PATH, with three slashes, or the path alone.")
    return path


def checked_folder(place: Path | str) -> LocalFolder | RemoteFolder:
    """Return the folder at a place, as ``folder_at``.

    Raises: OptionError if there can be none: it is a file, no URL, or one whose package is not installed.
    """
    folder = folder_at(place)
    if isinstance(folder, LocalFolder):
        if folder.path.exists() and not folder.path.is_dir():
            raise OptionError(f"runs is {str(folder)!r}, which is a file: name a folder for the checkpoints.")
        return folder
    protocol = folder.protocol
    try:
        importlib.import_module("fsspec").get_filesystem_class(protocol)
    except ValueError:
        raise OptionError(
            f"runs is {str(folder)!r}, but nobody knows {protocol}://: use a path, s3://, gs://, or others of fsspec."
        ) from None
    except ImportError as error:
        package = _package_of(protocol)
        extra = f"'frostline[{_EXTRAS[package]}]'" if package in _EXTRAS else package
        how = f"pip install {extra}" if package else " ".join(f"{error}".split())
        raise OptionError(
            f"runs is {str(folder)!r}, but what reads {protocol}:// is not installed: {how}."
        ) from None
    return folder


def _package_of(protocol: str) -> str | None:
    """Return the package that fsspec looks for; None where it is fsspec's own that wants something."""
    known = importlib.import_module("fsspec.registry").known_implementations.get(protocol, {})
    package: str = known.get("class", "").partition(".")[0]
    return package if package not in ("", "fsspec") else None
