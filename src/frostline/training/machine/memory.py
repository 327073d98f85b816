"""How much memory is left for what is going to be trained."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

_MEMINFO = Path("/proc/meminfo")
_MEMBERSHIP = Path("/proc/self/cgroup")
_CGROUPS = Path("/sys/fs/cgroup")


def available_bytes(device: torch.device) -> int:
    """Return the bytes that new tensors on ``device`` may take.

    On CUDA these are what is free and what torch's allocator holds unused; on MPS what the system recommends to use at
    most, without what is used; on the CPU what the kernel can give without swapping (all of the memory, where it does not
    say), or less where the process is in control groups that are limited.
    """
    if device.type == "cuda":
        free, _total = torch.cuda.mem_get_info(device)
        return int(free) + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type == "mps":
        return max(0, torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    left = kernel_bytes(_MEMINFO)
    if left is None:
        left = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    allowed = cgroup_bytes(_MEMBERSHIP, _CGROUPS)
    return left if allowed is None else min(left, allowed)


def kernel_bytes(meminfo: Path) -> int | None:
    """Return the available bytes that a file like /proc/meminfo tells of; None if it does not."""
    kibibytes = _entry(meminfo, "MemAvailable:")
    return None if kibibytes is None else 1024 * kibibytes


def cgroup_bytes(membership: Path, cgroups: Path) -> int | None:
    """Return the bytes that the limits of control groups, its own and their parents, leave to this process; None without.

    ``membership`` is like /proc/self/cgroup, ``cgroups`` is where they are mounted, both versions of them. In a container
    the path of its group may be the host's, of which only the mount's root is to be seen: groups that are not there do
    not count.
    """
    allowed = [left for group in _groups(membership, cgroups) if (left := _left(group)) is not None]
    return min(allowed, default=None)


def _groups(membership: Path, cgroups: Path) -> Iterator[Path]:
    """Yield the directories of the memory groups that the process is in, and their parents up to the mount."""
    for line in _text(membership).splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            mounts = [cgroups, cgroups / "unified"]
        elif "memory" in controllers.split(","):
            mounts = [cgroups / "memory"]
        else:
            continue
        # A path that leads out of the namespace begins with "..".
        inner = Path(*(part for part in Path(path).parts if part not in ("/", "..")))
        for mount in mounts:
            yield from (mount / each for each in (inner, *inner.parents))


def _left(group: Path) -> int | None:
    """Return the bytes that one group leaves; None if it limits nothing. Cached files can be dropped: they are no use."""
    for limit_name, usage_name, cached_name in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        limit, usage = _number(group / limit_name), _number(group / usage_name)
        if limit is not None and usage is not None:
            return max(0, limit - usage + (_entry(group / "memory.stat", cached_name) or 0))
    return None


def _number(path: Path) -> int | None:
    """Return the number that a file consists of; None for "max", or without the file."""
    text = _text(path).strip()
    return int(text) if text.isdecimal() else None


def _entry(path: Path, name: str) -> int | None:
    """Return the number behind ``name`` in a file of one entry a line."""
    for line in _text(path).splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == name and words[1].isdecimal():
            return int(words[1])
    return None


def _text(path: Path) -> str:
    with suppress(OSError):
        return path.read_text()
    return ""
