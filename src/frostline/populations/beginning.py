"""Where a population's members begin: copies of one model for each number of trained layers, frozen tensors in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from frostline.layers import freezing_of
from frostline.populations.prefix.cannot_share import CannotShareError
from frostline.populations.prefix.shared_weights import copy_sharing_frozen, share_frozen, what_is_not_copied
from frostline.training.failures import is_out_of_memory
from frostline.training.session import Session, begin_session, session_of

if TYPE_CHECKING:
    from frostline.protocols import Task
    from frostline.records import Job
    from frostline.training.course import TrainingSettings


def template_of(task: Task, job: Job, settings: TrainingSettings, *, among: Mapping[int, Session]) -> Session:
    """Return a session at its beginning, to be copied; its frozen tensors are those of the others.

    Raises: CannotShareError if what is frozen is not known, or copies would be other models; whatever the task raises.
    """
    session = begin_session(
        task,
        job.configuration,
        trainable_layers=job.fidelity.trainable_layers,
        device_plan=settings.device_plan,
        root_seed=settings.root_seed,
    )
    freezing = freezing_of(session.model)
    if freezing is None:
        raise CannotShareError("the task's freeze does not call frostline.freeze, so what is frozen is not known")
    lacking = what_is_not_copied(session.model)
    if lacking is not None:
        raise CannotShareError(f"{lacking}, so that a copy of the model would compute something else")
    # The first one has the most frozen layers.
    source = freezing_of(next(iter(among.values())).model) if among else None
    if source is not None:
        share_frozen(freezing, source)
    return session


@dataclass(frozen=True, slots=True)
class Beginning:
    """Begins one configuration's session with a copy of the template's model, which stays as it is."""

    template: Session
    job: Job
    settings: TrainingSettings

    def __call__(self) -> Session:
        """Return the session.

        Raises: CannotShareError if the model cannot be copied.
        """
        freezing = freezing_of(self.template.model)
        assert freezing is not None
        try:
            model = copy_sharing_frozen(freezing)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise CannotShareError(f"the model cannot be copied: {type(error).__name__}: {error}") from error
        return session_of(
            self.template.task,
            self.job.configuration,
            model,
            device_plan=self.settings.device_plan,
            root_seed=self.settings.root_seed,
        )
