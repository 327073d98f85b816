"""The tables of what searches find for their budgets, made from what the benchmarks of searches wrote."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from statistics import fmean, median

import numpy as np

from tools.result_tables import NO_BREAK, grouped_rows, interval, markdown, results_of

CONTESTANTS = {
    "default": "default",
    "default, running statistics": "default, running statistics",
    "random, full trainings": "random, full trainings",
    "TPE, full trainings": "TPE, full trainings",
    "halving over samples, thirds": "halving over samples, thirds",
    "halving over samples, fine": "halving over samples, fine",
    "asynchronous halving over samples": "asynchronous halving over samples (ASHA)",
    "Hyperband over samples": "Hyperband over samples",
    "Optuna's Hyperband pruner with TPE": "Optuna's Hyperband pruner with TPE",
}
_NOT_BY_TABLE = ("default, running statistics", "Hyperband over samples")
BUDGETS = ("3", "4", "6", "8", "12", "24")
HELD_OUT = ("byte-retention", "digits-vit", "tied-gpt")
"""The tables that were recorded when all of the default had been chosen."""


def contest_means(*names: str) -> str:
    """Return regret and the share of seeds that end well, in the mean over the recorded tables, for each budget.

    With ``names`` it is the mean over these.
    """
    recorded = results_of("contest.json")["tables"]
    tables = [recorded[name] for name in names or recorded]
    means = {
        (method, budget): [
            fmean(table["budgets"][budget][method][key] for table in tables) for key in ("regret", "ends_well")
        ]
        for method in CONTESTANTS
        for budget in BUDGETS
    }
    least = {budget: min(means[method, budget][0] for method in CONTESTANTS) for budget in BUDGETS}

    def cell(method: str, budget: str) -> str:
        regret, ends_well = means[method, budget]
        shown = f"**{regret:.3f}**" if regret == least[budget] else f"{regret:.3f}"
        return f"{shown}{NO_BREAK}/{NO_BREAK}{ends_well * 100:.0f}{NO_BREAK}%"

    return markdown(
        ["regret / ends well, for a budget of", *BUDGETS],
        ([name, *(cell(method, budget) for budget in BUDGETS)] for method, name in CONTESTANTS.items()),
    )


def contest_tables() -> str:
    """Return the regret on every recorded table at a budget of six full trainings, and the cost to match the best rival.

    Without Hyperband, which has no answer by then, and the default of before.
    """
    contestants = {name: CONTESTANTS[name] for name in CONTESTANTS if name not in _NOT_BY_TABLE}
    rows = []
    for table, found in results_of("contest.json")["tables"].items():
        figures = {method: found["budgets"]["6"][method] for method in contestants}
        least = min(figure["regret"] for figure in figures.values())
        cells = {
            method: f"**{each['regret']:.3f}**" if each["regret"] == least else f"{each['regret']:.3f}"
            for method, each in figures.items()
        }
        cells["default"] += f" ({figures['default']['low']:.3f} to {figures['default']['high']:.3f})"
        matched = found["cost_to_match"]
        rows.append([f"`{table}`", *cells.values(), f"{matched['regret']:.3f}", f"{matched['times_less']:.1f}"])
    return markdown(
        ["regret at a budget of 6", *contestants.values(), "best rival at 12", "times less for as much"], rows
    )


def what_layers_gain(name: str = "what-layers-gain.json") -> str:
    """Return by how much the default's regret differs from that of the same search with all layers; below 0 it is less."""
    rows = results_of(name)["rows"]
    names = list(dict.fromkeys(row["table"] for row in rows))
    budgets = list(dict.fromkeys(row["budget"] for row in rows))
    found = {(row["table"], row["budget"]): row for row in rows}
    lines = []
    for name in names:
        differences = [found[name, budget]["difference"] for budget in budgets]
        lines.append([f"`{name}`", *(interval(each, digits="+.3f") for each in differences)])
    for label, key in (("mean: default", "default"), ("mean: all layers", "all_layers")):
        means = [fmean(found[name, budget][key] for name in names) for budget in budgets]
        lines.append([label, *(f"{mean:.3f}" for mean in means)])
    return markdown(("regret, default less all layers", *(f"{budget:g}" for budget in budgets)), lines)


