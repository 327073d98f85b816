"""The tables of the page on fine-tunings, made from what `benchmarks/fine_tunings.py` and `benchmarks/contest.py` wrote."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from tools.result_tables import NO_BREAK, grouped_rows, markdown, results_of
from tools.search_tables import BUDGETS, CONTESTANTS, what_layers_gain

WEIGHTS = ("pretrained", "random")
AUDITS = {"pretrained": "pretrained", "random": "random", "lora": "pretrained, with adapters"}
HEAD = ("task", "layers trained", "Kendall: pretrained", "random", "Spearman: pretrained", "random")


def agreement_by_layers() -> str:
    """Return how each number of trained layers ranks on all samples, from the checkpoint and from random weights."""
    lines = []
    for task, audits in results_of("fine-tunings.json").items():
        changes = {row["layers"]: row["kendall"] for row in audits.get("difference", [])}
        lines += [
            [*line, shown(changes.get(layers), sign="+")]
            for layers, line in by_layers(task, audits, is_cheap=False).items()
            if layers < num_layers_of(audits)
        ]
    return markdown((*HEAD, "Kendall, pretrained less random"), grouped_rows(lines))


def cheap_agreement() -> str:
    """Return the same on a fifth of the samples."""
    lines = [
        line
        for task, audits in results_of("fine-tunings.json").items()
        for line in by_layers(task, audits, is_cheap=True).values()
    ]
    return markdown(HEAD, grouped_rows(lines))


def by_layers(task: str, audits: dict[str, Any], *, is_cheap: bool) -> dict[int, list[str]]:
    """Return the line of each number of trained layers: both measures, from both kinds of weights."""
    columns = {weights: rows_of(audits, weights, is_cheap=is_cheap) for weights in WEIGHTS}
    return {
        layers: [
            f"`{task}`",
            f"{layers} of {num_layers_of(audits)}",
            *(
                shown(columns[weights].get(layers, {}).get(measure))
                for measure in ("kendall", "spearman")
                for weights in WEIGHTS
            ),
        ]
        for layers in columns["pretrained"]
    }


def adapter_agreement() -> str:
    """Return how the adapters of few layers rank full training of all adapters, beside fine-tuning without adapters."""
    lines = []
    for task, audits in results_of("fine-tunings.json").items():
        changes = {row["layers"]: row["kendall"] for row in audits.get("lora_difference", [])}
        for is_cheap, share in ((False, "all"), (True, "a fifth")):
            ours, plain = (rows_of(audits, audit, is_cheap=is_cheap) for audit in ("lora", "pretrained"))
            whole = num_layers_of(audits, "lora")
            for layers, row in ours.items():
                if layers == whole and not is_cheap:
                    continue
                # All layers with adapters stand beside all layers, of which one has none.
                beside = plain.get(num_layers_of(audits) if layers == whole else layers, {})
                change = None if is_cheap else changes.get(layers)
                lines.append([
                    f"`{task}`", share, f"{layers} of {whole}", shown(row["kendall"]), shown(beside.get("kendall")),
                    shown(row["spearman"]), shown(beside.get("spearman")), shown(change, sign="+"),
                ])  # fmt: skip
    head = (
        "task", "samples", "layers trained", "Kendall: LoRA", "without", "Spearman: LoRA", "without",
        "Kendall, LoRA less without",
    )  # fmt: skip
    return markdown(head, grouped_rows(lines))


def num_layers_of(audits: dict[str, Any], audit: str = "pretrained") -> int:
    """Return how many layers the task's model has; with adapters, how many have some."""
    return int(audits[audit]["num_layers"])


def fine_tuning_facts() -> str:
    """Return what full trainings came to: how far scores spread, and how much of that is noise."""
    lines = []
    for task, audits in results_of("fine-tunings.json").items():
        for audit, name in AUDITS.items():
            facts = audits.get(audit)
            if facts is None:
                continue
            within = (
                "" if facts["within_noise"] is None else f"{facts['within_noise']} of {facts['configurations']}"
            )
            scores = (f"{facts[name]:.3f}" for name in ("best", "own", "median"))
            lines.append([f"`{task}`", name, *scores, within, shown(facts["ceiling"])])
    head = (
        "task",
        "weights",
        "best loss",
        "the task's own",
        "median",
        "within seed noise of the best",
        "Spearman between two seeds",
    )
    return markdown(head, grouped_rows(lines))


def fine_tuning_contest(name: str = "contest-fine-tunings.json") -> str:
    """Return regret and the share of seeds that end well on each table, for each budget."""
    lines = []
    for task, table in results_of(name)["tables"].items():
        for method, shown_as in CONTESTANTS.items():
            if method not in table["budgets"][BUDGETS[0]]:
                continue
            figures = [table["budgets"][budget][method] for budget in BUDGETS]
            cells = [
                f"{figure['regret']:.3f}{NO_BREAK}/{NO_BREAK}{figure['ends_well'] * 100:.0f}{NO_BREAK}%"
                for figure in figures
            ]
            lines.append([f"`{task}`", shown_as, *cells])
    return markdown(("regret / ends well, for a budget of", "", *BUDGETS), grouped_rows(lines))


def rows_of(audits: dict[str, Any], weights: str, *, is_cheap: bool) -> dict[int, Any]:
    """Return the figures of one audit by the number of layers, on all samples or on few of them."""
    rows = audits.get(weights, {}).get("rows", [])
    full = max((row["samples"] for row in rows), default=0)
    return {row["layers"]: row for row in rows if (row["samples"] < full) == is_cheap}


def shown(figure: dict[str, float] | None, *, sign: str = "") -> str:
    """Return a figure with its interval, to two digits; nothing where it was not measured."""
    if figure is None:
        return ""
    # Added to 0 so that nothing is "-0.00".
    value, low, high = (f"{round(figure[key], 2) + 0.0:{sign}.2f}" for key in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


FINE_TUNING_TABLES: dict[str, Callable[[], str]] = {
    "fine-tuning-agreement": agreement_by_layers,
    "fine-tuning-cheap": cheap_agreement,
    "fine-tuning-facts": fine_tuning_facts,
    "fine-tuning-adapters": adapter_agreement,
    "fine-tuning-contest": fine_tuning_contest,
    "fine-tuning-adapters-contest": partial(fine_tuning_contest, "contest-fine-tunings-lora-flops.json"),
    "fine-tuning-adapters-layers": partial(what_layers_gain, "what-layers-gain-lora.json"),
}
