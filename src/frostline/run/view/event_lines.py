"""What is said of an evaluation that ended and of a population on its way, in one line each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.records import loss_sign
from frostline.run.outcome.sentences import score_name
from frostline.wording import counted

if TYPE_CHECKING:
    from frostline.records import Direction, Evaluation, Progress


def evaluation_line(evaluation: Evaluation, sample_unit: str, metric: str | None = None) -> str:
    """Return one line about an evaluation that ended."""
    fidelity = evaluation.fidelity
    return (
        f"rung {evaluation.rung}  configuration {evaluation.number}  {counted(fidelity.trainable_layers, 'layer')}  "
        f"{fidelity.samples:,} {sample_unit}  {evaluation.cost.seconds:.1f} s  {outcome(evaluation, metric)}"
    )


def progress_line(progress: Progress, sample_unit: str) -> str:
    """Return one line about trainings that are made together, or about the only one there is memory for.

    A configuration may have several among them, at several rungs.
    """
    who = counted(progress.members, "training") + (" together" if progress.members > 1 else "")
    how = "" if progress.engine is None else f"  engine {progress.engine}"
    share = progress.samples / progress.budget
    return f"rung {progress.rung}  {who}{how}  {share:.0%} of {progress.budget:,} {sample_unit}"


def training_title(progress: Progress, sample_unit: str, metric: str | None = None) -> str:
    """Return how far the training of one configuration is that belongs to no search, and its latest score."""
    done = f"training: {progress.samples:,} of {progress.budget:,} {sample_unit}"
    scores = [f"{score_name(metric)} {score:.5g}" for score in progress.scores.values()]
    return "  ".join([done, *scores])


def scores_words(progress: Progress, direction: Direction, metric: str | None = None) -> str:
    """Return the best score that a population has come to on its way; nothing before its first validation."""
    if not progress.scores:
        return ""
    sign = loss_sign(direction)
    number = min(progress.scores, key=lambda one: (sign * progress.scores[one], one))
    return f"  best {score_name(metric)} {progress.scores[number]:.5g} (configuration {number})"


def outcome(evaluation: Evaluation, metric: str | None = None) -> str:
    """Return how an evaluation ended: its score, or why it has none."""
    if evaluation.score is not None:
        return f"{score_name(metric)} {evaluation.score:.5g}"
    return f"{evaluation.status}: {evaluation.reason}"
