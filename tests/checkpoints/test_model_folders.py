"""Model folders whose files are damaged or say what cannot be: named in one line before anything is computed."""

import dataclasses
import json
import os
import shutil

import damage
import numpy as np
import pytest
from annotations import unchecked
from safetensors.numpy import load, save

from mmgen_jax.checkpoints import model_folders
from mmgen_jax.frozen.autoencoders import arrays_file
from mmgen_jax.frozen.autoencoders.kl_layers import KLConfig
from mmgen_jax.models import architectures
from mmgen_jax.system import sealed
from mmgen_jax.system.errors import UsageError

FILES = (architectures.FILE, arrays_file.FILE, model_folders.WEIGHTS_FILE, sealed.FILE)


@pytest.fixture
def folder(model_dir, tmp_path):
    return shutil.copytree(model_dir, tmp_path / "model")


@pytest.fixture
def unsealed(folder):
    """A folder as older versions wrote it."""
    (folder / sealed.FILE).unlink()
    return folder


def refused(folder, *words):
    damage.refused(lambda: model_folders.load(folder), 1000, *words)


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_named(folder, name):
    for _ in damage.flips(folder / name):
        refused(folder, name)
    model_folders.load(folder)


@pytest.mark.parametrize("name", model_folders.bundled())
def test_bundled_models_are_sealed(name, tmp_path):
    copy = shutil.copytree(model_folders.ASSETS / name, tmp_path / name)
    assert (copy / sealed.FILE).exists()
    for file in FILES:
        for _ in damage.flips(copy / file, 5):
            refused(copy, file)


def test_a_folder_without_checksums_loads_with_one_line(unsealed, capsys):
    model_folders.load(unsealed)
    assert capsys.readouterr().out == f"{unsealed} has no SHA256SUMS: damage to its files would not be noticed\n"


@pytest.mark.parametrize("name", FILES[:3])
def test_damage_that_nothing_tells_is_no_traceback(unsealed, name):
    for _ in damage.flips(unsealed / name, 40):
        try:
            model_folders.load(unsealed)
        except UsageError as error:
            assert "\n" not in str(error)  # noqa: PT017 most are refused, and a flipped digit cannot be


def change(**entries):
    """Replaces entries of model.json; `model__depth` is depth in model."""

    def apply(stored):
        for name, value in entries.items():
            *path, last = name.split("__")
            place = stored
            for part in path:
                place = place[part]
            place[last] = value
        return stored

    return apply


def without(name):
    return lambda stored: {key: value for key, value in stored.items() if key != name}


