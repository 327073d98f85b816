"""What is said of a search wherever it is shown: what it cost, and the command that goes on from it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from frostline.inputs.json_values import parse_assignments
from frostline.inputs.task_names import names_a_task
from frostline.run.installed_programs import frostline_program
from frostline.run.outcome.overfitting import overfitting_lines
from frostline.search.algorithms.silence import silent_rungs
from frostline.search.budgets.savings import paces_of_both, unprofitable_paces
from frostline.wording import counted, duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.records import Configuration, Direction, Evaluation, Fidelity
    from frostline.run.outcome.summary import Summary
    from frostline.search.history import History
    from frostline.store.terms import Terms


def score_name(metric: str | None) -> str:
    """Return what a score is called."""
    return "score" if metric is None else metric


def score_words(score: float, direction: Direction, metric: str | None = None) -> str:
    """Return a score with its name and which scores are better: "score 3.8788 (lower is better)"."""
    return f"{score_name(metric)} {score:.5g} ({'lower' if direction == 'minimize' else 'higher'} is better)"


def best_words(best: Evaluation, direction: Direction, *, metric: str | None = None, num_rungs: int) -> str:
    """Return the best evaluation of a search so far, and how much its score says."""
    assert best.score is not None
    last = num_rungs - 1
    where = "at full fidelity" if best.rung == last else f"at rung {best.rung}, the last being {last}"
    return f"best: configuration {best.number}, {score_words(best.score, direction, metric)}, {where}"


def rung_rows(summary: Summary, sample_unit: str, metric: str | None = None) -> list[tuple[str, ...]]:
    """Return a header and a row for each rung: what it trains, what is done, the best score and the seconds.

    Columns that say nothing are left out.
    """
    rows: list[tuple[str, ...]] = [
        ("rung", "layers", sample_unit, "done", f"best {score_name(metric)}", "seconds each", "seconds", "left")
    ]
    for rung in summary.rungs:
        trouble = [f"{rung.diverged} diverged"] * bool(rung.diverged) + [f"{rung.failed} failed"] * bool(
            rung.failed
        )
        left = summary.seconds_left_at(rung)
        done = f"{rung.ended}" if rung.expected is None else f"{rung.ended}/{rung.expected}"
        rows.append(
            (
                f"{rung.rung}",
                f"{rung.fidelity.trainable_layers}",
                f"{rung.fidelity.samples:,}",
                f"{done} ({', '.join(trouble)})" if trouble else done,
                "" if rung.best is None else f"{rung.best.score:.5g}",
                "" if rung.seconds_each is None else f"{rung.seconds_each:.2f}",
                f"{rung.seconds:.1f}",
                "" if left is None else duration(left),
            )
        )
    says_something = [any(column[1:]) for column in zip(*rows, strict=True)]
    return [tuple(cell for cell, is_kept in zip(row, says_something, strict=True) if is_kept) for row in rows]


def cost_lines(summary: Summary) -> list[str]:
    """Return what the search cost, in seconds and full trainings, against training every candidate in full."""
    lines = [f"{duration(summary.seconds)} of training and validation."]
    if summary.full_training_seconds is not None and summary.full_trainings is not None:
        every = summary.num_configurations * summary.full_training_seconds
        lines = [
            f"{duration(summary.seconds)} of training and validation, as much as {summary.full_trainings:.1f} full "
            f"trainings of {duration(summary.full_training_seconds)}.",
        ]
        if summary.num_configurations > 1:
            lines.append(
                f"Training all {summary.num_configurations} candidates in full would have taken {duration(every)} by the "
                f"same measure: {every / summary.seconds:.1f} times as long."
            )
    return lines


def silence_lines(
    history: History, rungs: Sequence[Fidelity], sample_unit: str, *, among: range | None = None
) -> list[str]:
    """Return which rungs of few layers, of all or ``among`` these, tell nothing of the configurations: a line for each."""
    return [
        f"Rung {rung} tells nothing: with {counted(rungs[rung].trainable_layers, 'layer')} on {rungs[rung].samples:,} "
        f"{sample_unit} the best of {len(history.rung(rung).ranking)} is ahead of their median by less than a hundredth of "
        f"what training all layers gains.{_after_silence(history, rungs, rung)}"
        for rung in silent_rungs(history, rungs)
        if among is None or rung in among
    ]


def rung_lines(history: History, terms: Terms) -> list[str]:
    """Return what is to be said of a study's rungs: which tell nothing or save no time, and whether the last is too long."""
    silent = silence_lines(history, terms.rungs, terms.sample_unit)
    return [*silent, *saving_lines(history, terms), *overfitting_lines(history, terms)]


