"""Tune the hyperparameters of deep networks cheaply: train only the last layers, on part of the data, and climb."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from frostline.audit.auditor import AuditPlan, audit_task
    from frostline.audit.landscape import Landscape
    from frostline.errors import FrostlineError
    from frostline.layers import (
        Freezing,
        Layer,
        LayerStack,
        build_deferred,
        freeze,
        inspect_freezing,
        split_layers,
    )
    from frostline.objectives.trial import Trial
    from frostline.protocols import Executor, Task
    from frostline.records import Configuration, Evaluation, Fidelity
    from frostline.report.study_page import write_report
    from frostline.run.execution.options import TrainingOptions
    from frostline.run.execution.workload import Workload
    from frostline.run.loop import SILENT, Observer
    from frostline.run.outcome.result import TuneResult
    from frostline.run.own_objective import tune
    from frostline.run.plan import SearchPlan
    from frostline.run.task_search import TaskSearch
    from frostline.run.tuning import tune_task
    from frostline.search.algorithms.halving import AsynchronousHalving, SuccessiveHalving
    from frostline.search.algorithms.hyperband import Hyperband
    from frostline.search.algorithms.sweep import FullFidelity, Sweep
    from frostline.search.ladder import Ladder
    from frostline.search.proposals import sampling
    from frostline.search.spaces.space import SearchSpace
    from frostline.training.supervised.supervised_task import SupervisedTask

__all__ = [
    "SILENT",
    "AsynchronousHalving",
    "AuditPlan",
    "Configuration",
    "Evaluation",
    "Executor",
    "Fidelity",
    "Freezing",
    "FrostlineError",
    "FullFidelity",
    "Hyperband",
    "Ladder",
    "Landscape",
    "Layer",
    "LayerStack",
    "Observer",
    "SearchPlan",
    "SearchSpace",
    "SuccessiveHalving",
    "SupervisedTask",
    "Sweep",
    "Task",
    "TaskSearch",
    "TrainingOptions",
    "Trial",
    "TuneResult",
    "Workload",
    "audit_task",
    "build_deferred",
    "freeze",
    "inspect_freezing",
    "sampling",
    "split_layers",
    "tune",
    "tune_task",
    "write_report",
]
__version__ = "0.2.0"

# Where each name comes from: its module, and with it torch, is loaded when the name is used first.
_NAMES_OF = {
    "frostline.audit.auditor": (
        "AuditPlan",
        "audit_task",
    ),
    "frostline.audit.landscape": ("Landscape",),
    "frostline.errors": ("FrostlineError",),
    "frostline.layers": (
        "Freezing",
        "Layer",
        "LayerStack",
        "build_deferred",
        "freeze",
        "inspect_freezing",
        "split_layers",
    ),
    "frostline.protocols": (
        "Executor",
        "Task",
    ),
    "frostline.records": (
        "Configuration",
        "Evaluation",
        "Fidelity",
    ),
    "frostline.objectives.trial": ("Trial",),
    "frostline.report.study_page": ("write_report",),
    "frostline.run.loop": ("SILENT", "Observer"),
    "frostline.run.execution.options": ("TrainingOptions",),
    "frostline.run.plan": ("SearchPlan",),
    "frostline.run.outcome.result": ("TuneResult",),
    "frostline.run.own_objective": ("tune",),
    "frostline.run.task_search": ("TaskSearch",),
    "frostline.run.tuning": ("tune_task",),
    "frostline.run.execution.workload": ("Workload",),
    "frostline.search.proposals": ("sampling",),
    "frostline.search.algorithms.halving": (
        "AsynchronousHalving",
        "SuccessiveHalving",
    ),
    "frostline.search.algorithms.hyperband": ("Hyperband",),
    "frostline.search.ladder": ("Ladder",),
    "frostline.search.spaces.space": ("SearchSpace",),
    "frostline.search.algorithms.sweep": (
        "FullFidelity",
        "Sweep",
    ),
    "frostline.training.supervised.supervised_task": ("SupervisedTask",),
}
_MODULE_OF = {name: module for module, names in _NAMES_OF.items() for name in names}


def __getattr__(name: str) -> Any:
    """Return the public name ``name``, and keep it (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(_MODULE_OF[name])
    value = getattr(module, name, None) or importlib.import_module(f"{module.__name__}.{name}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
