"""The frozen layers of several sessions, computed once for every batch."""

from __future__ import annotations

import logging
import time
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from frostline.layers import freezing_of
from frostline.populations.prefix.cannot_share import CannotShareError
from frostline.populations.prefix.prefix_store import PrefixStore
from frostline.populations.prefix.recorded_outputs import Needs, Path, Recording, StandIns
from frostline.populations.prefix.share import Share

if TYPE_CHECKING:
    from torch import Tensor

    from frostline.protocols import Batch
    from frostline.training.session import Session

logger = logging.getLogger(__name__)


class SharedPrefix:
    """Computes the frozen layers of several sessions once for every batch, and hands their outputs to each.

    The sessions are of one model and one data order, and share their frozen tensors (``layers/freezing``); they may
    train different numbers of layers: one pass feeds all of them, each from its own depth. ``store`` keeps outputs for
    when a batch's examples come again; ``compiled`` has each frozen module compiled. What is handed back has to be proven
    first (``populations/prefix/proof.py``).
    Raises: CannotShareError if the frozen layers are not the same function for all sessions.
    """

    def __init__(
        self, sessions: Sequence[Session], *, store: PrefixStore | None = None, compiled: bool = False
    ) -> None:
        self.seconds = 0.0
        """What computing the frozen layers took so far."""
        self.stand_ins = StandIns()
        self.shares_validation = True
        self.draws_in: set[bool] = set()
        """In which modes, training or not, what is drawn between the frozen layers decides what they give: it is the step's
        then, and not the examples'."""
        self.store = store
        # Apart: members are validated in the middle of a training step of the others.
        self._latest: dict[bool, _Latest] = {}
        self._has_strayed = False
        self.shares: list[Share] = []
        try:
            for session in sessions:
                if _has_frozen_layers(session):
                    self.shares.append(Share(session, self.stand_ins))
            _refuse_other_statistics(self.shares)
        except CannotShareError:
            self.release()
            raise
        for share in self.shares:
            share.session.prefix = _Handover(self, share)
            if compiled:
                share.replay.compile()

    @property
    def deepest(self) -> Share:
        """The share with the most frozen layers: what it records serves all others."""
        return max(self.shares, key=lambda share: share.depth)

    def use(self, needs: Needs) -> None:
        """Record and hand back what ``needs`` says, from now on."""
        for share in self.shares:
            share.replay.needs = needs

    def keep_to(self, paths: Mapping[bool, Container[Path]]) -> None:
        """Share no outputs on other paths than ``paths``, by mode, training or not, from now on."""
        for share in self.shares:
            share.replay.paths = paths

    def forget(self) -> None:
        """Compute the next batch anew, even if it is the one before: what computing it changed was put back."""
        self._latest = {}

    def release(self) -> None:
        """Let every session compute its frozen layers itself again."""
        for share in self.shares:
            share.replay.remove()
            share.session.prefix = None
        self.shares = []
        self._latest = {}

    def leave(self, session: Session) -> None:
        """Let one session go."""
        for share in self.shares:
            if share.session is session:
                share.replay.remove()
                session.prefix = None
        self.shares = [share for share in self.shares if share.session is not session]

    def recording(self, share: Share, batch: Batch) -> Recording:
        """Return what the frozen layers give on a CPU batch: all that ``share`` needs, and more."""
        training = share.session.model.training
        latest = self._latest.get(training)
        if latest is not None and batch is latest.batch and latest.depth >= share.depth:
            if latest.recording.changed():
                if self.store is not None:
                    self.store.clear()  # what is handed out may be its memory
                raise CannotShareError(
                    "the trained layers write into the outputs of the frozen ones, but not always"
                )
            return latest.recording
        begin = time.perf_counter()
        self._latest.pop(training, None)  # given back before the next one takes memory
        if training and self.store is not None and not share.is_constant:
            self.store.clear()
        if self.store is None or training in self.draws_in or (training and not share.is_constant):
            recording = share.record(batch)
        else:
            recording = self.store.recording(share, batch, self.stand_ins)
        if not recording.outputs and not self._has_strayed:
            self._has_strayed = True
            logger.info(
                "some batches lead through other frozen layers than the first: these every configuration computes itself"
            )
        self._latest[training] = _Latest(batch, recording, share.depth)
        self.seconds += time.perf_counter() - begin
        return recording


@dataclass(frozen=True, slots=True)
class _Latest:
    """What was recorded last, on which batch, and by a model with how many frozen layers."""

    batch: Batch
    recording: Recording
    depth: int


class _Handover:
    """What a session knows of the shared prefix."""

    def __init__(self, shared: SharedPrefix, share: Share) -> None:
        self._shared = shared
        self._share = share
        self._prepared: Recording | None = None

    def prepare(self, batch: Batch) -> None:
        """Load what the frozen layers give on ``batch`` into the session's model."""
        if self._share.session.model.training or self._shared.shares_validation:
            self._prepared = self._shared.recording(self._share, batch)
        else:
            self._prepared = None
        self._share.replay.load(self._prepared)

    def forget(self) -> None:
        """Let go of what was loaded."""
        self._prepared = None
        self._share.replay.load(None)

    def handed_over(self) -> list[Tensor]:
        """Return the outputs that were loaded last and are no stand-ins."""
        return [] if self._prepared is None else self._prepared.kept()

    def hand_over(self, outputs: list[Tensor]) -> None:
        """Load ``outputs`` in the place of those, for the next pass."""
        if self._prepared is not None:
            self._share.replay.load(self._prepared.with_kept(outputs, self._shared.stand_ins))


def _refuse_other_statistics(shares: Sequence[Share]) -> None:
    """Raise CannotShareError if sessions that go on from different places share statistics that follow the batches."""
    places = sorted({share.session.samples_seen for share in shares})
    if len(places) > 1 and not all(share.is_constant for share in shares):
        raise CannotShareError(
            f"their frozen statistics follow the batches (frozen_statistics='batch'), and they go on from different places, "
            f"after {places[0]:,} and {places[-1]:,} samples"
        )


def _has_frozen_layers(session: Session) -> bool:
    freezing = freezing_of(session.model)
    return freezing is not None and bool(freezing.frozen_layers)
