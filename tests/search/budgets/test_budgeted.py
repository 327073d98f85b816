from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from random import Random
from statistics import mean, median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frostline.errors import LadderError, OptionError
from frostline.records import Configuration, Cost, Evaluation, Job, Request, Status, Value
from frostline.run.execution.simulated import SimulatedExecutor
from frostline.run.ledger import MemoryLedger
from frostline.run.loop import climb
from frostline.search.budgets.budget import Budget
from frostline.search.budgets.budgeted import BudgetedHalving
from frostline.search.budgets.planned_climb import late_shares, usual_shares
from frostline.search.budgets.rung_prices import guessed_prices
from frostline.search.history import History
from frostline.search.ladder import Ladder

SIEVE = Ladder.sieve(num_layers=9, full_samples=1000)
# The usual ladder of before: several rungs of few layers, and two of all.
SORTING = Ladder.explicit([(3, 100), (3, 200), (3, 400), (9, 400), (9, 1000)], num_layers=9, full_samples=1000)
LADDERS = [pytest.param(SIEVE, id="sieve"), pytest.param(SORTING, id="sorting")]
FULL_SECONDS = 50.0

Seconds = Callable[[Request, float], float]
"""What an evaluation takes, given what it is guessed to take."""


def as_guessed(_request: Request, seconds: float) -> float:
    return seconds


def of_each(request: Request, seconds: float) -> float:
    return seconds * Random(f"of each {request.number}").choice([0.5, 1, 4])


def chance(request: Request) -> float:
    return Random(f"{request}").random()


def rate_of(number: int) -> float:
    return Random(number).random()


def one_of(number: int) -> dict[str, Value]:
    return {"rate": rate_of(number)}


def three_of(number: int) -> dict[str, Value]:
    random = Random(f"three {number}")
    return {
        "rate": random.random(),
        "width": random.choice((8, 16, 32)),
        "optimizer": random.choice(("Adam", "SGD")),
    }


@dataclass(kw_only=True)
class Run:
    """Runs searches one after the other on one history: as one study, with larger budgets."""

    outcome: Callable[[Request], float | Status] = chance
    seconds: Seconds = as_guessed
    workers: int = 1
    ladder: Ladder = SORTING
    begins: float = 0.0
    """What each evaluation takes before its first step, in full trainings, and what it says of that."""
    hyperparameters: Callable[[int], dict[str, Value]] = one_of
    ledger: MemoryLedger = field(default_factory=lambda: MemoryLedger("minimize"))

    def of(self, budget: Budget | float, *, num_own: int = 1) -> History:
        budget = budget if isinstance(budget, Budget) else Budget(full_trainings=budget)
        search = BudgetedHalving.usual(self.ladder, budget, num_initial=num_own)
        executor = SimulatedExecutor(self.evaluate, workers=self.workers)
        climb(self.ledger, search, self, executor)
        return self.ledger.history

    def draw(self, history: History) -> Configuration:
        number = len(history.configurations)
        return Configuration(number=number, hyperparameters=self.hyperparameters(number))

    def evaluate(self, job: Job) -> Evaluation:
        begins_whole = job.fidelity.trainable_layers == self.ladder.num_layers and not job.continued_from
        share = (
            job.fidelity.samples / self.ladder.full_samples
            if begins_whole
            else guessed_prices(self.ladder)[job.rung]
        )
        seconds = FULL_SECONDS * share
        samples = job.fidelity.samples - (job.continued_from[-1].samples if job.continued_from else 0)
        outcome = self.outcome(job.request)
        finished = not isinstance(outcome, Status)
        return Evaluation(
            number=job.configuration.number,
            rung=job.rung,
            fidelity=job.fidelity,
            status=Status.FINISHED if finished else outcome,
            score=outcome if finished else None,
            cost=Cost(
                seconds=self.seconds(job.request, seconds) + self.begins * FULL_SECONDS,
                samples=samples,
                fixed_seconds=self.begins * FULL_SECONDS,
            ),
        )


class EndingLedger(MemoryLedger):
    """Ends whoever gets no further, as a study does, whose trials cannot be opened again."""

    def end(self, numbers: Iterable[int]) -> None:
        for number in [*numbers]:
            self.history.eliminate(number)


def usual(ladder: Ladder, budget: float, *, num_own: int = 1) -> BudgetedHalving:
    return BudgetedHalving.usual(ladder, Budget(full_trainings=budget), num_initial=num_own)


def spent(history: History) -> float:
    """In full trainings."""
    return sum(evaluation.cost.seconds for evaluation in history.evaluations()) / FULL_SECONDS


