"""The tile schema: round trips, absent modalities, and what wrong input says."""

import pickle

import numpy as np
import pytest
import tensorflow_datasets as tfds
from etils import epath
from tensorflow_datasets.core import registered

from mmgen_jax.data import tiles
from mmgen_jax.modalities.registry import MODALITIES, NAMES
from mmgen_jax.system.errors import UsageError

CLASSES = ("cat", "dog")


def random_pixels(seed: int = 0, height: int = 8, width: int = 8) -> dict:
    rng = np.random.default_rng(seed)
    return {
        m.name: rng.integers(0, np.iinfo(m.dtype).max, (height, width, m.channels), m.dtype, endpoint=True)
        for m in MODALITIES.values()
    }


def encoded(pixels: dict, **changes) -> dict:
    return tiles.encode_tile(pixels, 1, "tile-7") | changes


with registered.skip_registration():

    class Pair(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")
        name = "pair"
        code_path = epath.Path(__file__)

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=tiles.tile_features(8, CLASSES))

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            yield "a", tiles.encode_tile(random_pixels(0), 0, "a")
            yield "b", tiles.encode_tile({"rgb": random_pixels(1)["rgb"]}, 1, "b")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    directory = tmp_path_factory.mktemp("pair")
    Pair(data_dir=directory, file_format="array_record").download_and_prepare()
    return directory


def test_round_trip():
    pixels = random_pixels(height=9, width=7)
    tile = tiles.decode_tile(encoded(pixels))
    for name in NAMES:
        np.testing.assert_array_equal(tile[name], pixels[name])
        assert tile[name].dtype == pixels[name].dtype
    assert tile["class_id"] == 1 and tile["class_id"].dtype == np.int32
    assert tile["present"].dtype == bool and tile["present"].all()


def test_absent_modalities_are_zero():
    pixels = {"depth": random_pixels()["depth"]}
    tile = tiles.decode_tile(encoded(pixels))
    np.testing.assert_array_equal(tile["present"], [False, True, False, False])
    assert tile["rgb"].shape == (8, 8, 3) and tile["rgb"].dtype == np.uint8 and not tile["rgb"].any()
    np.testing.assert_array_equal(tile["depth"], pixels["depth"])


def test_data_set_round_trip(pair):
    source = pickle.loads(pickle.dumps(tiles.read_tiles(pair, "train")))
    found = {source[i]["key"].decode(): tiles.decode_tile(source[i]) for i in range(len(source))}
    assert sorted(found) == ["a", "b"]
    for name, pixels in random_pixels(0).items():
        np.testing.assert_array_equal(found["a"][name], pixels)
    assert found["b"]["class_id"] == 1
    np.testing.assert_array_equal(found["b"]["present"], [True, False, False, False])
    assert tiles.class_names(pair) == CLASSES
    assert tiles.image_size(pair) == (8, 8)
    assert tiles.read_metadata(pair) == {}


def test_directory_errors(pair, tmp_path):
    with pytest.raises(UsageError, match="nowhere' does not exist"):
        tiles.read_tiles(tmp_path / "nowhere", "train")
    with pytest.raises(UsageError, match="holds no data set"):
        tiles.read_tiles(tmp_path, "train")
    for name in ("one", "two", "incomplete.x_three"):
        (tmp_path / name / "1.0.0").mkdir(parents=True)
        (tmp_path / name / "1.0.0" / "dataset_info.json").write_text("{}")
    with pytest.raises(UsageError, match="holds 2 data sets; give one of .*one.*two"):
        tiles.find_dataset(tmp_path)


def test_split_errors(pair):
    with pytest.raises(UsageError, match="split 'val' is not in .*; allowed: train"):
        tiles.read_tiles(pair, "val")
    with pytest.raises(UsageError, match="is empty"):
        tiles.read_tiles(pair, "train[:0]")
    with pytest.raises(UsageError, match=r"split 'train\[:x\]' cannot be read"):
        tiles.read_tiles(pair, "train[:x]")
    assert len(tiles.read_tiles(pair, "train[:50%]")) == 1


@pytest.mark.parametrize(
    "damage", [lambda b: b[: len(b) // 2], lambda b: b"junk", lambda b: b[:60] + b"\0" * 9 + b[69:]]
)
def test_damaged_png_names_the_tile(damage):
    record = encoded(random_pixels())
    with pytest.raises(UsageError, match="normal of tile 'tile-7' is a damaged PNG"):
        tiles.decode_tile(record | {"normal": damage(record["normal"])})


def test_other_bad_records():
    record = encoded(random_pixels())
    with pytest.raises(UsageError, match="rgb of tile 'tile-7' is a PNG of mode I;16; allowed: RGB"):
        tiles.decode_tile(record | {"rgb": record["depth"]})
    with pytest.raises(UsageError, match="sizes"):
        tiles.decode_tile(record | {"rgb": encoded(random_pixels(height=4, width=4))["rgb"]})
    with pytest.raises(UsageError, match="has no image"):
        tiles.decode_tile(record | dict.fromkeys(NAMES, b""))


def test_encode_errors():
    pixels = random_pixels()
    with pytest.raises(UsageError, match=r"has modalities \[\]"):
        tiles.encode_tile({}, 0, "k")
    with pytest.raises(UsageError, match="flow"):
        tiles.encode_tile(pixels | {"flow": pixels["rgb"]}, 0, "k")
    with pytest.raises(UsageError, match=r"depth of tile 'k' is uint8 .*; allowed: uint16 \(8, 8, 1\)"):
        tiles.encode_tile(pixels | {"depth": pixels["rgb"][..., :1]}, 0, "k")
    with pytest.raises(UsageError, match="mask of tile 'k'"):
        tiles.encode_tile(pixels | {"mask": pixels["mask"][:4]}, 0, "k")
