"""MMGen in JAX: one diffusion transformer for RGB, depth, surface normals and segmentation."""

from __future__ import annotations

import importlib

_PUBLIC = {"MMGen": "mmgen_jax.api", "Outputs": "mmgen_jax.show.outputs"}
__all__ = ["MMGen", "Outputs"]
__version__ = "0.1.0"  # the one place; pyproject.toml reads it


def __getattr__(name: str):
    """Imports JAX and the rest only when they are used, so that `import mmgen_jax` is cheap."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'mmgen_jax' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
