"""Recipes that come with the package, by name: configs/ of a checkout, and the same files in an installed package."""

from __future__ import annotations

import os
from pathlib import Path

from mmgen_jax.system import reading
from mmgen_jax.system.errors import UsageError

FOLDER = Path(__file__).parents[1] / "configs"


def names() -> tuple[str, ...]:
    """Names of the recipes that come with the package."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.py")))


def located(text: str) -> str:
    """The file of a recipe that is named, or else `text`, a path. What follows a colon is for the recipe, and stays.

    Raises UsageError where there is neither a recipe of this name nor a file that can be read.
    """
    name, colon, argument = text.partition(":")
    if name in names():
        return f"{FOLDER / name}.py{colon}{argument}"
    if not os.path.exists(name):
        raise UsageError(f"there is no recipe or file {text!r}; allowed: a file, or one of {', '.join(names())}")
    reading.regular(name)
    return text
