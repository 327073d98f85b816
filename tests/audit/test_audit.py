"""The whole audit warns of what matters, in words, and is silent where all is well."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from frostline.audit.audit import audit_of
from frostline.audit.landscape import Landscape
from frostline.errors import AuditError
from tests.audit.landscapes import landscape, noisy

QUALITY = np.random.default_rng(1).normal(size=30)
UNMEASURED = "The seed's own noise was not measured, so how finely full training itself ranks is not known"


def of_spread(spread: list[list[float]], *, noise: float = 0.01) -> Landscape:
    """A landscape that blurs the configurations by ``spread`` (Z, S), repeated in full under two seeds of ``noise``."""
    losses = noisy(QUALITY, np.array(spread))
    repeats = losses[:, -1, -1] + noise * np.random.default_rng(2).normal(size=(2, len(QUALITY)))
    return landscape(losses, repeats=repeats)


def test_where_all_is_well_nothing_is_said() -> None:
    audit = audit_of(of_spread([[0.3, 0.2], [0.2, 0.01]], noise=1e-4))
    assert audit.warnings == ()
    assert [finding.holds for finding in audit.findings] == [True] * 5
    assert [optimum.name for optimum in audit.optima] == ["rate"]
    assert audit.noise is not None
    assert audit.noise.standard_deviation == pytest.approx(1e-4, rel=0.3)
    assert audit.agreement.num_configurations == 30


def test_cells_that_rank_badly_come_first_and_are_named() -> None:
    audit = audit_of(of_spread([[5, 5, 0.8], [5, 0.2, 0.1], [5, 5, 0.01]], noise=1e-4))
    rho, low = audit.agreement.spearman.value, audit.agreement.spearman.low
    worst = np.unravel_index(rho.argmin(), rho.shape)
    first = audit.warnings[0]
    assert first.startswith(
        "5 of 9 cells rank too badly to decide anything (ρ below 0.6): with 1 layer on up to 200 tokens, with 2 layers on "
        f"100 tokens, with 3 layers on up to 200 tokens. The least is {rho[worst]:.2f} [{low[worst]:.2f}, "
    )
    many = audit_of(of_spread([[5, 5], [5, 5], [5, 5], [5, 5], [5, 0.01]])).warnings
    assert many[0].startswith("No cheaper cell ranks as full training does: the best, ")
    assert "with 3 layers on any number of tokens, and 2 more numbers of layers. The least" in many[1]
    fewer = audit_of(of_spread([[5, 5], [5, 5], [5, 5], [5, 0.01]])).warnings
    assert "with 3 layers on any number of tokens, and 1 more number of layers. The least" in fewer[1]


def test_a_finding_that_fails_and_an_optimum_that_moves_are_warned_of() -> None:
    losses = noisy(QUALITY, np.full((2, 2), 0.01))
    rates = [{"rate": float(10 ** np.clip(-2 + value / 2, -3.9, -0.1))} for value in QUALITY]
    losses[:, 0] = -losses[:, 0]
    audit = audit_of(landscape(losses, hyperparameters=rates))
    failed = [finding.sentence for finding in audit.findings if not finding.holds]
    assert [sentence for sentence in audit.warnings if sentence in failed] == failed
    assert any(
        sentence.startswith("With 1 of 2 layers trained the best rate sits") and "higher" in sentence
        for sentence in audit.warnings
    )


def test_noise_is_told_in_the_scores_own_units() -> None:
    assert any(
        sentence.startswith(UNMEASURED) for sentence in audit_of(landscape(noisy(QUALITY, [[0.1, 0]]))).warnings
    )
    loud = audit_of(of_spread([[0.1, 0.01]], noise=2.0))
    assert loud.noise is not None
    assert loud.noise.ceiling is not None
    text = " ".join(loud.warnings)
    assert f"Full training does not rank as itself under another seed: ρ {loud.noise.ceiling.value:.2f} [" in text
    assert "over all 30 configurations" in text
    full = loud.landscape.full_losses
    close = int((full <= full.min() + loud.noise.tolerance).sum())
    assert f"{close} of 30 configurations lie within seed noise ({loud.noise.tolerance:.3g}) of the best" in text
    repeats = loud.landscape.repeats.copy()
    repeats[:, 20:] = np.nan
    repeats[0, 0] = np.inf
    partly = " ".join(audit_of(replace(loud.landscape, repeats=repeats)).warnings)
    assert "over the 20 that were repeated of 30 configurations" in partly
    assert "1 of 20 repeated configurations diverged under some seeds and not under others." in partly


def test_many_that_diverge_are_warned_of() -> None:
    table = of_spread([[0.1, 0.01]])
    table.scores[:8, -1, -1] = np.nan
    (warning,) = [sentence for sentence in audit_of(table).warnings if "diverged in full training" in sentence]
    assert warning == (
        "8 of 30 configurations diverged in full training and are tied for the last place: ranks say little more than which "
        "ones those are, so narrow the search space."
    )
    table.scores[7, -1, -1] = 0
    assert not any("diverged in full" in sentence for sentence in audit_of(table).warnings)


def test_few_configurations_are_warned_of_and_fewer_refused() -> None:
    few = of_spread([[0.5, 0.4], [0.4, 0.01]]).of(range(8))
    (warning,) = [
        sentence for sentence in audit_of(few).warnings if sentence.startswith("8 configurations are few")
    ]
    assert warning.endswith("wide in the median. Audit more to tell cells apart.")
    with pytest.raises(
        AuditError, match=r"^the audit has 4 configurations, but a rank correlation needs at least 5"
    ):
        audit_of(few.of(range(4)))


def test_a_single_cell_is_audited_too() -> None:
    assert audit_of(landscape(noisy(QUALITY, [[0.1]]))).findings == ()
