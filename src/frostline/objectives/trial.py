"""What an objective is handed: Optuna's words for hyperparameters, and a rung's layers and samples."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any, Literal

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from frostline.errors import ObjectiveError
from frostline.layers import freeze, freezing_of
from frostline.layers.storages import model_bytes
from frostline.layers.trained_steps import split_into_steps
from frostline.objectives.batch_sizes import Count, num_examples, whole_count
from frostline.objectives.batches import Place, Repeated
from frostline.objectives.kept_training import KeptTraining
from frostline.objectives.pending_checkpoint import PendingCheckpoint
from frostline.objectives.stopwatch import Stopwatch
from frostline.objectives.surroundings import Surroundings
from frostline.records import CurvePoint
from frostline.training.black_box import score_of
from frostline.training.machine.devices import synchronise
from frostline.training.supervised.model_calls import device_of
from frostline.wording import counted

if TYPE_CHECKING:
    import os

    import torch
    from optuna.distributions import BaseDistribution
    from torch import nn

    from frostline.layers import Freezing, LayerStack
    from frostline.layers.cutting.execution import Inputs
    from frostline.layers.freezing.freezing import FrozenStatistics, Tied
    from frostline.objectives.suggestions import Suggestions
    from frostline.records import Fidelity, Value


class Trial:
    """One training of one configuration, at one rung of the ladder: as many of the last layers, on as many samples.

    An objective asks it for hyperparameters, lets it freeze the model, trains on the batches that it gives, and returns the
    score. ``frostline.tune`` makes it.
    """

    def __init__(
        self, number: int, fidelity: Fidelity, suggestions: Suggestions, surroundings: Surroundings
    ) -> None:
        self.trains = True
        """False where a search looks at the objective once, before it trains anything."""
        self.number = number
        """Which configuration of the search it is, counted from 0."""
        kept = surroundings.kept
        self.resumed: Mapping[str, Any] | None = None if kept is None else kept.state
        """What ``checkpoint`` was given last for this configuration with as many layers; None for a training that begins."""
        self.samples_seen = 0 if kept is None else kept.samples_seen
        """How many samples ``batches`` has given, those before the checkpoint included."""
        self._fidelity = fidelity
        self._suggestions = suggestions
        self._surroundings = surroundings
        self._curve: list[CurvePoint] = [] if kept is None else [*kept.curve]
        self._freezing: Freezing | None = None
        self._repeated: Repeated | None = None
        self.model_bytes = 0
        """Those of the parameters and buffers of the model that was frozen, as the objective made it."""
        self._largest_batch = 0
        self._is_counted = False
        self._has_read_samples = False
        self._is_in_batch = False
        self._place: Place | None = None
        self._stopwatch = Stopwatch()
        self._checkpoint = PendingCheckpoint(surroundings.keep, may_continue=surroundings.may_continue)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            raise AttributeError(
                f"a trial of frostline has no {name!r}: of Optuna's it has suggest_float, suggest_int, suggest_categorical, "
                f"params, number, report and should_prune."
            )

    # Hyperparameters.

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Return the value of a real hyperparameter in [low, high], as Optuna's ``Trial.suggest_float`` does."""
        value: float = self._suggestions.value(name, FloatDistribution(low, high, log=log, step=step))
        return value

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Return the value of a whole hyperparameter in [low, high], as Optuna's ``Trial.suggest_int`` does."""
        value: int = self._suggestions.value(name, IntDistribution(low, high, log=log, step=step))
        return value

    def suggest_categorical(self, name: str, choices: Sequence[Value]) -> Any:
        """Return one of ``choices``, as Optuna's ``Trial.suggest_categorical`` does."""
        return self._suggestions.value(name, CategoricalDistribution(choices))

    @property
    def params(self) -> dict[str, Value]:
        """The hyperparameters that were asked for so far."""
        return dict(self._suggestions.given)

    @property
    def ranges(self) -> dict[str, BaseDistribution]:
        """Where the values of ``params`` lie, as they were asked for."""
        return dict(self._suggestions.distributions)

    # The model.

    def freeze(
        self,
        model: nn.Module,
        *,
        example_inputs: Inputs | None = None,
        layers: LayerStack | None = None,
        tied: Tied = "detach",
        frozen_statistics: FrozenStatistics = "calibrated",
        frozen_dtype: torch.dtype | Literal["bfloat16"] | None = None,
        frozen_placement: Literal["device", "stream"] | os.PathLike[str] = "device",
    ) -> Freezing:
        """Freeze all of ``model`` but as many of its last layers as this rung trains: see ``frostline.freeze``.

        Without ``example_inputs`` and ``layers`` the layers stand in the order in which they ran when the objective was
        tried for the first time.
        Raises: ObjectiveError if the model has another number of layers than the one before, or is the second of this
            trial; what ``frostline.freeze`` raises.
        """
        if self._freezing is not None and self._freezing.model is not model:
            raise ObjectiveError(
                "the objective freezes two models, but a trial trains one: call trial.freeze once, and frostline.freeze for "
                "the other."
            )
        if self._freezing is None and freezing_of(model) is not None:
            raise ObjectiveError(
                "the model was frozen before this trial began: build it inside the objective, so that every trial trains "
                "one of its own."
            )
        seen = self._surroundings.layers
        if layers is None and example_inputs is None and seen is not None and _fits(seen, model):
            layers = seen
        elif layers is None and example_inputs is not None:
            layers = split_into_steps(model, example_inputs=example_inputs)
        self._check_number((layers or split_into_steps(model)).num_layers)
        # Frozen layers may be kept smaller, or elsewhere.
        self.model_bytes = model_bytes(model)
        self._freezing = freeze(
            model,
            trainable_layers=self.trainable_layers,
            layers=layers,
            tied=tied,
            frozen_statistics=frozen_statistics,
            frozen_dtype=frozen_dtype,
            frozen_placement=frozen_placement,
        )
        return self._freezing

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The parameters to hand to the optimizer: those of the layers that are trained.

        Raises: ObjectiveError before ``freeze``.
        """
        if self._freezing is None:
            raise ObjectiveError("trial.parameters are those of a frozen model: call trial.freeze(model) before.")
        return self._freezing.trainable_parameters

    @property
    def parameter_names(self) -> frozenset[str]:
        """The names of all parameters that were seen when the model was frozen.

        Raises: ObjectiveError before ``freeze``.
        """
        assert self._freezing is not None
        return frozenset(self._freezing.requires_gradient)

    @property
    def trainable_layers(self) -> int:
        """How many of the last layers this rung trains."""
        return self._fidelity.trainable_layers

    # The training.

    @property
    def samples(self) -> int:
        """How many samples this rung trains on, from the first one on: for a loop of one's own."""
        self._has_read_samples = True
        return self._fidelity.samples

    @property
    def full_samples(self) -> int:
        """How many samples a full training takes: for schedules, which a rung cuts short and the next one goes on with."""
        return self._surroundings.full_samples

    def batches(self, loader: Iterable[Any], *, num_samples: Count = num_examples) -> Iterator[Any]:
        """Yield the batches of ``loader``, again and again, until the rung's samples are used up; at least one.

        ``num_samples(batch)`` says how many samples a batch holds; by default the length of its first tensor or array. A
        training that goes on from a checkpoint gets the batches after it.
        Raises: ObjectiveError if there is no batch, or none the second time, if nobody knows how many samples one holds, or
            if ``loader`` holds other data than that of this trial before.
        """
        self._is_counted = True
        if self._repeated is None:
            kept = self._surroundings.kept
            self._repeated = Repeated(loader, None if kept is None else kept.place)
        if self._is_over():
            return
        self._repeated.go_on_with(loader)
        batches = iter(self._repeated)
        try:
            while True:
                if self._is_over():
                    # Drawing one batch too many moves random generators; whoever goes on from here draws it again.
                    self._place = self._repeated.place
                batch = next(batches)
                count = whole_count(num_samples(batch))
                self._largest_batch = max(self._largest_batch, count)
                if self.samples_seen > 0 and self.samples_seen + count > self._fidelity.samples:
                    return
                self._checkpoint.settle()
                self._place = None
                self.samples_seen += count
                self._surroundings.progressed(self.samples_seen)
                self._is_in_batch = True
                yield batch
                self._stepped()
        finally:
            # What the objective does with its model afterwards, such as averaging weights, belongs to no checkpoint.
            self._is_in_batch = False
            self.rest(is_over=self._is_over())

    def count(self, num_samples: int) -> bool:
        """Count a step on so many samples of somebody else's loop; return whether the rung has room for another one.

        In the place of ``batches``, for a loop of one's own, or a framework's: only so it is known after how many samples a
        checkpoint was kept, and what goes on from there is charged for the others alone.
        """
        self._is_counted = True
        count = whole_count(num_samples)
        self._largest_batch = max(self._largest_batch, count)
        self.samples_seen += count
        self._surroundings.progressed(self.samples_seen)
        self._stepped()
        return not self._is_over()

    def will_run(self, *args: Any, **kwargs: Any) -> None:
        """Say what the model is about to be called with; a search looks once at the order of the layers."""

    def report(self, score: float, step: int | None = None, *, samples: int | None = None) -> None:  # noqa: ARG002
        """Note the validation score after so many samples, by default those that ``batches`` has given.

        Optuna's ``step`` may be given and tells nothing here, where epochs are not counted.
        Raises: ObjectiveError if it is no number, or nobody knows after how many samples it came.
        """
        value = score_of(score)
        if value is None:
            raise ObjectiveError(f"trial.report got {score!r:.60}, but takes a score: give a number.")
        at = self.samples_seen if samples is None else samples
        if at < 1:
            raise ObjectiveError(
                "trial.report came before any sample was trained on: iterate over trial.batches(loader), or say how many "
                "there were, samples=..."
            )
        self._note(CurvePoint(int(at), value))

    def should_prune(self) -> bool:
        """Return whether the training is lost: the last score that was reported is not finite.

        Who is better than whom is decided between the rungs, not here.
        """
        return bool(self._curve) and not math.isfinite(self._curve[-1].score)

    def checkpoint(self, state: Mapping[str, Any]) -> None:
        """Keep ``state`` (state dicts, tensors, plain values), so that the training can go on from here.

        Every ten seconds one is written to disk, and the last of a rung whose training may go on. A search that was killed
        goes on with it, and so does a configuration that is promoted to more samples with as many layers: it comes back as
        ``resumed``, on the CPU, and ``batches`` goes on where it was, with the random generators as they were. Call it after
        every step if you like: it takes little time.
        Raises: ObjectiveError if it is no mapping; where it is written, also if it holds what cannot be read back.
        """
        if not isinstance(state, Mapping):
            raise ObjectiveError(
                f"trial.checkpoint got a {type(state).__name__}, but keeps a mapping of names: give "
                f'{{"model": model.state_dict(), "optimizer": optimizer.state_dict()}}.'
            )
        training = KeptTraining(
            state=dict(state),
            samples_seen=self.samples_seen,
            curve=self.curve,
            place=self._place or (None if self._repeated is None else self._repeated.place),
        )
        self._checkpoint.hand_over(training, may_wait=self._is_in_batch)

    # For those that call the objective.

    @property
    def model(self) -> nn.Module | None:
        """The model that was frozen."""
        return None if self._freezing is None else self._freezing.model

    @property
    def curve(self) -> tuple[CurvePoint, ...]:
        """The scores that were reported."""
        return tuple(self._curve)

    def rest(self, *, is_over: bool) -> None:
        """Let the last checkpoint be safe from what comes; ``is_over`` says whether the rung was trained to its end."""
        self._checkpoint.rest(is_over=is_over)

    def without_search(self) -> Trial:
        """Return a copy to send to another process: what it keeps and reports stays with the copy."""
        twin = copy(self)
        twin._surroundings = Surroundings(
            full_samples=self._surroundings.full_samples,
            num_layers=self._surroundings.num_layers,
            layers=self._surroundings.layers,
        )
        twin._checkpoint = PendingCheckpoint(twin._surroundings.keep)
        twin.resumed = None
        return twin

    def fixed_seconds(self, seconds: float, samples: int) -> float:
        """Return which of the ``seconds`` that this trial took on so many ``samples`` lie around its loop; 0: unknown."""
        return self._stopwatch.fixed_seconds(seconds, samples)

    def check_frozen(self) -> None:
        """Raise ObjectiveError if the objective has ended and froze no model."""
        if self._freezing is None:
            raise ObjectiveError(
                "the objective never froze a model, so that all rungs would train the same: call trial.freeze(model), and "
                "hand trial.parameters to the optimizer."
            )

    def ended(self, result: object) -> tuple[CurvePoint, ...]:
        """Return the curve, the final score last, once the objective has returned ``result``.

        Raises: ObjectiveError if that is no score, if no model was frozen, or if not all samples were trained on.
        """
        final = score_of(result)
        if final is None and not (result is None and self._curve):
            raise ObjectiveError(f"the objective returned {result!r:.60}: return the validation score, a number.")
        self.check_frozen()
        is_lost = self.should_prune() or (final is not None and not math.isfinite(final))
        if not self._is_counted and not self._has_read_samples:
            raise ObjectiveError(
                "the objective never asked how much to train on: iterate over trial.batches(loader), or train on "
                "trial.samples samples."
            )
        if self._is_counted and not self._is_over() and not is_lost:
            raise ObjectiveError(
                f"the objective ended after {self.samples_seen:,} of the {self._fidelity.samples:,} samples of this rung: "
                f"go through trial.batches(loader) to the end, and leave early stopping to the rungs."
            )
        if final is not None:
            self._note(CurvePoint(self.samples_seen or self._fidelity.samples, final))
        return self.curve

    def _is_over(self) -> bool:
        """Whether the rung has no room for another batch."""
        return self.samples_seen > 0 and self.samples_seen + self._largest_batch > self._fidelity.samples

    def _stepped(self) -> None:
        """Note when a step has ended; the first and the last one wait for the device."""
        if self.model is not None and (self._is_over() or not self._stopwatch.is_running):
            synchronise(device_of(self.model))
        self._stopwatch.stepped(self.samples_seen)

    def _note(self, point: CurvePoint) -> None:
        while self._curve and self._curve[-1].samples >= point.samples:
            self._curve.pop()
        self._curve.append(point)

    def _check_number(self, num_layers: int) -> None:
        expected = self._surroundings.num_layers
        if expected is not None and num_layers != expected:
            raise ObjectiveError(
                f"the objective froze a model of {counted(num_layers, 'layer')}, but one of {expected} before: the ladder "
                f"counts layers, so keep their number, and tune depth in searches of their own."
            )


def _fits(layers: LayerStack, model: nn.Module) -> bool:
    """Return whether a stack of another model's layers names all parameters of this one."""
    names = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    owned = [name for layer in layers for name in layer.parameters]
    return names.issuperset(owned) and len(owned) == len([*model.parameters()])
