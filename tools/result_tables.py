"""The tables of the documentation that are measured: each made from a file of benchmarks/results, none typed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
MIB, GIB = 2**20, 2**30
NO_BREAK = "\N{NO-BREAK SPACE}"


def results_of(name: str) -> Any:
    """Return what the benchmark wrote into the file ``name``."""
    return json.loads((RESULTS / name).read_text())


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def grouped_rows(rows: Iterable[Sequence[str]]) -> list[list[str]]:
    """Return the rows with a first cell that repeats the one above left empty."""
    above = None
    grouped = []
    for first, *rest in rows:
        grouped.append(["" if first == above else first, *rest])
        above = first
    return grouped


def interval(figure: dict[str, float], unit: float = 1, digits: str = ".3g") -> str:
    """Return a value with its 95 % interval."""
    value, low, high = (format(figure[key] / unit, digits) for key in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


# --- What it saves to train a rung together ---------------------------------------------------------------------------

MODELS = {
    "gpt-128": "GPT, width 128 (10 layers)",
    "gpt-512": "GPT, width 512 (10 layers)",
    "resnet-18": "ResNet-18, 32×32 (10)",
    "vit": "ViT, width 192 (8)",
    "mlp": "MLP (9)",
}
TOGETHER = 8


def population_steps() -> str:
    """Return what a step takes for each configuration, one by one and together, beside what FLOPs allow."""
    steps = results_of("population-cpu.json")["steps"]
    rows = []
    for model, name in MODELS.items():
        measured = {
            row["layers"]: row
            for title, row in reversed(steps.items())  # of a pair that was measured twice the first
            if row["model"] == model and row["members"] == TOGETHER
        }
        for layers, row in sorted(measured.items()):
            alone, together = row["seconds"]["one_by_one"] * 1000, row["seconds"]["shared"] * 1000
            digits = ".0f" if alone >= 10 else ".2f"
            speed_up = alone / together
            rows.append([
                name, str(layers), format(alone, digits), format(together, digits), f"{speed_up:.2f}",
                f"{row['limit']:.2f}", f"{speed_up / row['limit']:.2f}", f"{row['serial_bytes'] / MIB:.1f}",
                f"{row['population_bytes'] / TOGETHER / MIB:.1f}",
            ])  # fmt: skip
    return markdown(
        [
            "model", "layers trained", "one by one", "together", "speed-up", "limit", "share of the limit",
            "MiB each, one by one", "together",
        ],
        grouped_rows(rows),
    )  # fmt: skip


def population_searches() -> str:
    """Return what whole searches take with populations off and on."""
    searches = results_of("population-cpu.json")["searches"]
    rows = []
    for task in ("python-source-gpt", "digits-resnet"):
        alone, together = (
            next(row for title, row in searches.items() if title.startswith(f"{task}, {engine}"))
            for engine in ("serial", "auto")
        )
        ratio = alone["seconds"] / together["seconds"]
        rows.append([
            f"`{task}`", f"{alone['seconds']:.0f} s", f"{together['seconds']:.0f} s", f"{ratio:.2f}",
            f"{alone['limit']:.2f}", f"{ratio / alone['limit']:.2f}",
        ])  # fmt: skip
    return markdown(["task", "one by one", "together", "ratio", "what the limit allows", "share"], rows)


def freezing_steps() -> str:
    """Return what freezing saves of a step's time and of what is kept for the backward pass."""
    rows = results_of("freezing-cpu.json")
    names = {"python-source-gpt": "GPT", "digits-resnet": "ResNet", "digits-mlp": "MLP"}
    whole = {row["task"]: row["kept_bytes"] for row in rows if row["trainable_layers"] == row["num_layers"]}
    return markdown(
        ["model", "layers trained", "time", "expected", "memory kept for backward", "expected"],
        grouped_rows(
            [
                f"{names[row['task']]}, {row['num_layers']} layers", str(row["trainable_layers"]),
                f"{row['time_share']:.2f}", f"{row['flops_share']:.2f}", share_of_memory(row["kept_share"]),
                share_of_memory(row["expected_kept_bytes"] / whole[row["task"]]),
            ]
            for row in rows
        ),
    )  # fmt: skip


def share_of_memory(share: float) -> str:
    """Return a share with two digits behind the point, or three of a very small one."""
    return f"{share:.2f}" if share >= 0.01 else f"{share:.3f}"


# --- What the search itself costs -------------------------------------------------------------------------------------


