"""How much each hyperparameter decides: by Optuna from many configurations, by a model of all rungs from few."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from frostline.pages.drawing import BLUE, new_figure, safe
from frostline.pages.parts import Figure, Note, Section
from frostline.report.conditions import having_words, nums_having, shared_space
from frostline.search.proposals.surrogate import Coordinates, Response
from frostline.search.spaces.unit_cube import num_coordinates
from frostline.statistics.ranks import rank_correlations
from frostline.wording import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from frostline.records import Configuration
    from frostline.report.searches.scored import Scored
    from frostline.search.spaces.space import SearchSpace

    Array = NDArray[np.float64]

# Optuna's measure looks at the best tenth, and needs ten in it: of three it says what chance does.
FEWEST_FOR_OPTUNA = 100
# A model of fewer says nothing, and each hyperparameter is a dimension to be told from chance.
_FEWEST = 10
_FEWEST_PER_HYPERPARAMETER = 3
# How well the model must order configurations that it has not seen: chance does so at 1 / sqrt(their number).
_LEAST_AGREEMENT, _TIMES_CHANCE = 0.3, 2.5

# The main effects of the model: values of a hyperparameter, each averaged over so many places in the others.
_VALUES, _PLACES = 16, 128
_LONGEST_NAME = 22


def importance_section(
    scored: Scored | None, ranked: Sequence[tuple[Configuration, float]], *, space: SearchSpace
) -> Section:
    """Return which hyperparameters matter, of those that all have, or in words why that cannot be told.

    ``scored`` are configurations at one fidelity, ``ranked`` all that were evaluated with what they rank by, less being
    better.
    """
    partial = nums_having(space, [configuration for configuration, _ in ranked])
    shared = shared_space(space, partial)
    names = [] if shared is None else list(shared.distributions)
    needed = max(_FEWEST, _FEWEST_PER_HYPERPARAMETER * len(names))
    if len(space.distributions) == 1:
        return _section("Only one hyperparameter was tuned, so it is all that matters.")
    if shared is None or len(names) == 1:
        all_have = (
            f"{names[0]}, which all have, cannot be weighed against these" if names else "none is part of all"
        )
        return _section(f"Not told: only some have {having_words(partial, len(ranked))}; {all_have}.")
    if len({value for _, value in ranked}) == 1 and len(ranked) > 1:
        return _section("Not told: all configurations have the same score.")
    if len(ranked) < needed:
        return _section(
            f"Not told: {counted(len(ranked), 'configuration')} {'has' if len(ranked) == 1 else 'have'} been evaluated, and "
            f"the importance of {len(names)} hyperparameters needs at least {needed}."
        )
    left_out = f" Left out is what only some have: {having_words(partial, len(ranked))}." if partial else ""
    if scored is not None and len(scored.scores) >= FEWEST_FOR_OPTUNA and len(set(scored.scores)) > 1:
        text = (
            f"From {len(scored.scores)} configurations at {scored.where}, by Optuna (PED-ANOVA): how much each "
            f"hyperparameter decides whether a configuration is among the best tenth. The shares sum to 1.{left_out}"
            f"{scored.caution}"
        )
        return _section(text, _bars(_by_optuna(scored, shared)))
    return _by_model(ranked, shared, left_out)


def _by_optuna(scored: Scored, space: SearchSpace) -> dict[str, float]:
    # It loads scikit-learn, which few reports need.
    from optuna.importance import get_param_importances

    return get_param_importances(scored.study(space))


def _by_model(ranked: Sequence[tuple[Configuration, float]], space: SearchSpace, left_out: str) -> Section:
    values = np.array([value for _, value in ranked])
    positions = Coordinates(space=space).of([configuration for configuration, _ in ranked])
    response = Response.fit(positions, values)
    agreement = float(rank_correlations(_left_out(response), values))
    of_all = (
        f"a model (a Gaussian process) of the ranks of all {len(ranked)} configurations, within the rungs they came to: "
        f"fewer than {FEWEST_FOR_OPTUNA} were scored at one fidelity, too few for Optuna's measure"
    )
    least = max(_LEAST_AGREEMENT, _TIMES_CHANCE / math.sqrt(len(values)))
    if agreement < least:
        return _section(
            f"Not told by {of_all}: it orders configurations that it has not seen at ρ = {agreement:.1f} (1 is perfectly), "
            f"and of one that is to be believed {least:.1f} is asked."
        )
    shares = main_effects(response, space)
    text = (
        f"From {of_all}. How much of what the model predicts changes with each hyperparameter alone; the shares sum to 1. "
        f"It orders configurations that it has not seen at ρ = {agreement:.1f} (1 is perfectly).{left_out}"
    )
    return _section(text, _bars(shares))


def main_effects(response: Response, space: SearchSpace) -> dict[str, float]:
    """Return the share of each hyperparameter in the variance of the model's main effects; they sum to 1."""
    generator = np.random.default_rng(0)
    places = _drawn(space, _PLACES, generator)
    variances: dict[str, float] = {}
    column = 0
    for name in space.distributions:
        width = num_coordinates(space, name)
        tried = np.eye(width) if width > 1 else np.linspace(0.0, 1.0, _VALUES)[:, None]
        means = []
        for value in tried:
            moved = places.copy()
            moved[:, column : column + width] = value
            means.append(response.at(moved).mean())
        variances[name] = float(np.var(means))
        column += width
    total = sum(variances.values())
    return {name: variance / total if total else 0.0 for name, variance in variances.items()}