def seen(history: History) -> list[int]:
    return [history.rung(rung).num_ended for rung in range(history.num_rungs)]


@dataclass(kw_only=True)
class FirstEnds(Run):
    """The first evaluation of the first configuration ends early: how, after which seconds, on how many samples."""

    first: tuple[Status, float, int]

    def evaluate(self, job: Job) -> Evaluation:
        evaluation = super().evaluate(job)
        if job.configuration.number > 0:
            return evaluation
        status, seconds, samples = self.first
        return replace(evaluation, status=status, score=None, cost=Cost(seconds=seconds, samples=samples))


@pytest.mark.parametrize("ladder", LADDERS)
@pytest.mark.parametrize("num_own", [0, 1])
@pytest.mark.parametrize("budget", [Budget(full_trainings=6), Budget(seconds=6 * FULL_SECONDS)], ids=str)
@pytest.mark.parametrize(
    "first", [(Status.FAILED, 0.1, 0), (Status.DIVERGED, 15.0, 5), (Status.DIVERGED, 0.1, 5)], ids=str
)
def test_a_first_one_that_ends_early_is_no_measure_of_the_budget(
    first: tuple[Status, float, int], budget: Budget, num_own: int, ladder: Ladder
) -> None:
    history = FirstEnds(first=first, ladder=ladder).of(budget, num_own=num_own)
    assert 4 < spent(history) < 6.6
    assert history.rung(len(ladder.rungs) - 1).ranking


@pytest.mark.parametrize("ladder", LADDERS)
@pytest.mark.parametrize("num_own", [0, 1])
@pytest.mark.parametrize("budget", [2.5, 3, 4, 6, 8, 12, 24, 100])
def test_a_budget_is_spent_and_not_exceeded(budget: float, num_own: int, ladder: Ladder) -> None:
    history = Run(ladder=ladder).of(budget, num_own=num_own)
    # What is left is less than the last climb would have cost.
    last_climb = sum(guessed_prices(ladder)[usual(ladder, budget, num_own=0).first_rung :])
    assert budget - last_climb < spent(history) <= 1.03 * budget


@pytest.mark.parametrize("ladder", LADDERS)
@pytest.mark.parametrize("num_own", [0, 1, 2])
@pytest.mark.parametrize("budget", [2, 3, 6, 12])
def test_what_is_planned_is_what_happens_where_rungs_cost_what_is_guessed(
    budget: float, num_own: int, ladder: Ladder
) -> None:
    search = usual(ladder, budget, num_own=num_own)
    history = Run(ladder=ladder).of(budget, num_own=num_own)
    assert [*search.evaluations_per_rung()] == seen(history)
    assert search.configurations == len(history.configurations)
    assert sum(row.cost for row in search.rows()) == pytest.approx(spent(history))


def test_it_is_wide_at_the_bottom_and_ends_with_a_few_full_trainings() -> None:
    assert seen(Run(ladder=SIEVE).of(6)) == [53, 17, 6, 3]
    assert seen(Run().of(6)) == [39, 15, 7, 4, 3]
    # Without one of one's own, one begins where all layers are trained, and the rest is there for others.
    history = Run().of(6, num_own=0)
    assert [history.evaluation(0, rung) is None for rung in range(4)] == [True, True, True, False]
    assert seen(history) == [44, 19, 9, 5, 2]


@pytest.mark.parametrize("num_own", [0, 1])
def test_it_is_wide_at_the_bottom_also_where_all_layers_are_trained_there(num_own: int) -> None:
    ladder = Ladder.explicit([(9, 100), (9, 300), (9, 1000)], num_layers=9, full_samples=1000)
    assert seen(Run(ladder=ladder).of(6, num_own=num_own)) == [[27, 8, 2], [22, 7, 3]][num_own]


@pytest.mark.parametrize("factor", [0.2, 5.0])
def test_rungs_that_cost_other_than_guessed_change_how_many_begin(factor: float) -> None:
    def seconds(request: Request, guessed: float) -> float:
        return guessed * (factor if request.rung < 3 else 1.0)

    history = Run(seconds=seconds).of(8)
    assert 8 - 1 < spent(history) <= 1.03 * 8
    as_expected = len(Run().of(8).configurations)
    # A first wave had begun before the costs were known.
    assert (len(history.configurations) > as_expected) == (factor < 1)


def test_rungs_that_cost_nothing_by_the_clock_end_all_the_same() -> None:
    def seconds(request: Request, guessed: float) -> float:
        return 0.0 if request.rung == 1 else guessed

    assert Run(seconds=seconds).of(4).rung(4).num_ended > 1


