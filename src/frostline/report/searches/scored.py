"""Some configurations and a score for each: what hyperparameters are judged by, and the study Optuna draws it from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import optuna

from frostline.search.algorithms.silence import silent_rungs
from frostline.search.proposals.mirror import private_study
from frostline.wording import counted

if TYPE_CHECKING:
    from frostline.records import Configuration, Direction
    from frostline.report.study_record import StudyRecord
    from frostline.search.spaces.space import SearchSpace


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """Configurations of one space, each with its score at one and the same fidelity."""

    space: SearchSpace
    direction: Direction
    configurations: tuple[Configuration, ...]
    scores: tuple[float, ...]
    """All finite."""
    num_diverged: int
    """How many more were trained there and have no score."""
    where: str
    """The fidelity in words."""
    num_selected: int
    """How many of these configurations a lower rung chose."""

    @property
    def caution(self) -> str:
        """What is to be kept in mind of these scores, to follow another sentence."""
        words = ""
        if self.num_diverged:
            words += f" {self.num_diverged} more have no score, because they diverged or failed, and are left out."
        if self.where != "full fidelity":
            words += " At full fidelity it may be otherwise."
        if self.num_selected:
            is_all = self.num_selected == len(self.scores)
            chosen = "These configurations" if is_all else f"{self.num_selected} of {len(self.scores)}"
            words += f" {chosen} were chosen by a lower rung."
        return words

    def study(self, space: SearchSpace) -> optuna.Study:
        """Return an Optuna study in memory of these configurations, of what ``space`` has of them: all have all of it."""
        study, _ = private_study(self.direction, optuna.samplers.RandomSampler())
        distributions = dict(space.distributions)
        for configuration, score in zip(self.configurations, self.scores, strict=True):
            params = {name: configuration[name] for name in distributions}
            study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=score))
        return study


def scored_at(record: StudyRecord) -> Scored | None:
    """Return the configurations of the rung that says most of hyperparameters; None if no rung has a score.

    That is the rung that most configurations were trained at, and the highest of these: a higher one holds only survivors,
    and among those a hyperparameter that decided who survived seems to matter no longer. Rungs that tell nothing are no use.
    """
    history, terms = record.history, record.terms
    silent = silent_rungs(history, terms.rungs)
    counts = [0 if rung in silent else len(history.rung(rung).ranking) for rung in range(len(terms.rungs))]
    if not max(counts):
        return None
    rung = max(index for index, count in enumerate(counts) if count == max(counts))
    layers, samples = terms.rungs[rung].trainable_layers, terms.rungs[rung].samples
    numbers = sorted(history.rung(rung).ranking)
    configurations, scores = [], []
    for number in numbers:
        evaluation = history.evaluation(number, rung)
        assert evaluation is not None
        assert evaluation.score is not None
        assert math.isfinite(evaluation.score)
        configurations.append(history.configuration_of(evaluation))
        scores.append(evaluation.score)
    last = rung == len(terms.rungs) - 1
    # Where nobody is left behind, or a rung told nothing, nobody is chosen.
    lower = [] if terms.is_sweep else [index for index in range(rung) if counts[index]]
    chosen = [number for number in numbers if any(history.has_begun(number, index) for index in lower)]
    return Scored(
        space=record.space,
        direction=terms.direction,
        configurations=tuple(configurations),
        scores=tuple(scores),
        num_diverged=history.rung(rung).num_ended - len(numbers),
        where="full fidelity"
        if last
        else f"rung {rung} ({counted(layers, 'layer')}, {samples:,} {terms.sample_unit})",
        num_selected=len(chosen),
    )
