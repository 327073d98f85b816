"""Searches compared on recorded tables, by replay: how long each takes to a configuration as good as the table's best.

    python benchmarks/replay.py [TABLE ...] [--seeds 100] [--configurations 27] [--audit 24] [--workers 1]
                                [--typical-seconds LEVEL] [--tolerance LOSS | --deviations 2] [--results FOLDER]

The tables are those of `frostline audit --table`; by default all of benchmarks/tables. Every seed sets other
configurations aside for an audit, from which alone the recommended ladder is made, and all methods search the others,
in the same order. The goal is a configuration within the seed noise, two standard deviations, of the best of those
searched; in a table without repeats, one of the best 5 %. The answer's quality is the mean over the recorded seeds. A
method that misses starts again with fresh configurations until none is left. "Recommended by the whole table" knows
what is searched: it is what an audit of everything would have given. `--typical-seconds 0.25` gives every configuration
the lower quartile of its cell's seconds over all of them, for tables recorded while others used the machine.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path

import numpy as np

from frostline.audit.csv_table import read_table
from frostline.audit.landscape import Landscape
from frostline.audit.noise import seed_noise
from frostline.audit.recommendation import recommend
from frostline.research.replay.comparison import Comparison, Conditions, compare
from frostline.research.replay.comparison_table import comparison_record, comparison_table
from frostline.research.replay.methods import SearchMethod, halving, realigned, recommended, usual_methods
from frostline.research.replay.recorded import with_typical_seconds
from frostline.search.ladder import Ladder

HERE = Path(__file__).parent
SHARE_WITHOUT_REPEATS = 0.05
OURS = "recommended by an audit"
HINDSIGHT = "recommended by the whole table"
RIVALS = (
    "halving, samples only from 1/5",
    "halving, samples only from 1/9",
    "Hyperband, samples only from 1/9",
    "Optuna's Hyperband pruner with TPE",
)


def recommend_ladder(audited: Landscape, *, configurations: int, tolerance: float | None) -> tuple[Ladder, int]:
    chosen = recommend(audited, configurations=configurations, tolerance=tolerance).chosen
    return chosen.ladder, chosen.reduction_factor


def conditions_of(landscape: Landscape, arguments: argparse.Namespace) -> Conditions:
    noise = seed_noise(landscape)
    tolerance, share = arguments.tolerance, 0.0
    if tolerance is None and noise is None:
        tolerance, share = 0.0, SHARE_WITHOUT_REPEATS
    elif tolerance is None:
        tolerance = arguments.deviations * noise.standard_deviation
    return Conditions(
        num_seeds=arguments.seeds,
        workers=arguments.workers,
        audited=arguments.audit,
        tolerance=tolerance,
        share=share,
    )


def aligned_methods(landscape: Landscape, *, configurations: int) -> list[SearchMethod]:
    """Blind ladders whose lowest rung is one or two layers, as they are and read through a surrogate."""
    full = landscape.full
    sizes = {"num_layers": full.trainable_layers, "full_samples": full.samples}
    tops = [(full.trainable_layers, full.samples // 2), (full.trainable_layers, full.samples)]
    methods = []
    for layers in (1, 2):
        ladder = Ladder.explicit([(layers, full.samples // 2), *tops], **sizes)
        name = f"halving from {layers} of {full.trainable_layers} layers on 1/2"
        methods.append(halving(name, ladder, configurations=configurations))
        methods.append(realigned(f"{name}, realigned", ladder, configurations=configurations))
    return methods


def verdicts(comparison: Comparison) -> list[str]:
    """Sentences on the two thresholds: a tenth of random search, 1.5 times cheaper than the best rival."""
    against_random = comparison.ratio(OURS, comparison.results[0].name)
    best = min(RIVALS, key=lambda name: comparison.median(name).value)
    saved = comparison.ratio(best, OURS)
    cheapest = min(RIVALS, key=lambda name: np.median(comparison.result(name).run_seconds))
    run_of_random = comparison.run_ratio(OURS, comparison.results[0].name)
    run_saved = comparison.run_ratio(cheapest, OURS)
    ends_well = {name: f"{comparison.result(name).run_successes.mean():.0%}" for name in (OURS, cheapest)}
    return [
        f"One run: recommended takes {run_of_random.value:.3g} of random search's seconds (95 %: {run_of_random.low:.3g} to "
        f"{run_of_random.high:.3g}), and {cheapest}, the cheapest rival, {run_saved.value:.3g} times as long as recommended "
        f"({run_saved.low:.3g} to {run_saved.high:.3g}); they meet the goal in {ends_well[OURS]} and {ends_well[cheapest]} "
        f"of the seeds.",
        f"To the goal: recommended over random search: {against_random.value:.3g} of its median seconds "
        f"(95 %: {against_random.low:.3g} to {against_random.high:.3g}); wanted is at most 0.1.",
        f"{best}, the best rival, over recommended: {saved.value:.3g} times "
        f"(95 %: {saved.low:.3g} to {saved.high:.3g}); wanted is at least 1.5.",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="*", type=Path)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--configurations", type=int, default=27, help="of one run of a search")
    parser.add_argument("--audit", type=int, default=24, help="how many are set aside")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--tolerance", type=float, help="in units of the loss; by default the seed noise's")
    parser.add_argument("--deviations", type=float, default=2.0, help="of the seed noise: what is near enough")
    parser.add_argument("--typical-seconds", type=float, metavar="LEVEL", help="a quantile, such as 0.25")
    parser.add_argument("--without-recommended", action="store_true")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    arguments = parser.parse_args()
    for path in arguments.tables or sorted((HERE / "tables").glob("*.csv.gz")):
        landscape = read_table(path)
        if arguments.typical_seconds is not None:
            landscape = with_typical_seconds(landscape, level=arguments.typical_seconds)
        conditions = conditions_of(landscape, arguments)
        methods = list(usual_methods(landscape, configurations=arguments.configurations))
        if not arguments.without_recommended:
            from_audit = partial(
                recommend_ladder,
                configurations=arguments.configurations,
                # Without repeats there is none: what is near enough is then up to the recommendation.
                tolerance=conditions.tolerance or None,
            )
            methods += aligned_methods(landscape, configurations=arguments.configurations)
            methods.append(recommended(from_audit, configurations=arguments.configurations))
            ladder, factor = from_audit(landscape)
            methods.append(
                halving(HINDSIGHT, ladder, configurations=arguments.configurations, reduction_factor=factor)
            )
        comparison = compare(landscape, methods, conditions)
        print(comparison_table(comparison), end="\n\n")
        record = comparison_record(comparison) | {
            "table": path.name,
            "configurations_of_a_run": arguments.configurations,
            "seconds_are": "as recorded"
            if arguments.typical_seconds is None
            else f"quantile {arguments.typical_seconds}",
        }
        if not arguments.without_recommended:
            record["verdicts"] = verdicts(comparison)
            print("\n".join(verdicts(comparison)), end="\n\n")
        arguments.results.mkdir(parents=True, exist_ok=True)
        goal = "" if arguments.deviations == 2 else f"-within-{arguments.deviations:g}"
        name = f"replay-{path.name.removesuffix('.csv.gz')}-{arguments.configurations}{goal}.json"
        target = arguments.results / name
        target.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