def saving_lines(history: History, terms: Terms) -> list[str]:
    """Return a line if few layers took nearly as long as all, and what came of it; else nothing."""
    sample_unit = terms.sample_unit
    # Where others began with all layers in other searches, as in brackets of Hyperband, they did so in any case.
    if terms.budget is not None and (found := paces_of_both(history, terms.rungs)) is not None:
        of_both, begun = found
        return [
            f"Few layers saved {100 * max(0.0, of_both.saved):.0f} % of the {duration(1000 * of_both.all_layers)} that a "
            f"thousand {sample_unit} take with all: too little to ask them first, and {begun} configurations began with all."
        ]
    paces = unprofitable_paces(history, terms.rungs)
    if paces is None:
        return []
    return [
        f"Few layers saved no time: a thousand {sample_unit} took {duration(1000 * paces.few_layers)} with them, "
        f"{duration(1000 * paces.all_layers)} with all layers. Where most of a step is spent outside the model, a ladder of "
        f"samples alone (samples-only) finds more."
    ]


def _after_silence(history: History, rungs: Sequence[Fidelity], rung: int) -> str:
    """Return where those climbed that were at a rung which tells nothing; nothing as long as nobody has."""
    numbers, higher = history.rung(rung).ranking, range(rung + 1, len(rungs))
    reached = [index for index in higher if any(history.has_begun(number, index) for number in numbers)]
    if not reached:
        return ""
    if reached[0] > rung + 1:
        layers = counted(rungs[reached[0]].trainable_layers, "layer")
        return f" So the search went on with {layers} instead."
    return " Whom it promoted is chance."


def chance_lines(
    summary: Summary, best: Evaluation, own: Evaluation | None, *, num_own: int | None = None
) -> list[str]:
    """Return how likely random search would have done as well for as much; nothing if it would have trained every candidate.

    ``num_own`` are one's own, which nobody draws; by default the one there is.
    An estimate: the answer is taken for the only one as good of the candidates that were drawn. Where lower rungs sorted out
    others as good, random search would have met one of them more often.
    """
    owned = int(own is not None) if num_own is None else num_own
    drawn = summary.num_configurations - owned
    spent = summary.full_trainings
    affordable = int(spent - owned) if spent is not None else 0
    if not 1 <= affordable < drawn or best.number < owned or (own is not None and own.number == best.number):
        return []
    return [
        f"Random search for as much would have trained {affordable} of the {drawn} in full, and have come as far in about "
        f"{100 * affordable / drawn:.0f} of 100 cases (an estimate, which takes the answer for the only one as good)."
    ]


def train_command(terms: Terms, configuration: Configuration) -> str | None:
    """Return the command that trains a configuration of a study in full; None where no command knows what is trained."""
    if terms.reference is None or not names_a_task(terms.reference.name):
        return None
    seed = f" --seed {terms.seed}" if terms.seed else ""
    values = _values(configuration, beside=_said_defaults(terms))
    return f"frostline train {terms.reference}{seed} --configuration {shlex.quote(values)}"


def how_to_train(terms: Terms, configuration: Configuration) -> str:
    """Return how to train a configuration of a study in full: by a command, or in the program that made the study."""
    command = train_command(terms, configuration)
    if command is None:
        return f"train it in full with the program that made the study: {_values(configuration)}"
    return f"train it in full: {command.replace('frostline', frostline_program(), 1)}"


def _values(configuration: Configuration, beside: Mapping[str, Any] = MappingProxyType({})) -> str:
    own = dict(configuration.hyperparameters)
    return json.dumps(own | {name: value for name, value in beside.items() if name not in own})


def _said_defaults(terms: Terms) -> dict[str, Any]:
    """Return what the command that began a study said of hyperparameters: all of its configurations were trained so."""
    sampling = (terms.recipe or {}).get("sampling")
    said = sampling.get("default") if isinstance(sampling, Mapping) else None
    said = said if isinstance(said, list) else []
    return parse_assignments("--default", [each for each in said if isinstance(each, str) and "=" in each])