HOSTILE = [
    *[(change(image_size=size), "image_size") for size in (16.0, "16", 0, -16, True, None, [16], 2**31, 17, 1e999)],
    *[(change(path=path), "path") for path in ("curved", 3, None, ["linear"], {})],
    *[(change(class_names=names), "class_names") for names in ([1] * 8, [["a"]] * 8, ["a"] * 8, "abcdefgh", {"a": 1})],
    *[(change(class_names=names), "class_names") for names in (None, 3, [], ["a"], [""] * 8, ["\ud800", *"abcdefg"])],
    (change(class_names=["a\x1b[2J", *"bcdefgh"]), "class_names"),
    *[
        (change(palette=[[c, 0, 0], *[[i, 1, 2] for i in range(3)]]), "palette")
        for c in (300, -1, 0.5, "1", None, True)
    ],
    *[(change(palette=palette), "palette") for palette in ([], [[0, 0]] * 4, [0, 1, 2], None, "red", [[0, 0, 0]] * 5)],
    *[(change(regions=regions), "regions") for regions in ([], ["a"] * 4, [1, 2, 3, 4], None, ["a", "b", "c"])],
    *[(change(model__heads=heads), "heads") for heads in (0, -2, 3, 2.0, "2", None, True, [2])],
    *[(change(model__width=width), "width") for width in (0, 15, 16.0, -16, 1e300)],
    *[(change(model__depth=depth), "depth") for depth in (0, -1, 2.5, "2", 1e999)],
    *[(change(model__patch=patch), "patch") for patch in (0, -1, 0.5)],
    (change(model__patch=3), "image_size"),
    *[(change(model__mlp_ratio=ratio), "mlp_ratio") for ratio in (0, -4, 1e999, float("nan"), "4", None)],
    *[(change(model__decoupled=share), "decoupled") for share in (-0.1, 1.5, float("nan"), "1", None, [0.5])],
    *[(change(model__guided=scale), "guided") for scale in (1, -4, 0.5, 1e9, float("nan"), "4", None)],
    *[(change(model__num_classes=n), "num_classes") for n in (-1, 7, 9, 8.5, "8", None)],
    *[(change(model__dtype=dtype), "dtype") for dtype in ("float12", 3, None, ["float32"])],
    *[(change(model__remat=name), "remat") for name in ("some", {}, 1)],
    *[(change(model__unroll=n), "unroll") for n in (0, -1, 1.5, "all")],
    *[(change(model__modalities=m), "") for m in ([], None, [["rgb", 6]], [["flow", 6]], [["rgb", 6.0]], "rgb", [[]])],
    (
        change(model__modalities=[["depth", 4], ["rgb", 6], ["normal", 6], ["mask", 6]], model__data_std=None),
        "modalities",
    ),
    (
        change(model__modalities=[["rgb", 6.5], ["depth", 4], ["normal", 6], ["mask", 6]], model__data_std=None),
        "modalities",
    ),
    *[
        (change(model__data_std=[[s] * n for n in (6, 4, 6, 6)]), "data_std")
        for s in (0, -1, float("nan"), 1e999, 1e30, 1e-300, "1", None, [])
    ],
    *[(change(model__data_std=std), "data_std") for std in ([], [[1]], "std")],
    (change(model__data_std=1), architectures.FILE),
    (change(model__feature_width=8, model__encoder_depth=3), "encoder_depth"),
    (change(model__other=1), "other"),
    (change(model=[]), architectures.FILE),
    *[(change(autoencoder__name=name), "autoencoder.name") for name in ("pca", None, 3, ["kl"])],
    *[(change(autoencoder__factor=f), "autoencoder.factor") for f in (0, -4, 4.0, "4", None, 10**30)],
    (change(autoencoder__factor=2), "misshapen"),
    (change(autoencoder=[]), architectures.FILE),
    (change(autoencoder={}), architectures.FILE),
    *[(without(name), name) for name in ("model", "autoencoder", "image_size", "class_names", "palette", "regions")],
    (lambda stored: [stored], "JSON of the type list"),
    (lambda stored: None, "JSON of the type NoneType"),
]


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_model_json_that_makes_no_sense(unsealed, number):
    spoil, word = HOSTILE[number]
    path = unsealed / architectures.FILE
    path.write_text(json.dumps(spoil(json.loads(path.read_text()))))
    refused(unsealed, word)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"model":' * 100_000, "", "{", "\0", '{"model": ' + "[" * 900 + "]" * 900 + "}"]
)
def test_model_json_that_is_none(unsealed, text):
    (unsealed / architectures.FILE).write_text(text)
    refused(unsealed, architectures.FILE)


def put(name, index, value):
    def apply(arrays):
        arrays[name].reshape(-1)[index] = value
        return arrays

    return apply


def reshaped(name):
    return lambda arrays: arrays | {name: arrays[name].reshape(1, -1)}


@pytest.mark.parametrize(
    "spoil, words",
    [
        *[(put("rgb/mean", 0, value), ("rgb/mean", "not finite")) for value in (np.nan, np.inf, -np.inf)],
        (put("mask/basis", -1, np.nan), ("mask/basis", "not finite")),
        *[(put("depth/scale", 1, value), ("depth/scale", "not above 0")) for value in (0, -1)],
        (put("depth/sigma", 1, 0), ("depth/sigma", "not above 0")),
        *[(reshaped(f"rgb/{part}"), ("misshapen",)) for part in ("mean", "basis", "scale", "sigma")],
        (lambda arrays: arrays | {"rgb/more": arrays["rgb/mean"]}, ("left over rgb/more",)),
        (lambda arrays: {k: v for k, v in arrays.items() if k != "rgb/mean"}, ("missing rgb/mean",)),
        (lambda arrays: {k: v[..., :3] if not k.endswith("mean") else v for k, v in arrays.items()}, ("modalities",)),
    ],
)
def test_autoencoders_that_make_no_sense(unsealed, spoil, words):
    path = unsealed / arrays_file.FILE
    path.write_bytes(save(spoil({name: array.copy() for name, array in load(path.read_bytes()).items()})))
    refused(unsealed, *words)


