"""What is said of one's own configuration, beside what the search found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.run.outcome.sentences import score_name
from frostline.wording import counted

if TYPE_CHECKING:
    from frostline.records import Evaluation
    from frostline.search.history import History
    from frostline.store.terms import Terms


def own_lines(
    history: History, terms: Terms, best: Evaluation, own: Evaluation | None, *, is_over: bool = True
) -> list[str]:
    """Return how the best configuration compares with one's own, trained in full too; nothing if that is not known.

    As long as the search is not over, nothing is advised.
    """
    if own is None:
        return []
    name = score_name(terms.metric)
    if own.number != best.number:
        article = "an" if name[0].lower() in "aeiou" else "a"
        return [f"Your own configuration, {own.number}, trained in full, has {article} {name} of {own.score:.5g}."]
    if not is_over:
        return [
            f"Your own configuration, {own.number}, is the best of those that have been trained in full so far: its {name} "
            f"is {own.score:.5g}."
        ]
    if (ahead := _ahead_below(history, own)) is not None:
        assert ahead.score is not None
        layers = counted(ahead.fidelity.trainable_layers, "layer")
        return [
            f"Your own configuration, {own.number}, is the only one that was trained in full; its {name} is "
            f"{own.score:.5g}. Configuration {ahead.number} had {ahead.score:.5g} with {layers} after "
            f"{ahead.fidelity.samples:,} {terms.sample_unit}, which is better, and was not trained in full: a larger budget "
            f"does that."
        ]
    if _is_compared_with_nobody(history, own):
        is_alone = all(each.number == own.number for each in history.evaluations())
        only = "that was trained" if is_alone else "that was trained with as many layers"
        return [
            f"Your own configuration, {own.number}, is the only one {only}, and so compared with nobody: a larger budget "
            f"does that. Its {name}, trained in full, is {own.score:.5g}."
        ]
    return [
        f"Your own configuration, {own.number}, is the best: keep it. Its {name}, trained in full, is {own.score:.5g}."
    ]


def left_behind_line(own: Evaluation, best_there: Evaluation | None, metric: str | None) -> str:
    """Return how far one's own configuration came that was not trained in full, beside the best of its last rung."""
    if own.score is None:
        return f"Your own configuration, {own.number}, {own.status} at rung {own.rung}: {own.reason}"
    beside = "" if best_there is None else f", where the best had {best_there.score:.5g}"
    return (
        f"Your own configuration, {own.number}, was not trained in full: at rung {own.rung} its {score_name(metric)} was "
        f"{own.score:.5g}{beside}."
    )


def _is_compared_with_nobody(history: History, own: Evaluation) -> bool:
    """Return whether no other was evaluated with as many layers as one's own."""
    others = [each for each in history.evaluations() if each.number != own.number]
    layers = own.fidelity.trainable_layers
    return all(each.fidelity.trainable_layers < layers for each in others)


def _ahead_below(history: History, own: Evaluation) -> Evaluation | None:
    """Return who was better than one's own with as many layers on fewer samples, if nobody else was trained in full."""
    below = own.rung - 1
    if below < 0 or history.rung(own.rung).num_started > 1:
        return None
    rung = history.rung(below)
    ahead = history.evaluation(rung.ranking[0], below) if rung.ranking else None
    if ahead is None or ahead.number == own.number or rung.losses[0] >= history.rung(own.rung).losses[0]:
        return None
    return ahead if ahead.fidelity.trainable_layers == own.fidelity.trainable_layers else None
