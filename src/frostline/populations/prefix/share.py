"""One session's part in a shared prefix."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.layers import Freezing, freezing_of
from frostline.layers.freezing.snapshots import without_snapshot
from frostline.populations.prefix.cannot_share import CannotShareError
from frostline.populations.prefix.recorded_outputs import Recording, Replay, StandIns
from frostline.training.machine.devices import move_batch

if TYPE_CHECKING:
    from frostline.protocols import Batch
    from frostline.training.session import Session


class Share:
    """One session's part in a shared prefix: its model hands back what is loaded."""

    def __init__(self, session: Session, stand_ins: StandIns) -> None:
        freezing = freezing_of(session.model)
        assert freezing is not None
        _refuse_what_changes(freezing)
        self.session = session
        self.depth = len(freezing.frozen_layers)
        self.is_constant = freezing.frozen_statistics == "calibrated"
        """Whether the frozen layers are the same function at every step: statistics of every batch change them."""
        self.replay = Replay(freezing, stand_ins)

    def record(self, batch: Batch) -> Recording:
        """Compute the frozen layers on a CPU batch, in the model's present mode, and return what they gave."""
        task, model, plan = self.session.task, self.session.model, self.session.device_plan
        moved = move_batch(batch, plan.device, copy=True)
        with plan.autocast():
            if model.training:
                return self.replay.record(lambda: task.loss(model, moved))
            return self.replay.record(lambda: task.score(model, [moved]))


def _refuse_what_changes(freezing: Freezing) -> None:
    """Raise CannotShareError if the frozen layers see a weight that is trained."""
    crossing = [
        tie
        for tie in freezing.stack.crossing_ties(freezing.trainable_layers)
        # Beside adapters it stays as it is in the trained layers too.
        if freezing.model.get_parameter(tie.names[-1]).requires_grad
    ]
    if freezing.tied == "detach" and crossing:
        if without_snapshot(freezing.cut) is None:
            advice = "use tied='snapshot' to share them"
        else:
            advice = "give the trained layer a module of its own with the same weight to share them"
        raise CannotShareError(
            f"{crossing[0].names[0]} is frozen and tied to {crossing[0].names[-1]}, which is trained: with tied='detach' "
            f"the frozen layers see its current value, another one for every configuration; {advice}"
        )
    for layer in freezing.frozen_layers:
        for name in layer.modules:
            for own, parameter in freezing.model.get_submodule(name).named_parameters():
                if parameter.requires_grad:
                    raise CannotShareError(f"{name}.{own} is trained, but a frozen layer uses it")
