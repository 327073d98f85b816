"""Proof on real batches that frozen layers computed once and handed back give what every model computes by itself.

A model's forward is code that nobody has read. So one session's model is run whole, and then with outputs handed back that
another session's model gave: loss, gradients, scores and the state of the random generators have to be the same. The model
has run on other data before, so that nothing it keeps for itself can help it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from frostline.layers import freezing_of
from frostline.layers.cutting.execution import undisturbed
from frostline.layers.cutting.plain_attributes import are_equal, plain_attributes
from frostline.populations.prefix.cannot_share import CannotShareError
from frostline.populations.prefix.draws import decide, watched
from frostline.populations.prefix.recorded_outputs import Call, Needs, Path, Recording
from frostline.populations.prefix.rounding import is_same_but_for_rounding
from frostline.populations.prefix.share import Share
from frostline.populations.prefix.shared_prefix import SharedPrefix
from frostline.training.failures import is_out_of_memory
from frostline.training.machine.randomness import generator_states

if TYPE_CHECKING:
    from frostline.protocols import Batch

logger = logging.getLogger(__name__)


def prove(shared: SharedPrefix) -> Needs:
    """Find the smallest set of outputs to hand back, show that it suffices, and let ``shared`` use it.

    Nothing is trained; generators, modes and buffers are left as they were. Validation that does not stand the proof is
    not shared.
    Raises: CannotShareError if training does not stand it.
    """
    deepest = shared.deepest
    # The last of each depth: where there are several, the one that records and the one that is tested are different.
    tested = {share.depth: share for share in shared.shares}
    session = deepest.session
    task, seen = session.task, session.samples_seen
    batches = task.training_batches(session.configuration, seed=session.root_seed, skip_samples=seen)
    training = list(islice(batches, 2))
    validation = list(islice(task.validation_batches(session.configuration), 2))
    handovers = {id(share): share.session.prefix for share in shared.shares}
    with ExitStack() as stack:
        for share in {id(share): share for share in (deepest, *tested.values())}.values():
            stack.enter_context(undisturbed(share.session.model))
            share.session.prefix = None
            stack.callback(setattr, share.session, "prefix", handovers[id(share)])
        _refuse_what_it_changes(deepest, training[0])
        _, draws = watched(deepest, training[0])
        shared.draws_in = {True} if draws and decide(deepest, training[0]) else set()
        needs = Needs()
        for share in tested.values():
            needs |= _Trial(deepest, share, shared, training).needs()
        shared.use(needs)
        # Whoever is left with the most frozen layers records for the others.
        later = [share for share in tested.values() if share.depth < deepest.depth]
        paths = {True: {needs.seen, *(_recorded(share, training[0]).path for share in later)}}
        paths[False] = {path for share in tested.values() for path in _prove_validation(shared, share, validation)}
        shared.keep_to(paths)
    return needs


@dataclass(frozen=True, slots=True)
class _Outcome:
    loss: Tensor
    gradients: tuple[Tensor | None, ...]
    generators: tuple[Tensor, ...]

    def equals(self, other: _Outcome) -> bool:
        return (
            _close(self.loss, other.loss)
            and all(map(_close, self.gradients, other.gradients))
            and all(map(torch.equal, self.generators, other.generators))
        )


class _Trial:
    """One session's model, tested with outputs that another one records."""

    def __init__(self, recorder: Share, tested: Share, shared: SharedPrefix, batches: Sequence[Batch]) -> None:
        self._recorder = recorder
        self._tested = tested
        self._stand_ins = shared.stand_ins
        self._batch = batches[0]
        self._other_batch = batches[-1]

    def needs(self) -> Needs:
        """Return what has to be handed back; CannotShareError if nothing will do."""
        # What a model remembers of other data is all that it has, and the same, whenever it is tried.
        with torch.no_grad():
            self._tested.session.loss(self._other_batch)
        whole = self._outcome(None)
        if not bool(torch.isfinite(whole.loss)):
            raise CannotShareError(
                f"the first training loss is {float(whole.loss)}, with which nothing can be proven"
            )
        recording = self._record(frozenset())
        names = self._tested.replay.names
        calls = [call for call in recording.outputs if call[0] in names]
        if not calls:
            raise CannotShareError("no frozen module was called before the first trained one")
        changed = recording.changed() & frozenset(calls)
        if not changed:
            # Nearly every model passes on the output of its last frozen layer alone.
            needs = Needs(recording.path, frozenset(calls[-1:]) | self._fixed(recording, calls), changed)
            if self._suffices(needs, recording, whole) and not recording.changed():
                return needs
        return self._smallest(calls, changed, whole)

    def _smallest(self, calls: Sequence[Call], changed: frozenset[Call], whole: _Outcome) -> Needs:
        """Return the outputs without which the outcome is another one; those written into are copied."""
        everything = frozenset(calls)
        for _ in calls:
            recording = self._record(changed)
            same = self._suffices(Needs(recording.path, everything, changed), recording, whole)
            now_changed = changed | (recording.changed() & everything)
            if now_changed == changed:
                break
            changed = now_changed
        if not same:
            raise CannotShareError(
                "the model computes something else when its frozen layers hand back outputs of the same batch: they "
                "keep or draw something on the way"
            )
        needed = everything
        for call in calls:
            if call not in self._fixed(recording, calls):
                fewer = Needs(recording.path, needed - {call}, changed)
                needed = fewer.needed if self._suffices(fewer, recording, whole) else needed
        return Needs(recording.path, needed, changed & needed)

    def _record(self, changed: frozenset[Call]) -> Recording:
        replay = self._recorder.replay
        replay.needs = None
        recording = _recorded(self._recorder, self._batch)
        if changed:
            replay.needs = Needs(needed=recording.path, changed=changed)
            recording = _recorded(self._recorder, self._batch)
        replay.needs = None
        return recording

    def _suffices(self, needs: Needs, recording: Recording, whole: _Outcome) -> bool:
        self._tested.replay.needs = needs
        try:
            return self._outcome(recording.reduced(needs.needed, self._stand_ins)).equals(whole)
        except (RuntimeError, ValueError) as error:  # what a model may make of stand-ins
            if is_out_of_memory(error):
                raise
            return False
        finally:
            self._tested.replay.needs = None

    def _outcome(self, recording: Recording | None) -> _Outcome:
        session = self._tested.session
        self._tested.replay.load(recording)
        # Where too little was handed back, running statistics are full of NaN by now.
        with undisturbed(session.model):
            loss = session.loss(self._batch)
            gradients = torch.autograd.grad(loss, session.parameters, allow_unused=True)
            outcome = _Outcome(loss.detach(), gradients, generator_states(session.device_plan.device))
        self._tested.replay.load(None)
        return outcome

    def _fixed(self, recording: Recording, calls: Sequence[Call]) -> frozenset[Call]:
        return frozenset(call for call in calls if not recording.can_stand_in(call))


