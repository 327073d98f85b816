"""Which card it is."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Iterable

import torch
from gpu_parts.rows import Measurement, Row, Setting


def measurements(setting: Setting) -> list[Measurement]:
    return [Measurement(labels={}, measure=lambda: facts(setting))]


def facts(setting: Setting) -> Iterable[Row]:
    here = {"python": platform.python_version(), "torch": torch.__version__, "threads": torch.get_num_threads()}
    if not setting.is_card:
        yield {"name": setting.device.type, **here}
        return
    card = torch.cuda.get_device_properties(setting.device)
    yield {
        "name": card.name, "bytes": card.total_memory, "capability": f"{card.major}.{card.minor}", "driver": driver(),
        "cuda": torch.version.cuda, "hip": torch.version.hip, **here,
    }  # fmt: skip


def driver() -> str:
    """Return the version of NVIDIA's driver, as its own tool has it."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return "unknown"
    command = [tool, "--query-gpu=driver_version", "--format=csv,noheader"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    return (ended.stdout.split() or ["unknown"])[0]
