"""How good an answer is among all that its search tried, each trained in full, and beside one's own configuration.

    python benchmarks/answers.py [--tasks README,digits-mlp] [--seeds 20] [--budget 6] [--json FILE]

Each task is searched by each seed for the budget in full trainings, from its own configuration; README is the example of its
page. Then every configuration that the search tried is trained in full, as the search trains those that reach the top.
Printed is the place of the answer among them by these scores, 1 being the best. The same command goes on where it was
stopped.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from frostline.process import prepare_process

prepare_process()

import frostline
from frostline.run.tuning import own_configuration
from frostline.tasks.loading import load_task
from frostline.text_tables import text_table

README = Path(__file__).parents[1] / "README.md"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one search found."""

    task: str
    seed: int
    score: float
    own: float
    tried: int
    place: int

    @property
    def is_upper_quarter(self) -> bool:
        return self.place <= max(1, self.tried // 4)


def answer(name: str, seed: int, budget: float) -> Answer:
    """Search a task by one seed, and train in full what was tried."""
    with tempfile.TemporaryDirectory() as runs:
        search = of_the_readme if name == "README" else of_a_task
        found = search(name, runs, "search", seed=seed, budget=budget)
        tried = [dict(each.hyperparameters) for each in found.history.configurations]
        whole: dict[str, Any] = {"search": frostline.FullFidelity, "configurations": len(tried), "initial": tried}
        full = search(name, runs, "whole", seed=seed, **whole)
    assert found.own is not None
    assert found.own.score is not None
    assert found.score is not None
    scores = [each.score for each in full.history.evaluations() if each.score is not None]
    # Trained together and one by one scores differ in the last digits.
    place = 1 + sum(score < found.score * (1 - 1e-4) for score in scores)
    return Answer(task=name, seed=seed, score=found.score, own=found.own.score, tried=len(tried), place=place)


def of_the_readme(_name: str, runs: str, study: str, **plan: Any) -> frostline.TuneResult:
    """Search the example of the README, whose script is run up to where it searches."""
    [(script, samples)] = re.findall(
        r"```python\n(.*?)result = .*?samples=([\d_]+)", README.read_text(), re.DOTALL
    )
    names: dict[str, Any] = {"__name__": "readme"}
    exec(compile(script, "readme.py", "exec"), names)
    plan = {"initial": names["today"], **plan}
    options: dict[str, Any] = {"samples": int(samples), "study": study, "storage": ":memory:", "runs": runs}
    return frostline.tune(names["objective"], observer=frostline.SILENT, **options, **plan)


def of_a_task(name: str, runs: str, study: str, **plan: Any) -> frostline.TuneResult:
    """Search a built-in task."""
    task = load_task(name, {})
    return frostline.tune_task(
        task,
        study=study,
        plan=frostline.SearchPlan(**{"initial": own_configuration(task), **plan}),
        training=frostline.TrainingOptions(runs=Path(runs), threads=1),
        storage=":memory:",
        observer=frostline.SILENT,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", default="README,digits-mlp")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--budget", type=float, default=6)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    known = arguments.json is not None and arguments.json.exists()
    answers = [Answer(**each) for each in json.loads(arguments.json.read_text())] if known else []
    for name in arguments.tasks.split(","):
        for seed in range(arguments.seeds):
            if any((each.task, each.seed) == (name, seed) for each in answers):
                continue
            answers.append(answer(name, seed, arguments.budget))
            print(answers[-1], flush=True)
            if arguments.json:
                arguments.json.write_text(json.dumps([asdict(each) for each in answers], indent=1) + "\n")
    rows = [("task", "seeds", "worse than one's own", "better", "in the upper quarter", "the best")]
    for name in arguments.tasks.split(","):
        of_task = [each for each in answers if each.task == name]
        counts = (
            sum(each.score > each.own for each in of_task),
            sum(each.score < each.own for each in of_task),
            sum(each.is_upper_quarter for each in of_task),
            sum(each.place == 1 for each in of_task),
        )
        rows.append((name, f"{len(of_task)}", *map(str, counts)))
    print(text_table(rows))


if __name__ == "__main__":
    main()
