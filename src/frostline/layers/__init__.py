"""What a layer is, and where a model is cut into a frozen prefix and a trained suffix."""

from frostline.layers.discovery import split_layers
from frostline.layers.freezing.freeze import freeze
from frostline.layers.freezing.freezing import Freezing, freezing_of
from frostline.layers.freezing.inspection import FreezingReport, inspect_freezing
from frostline.layers.merging import merge
from frostline.layers.stack import Layer, LayerStack, Tie
from frostline.layers.weights.deferred import build_deferred

__all__ = [
    "Freezing",
    "FreezingReport",
    "Layer",
    "LayerStack",
    "Tie",
    "build_deferred",
    "freeze",
    "freezing_of",
    "inspect_freezing",
    "merge",
    "split_layers",
]