@pytest.mark.parametrize("num_own", [0, 1])
def test_candidates_of_whom_the_best_cost_nothing_by_the_clock_are_searched(num_own: int) -> None:
    run = Run(
        ladder=SIEVE,
        outcome=lambda request: chance(request) - 10 * (request.number % 3 == 1),
        seconds=lambda request, guessed: 0.0 if request.number % 3 == 1 else guessed,
    )
    history = run.of(6, num_own=num_own)
    assert spent(history) <= 1.1 * 6
    assert history.rung(3).ranking[0] % 3 == 1


def tenfold(number: int) -> float:
    """What a configuration costs in units of another: between 0.3 and 3, one's own 1."""
    return 1.0 if number == 0 else 10 ** Random(f"{number}").uniform(-0.5, 0.5)


@pytest.mark.parametrize("ladder", LADDERS)
@pytest.mark.parametrize("num_own", [0, 1])
@pytest.mark.parametrize("budget", [4, 6, 8, 12, 24])
def test_configurations_that_cost_ten_times_as_much_as_others_keep_the_budget(
    ladder: Ladder, budget: float, num_own: int
) -> None:
    spending = []
    for seed in range(10):
        run = Run(
            ladder=ladder,
            outcome=lambda request, seed=seed: Random(f"{seed} {request}").random(),
            seconds=lambda request, guessed: guessed * tenfold(request.number),
        )
        spending.append(spent(run.of(budget, num_own=num_own)) / budget)
    assert mean(spending) <= (1.05 if num_own else 1.1)
    if num_own:
        assert max(spending) <= 1.2


@pytest.mark.parametrize("ladder", LADDERS)
@pytest.mark.parametrize("budget", [6, 8, 12, 24])
def test_if_the_good_ones_cost_more_than_others_fewer_of_them_climb(ladder: Ladder, budget: float) -> None:
    for seed in range(10):
        run = Run(
            ladder=ladder,
            outcome=lambda request, seed=seed: Random(f"{seed} {request}").random() - tenfold(request.number) / 2,
            seconds=lambda request, guessed: guessed * tenfold(request.number),
        )
        assert spent(run.of(budget)) <= 1.18 * budget


@pytest.mark.parametrize(("budget", "most_alone"), [(4, 5), (6, 0), (8, 0)])
def test_who_would_cost_more_than_is_left_gives_way_to_the_best_that_would_not(
    budget: float, most_alone: int
) -> None:
    """A quarter is better than all others, and takes four times as long; each evaluation takes a while to begin."""
    begins, alone, spending, regrets = 0.03, 0, [], []
    for seed in range(20):

        def is_dear(number: int, seed: int = seed) -> bool:
            return number > 0 and Random(f"{seed} {number}").random() < 0.25

        def worth(number: int, seed: int = seed) -> float:
            return Random(f"{seed} {number} worth").random()

        run = Run(
            ladder=SIEVE,
            outcome=lambda request: (
                2.0 if request.number == 0 else worth(request.number) - is_dear(request.number)
            ),
            seconds=lambda request, guessed: (
                (guessed + begins * FULL_SECONDS) * (4 if is_dear(request.number) else 1)
            ),
        )
        history = run.of(budget)
        spending.append(spent(history) / (1 + begins) / budget)
        in_full = [number for number in history.rung(3).ranking if number != 0]
        if not in_full:
            alone += 1
            continue
        cheap = [worth(each.number) for each in history.configurations[1:] if not is_dear(each.number)]
        regrets.append(max(0.0, worth(in_full[0]) - is_dear(in_full[0]) - min(cheap)))
    # Where the good ones went on whatever they took, one's own was alone in 17 or 18 of 20.
    assert alone <= most_alone
    assert mean(spending) <= 1.03
    assert max(spending) <= 1.2
    assert mean(regrets) <= 0.05


@pytest.mark.parametrize("ladder", LADDERS)
@pytest.mark.parametrize("budget", [6, 8, 12, 24])
def test_with_none_of_ones_own_a_full_training_is_that_of_a_typical_configuration_even_if_the_good_ones_cost_more(
    ladder: Ladder, budget: float
) -> None:
    spending = []
    for seed in range(20):

        def times(number: int, seed: int = seed) -> float:
            return 10 ** Random(f"{seed} {number}").uniform(-0.5, 0.5)

        run = Run(
            ladder=ladder,
            outcome=lambda request, seed=seed: Random(f"{seed} {request}").random() - times(request.number) / 2,
            seconds=lambda request, guessed: guessed * times(request.number),
        )
        history = run.of(budget, num_own=0)
        typical = median(times(configuration.number) for configuration in history.configurations)
        spending.append(spent(history) / (typical * budget))
    assert 0.9 <= mean(spending) <= 1.15
    assert max(spending) <= 1.6


