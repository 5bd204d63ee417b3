"""Images as a camera sees them."""

from __future__ import annotations

from mmgen_jax.modalities.modality import Colour

RGB = Colour("rgb", loss_weight=1.0)
