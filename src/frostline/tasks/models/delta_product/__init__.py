"""DeltaProduct in plain torch: the recurrence in three forms, a layer, and a small language model with it."""

from __future__ import annotations

from frostline.tasks.models.delta_product.language_model import DeltaProductModel, DeltaProductSettings
from frostline.tasks.models.delta_product.mixing import DeltaProduct

__all__ = ["DeltaProduct", "DeltaProductModel", "DeltaProductSettings"]
