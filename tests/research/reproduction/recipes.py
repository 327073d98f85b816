"""Recipes of trainings that take seconds, in the place of the real ones."""

from __future__ import annotations

from frostline.research.reproduction.scales import Data, Recipe, Scale

FULL = 640


def micro(model: str, scale: Scale, data: Data) -> Recipe:
    """An MLP of three layers on the digits, whatever the model; "gpt-20" on a fifth of the images."""
    base, _, way = model.partition("-")
    images = FULL * int(way) // 100 if way.isdecimal() else FULL
    width = 16 if base == "gpt" else 12
    return Recipe(
        name=model,
        scale=scale,
        reference="digits-mlp",
        options={"num_hidden_layers": 2, "width": width, "full_images": images},
        configurations=6,
        num_validations=1 if way.isdecimal() else 5,
    )
