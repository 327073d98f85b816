"""Lightning: ``tune`` searches in a line, ``TrialCallback`` puts a trial into a ``Trainer`` of one's own.

``task_from_module`` makes a task of a module, so that populations, costs and audits apply.
"""

from frostline.integrations.lightning.lightning_tuning import TrialCallback, task_from_module, tune

__all__ = ["TrialCallback", "task_from_module", "tune"]
