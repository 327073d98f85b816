"""Tune the hyperparameters of deep networks cheaply: train only the last layers, on part of the data, and climb."""

from frostline.audit.auditor import AuditPlan, audit_task
from frostline.errors import FrostlineError
from frostline.layers import Freezing, Layer, LayerStack, build_deferred, freeze, inspect_freezing, split_layers
from frostline.protocols import Task
from frostline.records import Configuration, Evaluation, Fidelity
from frostline.run.result import TuneResult
from frostline.run.tuning import tune, tune_task
from frostline.search.halving import AsynchronousHalving, SuccessiveHalving
from frostline.search.hyperband import Hyperband
from frostline.search.ladder import Ladder
from frostline.search.space import SearchSpace
from frostline.search.sweep import FullFidelity, Sweep
from frostline.training.supervised import SupervisedTask

__all__ = [
    "AsynchronousHalving",
    "AuditPlan",
    "Configuration",
    "Evaluation",
    "Fidelity",
    "Freezing",
    "FrostlineError",
    "FullFidelity",
    "Hyperband",
    "Ladder",
    "Layer",
    "LayerStack",
    "SearchSpace",
    "SuccessiveHalving",
    "SupervisedTask",
    "Sweep",
    "Task",
    "TuneResult",
    "audit_task",
    "build_deferred",
    "freeze",
    "inspect_freezing",
    "split_layers",
    "tune",
    "tune_task",
]
__version__ = "0.1.0"
