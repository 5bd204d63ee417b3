"""python -m mmgen_jax.encode: what is stored is what the frozen networks compute, and a stopped run goes on."""

import dataclasses
import functools
import shutil

import image_trees
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import tensorflow_datasets as tfds
from annotations import unchecked
from etils import epath
from tensorflow_datasets.core import registered

from mmgen_jax import encode, settings
from mmgen_jax.data import pipeline, tiles, train_data
from mmgen_jax.data.latents import dataset, encoding, plan
from mmgen_jax.data.trees import builder, folders
from mmgen_jax.data.trees.groups import Reading
from mmgen_jax.frozen.autoencoders.patches import space_to_depth
from mmgen_jax.modalities.conventions import DepthFiles
from mmgen_jax.modalities.pixels import to_array
from mmgen_jax.modalities.registry import MODALITIES, NAMES
from mmgen_jax.system import sealed
from mmgen_jax.system.errors import UsageError
from mmgen_jax.system.shares import Share
from mmgen_jax.training import setup

SIZE = 16


@functools.partial(jax.tree_util.register_dataclass, data_fields=("weights",), meta_fields=("modalities", "factor"))
@dataclasses.dataclass(frozen=True)
class Gaussian:
    """An autoencoder with a posterior: patches times a random matrix, and a standard deviation that is not zero."""

    modalities: tuple[str, ...]
    factor: int
    weights: dict[str, jax.Array]  # [f * f * C, 2 * 3]

    @property
    def channels(self):
        return dict.fromkeys(self.modalities, 3)

    @property
    def spec(self):
        return {"name": "kl", "factor": self.factor, "config": {"scaling_factor": 0.5}}

    def moments(self, images):
        both = {m: space_to_depth(x, self.factor) @ self.weights[m] for m, x in images.items()}
        return {m: jnp.concatenate([x[..., :3], jnp.exp(x[..., 3:])], -1) for m, x in both.items()}


@functools.partial(jax.tree_util.register_dataclass, data_fields=("weights",), meta_fields=())
@dataclasses.dataclass(frozen=True)
class Patches:
    """A stand-in for DINOv2: multiplies 8 x 8 patches by a random matrix."""

    weights: jax.Array  # [192, 5]

    def __call__(self, rgb):
        x = space_to_depth(rgb, 8) @ self.weights
        return x.reshape(len(x), -1, x.shape[-1])


def gaussian(scale: float = 0.1, seed: int = 0) -> Gaussian:
    rng = np.random.default_rng(seed)
    weights = {m: (scale * rng.normal(size=(16 * MODALITIES[m].channels, 6))).astype(np.float32) for m in NAMES}
    return Gaussian(NAMES, 4, weights)


PATCHES = Patches(np.random.default_rng(1).normal(size=(192, 5)).astype(np.float32))


@pytest.fixture(autouse=True)
def stand_ins():
    """Only what these tests ask of an autoencoder and of DINOv2 is there."""
    with unchecked():
        yield


@pytest.fixture
def config(tiny_config):
    tiny_config.encode.update({"batch": 16, "shard": 40})
    return tiny_config


@pytest.fixture
def kl(config, monkeypatch):
    """A config of the networks above."""
    config.autoencoder.name = "kl"
    config.features.path = "dino"
    config.encode.update({"features": True, "rgb": True})
    monkeypatch.setattr(setup, "make_autoencoder", lambda config, folder: gaussian())
    monkeypatch.setattr(setup, "load_dino", lambda config: PATCHES)
    return config


def tile(config, split: str, i: int) -> dict:
    return tiles.decode_tile(tiles.read_tiles(config.data.dir, split)[i])


def truth(pixels: dict, scale: float = 0.1) -> dict[str, np.ndarray]:
    """Computes in NumPy what Gaussian and Patches make of one tile."""
    made = {}
    for m, weights in gaussian(scale).weights.items():
        x = to_array(pixels[m]).reshape(4, 4, 4, 4, -1).swapaxes(1, 2).reshape(4, 4, -1) @ weights
        made[m] = np.concatenate([x[..., :3], np.exp(x[..., 3:])], -1)
    patches = to_array(pixels["rgb"]).reshape(2, 8, 2, 8, 3).swapaxes(1, 2).reshape(4, 192)
    return made | {"features": patches @ PATCHES.weights}


