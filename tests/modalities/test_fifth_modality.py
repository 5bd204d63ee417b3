"""A fifth modality is one value in the registry: old data lacks it, new data has it, and users give and get it."""

import json
import re
import shutil
import sys
from pathlib import Path

import image_trees
import numpy as np
import official_standins
import pytest
import tensorflow_datasets as tfds
import test_docs
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
ROOT = Path(__file__).parents[2]


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


@pytest.mark.slow
def test_the_page_on_adding_one_is_all_there_is_to_do(tmp_path):
    """A copy of the package is changed as the page says, and the page's commands run in it."""
    page = (ROOT / "docs" / "inside" / "add-a-modality.md").read_text()
    value, recipe = re.findall(r"^```py\n(.*?)^```$", page, re.M | re.S)
    official_standins.write(tmp_path)
    own = image_trees.folders(tmp_path / "own", count=12, size=64)
    before = [f"--{m}=own/{m}" for m in own]
    folders = ["-m", "mmgen_jax.data.trees.folders", *before, "--size=64", "--test_fraction=0.4", "--out=data/old"]
    test_docs.run([sys.executable, *folders], tmp_path)  # by the package as it is
    for i, rgb in enumerate(own["rgb"]):
        image_trees.save(tmp_path / "own" / "albedo" / f"{i:03d}.png", rgb // 64 * 64)

    for folder in ("mmgen_jax", "configs"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "mmgen_jax" / "modalities" / "albedo.py").write_text(value)
    registry = tmp_path / "mmgen_jax" / "modalities" / "registry.py"
    text = registry.read_text().replace("MASK)}", "MASK, ALBEDO)}")
    before = "from mmgen_jax.modalities.depth"
    registry.write_text(text.replace(before, f"from mmgen_jax.modalities.albedo import ALBEDO\n{before}"))
    (tmp_path / "configs" / "albedo.py").write_text(recipe)
    for block in re.findall(r"^```sh\n(.*?)^```$", page, re.M | re.S):
        for words in test_docs.commands(block):
            test_docs.run(test_docs.smaller(words), tmp_path)

    assert {"gallery.html", "albedo_000.png"} <= {path.name for path in (tmp_path / "samples").iterdir()}
    new, old = (json.loads((tmp_path / "runs" / run / "metrics.json").read_text()) for run in ("albedo", "old"))
    assert new["understanding"]["round_trip"]["albedo/psnr"] > 10
    assert old["understanding"]["model"]["albedo/psnr"] is None and old["understanding"]["model"]["normal/mean"] > 0
    assert "rgb-rest/albedo/psnr" in new["consistency"]["real"]
    assert "rgb-rest/albedo/psnr" not in old["consistency"]["real"]
    found = re.findall(r'"loss/albedo": ([^,}]*)', (tmp_path / "runs" / "old" / "metrics.jsonl").read_text())
    assert found and not any(map(float, found))  # absent: no loss
    code = (
        "from mmgen_jax import MMGen\n"
        "out = MMGen.load('runs/albedo').generate(given={'albedo': 'own/albedo/000.png'}, steps=2)\n"
        "assert list(out) == ['rgb', 'depth', 'normal', 'mask', 'albedo'] and out['albedo'].shape == (1, 64, 64, 3)\n"
        "assert MMGen.load('converted/five').modalities == tuple(out)\n"
    )
    test_docs.run([sys.executable, "-c", code], tmp_path)