@pytest.mark.parametrize("ladder", LADDERS)
@pytest.mark.parametrize("num_own", [0, 1])
@pytest.mark.parametrize(
    ("budget", "begins"),
    [(6, 0.03), (6, 0.1), *((budget, begins) for budget in (8, 12, 24) for begins in (0.03, 0.1, 0.3))],
)
def test_what_lies_around_the_steps_is_no_part_of_what_samples_take(
    budget: float, begins: float, num_own: int, ladder: Ladder
) -> None:
    history = Run(ladder=ladder, begins=begins).of(budget, num_own=num_own)
    # A tenth of the samples was taken for a tenth of a full training: up to 2.3 times the budget was spent.
    wanted = budget * (1 + begins)
    assert 0.9 * wanted <= spent(history) <= 1.05 * wanted
    assert usual(ladder, budget, num_own=num_own).spent(history)[1] == pytest.approx(wanted * FULL_SECONDS)


@pytest.mark.parametrize(("budget", "begins", "num_scouts"), [(3, 0.3, 4), (4, 1.0, 2)])
def test_fewer_begin_in_any_case_if_a_training_takes_long_to_begin(
    budget: float, begins: float, num_scouts: int
) -> None:
    history = Run(ladder=SIEVE, begins=begins).of(budget, num_own=0)
    assert history.rung(0).num_ended == num_scouts
    assert spent(history) <= 1.05 * budget * (1 + begins)


@pytest.mark.parametrize("ladder", LADDERS)
@pytest.mark.parametrize("budget", [4, 6, 8, 12, 24])
def test_a_machine_that_slows_down_after_the_first_keeps_the_budget(ladder: Ladder, budget: float) -> None:
    run = Run(ladder=ladder, seconds=lambda request, guessed: guessed * (1 if request.number == 0 else 1.4))
    assert 0.9 * budget <= spent(run.of(budget)) <= 1.03 * budget


@pytest.mark.parametrize("ladder", LADDERS)
def test_who_would_cost_far_more_than_is_left_does_not_climb_unless_there_is_no_answer_without(
    ladder: Ladder,
) -> None:
    run = Run(ladder=ladder, seconds=lambda request, guessed: guessed * (1 if request.number == 0 else 4))
    history = run.of(3)
    search = usual(ladder, 3)
    assert seen(history)[-1] == 1
    assert search.own_stay_alone(history)
    # With the usual ladder candidates tell what they take with all layers when most of so small a budget is spent.
    assert spent(history) < (3 if ladder is SORTING else 1.1 * 3)
    time = Budget(seconds=2.5 * FULL_SECONDS)
    assert seen(Run(ladder=ladder, seconds=run.seconds).of(time, num_own=0))[-1] == 1
    assert not search.own_stay_alone(Run(ladder=ladder).of(3))
    assert not search.own_stay_alone(Run(ladder=ladder).of(2))


def test_a_first_half_at_all_layers_that_fails_at_once_lets_no_more_climb_than_planned() -> None:
    def outcome(request: Request) -> float | Status:
        return Status.FAILED if request.rung == 3 and request.number > 0 else chance(request)

    def seconds(request: Request, guessed: float) -> float:
        return 0.0 if request.rung == 3 else guessed

    assert seen(Run(outcome=outcome, seconds=seconds).of(12))[3] == seen(Run().of(12))[3]


def test_the_last_rung_waits_for_none_that_is_worse_and_the_answer_is_never_worse_than_ones_own() -> None:
    history = Run(outcome=lambda request: 0.0 if request.number == 0 else 1.0 + request.number).of(6)
    assert history.rung(4).ranking[0] == 0
    assert history.evaluation(0, 0) is None
    assert history.rung(0).ranking == list(range(1, 40))


def test_the_first_of_none_of_ones_own_competes_where_it_begins() -> None:
    best = Run(outcome=lambda request: 1.0 * request.number).of(6, num_own=0)
    assert best.rung(4).ranking[0] == 0
    worst = Run(outcome=lambda request: -1.0 * request.number).of(6, num_own=0)
    assert worst.evaluation(0, 4) is None
    assert 0 in usual(SORTING, 6, num_own=0).eliminated(worst)


@pytest.mark.parametrize("num_own", [0, 1])
@pytest.mark.parametrize("outcome", [Status.DIVERGED, Status.FAILED])
def test_a_first_one_that_fails_stops_nothing(outcome: Status, num_own: int) -> None:
    run = Run(outcome=lambda request: outcome if request.number == 0 else 1.0 * request.number)
    history = run.of(6, num_own=num_own)
    assert history.rung(4).ranking
    assert spent(history) <= 1.03 * 6


