"""Whether a task trains as a framework's own trainer does: a few steps of both on the same batches, compared by numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from frostline.errors import TaskError
from frostline.records import Configuration
from frostline.seeding import derive_seed
from frostline.training.machine.devices import DevicePlan
from frostline.training.machine.randomness import seed_generators
from frostline.training.session import Session, session_of
from frostline.training.steps.schedules import share_done
from frostline.training.supervised.supervised_task import SupervisedTask

NUM_STEPS = 3

_LOSS_TOLERANCE = 1e-5
_SMALLEST_LOSS = 1e-3
# A share of what a tensor has moved by: on the CPU the operations are the same, in the same order, and mostly the bits.
_TOLERANCE = 1e-6
_TOLERANCE_ELSEWHERE = 1e-3
# Of a tensor's norm: the last bit, three times.
_ROUNDING = 3e-7
# A gradient that is nothing but rounding, as of a bias that softmax cancels, is made a step of full size by Adam.
_NOISE = 1e-5

_SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """What a few steps came to."""

    losses: Sequence[float]
    state: Mapping[str, Tensor]
    """The model's afterwards."""
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsed:
    """A few steps by the task, and what another trainer needs to make the same ones."""

    task: SupervisedTask
    batches: Sequence[Any]
    """The inputs of each step."""
    initial: Mapping[str, Tensor]
    steps: Steps
    noise: frozenset[str]
    """The parameters whose gradients were nothing but rounding."""
    device: torch.device

    def seed_step(self, step: int) -> None:
        """Seed torch's generator as the task does before a step, so that dropout draws the same."""
        samples = step * self.task.batch_size * self.task.samples_per_example
        seed_generators(derive_seed(_SEED, "dropout", samples), self.device)

    def compare(self, other: Steps, *, trainer: str, instead: str) -> None:
        """Check that the ``trainer`` made the same steps, but for rounding.

        Raises: TaskError if it did not: ``instead`` is what its users can do.
        """
        difference = self._difference(other)
        if difference is not None:
            raise TaskError(
                f"{self.task.name} would not be trained as {trainer} trains it: {difference}; something beside a training "
                f"step's loss, the optimizer and its schedule acts on it (a hook, a callback, another loss): remove it, or "
                f"tune it as trials with {instead}."
            )

    def _difference(self, other: Steps) -> str | None:
        if len(self.steps.losses) != len(other.losses):
            return f"it makes {len(other.losses)} steps of {len(self.steps.losses)} batches"
        for step, (would_be, loss) in enumerate(zip(self.steps.losses, other.losses, strict=True), start=1):
            if not _are_near(would_be, loss):
                return f"its loss in step {step} is {loss:.7g}, and would be {would_be:.7g}"
        for name, theirs in other.state.items():
            ours = self.steps.state[name]
            if not theirs.is_floating_point() or name in self.noise:
                continue
            begun = self.initial[name].double()
            off = float((ours.double() - theirs.double()).norm())
            moved = float((theirs.double() - begun).norm())
            tolerance = _TOLERANCE if self.device.type == "cpu" else _TOLERANCE_ELSEWHERE
            if not off <= tolerance * moved + _ROUNDING * float(begun.norm()):
                after = f"after {len(self.steps.losses)} steps {name}"
                return f"{after} has moved by {moved:.3g}, and would be {off:.3g} away from there"
        if not _are_near(self.steps.score, other.score):
            return f"its score is then {other.score:.7g}, and would be {self.steps.score:.7g}"
        return None


def _are_near(ours: float, theirs: float) -> bool:
    return abs(ours - theirs) <= _LOSS_TOLERANCE * max(abs(ours), abs(theirs), _SMALLEST_LOSS)


def rehearse(
    task: SupervisedTask, *, num_validation_batches: int, device: torch.device, fused: bool | None
) -> Rehearsed:
    """Return what a task makes of its first batches, at its defaults. Torch's generators must be borrowed.

    Steps are ``fused`` or not, as the other trainer's are: that is rounding, of which Adam makes whole steps where a
    gradient is nothing else.
    """
    configuration = Configuration(number=0, hyperparameters=dict(task.defaults))
    seed_generators(derive_seed(_SEED, "initialisation"), device)
    model = task.build_model(configuration).to(device)
    initial = copied_state(model)
    session = session_of(task, configuration, model, device_plan=DevicePlan(device=device), root_seed=_SEED)
    # The other trainer is given them afterwards.
    session.shares_batches = True
    for group in session.optimizer.param_groups:
        group["fused"] = fused
    schedule = task.build_schedule(configuration)
    drawn = task.training_batches(configuration, seed=_SEED, skip_samples=0)
    num_steps = max(1, min(NUM_STEPS, task.full_samples // (task.batch_size * task.samples_per_example)))
    batches, losses, largest = [], [], dict.fromkeys(initial, 0.0)
    for batch in islice(drawn, num_steps):
        size = task.num_samples(batch)
        share = share_done(
            samples_seen=session.samples_seen, batch_samples=size, horizon_samples=task.full_samples
        )
        loss, _ = session.step(batch, rate_factor=schedule(share))
        batches.append(batch[0])
        losses.append(float(loss))
        for name, gradient in _gradients(model):
            largest[name] = max(largest[name], gradient)
    score = session.score(islice(task.validation_batches(configuration), num_validation_batches))
    return Rehearsed(
        task=task,
        batches=batches,
        initial=initial,
        steps=Steps(losses=losses, state=copied_state(model), score=score),
        noise=_noisy(session, largest),
        device=device,
    )


def copied_state(model: nn.Module) -> dict[str, Tensor]:
    """Return copies of a model's tensors, on the CPU."""
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}


def _gradients(model: nn.Module) -> Iterator[tuple[str, float]]:
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            yield name, float(parameter.grad.abs().max())


def _noisy(session: Session, largest: Mapping[str, float]) -> frozenset[str]:
    names = [name for name, _ in session.model.named_parameters()]
    most = max(largest[name] for name in names)
    return frozenset(name for name in names if 0 < largest[name] <= _NOISE * most)
