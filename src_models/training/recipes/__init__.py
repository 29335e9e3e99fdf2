"""Recipes for public data sets by their names; an explicit table. Nothing is ever downloaded."""

from __future__ import annotations

from src_models.errors import InputError
from src_models.training.recipes import brats, isles22, kits, lits, promise12, slices, sliver07
from src_models.training.recipes.recipe import Recipe

__all__ = ["RECIPES", "Recipe", "recipe_named"]

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        lits.RECIPE,
        *kits.RECIPES,
        *brats.RECIPES,
        promise12.RECIPE,
        sliver07.RECIPE,
        isles22.RECIPE,
        *slices.RECIPES,
    )
}
"""MSD tasks and nnU-Net folders need none: their `dataset.json` says what they are."""


def recipe_named(name: str) -> Recipe:
    """One of `RECIPES`.

    Raises
    ------
    InputError
        Where there is none of that name.
    """
    if name not in RECIPES:
        raise InputError("recipe-name", f"There is no recipe named {name}", "", f"Choose one of {', '.join(RECIPES)}.")
    return RECIPES[name]
