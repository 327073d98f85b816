"""The measured tables of adapters: what a population of LoRA members saves, and what it takes of memory."""

from __future__ import annotations

from collections.abc import Callable

from tools.result_tables import GIB, markdown, results_of

MB = 10**6


def adapters() -> str:
    """Return what a population of LoRA members saves in a step at each number of trained layers, against PEFT one by one."""
    rows = results_of("adapters-cpu.json")["steps"]
    head = ("layers trained", "one by one, s", "together, s", "faster", "FLOPs allow")
    return markdown(
        head,
        [
            [
                f"{row['layers']}", f"{row['one_by_one_seconds']:.2f}", f"{row['together_seconds']:.2f}",
                f"{row['speed_up']:.2f}×", f"{row['limit']:.2f}×",
            ]
            for row in rows
        ],
    )  # fmt: skip


def adapters_epochs() -> str:
    """Return what whole trainings take with the base's outputs kept, against PEFT one by one."""
    rows = results_of("adapters-cpu.json")["epochs"]
    head = ("layers trained", "epochs", "", "one by one, s", "together, s", "faster")
    return markdown(
        head,
        [
            [
                f"{row['layers']}", f"{row['epochs']}", name, f"{row[f'one_by_one_{kind}']:.0f}",
                f"{row[f'together_{kind}']:.0f}", f"{row[f'faster_{kind}']:.1f}×",
            ]
            for row in rows
            for kind, name in (("seconds", "on the clock"), ("processor_seconds", "of the processor"))
        ],
    )  # fmt: skip


def adapters_memory() -> str:
    """Return the memory of one and of eight with freed memory kept or returned at once, and what returning it costs."""
    rows = results_of("adapters-cpu.json")["memory"]
    head = (
        "layers trained",
        "freed memory",
        "one, MB",
        "eight, MB",
        "ratio",
        "two steps of the eight, s of the processor",
    )
    return markdown(
        head,
        [
            [
                f"{row['layers']}", freed, f"{row[f'{key}_one_bytes'] / MB:.0f}",
                f"{row[f'{key}_population_bytes'] / MB:.0f}", f"{row[f'{key}_ratio']:.2f}",
                f"{row[f'{key}_processor_seconds']:.1f}",
            ]
            for row in rows
            for key, freed in (("kept", "kept, idle given back"), ("returned", "returned at once"))
        ],
    )  # fmt: skip


LARGE_WAYS = {
    "whole": "float32",
    "bfloat16": "frozen blocks in bfloat16",
    "streamed": "in bfloat16 and streamed",
}


def large_adapters() -> str:
    """Return what four members with LoRA on a model of Pythia 1.4B's size take, beside what is predicted."""
    rows = results_of("large-adapters-cpu.json")["rows"]
    head = (
        "base",
        "predicted",
        "and the process before",
        "resident, measured",
        "measured / expected",
    )
    return markdown(
        head,
        [
            [
                LARGE_WAYS[row["way"]], f"{row['predicted'] / GIB:.2f} GiB", f"{row['expected'] / GIB:.2f} GiB",
                f"{row['resident'] / GIB:.2f} GiB", f"{row['share']:.2f}",
            ]
            for row in rows
        ],
    )  # fmt: skip


ADAPTER_TABLES: dict[str, Callable[[], str]] = {
    "adapters": adapters,
    "adapters-epochs": adapters_epochs,
    "adapters-memory": adapters_memory,
    "large-adapters": large_adapters,
}