@pytest.mark.parametrize("dtype,tolerance", [("float16", 2e-3), ("bfloat16", 1.2e-2)])
def test_moments_features_and_pixels_of_every_tile(kl, tmp_path, dtype, tolerance, capsys):
    kl.encode.dtype = dtype
    encode.encode(kl, tmp_path / "latents")
    said = capsys.readouterr().out
    # 4 x 4 x 6 numbers of each modality, 4 x 5 features, 16 x 16 x 3 pixels; 96 + 24 tiles
    assert "1,576 bytes a sample (rgb 192, depth 192, normal 192, mask 192, features 40, rgb_pixels 768)" in said
    assert "120 samples of test, train in 4 shard(s): 189 kB" in said
    for split, count in (("train", 96), ("test", 24)):
        source = dataset.read(tmp_path / "latents", split)
        assert len(source) == count
        for i in (0, 17, count - 1):
            found, pixels = source[i], tile(kl, split, i)
            for name, value in truth(pixels).items():
                assert found[name].dtype == {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}[dtype]
                np.testing.assert_allclose(found[name].astype(np.float32), value, rtol=tolerance, atol=1e-5)
            np.testing.assert_array_equal(found["rgb_pixels"], pixels["rgb"])
            assert found["class_id"] == pixels["class_id"] and found["present"].all()
            assert found["key"] == tiles.read_tiles(kl.data.dir, split)[i]["key"].decode()
    info = dataset.read_info(tmp_path / "latents")
    assert info.class_names == tiles.class_names(kl.data.dir) and info.metadata == tiles.read_metadata(kl.data.dir)
    assert info.autoencoder == gaussian().spec and info.image_size == SIZE


def test_identity_is_stored_exactly(config, tmp_path):
    config.autoencoder.update({"name": "identity", "factor": 4})
    encode.encode(config, tmp_path / "latents", splits=["test"])
    found, pixels = dataset.read(tmp_path / "latents", "test")[5], tile(config, "test", 5)
    for m in NAMES:
        mean, std = np.split(found[m], 2, axis=-1)
        image = mean.reshape(4, 4, 4, 4, -1).swapaxes(1, 2).reshape(SIZE, SIZE, -1)
        np.testing.assert_array_equal(image, to_array(pixels[m]).astype(np.float16))
        assert not std.any()


def test_a_fitted_autoencoder_is_kept_with_its_latents(config, tmp_path):
    folder = tmp_path / "latents"
    encode.encode(config, folder, splits=["test"])
    stored = setup.make_autoencoder(settings.parse(config), folder)
    batch = pipeline.load(config.data.dir, "test", NAMES, SIZE, None)
    made = stored.moments({m: to_array(batch[m]) for m in NAMES})
    source = dataset.read(folder, "test")
    for m in NAMES:
        np.testing.assert_allclose(np.stack([x[m] for x in source]), made[m], rtol=2e-3, atol=2e-3)
    assert plan.digest(stored) == plan.digest(setup.make_autoencoder(settings.parse(config)))


def test_mirrored_copies_are_those_of_mirrored_tiles(kl, tmp_path):
    kl.encode.mirror = True
    encode.encode(kl, tmp_path / "latents")
    source = dataset.read(tmp_path / "latents", "train")
    assert len(source) == 2 * 96 and len(dataset.read_info(tmp_path / "latents").shards["train"]) == 3
    for i in (0, 39, 40, 95):
        pixels = tile(kl, "train", i)
        mirrored = {m: MODALITIES[m].mirror(pixels[m]) for m in NAMES}
        assert source[2 * i + 1]["key"] == source[2 * i]["key"] + "#mirrored"
        for found, image in ((source[2 * i], pixels), (source[2 * i + 1], mirrored)):
            np.testing.assert_array_equal(found["rgb_pixels"], image["rgb"])
            for name, value in truth(image).items():
                np.testing.assert_allclose(found[name].astype(np.float32), value, rtol=2e-3, atol=1e-5)


def test_a_killed_run_goes_on_to_the_same_files(kl, tmp_path, monkeypatch, capsys):
    encode.encode(kl, tmp_path / "whole")
    pack, calls = encoding._pack, []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 7:  # in the second shard of train
            raise KeyboardInterrupt
        yield from pack(*arguments)

    monkeypatch.setattr(encoding, "_pack", interrupted)
    with pytest.raises(KeyboardInterrupt):
        encode.encode(kl, tmp_path / "latents")
    monkeypatch.setattr(encoding, "_pack", pack)
    shards = {path.name for path in (tmp_path / "latents").glob("*.array_record")}
    assert shards == {"test-00000-of-00001.array_record", "train-00000-of-00003.array_record"}
    (tmp_path / "latents" / "train-00000-of-00003.array_record").write_bytes(b"half")
    capsys.readouterr()
    encode.encode(kl, tmp_path / "latents")
    assert "3 shard(s) to do" in capsys.readouterr().out
    for path in (tmp_path / "whole").iterdir():
        assert (tmp_path / "latents" / path.name).read_bytes() == path.read_bytes()


