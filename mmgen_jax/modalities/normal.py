"""Surface normals in camera space."""

from __future__ import annotations

from mmgen_jax.modalities.modality import Directions

NORMAL = Directions("normal", loss_weight=0.1)
