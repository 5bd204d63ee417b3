"""The one list of modalities, in the model's order. A further modality is a file of its own and one name here."""

from __future__ import annotations

from mmgen_jax.modalities.depth import DEPTH
from mmgen_jax.modalities.mask import MASK
from mmgen_jax.modalities.modality import Modality
from mmgen_jax.modalities.normal import NORMAL
from mmgen_jax.modalities.rgb import RGB

MODALITIES: dict[str, Modality] = {m.name: m for m in (RGB, DEPTH, NORMAL, MASK)}
NAMES = tuple(MODALITIES)
