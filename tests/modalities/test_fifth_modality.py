"""A fifth modality is one value in the registry: old data lacks it, new data has it, and users give and get it."""

import numpy as np
import pytest
import tensorflow_datasets as tfds
from etils import epath
from PIL import Image

from mmgen_jax.data import pipeline, tiles
from mmgen_jax.metrics import dense
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.modality import Colour
from mmgen_jax.modalities.registry import MODALITIES, NAMES
from mmgen_jax.show.outputs import Outputs

ALBEDO = Colour("albedo", loss_weight=0.1)
SIZE = 16


def write_tiles(folder, modalities):
    """A data set of one tile that has rgb and whatever else is in `modalities`."""

    class Written(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")
        code_path = epath.Path(__file__)

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=tiles.tile_features(SIZE, ("a",)))

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            pixels = {m: np.full((SIZE, SIZE, 3), 50 + i, np.uint8) for i, m in enumerate(modalities)}
            yield "x", tiles.encode_tile(pixels, 0, "x")

    Written(data_dir=folder, file_format="array_record").download_and_prepare()
    return str(folder)


@pytest.fixture
def register(monkeypatch):
    def register():
        monkeypatch.setitem(MODALITIES, "albedo", ALBEDO)
        monkeypatch.setattr(tiles, "NAMES", (*NAMES, "albedo"))

    return register


def test_old_data_is_read_with_it_absent(tmp_path, register):
    folder = write_tiles(tmp_path, ("rgb",))
    register()
    assert tiles.image_size(folder) == (SIZE, SIZE)
    tile = tiles.decode_tile(tiles.read_tiles(folder, "train")[0])
    assert tile["present"].tolist() == [True, False, False, False, False]
    assert tile["albedo"].shape == (SIZE, SIZE, 3) and not tile["albedo"].any()


def test_new_data_has_it(tmp_path, register):
    register()
    folder = write_tiles(tmp_path, ("rgb", "albedo"))
    tile = tiles.decode_tile(tiles.read_tiles(folder, "train")[0])
    assert tile["present"].tolist() == [True, False, False, False, True] and (tile["albedo"] == 51).all()
    batch = pipeline.load(folder, "train", ("rgb", "albedo"), SIZE, [0])
    assert batch["present"].tolist() == [[True, True]] and (batch["albedo"] == 51).all()


def test_users_give_it_and_get_it(rng, tmp_path, register):
    register()
    pixels = rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "albedo.png")
    value = MODALITIES["albedo"].condition(tmp_path / "albedo.png", SIZE, Facts())
    np.testing.assert_array_equal(value, pixels[None])
    np.testing.assert_array_equal(ALBEDO.value(ALBEDO.array(value, Facts()), Facts()), value)
    assert dense.summary({"albedo": value}, {"albedo": value}, Facts()) == {"albedo/psnr": 100}
    out = Outputs({"albedo": value}, (), Facts())
    assert "albedo_000.png" in out.save(tmp_path / "out", sections=[out.comparison({"albedo": value})])
