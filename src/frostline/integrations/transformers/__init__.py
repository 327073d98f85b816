"""transformers: ``tune_trainer`` searches in a line, ``train`` lets a ``Trainer`` of one's own train as a trial says.

``task_from_trainer`` makes a task of a ``Trainer``, so that populations, costs and audits apply.
"""

from frostline.integrations.transformers.transformers_tuning import task_from_trainer, train, tune_trainer

__all__ = ["task_from_trainer", "train", "tune_trainer"]
