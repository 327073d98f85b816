"""The members of a population in groups that train as many layers, each with its stacked step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from frostline.populations.engines import Engine
from frostline.populations.stacking.stacked import StackedStep

if TYPE_CHECKING:
    from frostline.training.course import Course


class Stacks:
    """Stacked steps of those who go on together, made anew whenever these change."""

    def __init__(self) -> None:
        self._groups: Sequence[tuple[list[Course], StackedStep]] = ()

    def __bool__(self) -> bool:
        return bool(self._groups)

    def of(self, courses: Sequence[Course], *, engine: Engine) -> Sequence[tuple[list[Course], StackedStep]]:
        """Return the members in groups that train as many layers, each with its stack, as ``engine`` makes its steps."""
        if [course for group, _ in self._groups for course in group] != list(courses):
            self.release()
            groups: dict[int, list[Course]] = {}
            for course in courses:
                groups.setdefault(course.job.fidelity.trainable_layers, []).append(course)
            self._groups = [
                (
                    group,
                    StackedStep(
                        [course.session for course in group],
                        compiled=engine is Engine.COMPILED,
                        captured=engine is Engine.CAPTURED,
                    ),
                )
                for group in groups.values()
            ]
        return self._groups

    def release(self) -> None:
        """Give every member memory of its own."""
        for _, stacked in self._groups:
            stacked.release()
        self._groups = ()