def what_limits() -> str:
    """Return how many times less the default needs than the best rival at 12, if some of its rungs ranked perfectly."""
    record = results_of("what-limits.json")
    names, means = [*record["geometric_means"]], record["geometric_means"]
    rows = [[f"`{table}`", *(f"{found[name]:.1f}" for name in names)] for table, found in record["tables"].items()]
    rows.append(["geometric mean", *(f"**{means[name]:.2f}**" for name in names)])
    return markdown(["times less than the best rival at 12", *names], rows)


def where_lost() -> str:
    """Return what each step of a search adds to its regret at a budget of 6."""
    record = results_of("what-limits.json")["lost"]
    steps = [name for name in next(iter(record.values())) if name != "tried"]
    rows = [
        [f"`{table}`", *(f"{lost[step]:.3f}" for step in steps), f"{sum(lost[step] for step in steps):.3f}"]
        for table, lost in record.items()
    ]
    sums = [fmean(lost[step] for lost in record.values()) for step in steps]
    rows.append(["mean", *(f"**{each:.3f}**" for each in sums), f"**{sum(sums):.3f}**"])
    return markdown(["regret at a budget of 6", *steps, "in all"], rows)


def ladders() -> str:
    """Return the mean regret on each ladder for every budget, and how it compares with that on all layers."""
    rows = results_of("ladders.json")["ladders"]
    lines = []
    for row in rows:
        means = (f"{mean:.3f}" for mean in row["means"].values())
        worst = row["worst"]
        lines.append([row["ladder"], *means, f"{row['ratio']:.2f}", f"{worst['ratio']:.2f} (`{worst['table']}`)"])
    return markdown(("ladder", *rows[0]["means"], "against all layers", "worst table"), lines)


def ladders_held_out() -> str:
    """Return which ladder is chosen without each table, and what it does there."""
    chosen = results_of("ladders.json")["chosen_without"]
    lines = ([f"`{table}`", each["ladder"], f"{each['ratio']:.2f}"] for table, each in chosen.items())
    return markdown(("table", "chosen by the others", "against all layers, on it"), lines)


def joint_model() -> str:
    """Return what a search finds on recorded tables that a joint model has a say in, beside the default."""
    return _ways("tables", "against the default", "worst table")


def joint_model_dense() -> str:
    """Return the same where the configurations lie close together."""
    return _ways("dense", "against the default")


def _ways(section: str, *head: str) -> str:
    rows = results_of("joint-model.json")[section]["ways"]
    lines = []
    for row in rows:
        worst = max(row["tables"], key=lambda table: row["tables"][table])
        beside = f"{row['ratio']:.2f} ({row['low']:.2f} to {row['high']:.2f})"
        compared = ["", ""] if row is rows[0] else [beside, f"{row['tables'][worst]:.2f} (`{worst}`)"]
        means = (f"{mean:.3f}" for mean in row["means"].values())
        lines.append([row["way"], *means, *compared[: len(head)], f"{row['seeds']}"])
    return markdown(("", *rows[0]["means"], *head, "seeds"), lines)


def joint_model_held_out() -> str:
    """Return which way is chosen without each table, and what it does there."""
    chosen = results_of("joint-model.json")["tables"]["chosen_without"]
    lines = ([f"`{table}`", each["way"], f"{each['ratio']:.2f}"] for table, each in chosen.items())
    return markdown(("table", "chosen by the others", "against the default, on it"), lines)


def continuous_spaces() -> str:
    """Return what is found in continuous spaces, and by how much that is worse than what the default finds."""
    rows = results_of("continuous-spaces.json")
    lines = []
    for row in rows:
        conditions = (row["task"], row["budget"], "default")
        [default] = [each for each in rows if (each["task"], each["budget"], each["method"]) == conditions]
        worse = "" if row is default else _paired_difference(row["losses"], default["losses"])
        line = [row["task"], row["method"], f"{fmean(row['losses']):.3f}", f"{median(row['losses']):.3f}", worse]
        lines.append([*line, f"{len(row['losses'])}"])
    head = ("task", "method", "mean loss", "median", "less the default's", "seeds")
    return markdown(head, grouped_rows(lines))


