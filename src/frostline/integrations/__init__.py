"""frostline on other people's engines: ``RayExecutor``, for the machines of a Ray cluster."""

from frostline.integrations.ray import RayExecutor

__all__ = ["RayExecutor"]
