"""Experiment trackers: every evaluation as a run of MLflow, TensorBoard, Weights & Biases or Trackio, as it ends."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frostline.errors import OptionError
from frostline.inputs.credentials import Secrets, without_password
from frostline.inputs.safe_names import folder_name
from frostline.records import Status
from frostline.run.loop import Observer

if TYPE_CHECKING:
    from frostline.records import Evaluation, Value
    from frostline.search.history import History

logger = logging.getLogger(__name__)

MLFLOW, TENSORBOARD, WANDB, TRACKIO = "mlflow", "tensorboard", "wandb", "trackio"

# MLflow's parameters may not be called so.
_NOT_IN_NAMES = re.compile(r"[^/\w.\- :]")

# Their projects may not be called so.
_NOT_IN_PROJECTS = re.compile(r"[/\\#?%:]")


class Tracker(Observer):
    """Is told of every evaluation that ends, beside the view of a search; one that cannot be written costs a warning."""

    stands_beside_view = True

    def ended(self, evaluation: Evaluation, history: History) -> None:
        """Write an evaluation down."""
        try:
            self.write(evaluation, history)
        except Exception as error:  # a server that is gone for a while, whatever its client raises, ends no search
            reason = " ".join(str(error).split())
            logger.warning("%s is not logged by %s: %s", run_name(evaluation), type(self).__name__, reason)

    def write(self, evaluation: Evaluation, history: History) -> None:
        """Write an evaluation down, or raise."""
        raise NotImplementedError


class MLflowTracker(Tracker):
    """Makes a run of MLflow's experiment ``experiment`` for each evaluation: hand it over as ``observer=``.

    Parameters are the hyperparameters; metrics the curve (``score``, over the samples) and the cost; tags tell
    configuration and rung. ``tracking_uri`` is that of a server or store; without, MLflow's own setting counts.
    Raises: OptionError if MLflow is not installed, or its server or store cannot be used.
    """

    def __init__(self, experiment: str, *, tracking_uri: str | None = None) -> None:
        try:
            from mlflow import MlflowClient
        except ImportError as error:
            raise _not_installed(MLFLOW, error) from None
        self._client = MlflowClient(tracking_uri=tracking_uri)
        try:
            found = self._client.get_experiment_by_name(experiment)
            self._experiment = self._client.create_experiment(experiment) if found is None else found.experiment_id
        except Exception as error:  # whatever its store or server makes of it
            raise _unreachable(f"{self._client.tracking_uri}", error) from error

    def write(self, evaluation: Evaluation, history: History) -> None:
        """Make the run of an evaluation."""
        from mlflow.entities import Metric, Param, RunTag

        ended_at = int(time.time() * 1000)
        began_at = ended_at - int(evaluation.cost.seconds * 1000)
        run = self._client.create_run(
            self._experiment, start_time=began_at, run_name=run_name(evaluation)
        ).info.run_id
        metrics = [Metric(name, value, ended_at, 0) for name, value in measured(evaluation).items()]
        metrics += [Metric("score", point.score, ended_at, point.samples) for point in evaluation.curve]
        params = [
            Param(_NOT_IN_NAMES.sub("_", name), f"{value}")
            for name, value in hyperparameters(evaluation, history).items()
        ]
        tags = [RunTag(f"frostline.{name}", f"{value}") for name, value in place(evaluation).items()]
        self._client.log_batch(run, metrics=metrics, params=params, tags=tags)
        self._client.set_terminated(
            run, status="FINISHED" if evaluation.status is Status.FINISHED else "FAILED", end_time=ended_at
        )


class TensorBoardTracker(Tracker):
    """Writes each evaluation into a folder of its own in ``folder``, for TensorBoard: hand it over as ``observer=``.

    The curve is the scalar ``score`` over the samples; hyperparameters, fidelity, last score and cost fill the HPARAMS page.
    Raises: OptionError if TensorBoard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise _not_installed(TENSORBOARD, error) from None
        self._writer_in: Callable[[str], Any] = SummaryWriter
        self._folder = Path(folder)

    def write(self, evaluation: Evaluation, history: History) -> None:
        """Write the folder of an evaluation."""
        name = f"{evaluation.number:06d}-rung{evaluation.rung}"
        writer = self._writer_in(str(self._folder / name))
        for point in evaluation.curve:
            writer.add_scalar("score", point.score, point.samples)
        last = {} if evaluation.score is None else {"final/score": evaluation.score}
        values = {
            key: value if isinstance(value, bool | int | float | str) else f"{value}"
            for key, value in {**hyperparameters(evaluation, history), **place(evaluation)}.items()
        }
        costs = {f"final/{key}": value for key, value in measured(evaluation).items()}
        # Into the same folder: by default torch makes another one below it, named by the time.
        writer.add_hparams(values, {**last, **costs}, run_name=".")
        writer.close()


