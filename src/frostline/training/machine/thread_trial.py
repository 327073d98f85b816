"""With how many threads steps are fastest here: found out on the steps of a training, of which nothing is computed twice."""

from __future__ import annotations

from dataclasses import dataclass, field

# The first step with another number of threads starts these.
_WARM_UP_STEPS = 1

# What is measured is a mean over longer than a scheduler lets a process run: beside a busy one most steps on two threads are
# fast, and a few wait so long that all of them together are slow. One long step says as much as many short ones.
_LEAST_STEPS = 3
_LEAST_SECONDS = 0.03
_SECONDS_ENOUGH = 0.5

# More threads that gain less than this are left to others.
_NEEDED_GAIN = 1.1

# Steps have become slow when so many means in a row are so far above what was settled on.
_SLOW = 1.5
_SLOW_MEANS = 3

# How long a number is kept at least, in seconds and as often as long as measuring it took: before slow steps, and before the
# time alone, have it measured again. A neighbour that is gone shows in nothing else.
_KEPT_WHEN_SLOW = (0.0, 10.0)
_KEPT_ANYHOW = (10.0, 30.0)


@dataclass(slots=True)
class _Mean:
    """The mean of some steps' seconds, each divided by how much it did."""

    seconds: float = 0.0
    work: float = 0.0
    steps: int = 0

    def add(self, seconds: float, work: float) -> None:
        self.seconds += seconds
        self.work += work
        self.steps += 1

    @property
    def is_enough(self) -> bool:
        return self.seconds >= (_LEAST_SECONDS if self.steps >= _LEAST_STEPS else _SECONDS_ENOUGH)

    @property
    def value(self) -> float:
        return self.seconds / self.work


@dataclass(slots=True)
class ThreadTrial:
    """Chooses the number of threads for steps of one kind, from ``most`` downwards.

    It tries ``most``, half of that, and so on, while fewer are as fast, and settles on the fewest that are within a tenth of
    the fastest. So one that slows steps down is left at once, and a large model makes no step on one thread of many.
    It measures again when steps have become slow, and now and then. Where ``most`` is 1 there is nothing to choose.
    Units: seconds of wall-clock.
    """

    most: int
    number: int = 0
    """Of the next step."""
    why: str = ""
    """One phrase that says what the choice rests on; empty until there is one."""
    _means: dict[int, float] = field(default_factory=dict)
    _current: _Mean = field(default_factory=_Mean)
    _warm_up_left: int = _WARM_UP_STEPS
    _measuring_seconds: float = 0.0
    _settled_seconds: float = 0.0
    _slow_means: int = 0

    def __post_init__(self) -> None:
        self.number = self.most

    @property
    def is_settled(self) -> bool:
        """Whether it has chosen, until it measures again."""
        return self.most == 1 or bool(self.why)

    def took(self, seconds: float, *, work: float = 1.0) -> None:
        """Say how long a step on ``number`` threads took, and how much it did, in any unit, such as members."""
        if self.most == 1:
            return
        if self.is_settled:
            self._watch(seconds, work)
        else:
            self._measure(seconds, work)

    def _measure(self, seconds: float, work: float) -> None:
        self._measuring_seconds += seconds
        if self._warm_up_left > 0:
            self._warm_up_left -= 1
            return
        self._current.add(seconds, work)
        if not self._current.is_enough:
            return
        self._means[self.number] = self._current.value
        fastest = min(self._means.values())
        if self.number > 1 and self._means[self.number] <= _NEEDED_GAIN * fastest:
            self.number //= 2
        else:
            self.number = min(number for number, mean in self._means.items() if mean <= _NEEDED_GAIN * fastest)
            self.why = ", ".join(f"{1e3 * mean:.2f} ms on {number}" for number, mean in self._means.items())
        self._begin_mean()

    def _watch(self, seconds: float, work: float) -> None:
        """Look whether what was settled on still holds."""
        self._settled_seconds += seconds
        self._current.add(seconds, work)
        if not self._current.is_enough:
            return
        is_slow = self._current.value > _SLOW * self._means[self.number]
        self._slow_means = self._slow_means + 1 if is_slow else 0
        self._begin_mean()
        if self._is_kept_for(_KEPT_ANYHOW) or (
            self._slow_means >= _SLOW_MEANS and self._is_kept_for(_KEPT_WHEN_SLOW)
        ):
            self._measure_again()

    def _is_kept_for(self, least: tuple[float, float]) -> bool:
        seconds, times = least
        return self._settled_seconds >= max(seconds, times * self._measuring_seconds)

    def _measure_again(self) -> None:
        self.number, self.why = self.most, ""
        self._means = {}
        self._measuring_seconds = self._settled_seconds = 0.0
        self._slow_means = 0

    def _begin_mean(self) -> None:
        self._current = _Mean()
        self._warm_up_left = _WARM_UP_STEPS
