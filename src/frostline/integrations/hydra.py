"""Hydra: a search whose evaluations are jobs of its launcher. The plugin is ``hydra_plugins.frostline_sweeper``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, RangeSweep
from omegaconf import OmegaConf
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from frostline.errors import FrostlineError, OptionError, SearchSpaceError, TrainingBugError
from frostline.run.plan import SearchPlan
from frostline.run.tuning import search_function
from frostline.run.view.search_view import observing
from frostline.search.spaces.space import holds
from frostline.store.begun import begun_ladder, terms_in
from frostline.training.steps.optimizers import import_optimizers

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from hydra.plugins.launcher import Launcher
    from hydra.types import HydraContext
    from omegaconf import DictConfig

    from frostline.records import Configuration, Direction, Fidelity, Value


class Settings(Protocol):
    """What may be set below ``hydra.sweeper``, as the plugin says it."""

    params: dict[str, str]
    budget: float
    direction: str
    sampling: str
    seed: int
    study: str | None
    storage: str
    trainable_layers: str
    samples: str


class Sweeper(Protocol):
    """The plugin, as far as it is needed here."""

    hydra_context: HydraContext
    config: DictConfig
    launcher: Launcher

    @property
    def settings(self) -> Settings:
        """What was set."""
        ...


def swept(sweeper: Sweeper, arguments: Sequence[str]) -> float:
    """Return what ``sweep`` does; what is wrong ends the process in one line, unless Hydra is asked for its full errors."""
    try:
        return sweep(sweeper, arguments)
    except FrostlineError as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        bug = f"{error.traceback}\n\n" if isinstance(error, TrainingBugError) else ""
        raise SystemExit(f"{bug}frostline: {error}") from error


def sweep(sweeper: Sweeper, arguments: Sequence[str]) -> float:
    """Search as the settings of ``sweeper`` say, and return the best score.

    ``arguments`` are the overrides of the command line: those that sweep are searched, beside the ``params``, and the others
    are those of every job. The best configuration is written to ``optimization_results.yaml``.
    Raises: SearchSpaceError if nothing is swept; OptionError if the configuration does not say what a full training is.
    """
    settings, config = sweeper.settings, sweeper.config
    parser = OverridesParser.create(config_loader=sweeper.hydra_context.config_loader)
    texts = [f"{name}={value}" for name, value in settings.params.items()]
    overrides = {each.get_key_element(): each for each in parser.parse_overrides([*texts, *arguments])}
    space = {name: _searched(each) for name, each in overrides.items() if each.is_sweep_override()}
    if not space:
        raise SearchSpaceError(
            "nothing is searched: give hydra.sweeper.params, or overrides such as 'rate=tag(log, interval(1e-4, 1e-1))'."
        )
    fixed = [
        f"{name}={each.get_value_element_as_str()}"
        for name, each in overrides.items()
        if not each.is_sweep_override()
    ]
    jobs = Jobs(sweeper=sweeper, fixed=fixed)
    composed = sweeper.hydra_context.config_loader.load_sweep_config(config, fixed)
    study = settings.study or config.hydra.job.name
    begun = terms_in(settings.storage, study)
    own = own_values(composed, space, groups=config.hydra.runtime.choices)
    plan = SearchPlan(
        budget=settings.budget,
        sampling=settings.sampling,
        seed=settings.seed,
        direction=cast("Direction", settings.direction),  # which is checked there
        initial=(own,) if own and (begun is None or begun.has_own) else (),
    )
    layers, samples = (_number(composed, name) for name in (settings.trainable_layers, settings.samples))
    folder = Path(config.hydra.sweep.dir)
    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(config, folder / "multirun.yaml")
    import_optimizers()
    with observing(
        None, what=f"the search of {study}", storage=settings.storage, sample_unit="samples"
    ) as watching:
        usual = plan.usual_ladder(num_layers=layers, full_samples=samples)
        result = search_function(
            jobs.train,
            space,
            begun_ladder(begun, usual),
            study=study,
            plan=plan,
            storage=settings.storage,
            observer=watching,
        )
    best = {
        "name": "frostline",
        "best_evaluated_params": dict(result.configuration),
        "best_value": result.score,
    }
    OmegaConf.save(OmegaConf.create(best), folder / "optimization_results.yaml")
    return result.score


@dataclass(kw_only=True)
class Jobs:
    """Launches one job for each evaluation."""

    sweeper: Sweeper
    fixed: Sequence[str]
    num_launched: int = 0

    def train(self, configuration: Configuration, fidelity: Fidelity) -> float:
        """Return what the application returns for a configuration at a fidelity."""
        settings = self.sweeper.settings
        lowered = {
            settings.trainable_layers: fidelity.trainable_layers,
            settings.samples: fidelity.samples,
        }
        values: Mapping[str, object] = {**configuration.hyperparameters, **lowered}
        overrides = [*self.fixed, *(f"{name}={value}" for name, value in values.items())]
        (job,) = self.sweeper.launcher.launch([overrides], initial_job_idx=self.num_launched)
        self.num_launched += 1
        score: float = job.return_value  # raises what the application raised
        return score


def _searched(override: Override) -> BaseDistribution:
    try:
        return distribution_of(override)
    except ValueError as error:
        raise SearchSpaceError(f"{override.input_line} cannot be searched: {error}") from None


def distribution_of(override: Override) -> BaseDistribution:
    """Return what an override sweeps over: a choice, a range, an interval, on a logarithmic scale where it is tagged so."""
    value = override.value()
    if isinstance(value, IntervalSweep):
        is_log = "log" in value.tags
        if isinstance(value.start, int) and isinstance(value.end, int):
            return IntDistribution(value.start, value.end, log=is_log)
        assert value.start is not None
        assert value.end is not None
        return FloatDistribution(value.start, value.end, log=is_log)
    if isinstance(value, RangeSweep) and isinstance(value.step, int):
        assert isinstance(value.stop, int)
        # As in Python, a range ends before its stop, and may fall.
        numbers = range(int(value.start or 0), value.stop, value.step)
        if not numbers:
            raise ValueError("the range is empty.")
        return IntDistribution(min(numbers[0], numbers[-1]), max(numbers[0], numbers[-1]), step=abs(value.step))
    # As text, which is what a job is given.
    return CategoricalDistribution([*override.sweep_string_iterator()])


def own_values(
    config: Any, space: Mapping[str, BaseDistribution], *, groups: Mapping[str, Any]
) -> dict[str, Value]:
    """Return the values that the configuration has for what is swept; none unless each is there and could be drawn.

    ``groups`` are the choices of Hydra's configuration groups, by the group's name.
    """
    values: dict[str, Value] = {}
    for name, distribution in space.items():
        found: Any = groups[name] if name in groups else OmegaConf.select(config, name.lstrip("+"))
        if isinstance(distribution, CategoricalDistribution):
            found = _choice_of(found, distribution)
        elif isinstance(distribution, FloatDistribution) and type(found) is int:
            found = float(found)
        if not holds(distribution, found):
            return {}
        values[name] = found
    return values


def _choice_of(value: Any, distribution: CategoricalDistribution) -> Value:
    """Return the choice, a text as jobs are given, that stands for ``value``; the text of ``value`` if none does."""
    plain = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
    parser = OverridesParser.create()
    for choice in distribution.choices:
        meant = parser.parse_override(f"it={choice}").value()
        # Python holds true for 1.
        if meant == plain and isinstance(meant, bool) == isinstance(plain, bool):
            return choice
    return f"{value}"


def _number(config: Any, name: str) -> int:
    value = OmegaConf.select(config, name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise OptionError(
            f"{name} is {value!r} in the configuration, but must be a whole number, that of a full training: the sweeper "
            f"lowers it for the rungs of the search."
        )
    return value