def _drawn(space: SearchSpace, number: int, generator: np.random.Generator) -> Array:
    """Return points of the unit cube, (number, D), of which each takes one of every choice."""
    columns = []
    for name in space.distributions:
        width = num_coordinates(space, name)
        chosen = np.eye(width)[generator.integers(width, size=number)]
        columns.append(chosen if width > 1 else generator.random((number, 1)))
    return np.concatenate(columns, axis=1)


def _left_out(response: Response) -> Array:
    """Return what the model predicts of each configuration from all others, (C,)."""
    covariance = response.kernel(response.positions) + response.noise * np.eye(len(response.scores))
    inverse = np.linalg.inv(covariance)
    predicted: Array = response.scores - inverse @ response.scores / np.diag(inverse)
    return predicted


def _section(text: str, figure: Any = None) -> Section:
    parts: list[Note | Figure] = [Note(text)]
    return Section(
        "Which hyperparameters matter", parts + ([] if figure is None else [Figure(figure, f"Bars: {text}")])
    )


def _bars(shares: Mapping[str, float]) -> Any:
    ordered = sorted(shares.items(), key=lambda item: item[1])
    names = [safe(name) for name, _ in ordered]
    figure = new_figure(x="share", legend=False)
    figure.add_bar(
        x=[share for _, share in ordered],
        y=names,
        orientation="h",
        text=[f"{share:.2f}" for _, share in ordered],
        textposition="outside",
        hoverinfo="skip",
    )
    figure.update_layout(height=90 + 34 * len(shares), margin={"l": 20, "r": 20, "t": 10, "b": 45})
    figure.update_traces(marker_color=BLUE, cliponaxis=False)
    figure.update_xaxes(range=[0, 1.12])
    labels = [safe(shortened(name, _LONGEST_NAME)) for name, _ in ordered]
    figure.update_yaxes(ticklen=6, tickvals=names, ticktext=labels)
    return figure


def shortened(name: str, most: int) -> str:
    """Return a name of at most ``most`` letters, "…" in its middle if it is longer: names begin alike, or end alike."""
    end = (most - 1) // 2
    return name if len(name) <= most else f"{name[: most - 1 - end]}…{name[-end:]}"


def cut(text: str, most: int, *, mark: str) -> str:
    """Return text of at most ``most`` letters, with ``mark`` at its end if it is longer."""
    return text if len(text) <= most else text[: most - len(mark)] + mark
