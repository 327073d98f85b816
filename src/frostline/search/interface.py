"""What a search is: the seam between deciding what to evaluate next and the loop that has it evaluated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.records import Fidelity, Request
    from frostline.search.history import History


class Rungs(Protocol):
    """The fidelities of a search, by number: a ``Ladder`` to climb, or a ``Grid`` to sweep. The last one is full."""

    @property
    def rungs(self) -> tuple[Fidelity, ...]:
        """The fidelities."""
        ...

    @property
    def num_layers(self) -> int:
        """The number of layers of the model."""
        ...

    @property
    def full_samples(self) -> int:
        """The full budget of one training, in samples."""
        ...

    def continues(self, rung: int) -> bool:
        """Return whether an evaluation at ``rung`` goes on with the training of the rung before."""
        ...


class Search(Protocol):
    """Decides what to evaluate next: a pure function of history, so that resuming is replaying.

    Knows no torch, disk or clock. Same history, same answer; it writes nothing.
    """

    @property
    def ladder(self) -> Rungs:
        """The fidelities that it evaluates at; a request names one by its place among them."""
        ...

    @property
    def fingerprint(self) -> str:
        """A string that changes when a study made with this search cannot be continued with another."""
        ...

    def next_requests(self, history: History, *, capacity: int) -> Sequence[Request]:
        """Return up to ``capacity`` requests; with none and nothing pending, it is over.

        A rung of a configuration is asked for once: none that has ended or is under way. The last one, its full training,
        comes last: it waits until nothing else of the configuration is under way, and nothing of it is asked for from then
        on; neither of one that is eliminated, or that was left when the search was over.
        New configurations are numbered from ``len(history.configurations)`` on, without a gap. Their hyperparameters are
        drawn, unless the request says them. What a killed process leaves is evaluated again without being asked for.
        The loop raises RequestError where a search asks for anything else.
        """
        ...


@runtime_checkable
class Climb(Search, Protocol):
    """A search over a number of configurations that is known, of which the lower rungs eliminate some."""

    @property
    def configurations(self) -> int:
        """The total number of configurations, over all runs of the study."""
        ...

    def evaluations_per_rung(self) -> Sequence[int]:
        """Return how many evaluations each rung sees if nothing fails."""
        ...

    def started_per_rung(self) -> Sequence[int]:
        """Return how many configurations begin their climb at each rung, and so continue nothing."""
        ...

    def eliminated(self, history: History) -> Sequence[int]:
        """Return, rising, the configurations that have an evaluation below full fidelity and will get no further.

        Nothing of them is under way. Those that ``history.eliminate`` was told of are left out, so that this is cheap after
        every evaluation.
        """
        ...
