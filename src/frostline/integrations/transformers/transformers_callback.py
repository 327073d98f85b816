"""What transformers' ``Trainer`` is told of a trial: how many steps, when to evaluate, what to keep."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Any, Self

import torch
from transformers import TrainerCallback
from transformers.trainer_utils import IntervalStrategy, SaveStrategy
from transformers.utils.logging import disable_progress_bar, enable_progress_bar, is_progress_bar_enabled

from frostline.errors import ObjectiveError
from frostline.integrations.best_model import BestModel, final_score
from frostline.objectives.generators import current_states, set_states
from frostline.objectives.pending_checkpoint import SECONDS_BETWEEN_CHECKPOINTS

if TYPE_CHECKING:
    from torch import nn
    from transformers import Trainer, TrainerControl, TrainerState, TrainingArguments

    from frostline.objectives.trial import Trial


class TrialCallback(TrainerCallback):
    """Lets ``trainer`` train as a trial says, as long as it is entered: counts, reports, evaluates and keeps."""

    def __init__(self, trial: Trial, trainer: Trainer, *, monitor: str, samples_per_example: int) -> None:
        args: TrainingArguments = trainer.args
        self._trial = trial
        self._trainer = trainer
        self._monitor = monitor
        # The last batch of an epoch may be smaller, which the Trainer does not tell: it counts as the others do.
        self._samples_per_step = (
            args.train_batch_size * args.gradient_accumulation_steps * args.world_size * samples_per_example
        )
        self._folder = Path(tempfile.mkdtemp(prefix="frostline-"))
        self._states: dict[str, Any] = {}
        self._epoch_states: dict[str, Any] = {}
        # Of the epoch that a training goes on in.
        self._begin_with: dict[str, Any] | None = (trial.resumed or {}).get("generators")
        self._metrics: dict[str, float] = {}
        self._is_over = False
        self._kept_at = time.monotonic()
        self._best = _best_model(args, (trial.resumed or {}).get("best"))

    def __enter__(self) -> Self:
        args = self._trainer.args
        # Of a full training: the Trainer makes its schedule as long, and a rung cuts it short.
        args.max_steps = max(1, self._trial.full_samples // self._samples_per_step)
        args.output_dir = str(self._folder)
        args.save_strategy, args.load_best_model_at_end = SaveStrategy.NO, False
        args.save_only_model, args.push_to_hub = False, False
        args.logging_strategy, args.report_to = IntervalStrategy.NO, []
        _let_frozen_inputs_be_computed_again(args)
        self._trainer.add_callback(self)
        self._had_progress_bars = is_progress_bar_enabled()
        disable_progress_bar()
        return self

    def __exit__(self, *_: object) -> None:
        self._trainer.remove_callback(self)
        if self._had_progress_bars:
            enable_progress_bar()
        rmtree(self._folder, ignore_errors=True)

    @property
    def resumed_folder(self) -> str | None:
        """The folder of the checkpoint that the training goes on from; None if it begins."""
        if self._trial.resumed is None:
            return None
        folder = self._folder / "resumed"
        folder.mkdir(exist_ok=True)
        for name, contents in self._trial.resumed["files"].items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(contents.numpy().tobytes())
        return str(folder)

    def end(self) -> float:
        """Return the last value of the metric, or where the best model is loaded at the end, that one's, and load it.

        Raises: ObjectiveError if there was none.
        """
        if not self._trial.curve:
            raise ObjectiveError("the Trainer was never evaluated: give it an eval_dataset.")
        return final_score(self._trial, self._best)

    @property
    def _model(self) -> nn.Module:
        assert self._trial.model is not None
        return self._trial.model

    # What the Trainer calls.

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Note the random generators: samplers that group by length draw the order of the data with them."""
        begin_with, self._begin_with = self._begin_with, None
        if begin_with is not None:
            set_states(begin_with)
        self._epoch_states = current_states()

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Forget the random generators of the step before."""
        self._states = {}

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Count the step, and stop where the rung ends; ask for a checkpoint now and then."""
        has_room = self._trial.count(self._samples_per_step)
        self._states = current_states()
        self._metrics = {}
        if not has_room or self._trial.should_prune():
            self._is_over = control.should_training_stop = True
        elif self._is_due and not _is_between_epochs(state):
            control.should_save = True

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """See to a score and a checkpoint where the rung ends, whether an epoch does or not."""
        if not self._is_over:
            # Behind the last step of an epoch an evaluation may still follow, and a step of a schedule.
            control.should_save |= self._is_due
            return
        is_asked_for = control.should_evaluate and _is_between_epochs(state)
        control.should_evaluate = is_asked_for and not self._trial.should_prune()
        if not is_asked_for and not self._metrics and not self._trial.should_prune():
            # Not by way of ``control``: schedules that follow a metric would make a step.
            self._trainer.evaluate()
        control.should_save = True

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float],
        **_: Any,
    ) -> None:
        """Report the score."""
        if self._states:
            # Whether it was evaluated changes nothing in a training, which may go on from here.
            set_states(self._states)
        self._metrics.update(metrics)
        if not self._is_whole:
            return
        score = _metric_in(self._metrics, self._monitor, "monitor")
        if self._trial.samples_seen > 0:
            self._trial.report(score)
            if self._best is not None:
                value = _metric_in(self._metrics, self._best.metric, "metric_for_best_model")
                self._best.note(value, score=score, model=self._model)

    @property
    def _is_due(self) -> bool:
        """Whether it is time for a checkpoint on the way."""
        return time.monotonic() - self._kept_at >= SECONDS_BETWEEN_CHECKPOINTS

    @property
    def _is_whole(self) -> bool:
        """Whether all data were evaluated on of which the Trainer has several, each by itself."""
        data = self._trainer.eval_dataset
        prefixes = [f"eval_{name}_" for name in data] if isinstance(data, dict) else ["eval_"]
        return all(any(metric.startswith(prefix) for metric in self._metrics) for prefix in prefixes)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Keep the checkpoint's files."""
        folder = self._folder / f"checkpoint-{state.global_step}"
        # Some trainers keep parts of their model in folders of their own.
        paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        files = {path.relative_to(folder).as_posix(): _bytes_of(path) for path in paths}
        rmtree(folder)
        best = {} if self._best is None else {"best": self._best.contents()}
        # The order of the data is drawn again where an epoch goes on.
        generators = self._states if _is_between_epochs(state) else self._epoch_states
        self._trial.checkpoint({"files": files, "generators": generators, **best})
        self._kept_at = time.monotonic()


