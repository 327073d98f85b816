"""The measured tables of what steps cost: memory and time at each number of trained layers."""

from __future__ import annotations

import csv
from collections.abc import Callable

from tools.result_tables import GIB, MIB, RESULTS, markdown, results_of

WAYS = {
    "plain": "head alone, plainly frozen",
    "bfloat16, chunked logits": "and bfloat16, chunked logits",
    "bfloat16, chunked logits, streamed": "and streamed",
}


def pythia() -> str:
    """Return what a model takes here that full training does not fit, in each of its ways."""
    rows = results_of("weak-hardware-cpu.json")["rows"]
    full = rows["Pythia-1.4B 26 plain"]["predicted"]
    lines = [["full training", f"{full / GIB:.1f} GiB", "1", "refused: it does not fit", ""]]
    for way, name in WAYS.items():
        row = rows[f"Pythia-1.4B 1 {way}"]
        lines.append([
            name, f"{row['predicted'] / GIB:.1f} GiB", f"{full / row['predicted']:.1f} times",
            f"{row['resident'] / GIB:.1f} GiB", f"{min(row['seconds']):.0f}",
        ])  # fmt: skip
    return markdown(["Pythia 1.4B", "predicted", "less than full", "resident, measured", "s a step"], lines)


def gpt_600m() -> str:
    """Return the predicted and the resident memory of the 600M model at some numbers of layers."""
    rows = results_of("weak-hardware-cpu.json")["rows"]
    cells = [(f"{layers} of 26", f"600M {layers} plain") for layers in (1, 2, 4, 8, 16, 26)]
    cells += [(f"1, {way}", f"600M 1 {way}") for way in WAYS if way != "plain"]
    return markdown(
        ["600M, layers trained", "predicted", "resident, measured"],
        (
            [name, f"{rows[title]['predicted'] / GIB:.2f} GiB", f"{rows[title]['resident'] / GIB:.2f} GiB"]
            for name, title in cells
        ),
    )


def gpt_14m() -> str:
    """Return memory and time of the 14M GPT, with logits held whole and in chunks."""
    rows = costs_of("gpt-14m")
    full = rows[10]
    lines = [cost_line(str(layers), rows[layers], full) for layers in (1, 2, 5, 9, 10)]
    lines[0][0] = "1 of 10"
    chunked = costs_of("gpt-14m-chunked-logits")
    # FLOPs of chunked logits are counted otherwise: their products are made again in the backward pass.
    lines += [
        [*cost_line(f"{layers}, chunked logits", chunked[layers], full)[:-1], ""] for layers in (1, 2, 5, 9, 10)
    ]
    return markdown(["14M GPT, batch 1 × 1024", "peak, MiB", "share", "ms", "share", "limit"], lines)


def resnet_18() -> str:
    """Return memory and time of ResNet-18 on small images."""
    rows = costs_of("resnet-18")
    lines = [cost_line(str(layers), rows[layers], rows[11], digits=".1f") for layers in (1, 2, 3, 5, 8, 11)]
    lines[0][0] = "1 of 11"
    return markdown(["ResNet-18, 32 images of 32 × 32", "peak, MiB", "share", "ms", "share", "limit"], lines)


def costs_of(name: str) -> dict[int, dict[str, float]]:
    """Return the steps that ``frostline cost`` measured, by their number of trained layers."""
    wanted = ("peak_bytes", "whole_seconds_median", "forward_flops", "backward_flops")
    with (RESULTS / "costs" / f"{name}.csv").open(newline="") as file:
        return {
            int(row["trainable_layers"]): {key: float(row[key]) for key in wanted} for row in csv.DictReader(file)
        }


def cost_line(name: str, step: dict[str, float], full: dict[str, float], digits: str = ".0f") -> list[str]:
    """Return a step's memory and time with their shares of full training, and the share that FLOPs allow."""
    seconds, flops = (
        [row["whole_seconds_median"] for row in (step, full)],
        [row["forward_flops"] + row["backward_flops"] for row in (step, full)],
    )
    return [
        name, f"{step['peak_bytes'] / MIB:.0f}", f"{step['peak_bytes'] / full['peak_bytes']:.2f}",
        format(seconds[0] * 1000, digits), f"{seconds[0] / seconds[1]:.2f}", f"{flops[0] / flops[1]:.2f}",
    ]  # fmt: skip


COST_TABLES: dict[str, Callable[[], str]] = {
    "pythia": pythia,
    "gpt-600m": gpt_600m,
    "gpt-14m": gpt_14m,
    "resnet-18": resnet_18,
}
