"""How much memory is free, on a device or on this machine, within the limits that a container sets."""

from __future__ import annotations

import os
from pathlib import Path

import torch

_ROOT = Path("/")


def available_bytes(device: torch.device) -> int:
    """Return the bytes that tensors on ``device`` may still take."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # What the allocator keeps and nobody uses is free for us too.
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    machine = machine_bytes(_ROOT)
    if machine is None:
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *container_bytes(_ROOT)])


def machine_bytes(root: Path) -> int | None:
    """Return what Linux says is available without swapping, or None where it is not Linux."""
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    found = [line.split() for line in lines if line.startswith("MemAvailable:")]
    return int(found[0][1]) * 1024 if found else None


def container_bytes(root: Path) -> list[int]:
    """Return what each control group of this process, and each above it, leaves of its limit, where it has one."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    left = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            mount, limit, used, cache = "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            mount, cache = "sys/fs/cgroup/memory", "total_inactive_file"
            limit, used = "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        group = Path(path.lstrip("/"))
        for folder in {root / mount / each for each in (group, *group.parents)}:
            allowed, taken = _number_in(folder / limit), _number_in(folder / used)
            if allowed is not None and taken is not None:
                # Pages of files can be dropped at any time.
                left.append(max(0, allowed - taken + _statistic(folder / "memory.stat", cache)))
    return left


def _number_in(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None  # "max": no limit


def _statistic(path: Path, name: str) -> int:
    try:
        pairs = dict(line.split() for line in path.read_text().splitlines())
    except (OSError, ValueError):
        return 0
    return int(pairs.get(name, 0))
