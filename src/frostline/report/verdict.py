"""The answer of an audit in words: does freezing rank well here, what does it save, and which ladder follows."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import numpy as np

from frostline.audit.audit import GOOD, WEAK
from frostline.inputs.credentials import without_password
from frostline.pages.parts import Command, Note, Paragraph, Section, Table
from frostline.report.shares import cost_shares, percent, share
from frostline.store.storage import DEFAULT_STORAGE
from frostline.wording import counted, duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from frostline.audit.agreement import Agreement
    from frostline.audit.landscape import Landscape
    from frostline.audit.noise import SeedNoise
    from frostline.audit.recommendation import LadderOutcome, Recommendation
    from frostline.report.study_record import StudyRecord

    Array = NDArray[np.float64]


def headline(landscape: Landscape, agreement: Agreement | None) -> tuple[str, str]:
    """Return whether freezing is a valid fidelity here, in one sentence, and another that says what it is worth."""
    if agreement is None:
        return (
            f"Too little to judge by: {landscape.num_configurations} configurations have been trained at all cells.",
            "",
        )
    shares = cost_shares(landscape)
    order = shares[0] if shares else np.outer(landscape.layers, landscape.samples).astype(float)
    # Of many cells some are good by luck: the lower end of the interval must not be weak.
    reached = (agreement.spearman.value >= GOOD) & (agreement.spearman.low >= WEAK)
    frozen = _cheapest(reached[:-1], order[:-1])
    whole = _cheapest(reached[-1:, :-1], order[-1:, :-1])
    if frozen is None:
        best = float(np.max(agreement.spearman.value[:-1])) if len(landscape.layers) > 1 else float("nan")
        first = f"Freezing is not shown to rank well here: no cell with frozen layers surely reaches ρ = {GOOD}"
        return (
            f"{first} (the best: {best:.2f}).",
            "Until an audit of more configurations says otherwise, use --ladder samples-only.",
        )
    first = f"Freezing is a valid fidelity here: {_cell_words(landscape, agreement, frozen)}"
    if shares is None:
        return f"{first}.", ""
    cost, measure = shares
    first += f", for {percent(cost[frozen])} of a full training by {measure}."
    if whole is None:
        return first, "With all layers trained, no smaller budget ranks as well."
    at = (len(landscape.layers) - 1, whole[1])
    ratio = float(cost[at] / cost[frozen])
    second = (
        f"With all layers trained it takes {share(landscape, at[1])} of the {landscape.sample_unit} and "
        f"{percent(cost[at])} of a full training"
    )
    if ratio >= 1.05:
        return first, f"{second}: {ratio:.1f} times as much."
    return first.replace("valid fidelity here", "valid fidelity here, but saves nothing"), f"{second}."


def noise_sentence(noise: SeedNoise | None) -> str:
    """Return what the seed alone does."""
    if noise is None:
        return "The noise of the seed was not measured: no full training was repeated under another seed."
    text = (
        f"Under another seed the score of a full training moves by {noise.standard_deviation:.3g} (standard deviation, "
        f"{noise.num_repeated} configurations repeated), so what differs by less than {noise.tolerance:.3g} is within noise."
    )
    if noise.ceiling is None:
        return f"{text} Too few were repeated to tell how well two seeds agree."
    ceiling = noise.ceiling
    return (
        f"{text} Two seeds of full training agree at ρ = {float(ceiling.value):.2f} ({float(ceiling.low):.2f} to "
        f"{float(ceiling.high):.2f}): the ceiling for any fidelity; agreement above it is about the seed alone."
    )


def recommended_lines(
    recommendation: Recommendation, landscape: Landscape, record: StudyRecord | None
) -> list[Paragraph | Command]:
    """Return the recommended ladder in words and the command that climbs it."""
    chosen = recommendation.chosen
    words = f"Recommended ladder: {_rungs(chosen, landscape)}, one in {chosen.reduction_factor} promoted"
    text = (
        f"{words}. A search of {chosen.configurations} configurations costs {duration(chosen.seconds)}, or "
        f"{chosen.full_trainings:.3g} full trainings, and ends within {recommendation.tolerance:.3g} of the best with a "
        f"chance of {percent(chosen.chance)}; random search has {percent(recommendation.random_chance)} for that cost."
    )
    parts: list[Paragraph | Command] = [Paragraph(text)]
    if record is not None and landscape.reference:
        options = ["--ladder", f"audit:{record.name}"]
        if record.storage != DEFAULT_STORAGE:
            options += ["--storage", without_password(record.storage)]
        parts.append(Command(f"frostline tune {landscape.reference} {shlex.join(options)}"))
    return parts


def ladders_section(recommendation: Recommendation, landscape: Landscape) -> Section:
    """Return the recommended ladder beside those it was compared with."""
    rows = [
        (
            outcome.name,
            _rungs(outcome, landscape),
            " → ".join(f"{quota}" for quota in outcome.quotas),
            f"{outcome.seconds:,.0f}",
            f"{outcome.full_trainings:.3g}",
            f"{outcome.regret:.3g}",
            f"{percent(outcome.chance)} ± {100 * outcome.error:.0f}",
        )
        for outcome in (recommendation.chosen, *recommendation.compared)
    ]
    text = (
        "Successive halving on each ladder, replayed on the measured scores and costs many times, each time on another half "
        f"of the configurations. Regret: by how much the final choice misses the best of those it began with. Chance: that "
        f"it is within {recommendation.tolerance:.3g} of it, ± its standard error."
    )
    header = ("ladder", "rungs", "configurations", "seconds", "full trainings", "regret", "chance")
    return Section("Ladders compared", [Note(text), Table(header, rows, words=(0, 1), chosen=(0,))])


def recommendation_warnings(recommendation: Recommendation | None) -> Sequence[str]:
    """Return a sentence if even the recommended ladder is not sure enough."""
    if recommendation is None or recommendation.reaches:
        return ()
    chance = percent(recommendation.chosen.chance)
    return (
        f"No ladder is sure to find a configuration as good as the best: the surest does so with a chance of {chance}. More "
        f"configurations in the audit, or more training, would tell more.",
    )


def _rungs(outcome: LadderOutcome, landscape: Landscape) -> str:
    full = landscape.samples[-1]
    return ", ".join(
        f"{counted(rung.trainable_layers, 'layer')} × {percent(rung.samples / full)}"
        for rung in outcome.ladder.rungs
    )


def _cheapest(reached: NDArray[np.bool_], order: Array) -> tuple[int, int] | None:
    """Return the indices of the cheapest cell that reaches what is asked."""
    if not reached.any():
        return None
    z, s = np.unravel_index(int(np.argmin(np.where(reached, order, np.inf))), reached.shape)
    return int(z), int(s)


def _cell_words(landscape: Landscape, agreement: Agreement, cell: tuple[int, int]) -> str:
    spearman = agreement.spearman
    return (
        f"{landscape.layers[cell[0]]} of {landscape.layers[-1]} layers on {share(landscape, cell[1])} of the "
        f"{landscape.sample_unit} rank the configurations at ρ = {spearman.value[cell]:.2f} ({spearman.low[cell]:.2f} to "
        f"{spearman.high[cell]:.2f})"
    )
