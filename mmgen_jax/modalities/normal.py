"""Surface normals in camera space."""

from __future__ import annotations

from mmgen_jax.modalities.directions import Directions

NORMAL = Directions("normal", loss_weight=0.1)
