"""``hydra/sweeper: frostline``. Hydra reads this as an application starts: nothing of ours is imported before a sweep."""

# No annotations from __future__: Hydra runs this file as no module, where dataclasses could not look them up (1.3).
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class FrostlineSweeperConf:
    """What may be set below ``hydra.sweeper``."""

    _target_: str = "hydra_plugins.frostline_sweeper.FrostlineSweeper"
    params: dict[str, str] = field(default_factory=dict)
    """What is searched, in the words of the command line: ``rate: tag(log, interval(1e-4, 1e-1))``."""
    budget: float = 6.0
    """In full trainings."""
    direction: str = "minimize"
    sampling: str = "random"
    seed: int = 0
    study: str | None = None
    """By default the name of the job."""
    storage: str = "sqlite:///frostline.db"
    trainable_layers: str = "trainable_layers"
    """The name in the configuration that says how many layers are trained, whose value is that of the model."""
    samples: str = "samples"
    """The name in the configuration that says on how many samples, whose value is a full training."""


class FrostlineSweeper(Sweeper):
    """Launches a job for every evaluation of a search: the configuration's own layers and samples are the full training."""

    def __init__(self, **settings: Any) -> None:
        self.settings = FrostlineSweeperConf(**settings)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """See ``hydra.plugins.sweeper.Sweeper``."""
        from hydra.core.plugins import Plugins

        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Search, write the best configuration into the sweep's folder, and return its score."""
        from frostline.integrations.hydra import swept

        return swept(self, arguments)


ConfigStore.instance().store(
    group="hydra/sweeper", name="frostline", node=FrostlineSweeperConf, provider="frostline"
)
