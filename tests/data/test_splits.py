"""Parts of splits: the records that TFDS documents, or one line; never others."""

import numpy as np
import pytest
import tensorflow_datasets as tfds
from etils import epath

from mmgen_jax.data import splits, tiles
from mmgen_jax.system.errors import UsageError


class Numbered(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Tiles whose grey is their number: 20 in train, 4 in test, counted on."""

    VERSION = tfds.core.Version("1.0.0")
    code_path = epath.Path(__file__)
    name = "numbered"

    def _info(self):
        features = tiles.tile_features(8, ["a"])
        return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

    def _split_generators(self, dl_manager):
        del dl_manager
        return {"train": self._generate_examples(0, 20), "test": self._generate_examples(20, 24)}

    def _generate_examples(self, first, end):
        for i in range(first, end):
            yield i, tiles.encode_tile({"rgb": np.full((8, 8, 3), i, np.uint8)}, 0, str(i))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("numbered")
    Numbered(data_dir=path, file_format="array_record").download_and_prepare()
    return str(path)


@pytest.mark.parametrize(
    "split, records",
    [
        ("train", range(20)),
        ("train[3:5]", range(3, 5)),
        ("train[-5:]", range(15, 20)),
        ("train[:-18]", range(2)),
        ("train[-3:-1]", range(17, 19)),
        ("train[:10%]", range(2)),
        ("train[-10%:]", range(18, 20)),
        ("train[50%:60%]", range(10, 12)),
        ("train[18:]+test[:1]", range(18, 21)),
        ("train+test", range(24)),
    ],
)
def test_parts_hold_the_records_that_they_name(folder, split, records):
    source = tiles.read_tiles(folder, split)
    found = [int(tiles.decode_tile(source[i])["rgb"][0, 0, 0]) for i in range(len(source))]
    assert found == list(records)


@pytest.mark.parametrize("split", ["train[-5:3]", "train[10:5]", "train[3:2]", "train[-3:-5]", "train[50%:20%]"])
@pytest.mark.parametrize("beside", ["", "+test", "+train[:5]"])
def test_parts_that_run_backwards_are_refused(folder, split, beside):
    with pytest.raises(UsageError) as caught:
        tiles.read_tiles(folder, split + beside)
    assert "ends before it begins; allowed: test, train, or a part: train[:10%]" in str(caught.value)


@pytest.mark.parametrize(
    "split, message",
    [
        ("train[:0%]", "is empty; it must hold at least one sample"),
        ("train[5:5]", "is empty; it must hold at least one sample"),
        ("train[20:]", "is empty; it must hold at least one sample"),
        ("train[5:99]", "cannot be read; allowed: test, train, or a part"),
        ("train[-50:]", "cannot be read; allowed: test, train, or a part"),
        ("train[:150%]", "cannot be read; allowed: test, train, or a part"),
        ("train[::2]", "cannot be read; allowed: test, train, or a part"),
        ("train[a:b]", "cannot be read; allowed: test, train, or a part"),
        ("train[3]", "cannot be read; allowed: test, train, or a part"),
        ("train[", "cannot be read; allowed: test, train, or a part"),
        ("train[:nan%]", "cannot be read; allowed: test, train, or a part"),
        ("train[99999999999999999999:]", "cannot be read; allowed: test, train, or a part"),
        ("", "is not in .*; allowed: test, train"),
        ("all", "is not in .*; allowed: test, train"),
        ("train+dev", "is not in .*; allowed: test, train"),
        ("[0:2]", "is not in .*; allowed: test, train"),
    ],
)
def test_other_parts_are_refused(folder, split, message):
    with pytest.raises(UsageError, match=message):
        tiles.read_tiles(folder, split)
    with pytest.raises(UsageError, match=message):
        splits.check(tfds.builder_from_directory(tiles.find_dataset(folder)).info.splits, split, folder)
