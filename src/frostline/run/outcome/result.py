"""What a search found, and what it cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from frostline.errors import ModelError, OptionError
from frostline.records import Status
from frostline.run.outcome.front import FrontMember, front_at, front_rows, front_words
from frostline.run.outcome.own_words import own_lines
from frostline.run.outcome.sentences import (
    chance_lines,
    cost_lines,
    rung_lines,
    rung_rows,
    score_words,
)
from frostline.run.outcome.trial_rows import trial_rows
from frostline.text_tables import html_table, text_table

if TYPE_CHECKING:
    from pathlib import Path

    from optuna import Study
    from pandas import DataFrame  # type: ignore[import-untyped]

    from frostline.records import Configuration, Evaluation
    from frostline.run.outcome.summary import Summary
    from frostline.search.history import History
    from frostline.store.backends.storage import Storage
    from frostline.store.terms import Terms
    from frostline.training.files.kept_models import KeptModels
    from frostline.training.files.model_files import Model


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class TuneResult:
    """What a search found, and what it cost."""

    study_name: str
    place: Storage
    """The storage that the study lies in. Its connections were given back, and are made again when it is asked."""
    terms: Terms
    summary: Summary
    history: History
    best: Evaluation
    """The best evaluation at full fidelity."""
    own: Evaluation | None = None
    """Under a budget that of one's own configuration, trained in full: the answer is never worse."""
    models: KeptModels | None = None
    """Where the best model is kept; None where the search knows of no models."""

    @property
    def storage(self) -> str:
        """The storage of the study, as it was given."""
        return self.place.place

    @property
    def study(self) -> Study:
        """The study as Optuna knows it, with all that Optuna does with one: plots, importances, further trials."""
        import optuna

        return optuna.load_study(study_name=self.study_name, storage=self.place.backend)

    @property
    def trials(self) -> DataFrame:
        """A row for each configuration, as a pandas DataFrame: see ``run.outcome.trial_rows``.

        Raises: OptionError if pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise OptionError("result.trials is a pandas DataFrame: pip install 'frostline[pandas]'.") from None
        return pd.DataFrame(trial_rows(self.history)).set_index("number")

    @property
    def weights(self) -> Path:
        """The safetensors file of the best model. Raises: ModelError if there is none, or none on this machine."""
        return self._kept_models.existing(self._best_as_drawn)

    def load_model(self, model: Model) -> Model:
        """Return ``model``, freshly built for the best configuration, with the weights that the search ended with.

        Raises: ModelError if they were not kept, or are of another model; OSError if they cannot be read where they lie.
        """
        return self._kept_models.load(self._best_as_drawn, model)

    @property
    def _kept_models(self) -> KeptModels:
        if self.models is None:
            raise ModelError(f"the search {self.study_name!r} kept no models: train the best configuration again.")
        return self.models

    @property
    def _best_as_drawn(self) -> Configuration:
        return self.history.configurations[self.best.number]

    @property
    def configuration(self) -> Configuration:
        """The best configuration."""
        return self.history.configuration_of(self.best)

    @property
    def score(self) -> float:
        """The best configuration's score, trained in full."""
        assert self.best.score is not None
        return self.best.score

    @property
    def remarks(self) -> list[str]:
        """Sentences on rungs that tell or save nothing, one's own configuration, the cost, and random search."""
        sizes = self.terms.budget
        return [
            *rung_lines(self.history, self.terms),
            *own_lines(self.history, self.terms, self.best, self.own),
            *cost_lines(self.summary),
            *chance_lines(self.summary, self.best, self.own, num_own=sizes.num_own if sizes else None),
        ]

    @property
    def front(self) -> tuple[FrontMember, ...]:
        """The configurations trained in full that no other beats in both score and cost, the best score first.

        () where nothing counts beside the score.
        """
        return front_at(self.history, self.best.rung)

    def __repr__(self) -> str:
        """The best configuration, the front if costs count, and the rungs that led there, as tables in plain text."""
        configuration = text_table([(name, _text(value)) for name, value in self.configuration.items()])
        rungs = text_table(rung_rows(self.summary, self.terms.sample_unit, self.terms.metric))
        front = [front_words(self.front, self.terms), text_table(self._front_rows)] if self.front else []
        return "\n\n".join([self._headline, configuration, *front, rungs, "\n".join(self.remarks)])

    def _repr_html_(self) -> str:
        configuration = [("hyperparameter", "value")]
        configuration += [(name, _text(value)) for name, value in self.configuration.items()]
        rungs = rung_rows(self.summary, self.terms.sample_unit, self.terms.metric)
        front = html_table(self._front_rows, caption=front_words(self.front, self.terms)) if self.front else ""
        return html_table(configuration, caption=self._headline) + front + html_table(rungs)

    @property
    def _front_rows(self) -> list[tuple[str, ...]]:
        return front_rows(self.front, self.terms)

    @property
    def _headline(self) -> str:
        words = score_words(self.score, self.terms.direction, self.terms.metric)
        return f"study {self.study_name!r}: configuration {self.best.number}, {words}, at full fidelity"


def why_nothing_was_found(history: History, *, last_rung: int) -> str:
    """Return one line about a search that evaluated no configuration at full fidelity, which is at ``last_rung``."""
    ended = list(history.evaluations())
    failed = [evaluation for evaluation in ended if evaluation.status is not Status.FINISHED]
    nothing = "no configuration was evaluated at full fidelity"
    is_asked_for = any(evaluation.rung == last_rung for evaluation in ended)
    if not (failed or is_asked_for):
        return f"{nothing}: the search asked for none. Let it ask for rung {last_rung}, the last."
    # Where nobody finished at all there was nobody to ask for.
    unasked = "" if is_asked_for or len(failed) == len(ended) else ", and the search asked for none"
    return (
        f"{nothing}: {len(failed)} of {len(ended)} evaluations failed or diverged{unasked}. "
        f"The first one {failed[0].status}: {f'{failed[0].reason}'.removesuffix('.')}."
    )


def _text(value: object) -> str:
    return f"{value:.5g}" if isinstance(value, float) else f"{value}"