@pytest.mark.parametrize("budget", [1, 2, 2.4])
def test_a_budget_too_small_to_search_trains_the_first_in_full(budget: float) -> None:
    assert seen(Run().of(budget)) == [0, 0, 0, 0, 1]
    assert seen(Run().of(budget, num_own=0)) == [0, 0, 0, 1, 1]


def test_several_of_ones_own_are_all_trained_in_full() -> None:
    history = Run().of(8, num_own=3)
    assert all(history.evaluation(number, 4) is not None for number in range(3))
    assert spent(history) <= 1.03 * 8


def test_a_time_is_kept_too() -> None:
    history = Run().of(Budget(seconds=6 * FULL_SECONDS))
    assert seen(history) == seen(Run().of(6))
    assert seen(Run().of(Budget(seconds=1))) == [0, 0, 0, 0, 1]


@pytest.mark.parametrize("ladder", LADDERS)
@pytest.mark.parametrize("num_own", [0, 1])
def test_a_larger_budget_later_goes_on_and_wastes_nothing(ladder: Ladder, num_own: int) -> None:
    run = Run(ladder=ladder)
    first = {evaluation.request for evaluation in run.of(6, num_own=num_own).evaluations()}
    history = run.of(12, num_own=num_own)
    assert first < {evaluation.request for evaluation in history.evaluations()}
    assert 10.5 < spent(history) <= 1.03 * 12 + 1
    before = history.num_evaluations
    assert run.of(12, num_own=num_own).num_evaluations == before


@pytest.mark.parametrize("ladder", LADDERS)
@pytest.mark.parametrize("num_own", [0, 1])
@pytest.mark.parametrize("budgets", [(6, 7), (6, 9), (4, 6), (6, 12), (3, 6, 12, 24)])
@pytest.mark.parametrize("seed", range(4))
def test_larger_budgets_are_kept_too(seed: int, budgets: tuple[float, ...], num_own: int, ladder: Ladder) -> None:
    # Who is best by few layers and unlike each other changes with those that come later; whom the smaller budget left
    # behind is gone, and who has climbed has been paid for.
    def noisy(request: Request) -> float:
        return Random(f"{seed} {request.number}").random() + 0.5 * Random(f"{seed} {request}").random()

    run = Run(ladder=ladder, outcome=noisy, hyperparameters=three_of, ledger=EndingLedger("minimize"))
    last_climb = sum(guessed_prices(ladder)[usual(ladder, budgets[0], num_own=0).first_rung :])
    for budget in budgets:
        history = run.of(budget, num_own=num_own)
        assert history.eliminated == {*range(len(history.configurations))}
        assert seen(history) == [*usual(ladder, budget, num_own=num_own).decided(history)]
        # One may climb that exceeds the budget by a tenth, if otherwise none would.
        assert budget - last_climb < spent(history) <= 1.1 * budget


def guessing(request: Request) -> float:
    """Scores of a task whose few layers learn nothing: those of guessing, until all are trained."""
    noise = Random(f"{request}").random()
    return noise if request.rung >= 3 else 2.3 + 0.01 * noise


@pytest.mark.parametrize("num_own", [0, 1])
@pytest.mark.parametrize("budget", [4, 6, 12, 24])
def test_where_few_layers_tell_nothing_it_goes_on_with_all(budget: float, num_own: int) -> None:
    run = Run(outcome=guessing)
    history = run.of(budget, num_own=num_own)
    lowest, second, third, whole, top = seen(history)
    # Of few layers only as many are trained as begin before that is known, or go on with all of them.
    assert (second, third) == (0, 0)
    assert lowest <= max(16, whole)
    assert whole > seen(Run().of(budget, num_own=num_own))[3]
    assert top >= 2
    assert budget - 1 < spent(history) <= 1.03 * budget
    search = usual(SORTING, budget, num_own=num_own)
    assert {*search.eliminated(history)} == {*range(num_own, len(history.configurations))} - {
        *history.rung(4).ranking
    }
    before = history.num_evaluations
    assert run.of(budget, num_own=num_own).num_evaluations == before


def test_a_rung_tells_something_as_long_as_its_best_is_ahead_or_nobody_knows_better() -> None:
    def seen_with(outcome: Callable[[Request], float | Status]) -> list[int]:
        return seen(Run(outcome=outcome).of(6))

    usual = seen_with(chance)
    # One of them has learnt something: a twentieth of what training with all layers gains.
    assert (
        seen_with(lambda request: 2.2 if request.number == 5 and request.rung < 3 else guessing(request)) == usual
    )
    # With all layers one's own has learnt as little.
    assert seen_with(lambda request: 2.3 + 0.01 * Random(f"{request}").random()) == usual