def test_other_settings_weights_or_tiles_are_refused(kl, tmp_path, monkeypatch):
    folder = tmp_path / "latents"
    encode.encode(kl, folder, splits=["test"])
    changed = kl.copy_and_resolve_references()
    changed.encode.mirror = True
    with pytest.raises(UsageError, match="was begun with encode.mirror false instead of true; give another --out"):
        encode.encode(changed, folder, splits=["test"])
    with pytest.raises(UsageError, match="was begun with samples of test 24 instead of nothing"):
        encode.encode(kl, folder, splits=["train"])
    monkeypatch.setattr(setup, "make_autoencoder", lambda config, folder: gaussian(seed=1))
    with pytest.raises(UsageError, match="was begun with weights of the autoencoder "):
        encode.encode(kl, folder, splits=["test"])
    monkeypatch.setattr(setup, "make_autoencoder", lambda config, folder: gaussian())
    other = shutil.copytree(kl.data.dir, tmp_path / "tiles")
    info = next(other.rglob("dataset_info.json"))
    info.write_text(info.read_text() + "\n")
    (info.parent / sealed.FILE).unlink()
    kl.data.dir = str(other)
    with pytest.raises(UsageError, match="was begun with tiles "):
        encode.encode(kl, folder, splits=["test"])


def test_numbers_that_do_not_fit_are_named_and_nothing_is_left(kl, tmp_path, monkeypatch):
    monkeypatch.setattr(setup, "make_autoencoder", lambda config, folder: gaussian(scale=3.0))  # exp() of it
    first = tiles.read_tiles(kl.data.dir, "test")[0]["key"].decode()
    with pytest.raises(UsageError, match=f"of '{first}' reaches .*, which float16 cannot hold; bfloat16 can"):
        encode.encode(kl, tmp_path / "latents", splits=["test"])
    assert [path.name for path in (tmp_path / "latents").iterdir()] == ["unfinished.json"]


def test_workers_make_what_one_makes(kl, tmp_path, capsys):
    encode.encode(kl, tmp_path / "one")
    encode.encode(kl, tmp_path / "two", share=Share(1, 2))
    assert "2 shard(s) of other workers are not finished yet" in capsys.readouterr().out
    encode.encode(kl, tmp_path / "two", share=Share(0, 2))
    for path in (tmp_path / "one").iterdir():
        assert (tmp_path / "two" / path.name).read_bytes() == path.read_bytes()


def test_settings_that_do_not_fit(kl, tmp_path):
    cases = (
        ("features.path", "", "encode.features is True; it needs features.path"),
        ("encode.batch", 12, "encode.batch is 12; it must be a positive multiple of the number of devices, 8"),
        ("data.modalities", ("depth",), "encode.features is True; it needs rgb in data.modalities"),
        ("data.dir", str(tmp_path / "nowhere"), "nowhere' does not exist"),
    )
    for key, value, message in cases:
        config = kl.copy_and_resolve_references()
        section, name = key.split(".")
        config[section][name] = value
        if key == "data.modalities":
            config.objective.update({"loss_weights": (1.0,), "mix": ((1.0, "none", 0.0, "all"),)})
            config.autoencoder.components = (4,)
        with pytest.raises(UsageError, match=message):
            encode.encode(config, tmp_path / "latents")
    with pytest.raises(UsageError, match="--splits is 'val'; allowed: test, train"):
        encode.encode(kl, tmp_path / "latents", splits=["val"])
    assert not (tmp_path / "latents").exists()


with registered.skip_registration():

    class Sparse(tfds.core.GeneratorBasedBuilder):
        """A source of three tiles: one with rgb, one with depth, one with both."""

        VERSION = tfds.core.Version("1.0.0")
        name = "sparse"
        code_path = epath.Path(__file__)

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=tiles.tile_features(SIZE, ("a",)))

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            rgb, depth = np.full((SIZE, SIZE, 3), 200, np.uint8), np.full((SIZE, SIZE, 1), 9, np.uint16)
            for key, pixels in (("x", {"rgb": rgb}), ("y", {"depth": depth}), ("z", {"rgb": rgb, "depth": depth})):
                yield key, tiles.encode_tile(pixels, -1 if key == "y" else 0, key)


def test_what_is_absent_stays_absent(kl, tmp_path):
    Sparse(data_dir=tmp_path / "tiles", file_format="array_record").download_and_prepare()
    kl.data.dir = str(tmp_path / "tiles")
    encode.encode(kl, tmp_path / "latents")
    found = {x["key"]: x for x in dataset.read(tmp_path / "latents", "train")}
    assert {key: x["present"].tolist() for key, x in found.items()} == {
        "x": [True, False, False, False],
        "y": [False, True, False, False],
        "z": [True, True, False, False],
    }
    assert not (found["y"]["rgb"].any() or found["y"]["features"].any() or found["y"]["rgb_pixels"].any())
    assert found["z"]["features"].any() and not found["x"]["depth"].any() and found["z"]["depth"].any()