KL = {"name": "kl", "factor": 8, "config": dataclasses.asdict(KLConfig())}


@pytest.mark.parametrize(
    "entry, value",
    [
        *[
            (n, v)
            for n in ("in_channels", "layers_per_block", "norm_num_groups")
            for v in (0, -1, 1.5, "4", None, 1e999)
        ],
        *[("latent_channels", value) for value in (0, 5, 4.5, "4", None, [4])],
        *[("block_out_channels", v) for v in ([], [128, 0], [127], [1.5], 128, None, [[128]], [128] * 9, [128] * 5000)],
        *[("scaling_factor", value) for value in (0, -1, float("nan"), 1e999, "0.2", None, [1])],
        *[("shift_factor", value) for value in (float("nan"), 1e999, -1e999, "0", [0])],
        *[("use_quant_conv", value) for value in (1, "yes", None)],
    ],
)
def test_networks_of_autoencoders_that_make_no_sense(unsealed, entry, value):
    def write(autoencoder):
        stored = json.loads((unsealed / architectures.FILE).read_text())
        stored["model"] |= {"modalities": [[m, 4] for m in ("rgb", "depth", "normal", "mask")], "data_std": None}
        (unsealed / architectures.FILE).write_text(json.dumps(stored | {"autoencoder": autoencoder, "image_size": 32}))

    (unsealed / arrays_file.FILE).unlink()  # of a converted model without its autoencoder's weights
    write(KL)
    assert architectures.load(unsealed).autoencoder.params is None
    write(KL | {"config": KL["config"] | {entry: value}})
    with unchecked(), pytest.raises(UsageError, match=r"model\.json") as caught:
        architectures.load(unsealed)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "kl", [KL | {"factor": 4}, KL | {"config": None}, KL | {"config": []}, {"name": "kl", "factor": 8}]
)
def test_an_autoencoder_that_says_two_things(unsealed, kl):
    (unsealed / arrays_file.FILE).unlink()
    stored = json.loads((unsealed / architectures.FILE).read_text())
    stored["model"] |= {"modalities": [[m, 4] for m in ("rgb", "depth", "normal", "mask")], "data_std": None}
    (unsealed / architectures.FILE).write_text(json.dumps(stored | {"autoencoder": kl, "image_size": 32}))
    with unchecked(), pytest.raises(UsageError, match=r"model\.json"):
        architectures.load(unsealed)


@pytest.mark.parametrize(
    "spoil, words",
    [
        *[(put("patch_embed.kernel", 3, v), ("patch_embed.kernel", "not finite")) for v in (np.nan, np.inf, -np.inf)],
        (
            lambda arrays: arrays | {"patch_embed.kernel.more": arrays["patch_embed.kernel"]},
            ("patch_embed.kernel.more",),
        ),
        (lambda arrays: arrays | {"patch_embed": arrays["patch_embed.kernel"]}, ("patch_embed.",)),
        (reshaped("patch_embed.kernel"), ("misshapen patch_embed.kernel",)),
    ],
)
def test_weights_that_make_no_sense(unsealed, spoil, words):
    path = unsealed / model_folders.WEIGHTS_FILE
    path.write_bytes(save(spoil({name: array.copy() for name, array in load(path.read_bytes()).items()})))
    refused(unsealed, *words)


@pytest.mark.parametrize("name", FILES)
def test_other_things_where_files_belong(folder, name, tmp_path):
    for make, word in ((os.mkfifo, "FIFO"), (os.mkdir, "folder"), (lambda p: os.symlink("/dev/zero", p), "device")):
        copy = shutil.copytree(folder, tmp_path / word)
        (copy / name).unlink()
        make(copy / name)
        refused(copy, name, word)
