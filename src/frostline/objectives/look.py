"""What an objective says of itself before anything is trained: its hyperparameters, and the layers of its model.

It is called once, and stopped before its first step: by then it has asked for its hyperparameters and frozen its model, and
the model has run, which shows the order of its layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from frostline.errors import ModelError, ObjectiveError
from frostline.layers import LayerStack, freeze
from frostline.layers.cutting.execution import Arguments
from frostline.layers.trained_steps import split_into_steps
from frostline.objectives.batch_sizes import Count, num_examples
from frostline.objectives.suggestions import MiddleFirst
from frostline.objectives.surroundings import Surroundings
from frostline.objectives.trial import Trial
from frostline.records import Fidelity, Value
from frostline.search.spaces.space import SearchSpace
from frostline.seeding import derive_seed
from frostline.training.machine.randomness import seeded

if TYPE_CHECKING:
    from frostline.layers import Freezing

Objective = Callable[[Trial], Any]
"""Trains a model as a trial says, and returns its validation score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sketch:
    """What is known of an objective before it is trained."""

    space: SearchSpace
    num_layers: int
    layers: LayerStack | None
    """In the order in which they ran; None if the model was never seen to run."""


class _LookEndedError(BaseException):
    """Ends the objective where enough was seen: a signal to ourselves, which no objective may take for an error."""


class _Looked(Trial):
    """A trial that trains nothing."""

    def __init__(self, samples: int, values: Mapping[str, Value], root_seed: int) -> None:
        # All layers need not fit into memory for a look.
        fidelity = Fidelity(trainable_layers=1, samples=samples)
        suggestions = MiddleFirst(values=values, seed=root_seed)
        super().__init__(0, fidelity, suggestions, Surroundings(full_samples=samples, num_layers=None))
        self.trains = False
        self.asked = suggestions
        self.stack: LayerStack | None = None
        self.has_run = False
        self.has_ended = False

    def freeze(self, model: nn.Module, **options: Any) -> Freezing:
        """Freeze all layers but the last one that is registered, and wait for the model to run."""
        freezing = super().freeze(model, **options)
        self.stack = freezing.stack
        if options.get("layers") is not None or options.get("example_inputs") is not None:
            self.has_run = True
        self._handle = model.register_forward_pre_hook(self._see, with_kwargs=True, prepend=True)
        return freezing

    def will_run(self, *args: Any, **kwargs: Any) -> None:
        """Put the layers in the order in which they run on these arguments."""
        assert self.model is not None
        if not self.has_run:
            self._see(self.model, args, kwargs)

    def count(self, num_samples: int) -> bool:
        """End."""
        self.end()
        return super().count(num_samples)

    def batches(self, loader: Iterable[Any], *, num_samples: Count = num_examples) -> Iterator[Any]:
        """Yield one batch, and more only while gradients are gathered for the first step."""
        for batch in super().batches(loader, num_samples=num_samples):
            before = self._sums()
            yield batch
            # A step that was made by hand changes the parameters, or has taken the gradients; no hook tells of it.
            if before and (self._sums() != before or not self._has_gradients()):
                self.end()
        self.end()

    def report(self, score: float, step: int | None = None, *, samples: int | None = None) -> None:
        """End, unless it came too soon."""
        if samples is None and self.samples_seen == 0:
            super().report(score, step)
        self.end(score, step, samples)

    def checkpoint(self, state: Mapping[str, Any]) -> None:
        """End."""
        self.end(state)

    def end(self, *_: Any) -> None:
        """End the objective, unless it has not frozen its model yet."""
        if self.stack is not None:
            self.has_ended = True
            raise _LookEndedError

    def _trained(self) -> list[nn.Parameter]:
        return [] if self.model is None else [each for each in self.model.parameters() if each.requires_grad]

    def _sums(self) -> list[tuple[int, float]]:
        """Return what tells whether the trained parameters were written to, through ``data`` as well."""
        return [(each._version, float(each.detach().sum())) for each in self._trained()]

    def _has_gradients(self) -> bool:
        return any(each.grad is not None for each in self._trained())

    def _see(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not all(isinstance(each, nn.Parameter) for each in model.parameters()):
            return  # ``torch.func.functional_call`` runs it with tensors in their place
        self._handle.remove()
        if not self.has_run:
            # What the model itself raises is better raised where it is called.
            with suppress(ModelError):
                self.stack = split_into_steps(model, example_inputs=Arguments(args, kwargs))
                self.has_run = True
        if self.has_run:
            # The objective may have more to say before its first step.
            freeze(model, trainable_layers=1, layers=self.stack)


def look(
    objective: Objective, *, samples: int, values: Mapping[str, Value] | None = None, root_seed: int = 0
) -> Sketch:
    """Return what ``objective`` says of itself; with ``values`` for hyperparameters, else in the middle of each range.

    Raises: ObjectiveError if it freezes no model, or asks for no hyperparameter; whatever it raises itself.
    """
    trial = _Looked(samples, values or {}, root_seed)
    with seeded(derive_seed(root_seed, "initialisation")), _stopped_before_steps(trial):
        try:
            objective(trial)
        except BaseException:
            # Cleaning up after the signal may raise, too.
            if not trial.has_ended:
                raise
    trial.check_frozen()
    assert trial.stack is not None
    distributions = {name: each for name, each in trial.asked.distributions.items() if not each.single()}
    if not distributions:
        raise ObjectiveError(
            "the objective asks for no hyperparameter, so there is nothing to tune: call trial.suggest_float, "
            "trial.suggest_int or trial.suggest_categorical before it trains."
        )
    return Sketch(
        space=SearchSpace(distributions=distributions),
        num_layers=trial.stack.num_layers,
        layers=trial.stack if trial.has_run else None,
    )


@contextmanager
def _stopped_before_steps(trial: _Looked) -> Iterator[None]:
    """Stop at the first step of any optimizer of torch: a model that was not seen to run is not trained either."""
    handle = register_optimizer_step_pre_hook(trial.end)
    try:
        yield
    finally:
        handle.remove()