def _refuse_what_it_changes(share: Share, batch: Batch) -> None:
    """Raise CannotShareError if whoever records the frozen layers changes more of its model than them.

    It would change again in its own pass behind them, and be ahead of the others from then on. What is the same after a
    second pass is no such change: an output that is remembered, say.
    """
    _recorded(share, batch)
    before = _own_state(share)
    _recorded(share, batch)
    now = _own_state(share)
    changed = [name for name in {**before, **now} if not are_equal(before.get(name), now.get(name))]
    if changed:
        raise CannotShareError(
            f"the model changes {changed[0]} on its way through the frozen layers, and would once more for the "
            f"configuration that computes them for all"
        )


def _recorded(share: Share, batch: Batch) -> Recording:
    """Record a training batch as it is recorded where its step is next."""
    share.session.seed_step()
    return share.record(batch)


def _own_state(share: Share) -> dict[str, Any]:
    """Return the plain attributes and the versions of buffers of a model's modules, the frozen ones left out."""
    model = share.session.model
    freezing = freezing_of(model)
    assert freezing is not None
    frozen = {id(module) for module in freezing.frozen_modules.values()}
    attributes = plain_attributes(model)
    state: dict[str, Any] = {}
    for name, module in model.named_modules():
        if id(module) not in frozen:
            own = {key: (id(buffer), buffer._version) for key, buffer in module.named_buffers(recurse=False)}
            state |= {
                f"{name}.{key}".lstrip("."): value for key, value in {**own, **attributes.get(name, {})}.items()
            }
    return state


def _prove_validation(shared: SharedPrefix, share: Share, batches: Sequence[Batch]) -> frozenset[Path]:
    """See whether validation stands the proof; return the paths that it took."""
    session = share.session
    session.prefix = None
    share.replay.load(None)
    whole = session.score(batches)
    session.prefix = recorded = _Recorded(share)
    try:
        replayed = session.score(batches)
    except (RuntimeError, ValueError) as error:  # what a model or a score may make of stand-ins
        if is_out_of_memory(error):
            raise
        replayed = math.nan
    session.prefix = None
    if recorded.draws:
        shared.draws_in.add(False)
    if shared.shares_validation and not _close(*torch.tensor([whole, replayed], dtype=torch.float64)):
        logger.info(
            "validation computes the frozen layers for every configuration: with their outputs handed back the score "
            "was %s instead of %s",
            replayed,
            whole,
        )
        shared.shares_validation = False
    return frozenset(recorded.paths)


class _Recorded:
    """A prefix of one: records a batch with the session's own model and hands it back."""

    def __init__(self, share: Share) -> None:
        self._share = share
        self.paths: set[Path] = set()
        """Through which frozen modules it led."""
        self.draws = False
        """Whether anything was drawn on the way."""

    def prepare(self, batch: Batch) -> None:
        recording, draws = watched(self._share, batch)
        self._share.replay.load(recording)
        self.paths.add(recording.path)
        self.draws |= draws

    def forget(self) -> None:
        self._share.replay.load(None)

    def handed_over(self) -> list[Tensor]:
        raise NotImplementedError

    def hand_over(self, outputs: list[Tensor]) -> None:
        raise NotImplementedError


def _close(first: Tensor | None, second: Tensor | None) -> bool:
    if first is None or second is None:
        return first is second
    return is_same_but_for_rounding(second, first)
