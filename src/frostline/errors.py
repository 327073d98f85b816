"""What frostline raises. Every error is one line: what came, what is allowed, what to do."""

from __future__ import annotations


class FrostlineError(Exception):
    """The parent of all errors that frostline raises on purpose."""


class FidelityError(FrostlineError, ValueError):
    """A number of trainable layers or samples that does not exist for this model or budget."""


class ModelError(FrostlineError, ValueError):
    """A model that cannot be split into layers, or cannot be frozen as asked."""


class SearchSpaceError(FrostlineError, ValueError):
    """A search space, or a value for it, that is not one."""


class LadderError(FrostlineError, ValueError):
    """A ladder that collapses, or does not fit its model or its number of configurations."""


class RequestError(FrostlineError, ValueError):
    """A search that asks for what it may not: a rung that is not there, one that it has asked for, or one too late."""


class HyperparameterError(FrostlineError, ValueError):
    """A hyperparameter that the optimizer, the schedule or the task cannot take."""


class TaskError(FrostlineError, ValueError):
    """A task that does not exist, is incomplete, or lacks its data or its packages."""


class ObjectiveError(FrostlineError, TypeError):
    """An objective that gives something else than a score, or does not keep to what a trial asks of it."""


class PredictionError(FrostlineError, RuntimeError):
    """A training step whose cost cannot be told without running it: measure it instead."""


class OptionError(FrostlineError, ValueError):
    """A setting whose value is not among those allowed."""


class FolderError(FrostlineError, OSError):
    """A folder of runs that cannot be reached, read or written."""


class BudgetTooSmallError(OptionError):
    """A time in which not even one training ends."""


class StudyError(FrostlineError, RuntimeError):
    """A study that cannot be opened, or is of another task, space, ladder or search."""


class AuditError(FrostlineError, ValueError):
    """Too little, or the wrong thing, to say anything of how well a fidelity ranks."""


class AlignmentError(FrostlineError, ValueError):
    """Factors on hyperparameters that do not fit the search, its model or its space."""


class SearchFailedError(FrostlineError, RuntimeError):
    """A search that ended without a single score at full fidelity."""


class TrainingBugError(FrostlineError, RuntimeError):
    """A search that stopped because the training itself raises, each time at the same place of the user's code.

    Its cause is what the training raised. ``traceback`` is the same as text, with the lines of the user's code alone.
    """

    def __init__(self, message: str, *, traceback: str) -> None:
        super().__init__(message)
        self.traceback = traceback


class NotEnoughMemoryError(FrostlineError, MemoryError):
    """A training that needs more memory than there is."""
