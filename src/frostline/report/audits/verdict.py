"""The answer of an audit in words: does freezing rank well here, what does it save, and which ladder follows."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import numpy as np

from frostline.audit.audit import GOOD, WEAK
from frostline.inputs.credentials import without_password
from frostline.inputs.task_names import names_a_task
from frostline.pages.parts import Command, Note, Paragraph, Section, Table
from frostline.report.audits.shares import cost_shares, percent, share
from frostline.store.backends.storage import DEFAULT_STORAGE
from frostline.store.terms import TaskReference
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


# Costs that differ by less are the same.
_SAVES = 1.05


def headline(
    landscape: Landscape, agreement: Agreement | None, recommendation: Recommendation | None = None
) -> tuple[str, str]:
    """Return whether freezing is a valid fidelity here, in one sentence, and another that says what it is worth.

    Both agree with the ladder that is recommended: what halving on it costs and finds counts as evidence too.
    """
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
    if len(landscape.layers) == 1:
        return _without_layers(landscape, agreement, None if whole is None else (0, whole[1]))
    if frozen is None:
        return _without_a_cell(agreement, recommendation)
    words = _cell_words(landscape, agreement, frozen)
    valid = "Freezing is a valid fidelity here"
    if shares is None:
        return f"{valid}: {words}.", ""
    cost, measure = shares
    words += f", for {percent(cost[frozen])} of a full training by {measure}."
    if whole is None:
        return f"{valid}: {words}", "With all layers trained, no smaller budget ranks as well."
    at = (len(landscape.layers) - 1, whole[1])
    ratio = float(cost[at] / cost[frozen])
    second = (
        f"With all layers trained it takes {share(landscape, at[1])} of the {landscape.sample_unit} and "
        f"{percent(cost[at])} of a full training"
    )
    if ratio >= _SAVES:
        return f"{valid}: {words}", f"{second}: {ratio:.1f} times as much."
    if recommendation is not None and _freezes(recommendation.chosen):
        price = _price_words(recommendation)
        return f"{valid}: {words}", f"{second}: this cell alone saves nothing, a ladder over several does. {price}"
    return f"{valid}, but saves nothing: {words}", f"{second}."


def _without_layers(landscape: Landscape, agreement: Agreement, cell: tuple[int, int] | None) -> tuple[str, str]:
    """Return what is said where all cells train all layers; ``cell`` is the cheapest that surely ranks."""
    first = "Freezing was not measured: every cell of this audit trains all layers."
    if cell is None:
        return first, f"No smaller budget surely ranks as full training does, at ρ = {GOOD}."
    return first, f"{_cell_words(landscape, agreement, cell)}."


def _without_a_cell(agreement: Agreement, recommendation: Recommendation | None) -> tuple[str, str]:
    """Return what is said where no cell with frozen layers surely ranks as full training does."""
    best = float(np.max(agreement.spearman.value[:-1]))
    no_cell = f"no cell with frozen layers surely reaches ρ = {GOOD} (the best: {best:.2f})"
    if recommendation is not None and _freezes(recommendation.chosen):
        if recommendation.reaches:
            return (
                f"Freezing is a valid fidelity here in a ladder over several cells: {no_cell}, but halving finds as good "
                f"a configuration.",
                _price_words(recommendation),
            )
        return (
            f"Freezing is not shown to rank well here: {no_cell}.",
            "No ladder is sure either; the one below is the surest. Until an audit of more configurations says otherwise, "
            "use --ladder samples-only.",
        )
    first = f"Freezing is not shown to rank well here: {no_cell}."
    if recommendation is not None:
        return first, "The recommended ladder trains all layers at every rung."
    return first, "Until an audit of more configurations says otherwise, use --ladder samples-only."


def _freezes(outcome: LadderOutcome) -> bool:
    return any(rung.trainable_layers < outcome.ladder.num_layers for rung in outcome.ladder.rungs)


def _price_words(recommendation: Recommendation) -> str:
    """Return what the recommended ladder costs beside the one over samples alone, where that is known."""
    chosen = recommendation.chosen
    words = f"The recommended ladder costs {chosen.full_trainings:.3g} full trainings"
    other = next((outcome for outcome in recommendation.compared if outcome.name == "samples-only"), None)
    if other is None:
        return f"{words}."
    return f"{words}, halving over samples alone {other.full_trainings:.3g} (with a chance of {percent(other.chance)})."


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
    name = "Recommended ladder" if recommendation.reaches else "Surest ladder, though not sure enough"
    words = f"{name}: {_rungs(chosen, landscape)}, one in {chosen.reduction_factor} promoted"
    text = (
        f"{words}. A search of {chosen.configurations} configurations costs {duration(chosen.seconds)}, or "
        f"{chosen.full_trainings:.3g} full trainings, and ends within {recommendation.tolerance:.3g} of the best with a "
        f"chance of {_chance_words(chosen)}; random search has {percent(recommendation.random_chance)} for that cost."
    )
    parts: list[Paragraph | Command] = [Paragraph(text)]
    if record is not None and names_a_task(TaskReference.of_words(landscape.reference).name):
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
            _chance_words(outcome),
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
    chance = _chance_words(recommendation.chosen)
    return (
        f"No ladder is sure to find a configuration as good as the best: the surest does so with a chance of {chance}. More "
        f"configurations in the audit, or more training, would tell more.",
    )


def _chance_words(outcome: LadderOutcome) -> str:
    """Return the chance of a ladder and its standard error: "95 % ± 4"."""
    return f"{percent(outcome.chance)} ± {100 * outcome.error:.0f}"


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
