"""The published recipes run: trees of files -> tiles -> latents -> two steps, on tiny stand-ins."""

import importlib
import json
from pathlib import Path

import image_trees
import jax
import numpy as np
import pytest

from mmgen_jax import MMGen, encode, settings, train
from mmgen_jax.data import pipeline
from mmgen_jax.data.trees import builder, hypersim, imagenet
from mmgen_jax.data.trees.groups import Reading
from mmgen_jax.parallel import sharding
from mmgen_jax.system.errors import UsageError
from mmgen_jax.training import setup

GOLDEN = Path(__file__).parents[1] / "golden"
SIZE = 32  # 4 x 4 latents, 2 x 2 tokens


def small(name: str, folder: Path, **train_settings):
    """The recipe with its paths below `folder`, and networks and numbers of steps for tests."""
    config = importlib.import_module(f"configs.{name}").get_config()
    config.data.update({"image_size": SIZE, "workers": 0})
    for key in ("dir", "latents"):
        config.data[key] = str(folder / config.data[key])
    config.autoencoder.path, config.features.path = str(GOLDEN / "tiny_vae"), str(GOLDEN / "tiny_dino")
    config.model.update({"depth": 2, "width": 16, "heads": 2, "encoder_depth": 1})
    config.model.update({"feature_width": 24, "projector_width": 8})
    config.encode.update({"batch": 8, "shard": 8})
    config.sample.update({"steps": 2, "n": 2, "batch": 2})
    config.train.update({"batch": 8, "steps": 2, "save_every": 2, "log_every": 1, "sample_every": 0})
    config.train.update(train_settings)
    if config.train.init_from:
        config.train.init_from = str(folder / "run")
    return config


@pytest.fixture(scope="module")
def imagenet_run(tmp_path_factory) -> Path:
    """data/imagenet256, its latents, and a run of imagenet256_xl2 on them."""
    folder = tmp_path_factory.mktemp("imagenet")
    image_trees.imagenet(folder / "tree", count=8, size=SIZE)
    plan = imagenet.make_plan(str(folder / "tree"), None, True, Reading(SIZE))
    config = small("imagenet256_xl2", folder, sample_every=2)
    builder.write(imagenet.ImagenetTiles, config.data.dir, plan, 1)
    encode.encode(config, config.data.latents)
    train.train(config, folder / "run")
    return folder


@pytest.fixture(scope="module")
def hypersim_run(imagenet_run) -> Path:
    """The same folder with data/hypersim256 and its latents."""
    image_trees.hypersim(imagenet_run / "hypersim", count=8, size=SIZE)
    splits = {s: str(imagenet_run / "hypersim" / f"{s}.txt") for s in ("train", "test")}
    plan = hypersim.make_plan(str(imagenet_run / "hypersim" / "processed"), splits, True, Reading(SIZE))
    config = small("hypersim_joint", imagenet_run)
    builder.write(hypersim.HypersimTiles, config.data.dir, plan, 1)
    encode.encode(config, config.data.latents)
    return imagenet_run


def losses(workdir: Path) -> list[dict]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_imagenet256_xl2(imagenet_run):
    steps = losses(imagenet_run / "run")
    assert len(steps) == 2 and all(np.isfinite(step["loss"]) for step in steps)
    assert all(-1 <= step["loss/alignment"] <= 1 for step in steps)
    assert (imagenet_run / "run" / "samples" / "00000002.png").stat().st_size > 1000
    model = MMGen.load(imagenet_run / "run")
    assert model.class_names == ("n01440764", "n01443537")
    out = model.generate(class_id="n01443537", n=2, steps=2)
    assert out["rgb"].shape == (2, SIZE, SIZE, 3) and out["depth"].shape == (2, SIZE, SIZE)
    assert out["mask"].shape == (2, SIZE, SIZE, 3) and out["mask"].dtype == np.uint8  # colours: there is no palette
    again = model.generate(n=1, given={"mask": out["mask"][0], "rgb": out["rgb"][0]}, steps=2)
    np.testing.assert_array_equal(again["mask"], out["mask"][:1])
    again.save(imagenet_run / "out")


def test_imagenet256_b2(imagenet_run, tmp_path):
    train.train(small("imagenet256_b2", imagenet_run), tmp_path / "run")
    assert len(losses(tmp_path / "run")) == 2


def test_hypersim_joint_starts_from_a_model_with_classes(hypersim_run, tmp_path):
    train.train(small("hypersim_joint", hypersim_run), tmp_path / "run")
    assert len(losses(tmp_path / "run")) == 2
    assert MMGen.load(tmp_path / "run").class_names == ("n01440764", "n01443537")