def _let_frozen_inputs_be_computed_again(args: TrainingArguments) -> None:
    """Let activations be computed again without torch's reentrant checkpoints, to the same numbers.

    Of these a layer gets no gradient whose inputs need none: the first one behind the frozen ones.
    """
    # transformers knows it by both names, and earlier ones by the second alone.
    for name in ("activation_checkpointing", "gradient_checkpointing"):
        if getattr(args, name, False):
            given = getattr(args, f"{name}_kwargs") or {}
            setattr(args, f"{name}_kwargs", {**given, "use_reentrant": False})


def _best_model(args: TrainingArguments, kept: Any) -> BestModel | None:
    """Return what keeps the best model of a Trainer that loads it at the end, as far as it was ``kept``."""
    if not args.load_best_model_at_end:
        return None
    metric = args.metric_for_best_model or "loss"
    name = metric if metric.startswith("eval_") else f"eval_{metric}"
    return BestModel(name, greater_is_better=bool(args.greater_is_better), kept=kept)


def _metric_in(metrics: dict[str, float], name: str, asked_by: str) -> float:
    if name not in metrics:
        raise ObjectiveError(
            f"{asked_by} is {name!r}, but Trainer.evaluate gives {', '.join(sorted(metrics))}: compute it in "
            f"compute_metrics, or {'monitor' if asked_by == 'monitor' else 'name'} one of these."
        )
    return metrics[name]


def _is_between_epochs(state: TrainerState) -> bool:
    return state.epoch is not None and state.epoch == int(state.epoch)


def _bytes_of(path: Path) -> torch.Tensor:
    """Return a file as a tensor, as which a checkpoint keeps it without copying what is in it."""
    contents = bytearray(path.read_bytes())
    return torch.frombuffer(contents, dtype=torch.uint8) if contents else torch.zeros(0, dtype=torch.uint8)
