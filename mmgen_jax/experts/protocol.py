"""The interface of every expert, which makes labels of a batch of images."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from types import ModuleType
from typing import Protocol, runtime_checkable

import numpy as np

from mmgen_jax.system.errors import UsageError, extra


@runtime_checkable
class Expert(Protocol):
    """Labels images with one modality."""

    def label(self, images: Sequence[np.ndarray], names: Sequence[str]) -> list[np.ndarray]:
        """Stored pixels of the modality for each image, at the image's size.

        Args:
          images: uint8 [H, W, 3], of any sizes.
          names: relative path of each image, with suffix.

        Returns:
          depth uint16 [H, W, 1], larger = nearer; normal uint8 [H, W, 3]; mask uint8 [H, W, 3].
        """


def package(name: str, purpose: str) -> ModuleType:
    """Imports an optional package; raises UsageError that says how to install it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(
            f"{purpose} needs the package {name}, which cannot be imported ({error}); {extra('experts')} installs it"
        ) from error