def test_a_larger_budget_goes_on_from_a_rung_that_told_nothing() -> None:
    run = Run(outcome=guessing)
    first = {evaluation.request for evaluation in run.of(6).evaluations()}
    history = run.of(24)
    assert first < {evaluation.request for evaluation in history.evaluations()}
    assert 23 < spent(history) <= 1.03 * 24


@pytest.mark.parametrize("budget", [4, 6, 12, 24])
def test_where_few_layers_want_other_values_than_all_the_good_ones_climb_too(budget: float) -> None:
    def outcome(request: Request) -> float:
        # The higher the rate the better with few layers; with all of them it must be low.
        rate = rate_of(request.number)
        return 1 - rate if request.rung == 0 else abs(rate - 0.15)

    history = Run(ladder=SIEVE, outcome=outcome).of(budget)
    best = history.rung(len(SIEVE.rungs) - 1).ranking[0]
    rates = sorted(abs(rate_of(number) - 0.15) for number in history.rung(0).ranking)
    assert abs(rate_of(best) - 0.15) <= rates[len(rates) // 4]
    begun, climbed = ([rate_of(number) for number in history.rung(rung).ranking if number > 0] for rung in (0, 1))
    # Of the good ones by few layers more climb than by chance.
    assert mean(rate > 0.66 for rate in climbed) > mean(rate > 0.66 for rate in begun)


@pytest.mark.parametrize("own_learns", [True, False])
@pytest.mark.parametrize("budget", [4, 6, 12, 24])
def test_where_the_few_layers_of_the_sieve_tell_nothing_no_more_begin_than_go_on(
    budget: float, own_learns: bool
) -> None:
    def outcome(request: Request) -> float:
        noise = Random(f"{request}").random()
        # If one's own learns nothing, those that train all layers early tell what there is to be learnt.
        learns = request.rung >= 1 and (own_learns or request.number > 0)
        return noise if learns else 2.3 + 0.01 * noise

    history = Run(ladder=SIEVE, outcome=outcome).of(budget)
    few, whole, *_, top = seen(history)
    assert few <= max(16, whole)
    assert whole >= seen(Run(ladder=SIEVE).of(budget))[1]
    assert top >= 2
    assert spent(history) <= 1.03 * budget


def nothing_saved(request: Request, guessed: float) -> float:
    """Few layers take as long as all of them."""
    return guessed if request.rung > 0 else FULL_SECONDS * 0.1


@pytest.mark.parametrize("num_own", [0, 1])
@pytest.mark.parametrize("budget", [3, 4, 6, 12, 24])
def test_where_few_layers_save_no_time_the_others_begin_with_all(budget: float, num_own: int) -> None:
    run = Run(ladder=SIEVE, seconds=nothing_saved)
    history = run.of(budget, num_own=num_own)
    few, whole, *_, top = seen(history)
    assert few == 6
    # Six have climbed through the lowest rung for nothing, or two.
    assert whole == len(history.configurations) - 4 - (num_own == 1)
    assert top >= 1 + num_own
    assert 0.9 * budget - 0.2 <= spent(history) <= 1.03 * budget
    search = usual(SIEVE, budget, num_own=num_own)
    assert sum(search.decided(history)) == history.num_evaluations
    assert {*search.eliminated(history)} == {*range(num_own, len(history.configurations))} - {
        *history.rung(3).ranking
    }
    before = history.num_evaluations
    assert run.of(budget, num_own=num_own).num_evaluations == before
    first = {evaluation.request for evaluation in history.evaluations()}
    later = run.of(2 * budget, num_own=num_own)
    assert first < {evaluation.request for evaluation in later.evaluations()}
    assert seen(later)[0] == 6
    assert spent(later) <= 1.03 * 2 * budget + 1


def test_where_all_layers_sort_out_fewer_go_on_from_a_tenth_of_the_samples() -> None:
    # Nobody has sorted out those who begin with all layers: a quarter of them goes on, and a third of these.
    assert late_shares(SIEVE) == (1 / 4, 1 / 3)
    _, tenth, three_tenths, top = seen(Run(ladder=SIEVE, seconds=nothing_saved).of(24, num_own=0))
    assert tenth > 80
    assert three_tenths / tenth == pytest.approx(1 / 4, abs=0.02)
    assert top / three_tenths == pytest.approx(1 / 3, abs=0.05)
    # One's own shares are everybody's, and those of a fine ladder stay.
    search = BudgetedHalving(ladder=SIEVE, kept=(0.5, 0.5, 0.5), budget=Budget(full_trainings=6))
    assert search.late is search
    fine = Ladder.explicit([(1, 100), (9, 100), (9, 200), (9, 400), (9, 1000)], num_layers=9, full_samples=1000)
    assert late_shares(fine) == usual_shares(fine)[1:]
    # A ladder of two rungs has none above the second.
    assert late_shares(Ladder.explicit([(1, 100), (9, 1000)], num_layers=9, full_samples=1000)) == ()


def test_those_that_tell_whether_few_layers_save_time_take_places_of_others() -> None:
    # Of the six that begin, none is among the best of all.
    history = Run(ladder=SIEVE, outcome=lambda request: 1.0 / (1 + request.number)).of(6)
    assert seen(history) == seen(Run(ladder=SIEVE).of(6))
    # The best of the six, and who is good and unlike it.
    assert {number for number in range(1, 7) if history.evaluation(number, 1) is not None} == {4, 6}


def test_no_more_are_tried_than_there_are_if_few_layers_save_no_time() -> None:
    for most in (2, 5, 8, 20):
        budget = Budget(full_trainings=12)
        search = BudgetedHalving.usual(SIEVE, budget, num_initial=1, most=most)
        run = Run(ladder=SIEVE, seconds=nothing_saved)
        climb(run.ledger, search, run, SimulatedExecutor(run.evaluate))
        assert len(run.ledger.history.configurations) == most


def test_what_a_tenth_of_the_samples_told_of_a_full_training_is_corrected_by_those_that_go_on() -> None:
    def with_a_start(request: Request, guessed: float) -> float:
        return guessed + (start * FULL_SECONDS if request.rung <= 1 else 0.0)

    start = 0.03

    run = Run(ladder=SIEVE, seconds=with_a_start)
    history = run.of(12, num_own=0)
    # Without the correction a full training would be taken for one of 1.3 times the time, and the budget too.
    wanted = 12 * (1 + start)
    assert 0.95 * wanted <= spent(history) <= 1.05 * wanted
    seconds, budget = usual(SIEVE, 12, num_own=0).spent(history)
    assert seconds == pytest.approx(spent(history) * FULL_SECONDS)
    assert budget == pytest.approx(wanted * FULL_SECONDS)


@pytest.mark.parametrize(("budget", "start"), [(3, 0.1), (6, 0.1), (12, 0.1), (6, 0.5), (12, 0.5)])
def test_what_a_process_starts_once_is_not_taken_for_a_part_of_every_training(budget: float, start: float) -> None:
    """Imports, caches: they fall to the first, which begins on a tenth of the samples."""

    def with_a_start(request: Request, guessed: float) -> float:
        return guessed + (start * FULL_SECONDS if request.number == 0 and request.rung == 1 else 0.0)

    history = Run(ladder=SIEVE, seconds=with_a_start).of(budget, num_own=0)
    assert 0.9 * budget <= spent(history) <= 1.05 * budget
    assert usual(SIEVE, budget, num_own=0).spent(history)[1] == pytest.approx(budget * FULL_SECONDS)


@given(
    budget=st.floats(2.5, 12),
    workers=st.integers(2, 12),
    seed=st.integers(0, 2**32),
    faults=st.sampled_from([0.0, 0.2, 0.9]),
    num_own=st.integers(0, 2),
    silent=st.sampled_from([0, 1, 3]),
    ladder=st.sampled_from([SIEVE, SORTING]),
)
def test_what_is_evaluated_depends_neither_on_workers_nor_on_arrival(
    budget: float, workers: int, seed: int, faults: float, num_own: int, silent: int, ladder: Ladder
) -> None:
    def outcome(request: Request) -> float | Status:
        random = Random(f"{seed} {request}")
        if random.random() < faults:
            return random.choice([Status.DIVERGED, Status.FAILED])
        return random.random() if request.rung >= silent else 2.3 + 0.01 * random.random()

    def seconds(request: Request, guessed: float) -> float:
        # Few layers of some save time, and of others none.
        factor = 1 if request.rung > 0 else Random(f"{seed}").choice([1, 6])
        return guessed * factor * Random(f"{seed} {request} seconds").uniform(0.2, 3)

    ends = []
    for number in (1, workers):
        history = Run(outcome=outcome, seconds=seconds, workers=number, ladder=ladder).of(budget, num_own=num_own)
        ends.append({(evaluation.number, evaluation.rung) for evaluation in history.evaluations()})
    assert ends[0] == ends[1]


def killed(run: Run, budget: float, after: Iterator[int], num_own: int) -> History:
    """Run a search in processes that each die after one more evaluation than the one before."""
    evaluate = run.evaluate
    while True:
        left = next(after)

        def dies(job: Job) -> Evaluation:
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
            return evaluate(job)

        run.evaluate = dies  # type: ignore[method-assign]
        try:
            return run.of(budget, num_own=num_own)
        except KeyboardInterrupt:
            for request in [*run.ledger.history.pending]:
                run.ledger.history._pending.pop(request)
            history, run.ledger = run.ledger.history, MemoryLedger("minimize")
            for configuration in history.configurations:
                run.ledger.history.add_configuration(configuration)
            for evaluation in history.evaluations():
                run.ledger.history.finish(evaluation)


@pytest.mark.parametrize("ladder", LADDERS)
@pytest.mark.parametrize("num_own", [0, 1])
@pytest.mark.parametrize("outcome", [chance, guessing])
@pytest.mark.parametrize("seconds", [as_guessed, nothing_saved, of_each])
def test_a_search_that_is_killed_again_and_again_comes_to_the_same_end(
    ladder: Ladder, num_own: int, outcome: Callable[[Request], float | Status], seconds: Seconds
) -> None:
    undisturbed = Run(ladder=ladder, outcome=outcome, seconds=seconds).of(5, num_own=num_own)
    history = killed(Run(ladder=ladder, outcome=outcome, seconds=seconds), 5, after=count(1), num_own=num_own)
    assert {one.request for one in history.evaluations()} == {one.request for one in undisturbed.evaluations()}


def test_a_budget_is_a_number_of_full_trainings_or_a_time() -> None:
    assert Budget.parse("6") == Budget(full_trainings=6)
    assert Budget.parse(" 2.5 ") == Budget(full_trainings=2.5)
    assert [Budget.parse(text).seconds for text in ("40ms", "90s", "30min", "2h", "1.5 d")] == [
        0.04,
        90,
        1800,
        7200,
        129_600,
    ]
    assert [f"{Budget.parse(text)}" for text in ("6", "90s", "45s", "2h")] == [
        "6 full trainings",
        "1.5 min",
        "45 s",
        "2 h",
    ]


@pytest.mark.parametrize("text", ["", "lots", "-3", "1e3", "6x", "nan", "inf", "٣", "2 hours ago"])
def test_what_is_no_budget_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(OptionError, match="is no budget: write a number of full trainings"):
        Budget.parse(text)


@pytest.mark.parametrize("text", ["0", "0.9", "0s"])
def test_a_budget_that_answers_nothing_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match=r"above 0|at least 1"):
        Budget.parse(text)


