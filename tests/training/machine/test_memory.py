from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from frostline.training.machine.memory import available_bytes, cgroup_bytes, kernel_bytes

GIB = 1024**3


def written(path: Path, text: str | int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")
    return path


def second_version(group: Path, *, limit: str | int, usage: int, cached: int = 0) -> None:
    written(group / "memory.max", limit)
    written(group / "memory.current", usage)
    written(group / "memory.stat", f"anon 5\nfile 9\ninactive_anon 7\ninactive_file {cached}\nactive_file 3")


def first_version(group: Path, *, limit: int, usage: int, cached: int) -> None:
    written(group / "memory.limit_in_bytes", limit)
    written(group / "memory.usage_in_bytes", usage)
    written(group / "memory.stat", f"cache 1\ninactive_file 1\ntotal_inactive_file {cached}")


def test_the_kernel_is_believed(tmp_path: Path) -> None:
    text = "MemTotal:       24000000 kB\nMemFree:  100 kB\nMemAvailable:   20000000 kB\nBuffers: 1 kB"
    assert kernel_bytes(written(tmp_path / "meminfo", text)) == 20_000_000 * 1024
    assert kernel_bytes(written(tmp_path / "old", "MemTotal: 24000000 kB")) is None
    assert kernel_bytes(tmp_path / "missing") is None


def test_the_tightest_group_counts(tmp_path: Path) -> None:
    membership = written(tmp_path / "cgroup", "0::/jobs/mine/task")
    mount = tmp_path / "fs"
    second_version(mount / "jobs" / "mine" / "task", limit="max", usage=GIB)
    second_version(mount / "jobs" / "mine", limit=8 * GIB, usage=3 * GIB, cached=GIB)
    second_version(mount / "jobs", limit=20 * GIB, usage=15 * GIB)
    assert cgroup_bytes(membership, mount) == 5 * GIB
    second_version(mount / "jobs" / "mine", limit=8 * GIB, usage=3 * GIB, cached=2 * GIB + 1)
    second_version(mount / "other", limit=1, usage=0)
    assert cgroup_bytes(membership, mount) == 5 * GIB
    second_version(mount / "jobs" / "mine" / "task", limit=2 * GIB, usage=3 * GIB)
    assert cgroup_bytes(membership, mount) == 0


@pytest.mark.parametrize("text", ["0::/", "0::/host/path/of/a/container", "0::/../../outside"])
def test_in_a_container_the_mounts_root_counts(tmp_path: Path, text: str) -> None:
    second_version(tmp_path / "fs", limit=4 * GIB, usage=GIB)
    second_version(tmp_path, limit=5, usage=1)  # above the mount: none of ours
    assert cgroup_bytes(written(tmp_path / "cgroup", text), tmp_path / "fs") == 3 * GIB


def test_the_first_version_counts_too(tmp_path: Path) -> None:
    membership = written(tmp_path / "cgroup", "9:name=systemd:/\n4:cpu,memory:/box/inner\n2:cpuacct:/\n0::/")
    mount = tmp_path / "fs"
    first_version(mount / "memory" / "box", limit=6 * GIB, usage=5 * GIB, cached=2 * GIB)
    first_version(mount / "memory", limit=9223372036854771712, usage=7 * GIB, cached=0)
    assert cgroup_bytes(membership, mount) == 3 * GIB
    second_version(mount / "unified", limit=2 * GIB, usage=GIB)
    assert cgroup_bytes(membership, mount) == GIB


def test_without_limits_groups_say_nothing(tmp_path: Path) -> None:
    membership = written(tmp_path / "cgroup", "0::/a\n3:cpu:/b")
    second_version(tmp_path / "fs" / "a", limit="max", usage=1)
    second_version(tmp_path / "fs" / "memory" / "b", limit=1, usage=1)
    assert cgroup_bytes(membership, tmp_path / "fs") is None
    assert cgroup_bytes(tmp_path / "missing", tmp_path / "fs") is None


def test_this_machine_has_memory(device: torch.device) -> None:
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
    else:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 64 * 1024**2 < available_bytes(device) <= total


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_what_the_allocator_holds_unused_is_available() -> None:
    device = torch.device("cuda")
    held = torch.empty(2**28, dtype=torch.uint8, device=device)
    before = available_bytes(device)
    del held
    # Nothing went back to the driver, only to the allocator.
    assert torch.cuda.memory_reserved(device) >= 2**28
    assert available_bytes(device) - before == pytest.approx(2**28, rel=0.1)