class WandbTracker(Tracker):
    """Makes a run of Weights & Biases' project ``project`` for each evaluation: hand it over as ``observer=``.

    ``config`` are the hyperparameters and the place in the search; the curve is ``score``, the step being samples; fidelity
    and cost are the last step's. Runs of a rung are a group. ``WANDB_MODE=offline`` writes into ``folder`` alone, for
    ``wandb sync``.
    Raises: OptionError if wandb is not installed, or there is neither a key for its server nor a mode without one.
    """

    def __init__(self, project: str, *, folder: Path | None = None) -> None:
        try:
            import wandb
        except ImportError as error:
            raise _not_installed(WANDB, error) from None
        if wandb.setup().settings.mode == "online" and not wandb.login(prompt=False):
            raise OptionError("wandb has no key for its server: run `wandb login`, or set WANDB_MODE=offline.")
        self._project, self._folder = project, folder

    def write(self, evaluation: Evaluation, history: History) -> None:
        """Make the run of an evaluation."""
        import wandb

        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
        run = wandb.init(
            project=self._project,
            **about_run(evaluation, history),
            dir=self._folder,
            reinit="create_new",  # beside one of the user's own
            settings=wandb.Settings(console="off", silent=True),
        )
        for step, figures in steps(evaluation):
            run.log(figures, step=step)
        run.finish(exit_code=0 if evaluation.status is Status.FINISHED else 1)


class TrackioTracker(Tracker):
    """Makes a run of Trackio's project ``project`` for each evaluation: hand it over as ``observer=``.

    What it has is as in ``WandbTracker``; it lies where Trackio's own settings say, on this machine by default.
    Raises: OptionError if trackio is not installed.
    """

    def __init__(self, project: str) -> None:
        try:
            import trackio
        except ImportError as error:
            raise _not_installed(TRACKIO, error) from None
        self._begin: Callable[..., Any] = trackio.init
        self._project = project

    def write(self, evaluation: Evaluation, history: History) -> None:
        """Make the run of an evaluation."""
        # It prints how to look at each run, among what a search shows.
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
            run = self._begin(
                project=self._project,
                **about_run(evaluation, history),
                embed=False,
                auto_log_cpu=False,
                auto_log_gpu=False,
            )
            for step, figures in steps(evaluation):
                run.log(figures, step=step)
            run.finish()


def tracker_named(name: str, study: str, *, runs: Path) -> Observer:
    """Return a tracker by its name: experiments and projects are called ``study``, folders lie with its runs.

    Raises: OptionError if its package is not installed.
    """
    folder = runs / folder_name(study)
    if name == MLFLOW:
        return MLflowTracker(study)
    if name == TENSORBOARD:
        return TensorBoardTracker(folder / TENSORBOARD)
    project = _NOT_IN_PROJECTS.sub("-", study)
    if name == WANDB:
        return WandbTracker(project, folder=folder)
    assert name == TRACKIO, f"the tracker {name}"
    return TrackioTracker(project)


def run_name(evaluation: Evaluation) -> str:
    """Return what a run is called."""
    return f"configuration {evaluation.number}, rung {evaluation.rung}"


def about_run(evaluation: Evaluation, history: History) -> dict[str, Any]:
    """Return what a run is begun with, in the words that Weights & Biases and Trackio share."""
    return {
        "name": run_name(evaluation),
        "group": f"rung {evaluation.rung}",
        "config": {**hyperparameters(evaluation, history), **place(evaluation)},
    }


def hyperparameters(evaluation: Evaluation, history: History) -> dict[str, Value]:
    """Return the values that were trained with."""
    return {**history.configuration_of(evaluation).hyperparameters, **evaluation.trained_with}


def place(evaluation: Evaluation) -> dict[str, int | str]:
    """Return where in the search an evaluation stands."""
    return {
        "configuration": evaluation.number,
        "rung": evaluation.rung,
        "trainable_layers": evaluation.fidelity.trainable_layers,
        "samples": evaluation.fidelity.samples,
        "status": str(evaluation.status),
    }


def measured(evaluation: Evaluation) -> dict[str, float]:
    """Return the fidelity and what it cost, as numbers to plot."""
    cost = evaluation.cost
    figures = {
        "trainable_layers": evaluation.fidelity.trainable_layers,
        "samples": evaluation.fidelity.samples,
        "seconds": cost.seconds,
        "samples_trained": cost.samples,
        "trained_together": cost.population,
    }
    return {**figures, **({} if cost.peak_bytes is None else {"peak_bytes": cost.peak_bytes})}


def steps(evaluation: Evaluation) -> list[tuple[int, dict[str, float]]]:
    """Return what is logged after how many samples, rising: the curve, with fidelity and cost at its end."""
    logged = [(point.samples, {"score": point.score}) for point in evaluation.curve] or [(0, {})]
    samples, last = logged[-1]
    return [*logged[:-1], (samples, {**last, **measured(evaluation)})]


def _unreachable(uri: str, error: Exception) -> OptionError:
    reason = Secrets(uri).hidden_in(" ".join(str(error).split())).rstrip(".")
    return OptionError(
        f"the MLflow server or store {without_password(uri)} cannot be used ({reason}): start it, or name another one in "
        f"MLFLOW_TRACKING_URI."
    )


def _not_installed(name: str, error: ImportError) -> OptionError:
    return OptionError(f"{name} cannot be imported ({error}): pip install 'frostline[{name}]'.")
