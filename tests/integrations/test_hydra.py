"""The sweeper among Hydra's plugins, and an application swept by it."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("hydra")

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from omegaconf import OmegaConf
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from examples.hydra_digits import app as hydra_app
from frostline.errors import OptionError
from frostline.integrations.hydra import distribution_of, own_values

pytestmark = pytest.mark.filterwarnings("ignore")

ROOT = Path(__file__).parents[2]
APP = ROOT / "examples" / "hydra_digits" / "app.py"


def test_hydra_discovers_the_sweeper() -> None:
    names = [each.__name__ for each in Plugins.instance().discover(Sweeper)]
    assert "FrostlineSweeper" in names


@pytest.mark.multiprocess
def test_being_discovered_loads_nothing_of_ours() -> None:
    code = (
        "import sys, hydra_plugins.frostline_sweeper; print({'torch', 'optuna', 'frostline'} & set(sys.modules))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "set()\n"


@pytest.mark.parametrize(
    ("text", "distribution"),
    [
        ("a=tag(log, interval(1e-4, 1e-1))", FloatDistribution(1e-4, 1e-1, log=True)),
        ("a=interval(0.0, 0.5)", FloatDistribution(0.0, 0.5)),
        ("a=int(interval(1, 8))", IntDistribution(1, 8)),
        ("a=tag(log, int(interval(1, 8)))", IntDistribution(1, 8, log=True)),
        ("a=range(2, 9, 2)", IntDistribution(2, 8, step=2)),
        ("a=range(10, 1, -3)", IntDistribution(4, 10, step=3)),
        ("a=choice(sgd, adam)", CategoricalDistribution(["sgd", "adam"])),
        ("a=0.1,0.2", CategoricalDistribution(["0.1", "0.2"])),
    ],
)
def test_overrides_are_distributions(text: str, distribution: Any) -> None:
    (override,) = OverridesParser.create().parse_overrides([text])
    assert distribution_of(override) == distribution


@pytest.mark.parametrize(
    ("rate", "own"),
    [
        (1, {"rate": 1.0, "net": "wide", "depth": 2}),
        (0.5, {"rate": 0.5, "net": "wide", "depth": 2}),
        # It could not be drawn, is no number, or is not there.
        (3.0, {}),
        ("fast", {}),
        (None, {}),
    ],
)
def test_ones_own_configuration_is_what_the_application_says(rate: Any, own: dict[str, Any]) -> None:
    space = {
        "rate": FloatDistribution(1e-3, 1.0),
        "net": CategoricalDistribution(["wide", "deep"]),
        "depth": IntDistribution(1, 4),
    }
    config = OmegaConf.create({"rate": rate, "net": {"width": 64}, "depth": 2})
    assert own_values(config, space, groups={"net": "wide", "hydra/launcher": "basic"}) == own


@pytest.mark.parametrize(
    ("text", "value", "own"),
    [
        ("size=null,1", None, "null"),
        ("size=true,false", False, "False"),
        ("size=0,1", False, None),
        ("size=[8,16],[4]", [8, 16], "[8,16]"),
        ("size={a:1,b:{c:x}},{a:2}", {"a": 1, "b": {"c": "x"}}, "{a:1,b:{c:x}}"),
        ("size='a b','c, d'", "c, d", "'c, d'"),
        ('size="adam","sgd"', "adam", '"adam"'),
        ("++size=1,2", 2, "2"),
        ("size=1,2", "${other}", "1"),
        ("size=[8,16],[4]", [8], None),
    ],
)
def test_a_choice_is_told_by_what_it_means(text: str, value: Any, own: str | None) -> None:
    (override,) = OverridesParser.create().parse_overrides([text])
    name = override.get_key_element()
    config = OmegaConf.create({"size": value, "other": 1})
    expected = {} if own is None else {name: own}
    assert own_values(config, {name: distribution_of(override)}, groups={}) == expected


@pytest.fixture
def logging_as_it_was() -> Iterator[None]:
    """Hydra configures the root logger, for whatever this process tests afterwards."""
    root = logging.getLogger()
    level, handlers = root.level, [*root.handlers]
    yield
    root.setLevel(level)
    root.handlers[:] = handlers


@pytest.fixture
def sweep(
    logging_as_it_was: None,
    hydra_restore_singletons: None,
    hydra_sweep_runner: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Any]:
    """Hydra's own fixture for plugins, on the application beside this file."""
    monkeypatch.chdir(tmp_path)

    def run(folder: str, *overrides: str) -> Any:
        return hydra_sweep_runner(
            calling_file=str(APP),
            calling_module=None,
            task_function=hydra_app.train.__wrapped__,
            config_path=".",
            config_name="config",
            overrides=list(overrides),
            temp_dir=tmp_path / folder,
        )

    return run


@pytest.mark.slow
def test_an_application_is_swept(sweep: Callable[..., Any], tmp_path: Path) -> None:
    with sweep("swept", "hydra.sweeper.budget=3") as swept:
        best = OmegaConf.load(tmp_path / "swept" / "optimization_results.yaml")
        assert swept.returns == best.best_value < 2.2
        assert set(best.best_evaluated_params) == {"rate", "optimizer"}
        jobs = sorted((tmp_path / "swept").glob("*/.hydra/overrides.yaml"))
        told = [dict(each.split("=") for each in OmegaConf.to_object(OmegaConf.load(job))) for job in jobs]
        assert len(told) > 5
        assert {each["trainable_layers"] for each in told} >= {"1", "3"}
        # What the configuration says comes first, in full, so that the answer is never worse.
        assert told[0] == {"rate": "0.01", "optimizer": "Adam", "trainable_layers": "3", "samples": "1500"}
    # The same command goes on: all is done.
    with sweep("again", "hydra.sweeper.budget=3") as again:
        assert again.returns == best.best_value
        assert not [*(tmp_path / "again").glob("*/.hydra")]


def test_overrides_of_the_command_line_are_those_of_every_job(sweep: Callable[..., Any], tmp_path: Path) -> None:
    with sweep("swept", "hydra.sweeper.budget=1", "optimizer=Adam", "samples=900"):
        best = OmegaConf.load(tmp_path / "swept" / "optimization_results.yaml")
        assert set(best.best_evaluated_params) == {"rate"}
        jobs = [OmegaConf.load(path) for path in (tmp_path / "swept").glob("*/.hydra/config.yaml")]
        assert {job.optimizer for job in jobs} == {"Adam"}
        assert max(job.samples for job in jobs) == 900


def test_what_is_wrong_is_said_in_a_line(sweep: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        pytest.raises(
            SystemExit, match=r"^frostline: samples is 'none' in the configuration, but must be a whole number"
        ),
        sweep("swept", "samples=none"),
    ):
        pass
    with (
        pytest.raises(SystemExit, match=r"^frostline: nothing is searched: give hydra\.sweeper\.params"),
        sweep("swept", "~hydra.sweeper.params.rate", "~hydra.sweeper.params.optimizer"),
    ):
        pass
    for text, reason in (
        ("rate=tag(log,interval(0,1))", "`low > 0` must hold"),
        ("rate=range(3,3)", "the range is empty"),
    ):
        with (
            pytest.raises(SystemExit, match=rf"^frostline: {re.escape(text)} cannot be searched: {reason}"),
            sweep("swept", text),
        ):
            pass
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(OptionError, match="samples is 'none'"), sweep("swept", "samples=none"):
        pass


def test_the_page_shows_this_application() -> None:
    page = (ROOT / "docs" / "how-to" / "hydra.md").read_text()
    for path in (APP, APP.with_name("config.yaml")):
        assert path.read_text() in page