def _paired_difference(losses: Sequence[float], others: Sequence[float]) -> str:
    """Return the mean difference over seeds with its 95 % bootstrap interval."""
    differences = np.subtract(losses, others)
    drawn = np.random.default_rng(0).integers(len(differences), size=(5000, len(differences)))
    low, high = np.quantile(differences[drawn].mean(axis=1), (0.025, 0.975))
    return f"{differences.mean():+.3f} ({low:+.3f} to {high:+.3f})"


def measured_scores() -> str:
    """Return how rungs rank by running statistics of batch normalisation, and by measured ones."""
    rows = (
        [
            f"`{each['table']}`",
            f"{each['layers']} layers, {each['share'] * 100:.0f} %",
            f"{each['running']:.2f}",
            f"{each['measured']:.2f}",
            interval(each["difference"], digits="+.2f"),
        ]
        for each in results_of("measured-scores.json")
    )
    return markdown(["table", "rung", "running", "measured", "difference"], rows)


def who_climbs() -> str:
    """Return which share of the best climbs from few layers, by score alone and unlike each other."""
    lines = (
        [
            f"`{row['name']}`",
            f"{row['hyperparameters']}",
            f"{row['by_score']:.2f}",
            f"{row['varied']:.2f}",
        ]
        for row in results_of("who-climbs.json")
    )
    return markdown(("task", "hyperparameters", "kept by score alone", "kept unlike each other"), lines)


def clock_contest() -> str:
    """Return what is found in real trainings in the same time, and by how much that is worse than the default's answer."""
    record = results_of("clock-contest.json")
    lines = []
    for task, found in record["tasks"].items():
        for row in found["methods"]:
            name, worse = row["method"], ""
            if row["budget"] != record["budget"]:
                name = f"{name}, budget {row['budget']:g}"
            elif row["interval"] is not None:
                low, high = row["interval"]
                worse = f"{row['less_the_default']:+.3f} ({low:+.3f} to {high:+.3f})"
            line = [f"`{task}`", name, f"{row['loss']:.3f}", f"{row['median']:.3f}", worse]
            lines.append([*line, f"{row['seconds']:.1f}", f"{row['full_trainings']:.1f}", f"{found['seeds']}"])
    head = ("task", "method", "mean loss", "median", "less the default's", "seconds", "trained in full", "seeds")
    return markdown(head, grouped_rows(lines))


def answers() -> str:
    """Return how often answers were as good as one's own, and where they stood among all that was tried."""
    lines: dict[str, list[dict[str, float]]] = {}
    for row in results_of("answers-cpu.json"):
        lines.setdefault(row["task"], []).append(row)
    head = (
        "task",
        "seeds",
        "worse than one's own",
        "better",
        "in the upper quarter of those tried",
        "the best of them",
    )
    counts = {
        task: (
            sum(row["score"] > row["own"] for row in rows),
            sum(row["score"] < row["own"] for row in rows),
            sum(row["place"] <= max(1, row["tried"] // 4) for row in rows),
            sum(row["place"] == 1 for row in rows),
        )
        for task, rows in lines.items()
    }
    return markdown(head, [[task, f"{len(lines[task])}", *map(str, each)] for task, each in counts.items()])


SEARCH_TABLES: dict[str, Callable[[], str]] = {
    "contest-means": contest_means,
    "contest-held-out": partial(contest_means, *HELD_OUT),
    "contest-tables": contest_tables,
    "what-layers-gain": what_layers_gain,
    "what-limits": what_limits,
    "where-lost": where_lost,
    "ladders": ladders,
    "ladders-held-out": ladders_held_out,
    "joint-model": joint_model,
    "joint-model-dense": joint_model_dense,
    "joint-model-held-out": joint_model_held_out,
    "continuous-spaces": continuous_spaces,
    "measured-scores": measured_scores,
    "who-climbs": who_climbs,
    "clock-contest": clock_contest,
    "answers": answers,
}
