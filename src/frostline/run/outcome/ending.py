"""Whether a search has come to its end, as far as its study tells, and how much of its budget is spent until then."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.errors import FrostlineError
from frostline.run.outcome.summary import summarise
from frostline.search.budgets.budgeted import BudgetedHalving
from frostline.search.ladder import Ladder
from frostline.wording import duration

if TYPE_CHECKING:
    from frostline.run.outcome.summary import Summary
    from frostline.search.history import History
    from frostline.store.terms import Terms


def climb_of(terms: Terms) -> BudgetedHalving | None:
    """Return the search under a budget that a study holds; None of other searches.

    Those say how many evaluations they expect.
    """
    sizes = terms.budget
    if sizes is None:
        return None
    # Whoever can write to a storage may have put anything there.
    with suppress(FrostlineError):
        ladder = Ladder(rungs=terms.rungs, num_layers=terms.num_layers, full_samples=terms.rungs[-1].samples)
        made = BudgetedHalving.usual(ladder, sizes.budget, num_initial=sizes.num_own, most=sizes.most)
        if made.fingerprint == terms.search:
            return made
    return None


def has_ended(history: History, terms: Terms) -> bool | None:
    """Return whether nothing is left to do in a search; None where its study does not tell."""
    climb = climb_of(terms)
    if climb is not None:
        return not history.pending and not climb.next_requests(history, capacity=1)
    if not terms.expected:
        return None
    if not history.has_finished and len(history.eliminated) >= max(terms.expected):
        # All that were to begin have diverged or failed, so that nobody climbs.
        return len(history.eliminated) == len(history.configurations)
    # Each climb has ended; of a sweep none depends on another's.
    is_decided = len(history.eliminated) == len(history.configurations) and not terms.is_sweep
    could: float = math.inf
    for rung, number in enumerate(terms.expected):
        seen = history.rung(rung)
        if seen.num_ended < min(number, could):
            return False
        # Nobody climbs that diverged or failed, so that the next rung may see fewer than it was to.
        if number and is_decided:
            could = len(seen.ranking)
    return True


def summary_of(history: History, terms: Terms) -> Summary:
    """Return the figures of a study's search, which says itself whether it has ended."""
    return replace(summarise(history, terms.rungs, terms.expected), has_ended=has_ended(history, terms) is True)


def spent_words(climb: BudgetedHalving, history: History) -> str:
    """Return how much of its budget a search has spent, such as "2.7 of 200 full trainings are spent"."""
    budget = climb.budget
    if history.rung(climb.first_rung, part=climb.first).num_ended < len(climb.first):
        return f"of its budget, {budget}, little is spent"
    seconds, of_budget = climb.spent(history)
    if budget.full_trainings is None:
        return f"{duration(seconds)} of {budget} are spent"
    return f"{budget.full_trainings * seconds / of_budget:.1f} of {budget} are spent"


def no_score_words(history: History, terms: Terms) -> str:
    """Return why no configuration of a study has a score, and what to do, to follow its name."""
    troubled = list(history.evaluations())
    if not troubled:
        return "has no score yet: let the search run on."
    first = f"{troubled[0].status}: {f'{troubled[0].reason}'.removesuffix('.')}."
    goes_on = has_ended(history, terms) is False
    so_far = " so far" if goes_on else ""
    others = f"all {len(troubled)} evaluations{so_far} diverged or failed, the first one {first}"
    words = others if len(troubled) > 1 else f"the only evaluation{so_far} {first}"
    return f"has no score yet: {words} Let the search run on." if goes_on else f"has no score: {words}"