def search_overhead() -> str:
    """Return the time of a configuration relative to Optuna's own ask and tell, without any training."""
    rows = results_of("search-overhead-cpu.json")
    names = {"memory": "memory", "journal": "journal file", "sqlite": "SQLite"}
    ratios = {
        (row["sampler"], row["storage"], row["configurations"], row["search"]): f"{row['ratio']:.2f}"
        for row in rows
    }
    kinds = dict.fromkeys((row["sampler"], row["storage"], row["configurations"]) for row in rows)
    searches = ("full", "halving", "asynchronous")
    return markdown(
        ["storage, sampler", "configurations", *(f"`{search}`" for search in searches)],
        grouped_rows(
            [
                f"{names[storage]}, {sampler}",
                f"{number:,}",
                *(ratios.get((sampler, storage, number, search), "") for search in searches),
            ]
            for sampler, storage, number in kinds
        ),
    )


def data_workers() -> str:
    """Return what a training takes whose data are fetched ahead, beside one that fetches by itself."""
    rows = results_of("data-workers-cpu.json")["rows"]
    return markdown(
        ["images", "an example, ms", "by itself, s", "1 process", "2 processes", "limit of 1"],
        (
            [
                f"{row['side']} × {row['side']}",
                f"{row['milliseconds_per_example']:.2f}",
                f"{row['seconds']:.1f}",
                *(f"{row[name]:.2f}" for name in ("1 workers", "2 workers", "limit")),
            ]
            for row in rows
        ),
    )


def validated_together() -> str:
    """Return what rungs take whose members read each validation batch together."""
    return markdown(
        ["members", "seconds", "of each by itself"],
        (
            [f"{row['members']}", f"{row['seconds']:.2f}", f"{row['share']:.2f}"]
            for row in results_of("data-workers-cpu.json")["rungs"]
        ),
    )


def placement() -> str:
    """Return how busy a simulated cluster is, and what the choices take."""
    devices = {"many small": "800, 150, 50", "balanced": "500, 250, 250", "many large": "200, 300, 500"}
    searches = {"asynchronous": "asynchronous halving", "halving": "halving"}
    rows = sorted(results_of("placement-simulated.json"), key=lambda row: row["search"])
    return markdown(
        [
            "devices of 8, 24, 80 GiB", "search", "busy, of what an offline packing reaches",
            "busy until the last new configuration", "a choice", "of a thousand the slowest", "waiting at most",
            "held for that, first and second half",
        ],
        (
            [
                devices[row["cluster"]], searches[row["search"]], f"{row['ratio']:.2f}",
                f"{row['steady_utilisation']:.2f}", f"{row['placement_ms'] * 1000:.0f} µs",
                f"{row['slowest_placement_ms']:.2f} ms", f"{row['most_waiting']:,}",
                f"{row['first_half_kib']:.0f}, {row['second_half_kib']:.0f} KiB",
            ]
            for row in rows
        ),
    )  # fmt: skip


def ray_overhead() -> str:
    """Return what the driver of a Ray cluster takes for an evaluation, beside Ray Tune's."""
    rows = sorted(results_of("ray-overhead.json"), key=lambda row: row["program"] != "frostline")
    alone = {row["program"]: row["per_second"] for row in rows if row["workers"] == 1}
    names = {"frostline": "frostline", "Ray Tune, ASHA": "Ray Tune"}
    return markdown(
        [
            "", "workers", "evaluations", "a second", "times one worker", "executor, ms of a core an evaluation",
            "the driver's process",
        ],
        (
            [
                names[row["program"]], str(row["workers"]), f"{row['evaluations']:,}", f"{row['per_second']:.0f}",
                f"{row['per_second'] / alone[row['program']]:.1f}",
                "" if row["executor_ms"] is None else f"{row['executor_ms']:.1f}", f"{row['driver_ms']:.1f}",
            ]
            for row in rows
        ),
    )  # fmt: skip


def frameworks() -> str:
    """Return what is found in a framework within the same time, by frostline and by Optuna."""
    rows = results_of("frameworks-cpu.json")
    groups = dict.fromkeys((row["framework"], row["epochs"], row["batch"], row["program"]) for row in rows)
    lines = []
    for group in groups:
        seeds = [row for row in rows if (row["framework"], row["epochs"], row["batch"], row["program"]) == group]
        framework, epochs, batch, program = group
        lines.append(
            [
                f"{framework}, {epochs} epochs, batches of {batch}",
                program,
                f"{fmean(row['score'] for row in seeds):.3f}",
                ", ".join(f"{row['score']:.2f}" for row in seeds),
                f"{fmean(row['seconds'] for row in seeds):.0f}",
                f"{fmean(row['samples'] for row in seeds):,.0f}",
                f"{fmean(row['trainings'] for row in seeds):.0f}",
            ]
        )
    head = ("full training", "tuned by", "best loss", "each seed", "seconds", "samples", "configurations")
    return markdown(head, grouped_rows(lines))


