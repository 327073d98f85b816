"""Draw regret against cost from what `benchmarks/contest.py --json` measured: the mean over its tables, for each method.

    python benchmarks/contest_figure.py [benchmarks/results/contest.json] [docs/figures/regret.svg]

Drawn by plotly in the system's chromium, as the pictures of the pages are.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import plotly.graph_objects as go
from playwright.sync_api import sync_playwright

HERE = Path(__file__).parent
# Without Hyperband, which has no answer before a budget of twelve.
DRAWN = {
    "default": "frostline",
    "halving over samples, thirds": "halving over samples, thirds",
    "halving over samples, fine": "halving over samples, fine",
    "asynchronous halving over samples": "asynchronous halving (ASHA)",
    "Optuna's Hyperband pruner with TPE": "Optuna: Hyperband, TPE",
    "TPE, full trainings": "Optuna: TPE, full trainings",
    "random, full trainings": "random search",
}
# Okabe and Ito's, told apart by those who see no red or green.
COLOURS = ("#000000", "#0072B2", "#56B4E9", "#009E73", "#D55E00", "#E69F00", "#999999")


def figure(record: dict) -> go.Figure:
    """Return the figure of a contest's record."""
    tables = record["tables"].values()
    budgets = [float(budget) for budget in next(iter(tables))["budgets"]]
    drawn = go.Figure()
    for (method, name), colour in zip(DRAWN.items(), COLOURS, strict=True):
        regrets = [
            np.mean([table["budgets"][f"{budget:g}"][method]["regret"] for table in tables]) for budget in budgets
        ]
        width = 4 if method == "default" else 2
        drawn.add_scatter(
            x=budgets, y=regrets, name=name, mode="lines+markers", line={"color": colour, "width": width}
        )
    ticks = {"tickmode": "array", "tickvals": budgets, "ticktext": [f"{budget:g}" for budget in budgets]}
    drawn.update_layout(
        template="plotly_white",
        width=760,
        height=420,
        margin={"l": 70, "r": 10, "t": 10, "b": 50},
        xaxis={"title": "cost in full trainings", "type": "log", **ticks},
        yaxis={"title": f"regret, mean of {len(record['tables'])} recorded tasks", "type": "log", "dtick": "D2"},
    )
    return drawn


def svg_of(drawn: go.Figure) -> str:
    """Return the figure as the text of an SVG file."""
    with sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        page.set_content(drawn.to_html(include_plotlyjs=True, div_id="figure"))
        url = page.evaluate("Plotly.toImage('figure', {format: 'svg', width: 760, height: 420})")
        browser.close()
    return unquote(url.partition(",")[2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", nargs="?", type=Path, default=HERE / "results" / "contest.json")
    parser.add_argument("figure", nargs="?", type=Path, default=HERE.parent / "docs" / "figures" / "regret.svg")
    arguments = parser.parse_args()
    arguments.figure.write_text(svg_of(figure(json.loads(arguments.record.read_text()))) + "\n")


if __name__ == "__main__":
    main()
