"""The picture of a scene, its latents and their noise."""

import numpy as np

from mmgen_jax.api import MMGen
from mmgen_jax.data import held_out
from mmgen_jax.data.pipeline import open_split
from mmgen_jax.show import pictures
from mmgen_jax.studies import noising


def test_a_row_for_each_modality_and_more_and_more_noise(model_dir, tiles_dir):
    a = MMGen.load(str(model_dir)).architecture
    scene = held_out.values(open_split(tiles_dir, "test", a.modalities, 16), [3], a.facts)
    found = noising.columns(scene, a)
    assert list(found) == ["image", "latents", "t = 0", "t = 0.25", "t = 0.5", "t = 0.75", "t = 1"]
    assert {x.shape for x in found.values()} == {(4, 16, 16, 3)} and {x.dtype for x in found.values()} == {
        np.dtype(np.uint8)
    }
    errors = [np.abs(found[f"t = {t:g}"].astype(float) - found["image"]).mean() for t in (0, *noising.TIMES)]
    assert errors == sorted(errors) and errors[0] < 0.3 * errors[-1]
    assert pictures.sheet(found, names=a.modalities).ndim == 3