def test_hypersim_rgb2x_learns_everything_but_rgb(hypersim_run, tmp_path):
    config = small("hypersim_rgb2x", hypersim_run, sample_every=2)
    train.train(config, tmp_path / "run")
    steps = losses(tmp_path / "run")
    assert all(step["loss/rgb"] == 0 and step["loss/depth"] > 0 for step in steps)


def test_features_online_are_those_that_are_stored(imagenet_run, tmp_path):
    """Features that a step computes from stored pixels give the same steps as stored features."""
    config = small("imagenet256_xl2", imagenet_run)
    config.features.dtype = "float32"
    config.encode.rgb = True
    config.data.latents = str(tmp_path / "latents")
    encode.encode(config, config.data.latents)
    histories = []
    for source in ("stored", "online"):
        config.features.source = source
        train.train(config, tmp_path / source)
        histories.append([step["loss/alignment"] for step in losses(tmp_path / source)])
    np.testing.assert_allclose(histories[0], histories[1], rtol=2e-3, atol=1e-5)  # float16 of what is stored


def test_devices_do_not_change_what_frozen_networks_compute(imagenet_run, tmp_path):
    config = small("imagenet256_xl2", imagenet_run)
    config.data.latents, config.features.source, config.features.dtype = "", "online", "float32"
    config.model.dtype, config.autoencoder.chunk = "float32", 8
    chosen = settings.parse(config)
    data = setup.open_data(chosen)
    architecture = setup.make_architecture(chosen, tmp_path, data)
    inputs = setup.make_inputs(chosen, architecture.autoencoder)
    batch = next(pipeline.batches(data.source, data.transforms, 8, seed=0))
    found = []
    for devices in (1, 8):
        mesh = sharding.make_mesh(jax.devices()[:devices])
        training = setup.assemble(chosen, architecture, mesh)
        placed = jax.device_put(inputs, sharding.replicated(mesh))
        metrics = training.step(training.init(jax.random.key(0)), placed, sharding.to_global(batch, mesh))[1]
        found.append({name: np.asarray(value) for name, value in metrics.items()})
    for name, value in found[0].items():
        np.testing.assert_allclose(found[1][name], value, rtol=5e-5, atol=1e-6, err_msg=name)


def test_everything_online_from_tiles(imagenet_run, tmp_path):
    config = small("imagenet256_xl2", imagenet_run)
    config.data.latents, config.features.source, config.data.flip = "", "online", True
    train.train(config, tmp_path)
    assert all("loss/alignment" in step for step in losses(tmp_path))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"features.source": "online"}, "the latents have no rgb pixels: encode.rgb was False"),
        ({"model.feature_width": 8}, "model.feature_width 8, for 4 tokens; the latents have 4 features of width 24"),
        ({"data.image_size": 64}, "data.image_size is 64; the latents have 32"),
        ({"data.flip": True}, "data.flip is True; latents cannot be mirrored"),
        ({"data.latents": "", "features.source": "stored"}, 'features.source is "stored"; it needs data.latents'),
        ({"features.source": "online", "features.path": ""}, 'source is "online"; it needs features.path'),
        ({"autoencoder.path": ""}, 'autoencoder.name is "kl"; it needs autoencoder.path'),
        ({"autoencoder.path": "nowhere"}, "'nowhere' does not exist"),
        ({"autoencoder.factor": 4, "data.latents": ""}, "autoencoder.factor is 4; .* 8"),
    ],
)
def test_settings_that_do_not_fit_the_data(imagenet_run, tmp_path, change, message):
    config = small("imagenet256_xl2", imagenet_run)
    for key, value in change.items():
        section, name = key.split(".")
        config[section][name] = value
    if "autoencoder.factor" in change:
        config.features.source = "none"
    with pytest.raises(UsageError, match=message):
        train.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_model_of_other_classes_gets_a_new_class_table(imagenet_run, tmp_path, capsys):
    config = small("imagenet256_xl2", imagenet_run)
    path = imagenet_run / "run" / "model.json"
    stored = json.loads(path.read_text())
    other = tmp_path / "other"
    other.mkdir()
    for file in ("checkpoints", "autoencoder.safetensors"):
        (other / file).symlink_to(imagenet_run / "run" / file)
    # The numbers that converted models have for names give way to the names of the data, with the rows as they are.
    for names, new in ((["cat", "dog"], True), (["0", "1"], False)):
        (other / "model.json").write_text(json.dumps(stored | {"class_names": names}))
        config.train.init_from = str(other)
        train.train(config, tmp_path / names[0])
        assert ("a new class table of 2 classes" in capsys.readouterr().out) is new
        assert MMGen.load(tmp_path / names[0]).class_names == ("n01440764", "n01443537")
