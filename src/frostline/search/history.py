"""What is known of a search: the configurations drawn, what is under way, and the evaluations that ended.

The signatures below are the contract between searches, study and tuner; every query is at most logarithmic in the
number of configurations, because a search asks after every evaluation.
"""
# class RungHistory:                        one rung
#     ranking: Sequence[int]                finished configurations, best first, ties by number (diverged/failed not in it)
#     num_started: int                      pending + ended (however they ended)
#     num_ended: int
#     def best_unpromoted(self) -> tuple[int, int] | None    (number, its rank from 0) not yet started at the next rung
# class History:
#     def __init__(self, direction: Direction)
#     direction: Direction
#     configurations: Sequence[Configuration]                index = number
#     def add_configuration(self, configuration) -> None     number must be len(configurations)
#     def start(self, request) -> None                       becomes pending
#     def abandon(self, request) -> None                     its worker died: no longer pending
#     def finish(self, evaluation) -> None                   no longer pending; started first if it was not
#     pending: AbstractSet[Request]
#     def evaluation(self, number, rung) -> Evaluation | None
#     def evaluations(self) -> Iterator[Evaluation]          in the order in which they ended
#     def rung(self, index) -> RungHistory