def test_stable_diffusions_autoencoder_as_diffusers_has_it(config, tmp_path):
    torch = pytest.importorskip("torch")
    diffusers = pytest.importorskip("diffusers")
    path = epath.Path(__file__).parent / "golden" / "tiny_vae"
    config.autoencoder.update({"name": "kl", "path": str(path), "factor": 8})
    config.encode.batch = 8
    config.model.patch = 1
    encode.encode(config, tmp_path / "latents", splits=["test"])
    original = diffusers.AutoencoderKL.from_pretrained(path)
    found, pixels = dataset.read(tmp_path / "latents", "test")[3], tile(config, "test", 3)
    for m in NAMES:
        image = np.broadcast_to(to_array(pixels[m]), (SIZE, SIZE, 3)).transpose(2, 0, 1)
        with torch.no_grad():
            posterior = original.encode(torch.from_numpy(image[None].copy())).latent_dist
        expected = torch.cat([posterior.mean, posterior.std], 1)[0].permute(1, 2, 0).numpy()
        np.testing.assert_allclose(found[m].astype(np.float32), expected, rtol=1e-3, atol=1e-4)


def test_features_are_those_of_dinov2(config, tmp_path):
    path = str(epath.Path(__file__).parent / "golden" / "tiny_dino")
    config.autoencoder.update({"name": "identity", "factor": 4})
    config.features.update({"path": path, "dtype": "float32"})
    config.encode.update({"features": True, "batch": 8})
    encode.encode(config, tmp_path / "latents", splits=["test"])
    source = dataset.read(tmp_path / "latents", "test")
    pixels = np.stack([tile(config, "test", i)["rgb"] for i in range(8)])
    expected = np.asarray(jax.jit(lambda dino, x: dino(x))(setup.load_dino(settings.parse(config)), to_array(pixels)))
    found = np.stack([source[i]["features"] for i in range(8)]).astype(np.float32)
    tokens = (SIZE // config.autoencoder.factor // config.model.patch) ** 2
    assert found.shape == (8, tokens, 24)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_latents_of_tiles_with_holes_say_which_cells_are_valid(config, tmp_path):
    """4 x 4 cells of 4 x 4 pixels each: all that touch a hole are not valid, in mirror images too."""
    scenes = image_trees.folders(tmp_path, count=4)
    depth = scenes["depth"][1].copy()
    depth[5:9, 0:3] = 0
    image_trees.save(tmp_path / "depth" / "001.png", depth)
    reading = Reading(SIZE, DepthFiles(invalid=0))
    plan = folders.make_plan({m: str(tmp_path / m) for m in NAMES}, "none", 0.0, True, reading)
    config.data.dir = builder.write(folders.FolderTiles, str(tmp_path / "out"), plan, 1)
    config.autoencoder.update({"name": "identity", "factor": 4})
    config.encode.mirror = True
    encode.encode(config, tmp_path / "latents")
    source = dataset.read(tmp_path / "latents", "train")
    found = {source[i]["key"]: source[i] for i in range(len(source))}
    assert len(found) == 8 and dataset.read_info(tmp_path / "latents").layout.holes == ("depth",)
    expected = np.ones((4, 4), np.uint8)
    expected[1:3, 0] = 0
    for key, sample in found.items():
        valid = expected if key == "001" else expected[:, ::-1] if key == "001#mirrored" else 1
        np.testing.assert_array_equal(sample["depth_valid"], valid, err_msg=key)
        assert "rgb_valid" not in sample and "normal_valid" not in sample
    # What the network sees in the hole is the depth beside it.
    moments = found["001"]["depth"].astype(np.float32)
    assert moments[1:3, 0].min() > to_array(depth[depth[..., 0] > 0]).min() - 1e-2
    fits = {"image_size": SIZE, "autoencoder": "identity", "factor": 4}
    fits |= {"features": "none", "feature_width": 0, "patch": 1}
    for data, side in (
        (train_data.open_latents(tmp_path / "latents", "train", NAMES, **fits), 4),
        (train_data.open_tiles(config.data.dir, "train", NAMES, SIZE, True), SIZE),
    ):
        batch = next(pipeline.batches(data.source, data.transforms, 4, seed=0))
        assert batch["depth_valid"].shape == (4, side, side) and batch["depth_valid"].dtype == bool
        assert set(batch) == {*NAMES, "depth_valid", "class_id", "present"}