def hydra_sweepers() -> str:
    """Return what two sweepers of Hydra find within the same time."""
    rows = results_of("hydra-sweepers-cpu.json")
    lines = []
    for sweeper in dict.fromkeys(row["sweeper"] for row in rows):
        seeds = [row for row in rows if row["sweeper"] == sweeper]
        lines.append(
            [
                sweeper,
                f"{fmean(row['score'] for row in seeds):.3f}",
                ", ".join(f"{row['score']:.2f}" for row in seeds),
                f"{fmean(row['seconds'] for row in seeds):.0f}",
                f"{fmean(row['jobs'] for row in seeds):.0f}",
            ]
        )
    return markdown(("swept by", "best loss", "each seed", "seconds", "jobs"), lines)


def derived_tasks() -> str:
    """Return the seconds of a search of a Lightning module, as trials and as a task, and their ratio seed by seed."""
    rows = results_of("derived-tasks-cpu.json")["outcomes"]
    first, second = dict.fromkeys(row["way"] for row in rows)
    lines = []
    for seed in dict.fromkeys(row["seed"] for row in rows):
        trials, task = (
            next(row for row in rows if (row["way"], row["seed"]) == (way, seed)) for way in (first, second)
        )
        seconds, scores = (
            [f"{each[name]:.{digits}f}" for each in (trials, task)]
            for name, digits in (("seconds", 1), ("score", 3))
        )
        lines.append(
            [str(seed), *seconds, f"{trials['seconds'] / task['seconds']:.1f}", str(task["evaluations"]), *scores]
        )
    head = ("seed", "trials, s", "task, s", "ratio", "trainings of each", "best loss of trials", "of the task")
    return markdown(head, lines)


def group_words() -> str:
    """Return how well tuned DeltaProduct models track words over groups, by their blocks and Householder steps."""
    rows = results_of("group-words-cpu.json")
    lines = []
    for values in dict.fromkeys(tuple(row["case"].items()) for row in rows):
        case = dict(values)
        seeds = [row for row in rows if row["case"] == case]
        lines.append([
            f"{case['group']}, width {case['width']}, {case['words']:,} words of {case['length']}",
            f"{case['budget']:.0f}", str(case["num_blocks"]), str(case["num_householders"]),
            f"{fmean(row['score'] for row in seeds):.3f}", ", ".join(f"{row['score']:.3f}" for row in seeds),
            f"{fmean(row['own'] for row in seeds):.3f}",
        ])  # fmt: skip
    head = (
        "group, full training",
        "budget",
        "blocks",
        "steps a token",
        "best found",
        "each seed",
        "the task's own",
    )
    return markdown(head, grouped_rows(lines))


def joint_update() -> str:
    """Return what updating all members' weights at once makes of a stacked step, by numbers trained and members."""
    head = ("numbers a member trains", "members", "one by one, ms", "at once, ms", "faster (quartiles)")
    lines = []
    for row in results_of("joint-update-cpu.json")["rows"]:
        seconds, faster = row["seconds"], row["faster"]
        quartiles = f"{faster['value']:.2f}× ({faster['low']:.2f} to {faster['high']:.2f})"
        times = (f"{1e3 * seconds[way]:.2f}" for way in ("each", "joint"))
        lines.append([f"{row['numbers']:,}", f"{row['members']}", *times, quartiles])
    return markdown(head, grouped_rows(lines))


RESULT_TABLES: dict[str, Callable[[], str]] = {
    "population-steps": population_steps,
    "population-searches": population_searches,
    "freezing-steps": freezing_steps,
    "search-overhead": search_overhead,
    "data-workers": data_workers,
    "validated-together": validated_together,
    "placement": placement,
    "ray-overhead": ray_overhead,
    "frameworks": frameworks,
    "hydra-sweepers": hydra_sweepers,
    "derived-tasks": derived_tasks,
    "group-words": group_words,
    "joint-update": joint_update,
}