def test_shares_must_be_as_many_as_rungs_below_the_last() -> None:
    with pytest.raises(LadderError, match=r"kept is \(0\.5,\)"):
        BudgetedHalving(ladder=SIEVE, kept=(0.5,), budget=Budget(full_trainings=6))
    with pytest.raises(LadderError, match=r"kept_late is \(0\.5, 2\), but must be shares above 0 and up to 1"):
        BudgetedHalving(ladder=SIEVE, kept=(0.5,) * 3, kept_late=(0.5, 2), budget=Budget(full_trainings=6))
    with pytest.raises(LadderError, match="num_own is -1"):
        usual(SIEVE, 6, num_own=-1)


def test_the_sieve_asks_few_layers_once_and_then_all() -> None:
    rungs = [(rung.trainable_layers, rung.samples) for rung in SIEVE.rungs]
    assert rungs == [(1, 100), (9, 100), (9, 300), (9, 1000)]
    assert [Ladder.sieve(num_layers=n, full_samples=1000).rungs[0].trainable_layers for n in (2, 10, 24)] == [
        1,
        2,
        4,
    ]
    alone = Ladder.sieve(num_layers=1, full_samples=1000)
    assert [rung.samples for rung in alone.rungs] == [100, 300, 1000]
    with pytest.raises(LadderError, match="single rung"):
        Ladder.sieve(num_layers=1, full_samples=1)


def test_more_go_on_where_the_next_rung_costs_less() -> None:
    assert usual_shares(SIEVE) == (1 / 3, 0.4, 0.4)
    # Studies that were begun with two fifths of the samples.
    rungs = [(1, 100), (9, 100), (9, 400), (9, 1000)]
    assert usual_shares(Ladder.explicit(rungs, num_layers=9, full_samples=1000)) == (1 / 3, 0.4, 0.5)
    assert usual_shares(SORTING) == (0.4, 0.5, 0.5, 0.5)
    assert usual_shares(Ladder.diagonal(num_layers=9, full_samples=1000)) == (1 / 3, 1 / 3)
