"""Hostile values for every setting and argument: refused in one line that names it, or they mean something.

Settings and arguments are taken from the code, so that a new one is swept too.
"""

import dataclasses
import functools
import inspect
import math
import os

import jax
import numpy as np
import pytest
import tiny_model
from annotations import unchecked
from ml_collections import ConfigDict

from mmgen_jax import MMGen, settings
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.mask import PALETTE
from mmgen_jax.show import gallery
from mmgen_jax.show.outputs import Outputs
from mmgen_jax.system.errors import RunError, UsageError

HOSTILE = {
    "infinity": math.inf,
    "minus infinity": -math.inf,
    "nan": math.nan,
    "beyond float32": 1e39,
    "beyond float64": 10**400,
    "below float32": 1e-300,
    "negative": -3,
    "minus a half": -0.5,
    "fraction": 2.5,
    "beyond int32": 2**31,
    "beyond int64": 2**64,
    "hexadecimal text": "0x10",
    "number as text": "3",
    "complex": 1j,
    "true": True,
    "none": None,
    "bytes": b"rgb",
    "array": np.array([0.1, 0.2]),
    "array of one": np.array(0.5),
    "list": [0.1],
    "ragged": ((0.1,), (0.1, 0.2)),
    "empty tuple": (),
    "nested": ((((),),),),
    "mapping": {"a": 1},
    "object": object(),
    "function": len,
    "control characters": "a\x1b]0;x\x07\n",
    "null byte": "a\0b",
}
BASE = settings.Settings().changed(data={"flip": False})  # otherwise no latents are allowed
SETTINGS = [name for name, _, _ in settings.declared(settings.Settings())]


def with_value(name: str, value: object) -> settings.Settings:
    """Default settings in which one has another value, checked."""
    section, _, key = name.rpartition(".")
    if not section:
        return settings.check(dataclasses.replace(BASE, **{key: value}))
    if "." in section:  # a value for each modality
        inner = section.split(".")[1]
        section, key, value = "sample", inner, dataclasses.replace(getattr(BASE.sample, inner), **{key: value})
    return settings.check(BASE.changed(**{section: {key: value}}))


def means_something(value: object, default: object) -> bool:
    """Whether an accepted value is of the kind of the default, and one that float32, int32 and file names can hold."""
    if isinstance(default, bool):
        return isinstance(value, bool)
    if isinstance(default, int):
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**31
    if isinstance(default, float):
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 3.41e38
    if isinstance(default, str):
        return isinstance(value, str) and value.isprintable()
    return isinstance(value, tuple)


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_refuses_what_means_nothing(name):
    default = dict((n, value) for n, _, value in settings.declared(settings.Settings()))[name]
    refused = 0
    for kind, value in HOSTILE.items():
        try:
            with_value(name, value)
        except UsageError as error:
            refused += 1
            assert str(error).startswith(f"config key {name} is"), (kind, str(error))
            assert "\n" not in str(error) and len(str(error)) < 600, kind
        else:
            assert means_something(value, default), f"{name} may be {value!r} ({kind})"
    assert refused >= 20


def test_the_sweep_is_of_all_settings():
    assert len(SETTINGS) > 90 and {"seed", "sample.images.rgb", "objective.mix", "mesh.fsdp"} <= set(SETTINGS)


MIXES = {
    "share of text": (("a", "none", 0.0, "all"),),
    "share of nan": ((math.nan, "none", 0.0, "all"),),
    "five of six": ((1.0, "none", 0.0, "all", 3),),
    "row of text": ("abcd",),
    "row is a set": ({1.0, "none"},),
    "no row": (),
    "array row": (np.array([1.0, 0.0]),),
    "negative share": ((1.5, "none", 0.0, "all"), (-0.5, "none", 0.0, "all")),
}


@pytest.mark.parametrize("mix", MIXES.values(), ids=MIXES)
def test_rows_of_the_mix(mix):
    with pytest.raises(UsageError, match=r"^config key objective.mix is .* must be a tuple of rows"):
        with_value("objective.mix", mix)


@pytest.mark.parametrize("weights", [(0.0, 0.0, 0.0, 0.0), (0, 0, 0, 0)])
def test_some_weight_of_the_loss_is_above_zero(weights):
    with pytest.raises(UsageError, match="objective.loss_weights is .*; at least one must be above 0"):
        with_value("objective.loss_weights", weights)


@pytest.mark.parametrize("key, value", [("no_such", 1), ("train", 3), ("model", None)])
def test_a_recipe_of_another_form_is_refused(key, value):
    recipe = ConfigDict(dataclasses.asdict(settings.Settings()), type_safe=False)
    recipe[key] = value
    with pytest.raises(UsageError, match="^(unknown config key|config key .* is missing)"):
        settings.parse(recipe)


# ---- the Python interface ----

ARGUMENTS = [name for name in inspect.signature(MMGen.generate).parameters if name not in ("self", "progress")]
MEANT = {  # hostile for most arguments, and meant by these
    "class_id": {"none", "number as text"},
    "given": {"none"},
    "guidance": {"fraction", "below float32", "array of one"},
    "guidance_interval": {"array"},
    "given_time": {"below float32", "array of one"},
    "corrector": {"none"},
    "wanted": {"none"},
    "strength": {"none"},
    "interval": {"none"},
    "order": {"none"},
    "compose": {"true"},
    "temperature": {"fraction", "below float32", "array of one"},
    "keep": {"none"},
    "via": {"none"},
    "start": {"none"},
    "noise": {"none"},
    "classes": {"none"},
    "steps": {"none"},
    "times": {"none"},
    "shift": {"fraction", "array of one"},
    "rescale": {"below float32", "array of one"},
    "guide": {"none"},
    "models": {"none"},
    "weak": {"none"},
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_every_argument_of_generate_refuses_what_means_nothing(model_dir, name):
    model = MMGen.load(model_dir)
    for kind, value in HOSTILE.items():
        if kind in MEANT.get(name, ()):
            continue
        with unchecked(), pytest.raises(UsageError) as caught:
            model.generate(**{"class_id": 0, "n": 1, "steps": 1, "solver": "euler"} | {name: value})
        message = str(caught.value)
        assert name.split("_")[0] in message and "\n" not in message and len(message) < 600, (kind, message)


def raw_arguments(model):
    """What `velocity` takes, as it may be."""
    shapes = model.architecture.latent_shapes(2)
    x = {m: np.zeros(shape, np.float32) for m, shape in shapes.items()}
    return {"x": x, "t": np.full((2, 4), 0.5), "class_id": np.array([0, 8]), "task": np.array([0, 4])}


RAW = {
    "time beyond one": ("t", np.full((2, 4), 5.5)),
    "time of nan": ("t", np.full((2, 4), np.nan)),
    "times of another count": ("t", np.zeros((2, 3))),
    "ends of nan": ("r", np.full((2, 4), np.nan)),
    "ends of another count": ("r", np.zeros((2, 3))),
    "class below zero": ("class_id", np.array([-1, 0])),
    "class beyond the table": ("class_id", np.array([0, 99])),
    "classes that are fractions": ("class_id", np.array([0.0, 1.0])),
    "task beyond the table": ("task", np.array([0, 99])),
    "tasks of another count": ("task", np.array([0])),
    "a modality is missing": ("x", {"rgb": np.zeros((2, 4, 4, 6))}),
    "another modality": ("x", {"sound": np.zeros((2, 4, 4, 6))}),
    "no modality": ("x", {}),
    "text latents": ("x", {"rgb": np.full((2, 4, 4, 6), "a")}),
    "complex latents": ("x", {"rgb": np.zeros((2, 4, 4, 6), complex)}),
    "channels": ("x", {"rgb": np.zeros((2, 4, 4, 3))}),
    "no sample": ("x", {"rgb": np.zeros((0, 4, 4, 6))}),
}


@pytest.mark.parametrize("kind", RAW)
def test_the_raw_network_refuses_what_means_nothing(model_dir, kind):
    model, (name, value) = MMGen.load(model_dir), RAW[kind]
    with unchecked(), pytest.raises(UsageError) as caught:
        model.velocity(**raw_arguments(model) | {name: value})
    assert name in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 600


@pytest.mark.parametrize("name", ["x", "t", "class_id", "task", "r"])
def test_every_argument_of_velocity_refuses_what_means_nothing(model_dir, name):
    model = MMGen.load(model_dir)
    for kind, value in HOSTILE.items():
        if name == "r" and value is None:  # there is no end
            continue
        with unchecked(), pytest.raises(UsageError) as caught:
            model.velocity(**raw_arguments(model) | {name: value})
        assert name in str(caught.value) and "\n" not in str(caught.value), kind


def test_the_raw_network_works_under_jit(model_dir):
    model = MMGen.load(model_dir)
    arguments = raw_arguments(model)
    plain = model.velocity(**arguments)
    traced = jax.jit(lambda a: model.velocity(**a))(arguments)
    for m in plain:
        np.testing.assert_allclose(traced[m], plain[m], atol=1e-4)


@pytest.mark.parametrize("method", ["encode", "decode"])
def test_encode_and_decode_refuse_what_means_nothing(model_dir, method):
    model = MMGen.load(model_dir)
    for kind, value in HOSTILE.items():
        for hostile in (value, {"rgb": value}):
            with unchecked(), pytest.raises(UsageError) as caught:
                getattr(model, method)(hostile)
            assert "\n" not in str(caught.value) and len(str(caught.value)) < 600, kind


MEANT_BY_INVERSION = {
    "given": {"none"},
    "class_id": {"none", "number as text"},
    "given_time": {"below float32", "array of one"},
}


@pytest.mark.parametrize(
    "name", [n for n in inspect.signature(MMGen.invert).parameters if n not in ("self", "progress")]
)
def test_every_argument_of_invert_refuses_what_means_nothing(model_dir, name):
    model, rgb = MMGen.load(model_dir), np.zeros((16, 16, 3), np.uint8)
    for kind, value in HOSTILE.items():
        if kind in MEANT_BY_INVERSION.get(name, ()):
            continue
        with unchecked(), pytest.raises(UsageError) as caught:
            model.invert(**{"values": {"rgb": rgb}, "steps": 1} | {name: value})
        message = str(caught.value)
        assert name.split("_")[0] in message and "\n" not in message and len(message) < 600, (kind, message)


@pytest.mark.parametrize("name", ["seed", "n"])
def test_every_argument_of_noise_refuses_what_means_nothing(model_dir, name):
    model = MMGen.load(model_dir)
    for kind, value in HOSTILE.items():
        with unchecked(), pytest.raises(UsageError, match=f"^{name} is ") as caught:
            model.noise(**{name: value})
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 600, kind


class Raising:
    """An object of which nothing can be asked."""

    def __repr__(self):
        raise RuntimeError("boom")

    def __array__(self, *_, **__):
        raise RuntimeError("boom")


CONDITIONS = {
    "object": object(),
    "raising": Raising(),
    "ragged": [[0.0], [0.0, 1.0]],
    "text in an array": np.array([["a"]]),
    "complex": np.zeros((16, 16, 1), complex),
    "nothing": np.zeros((0, 16, 16, 1), np.float32),
    "nan": np.full((16, 16, 1), np.nan, np.float32),
    "one number": 3,
    "none": None,
    "bytes": b"x",
}


@pytest.mark.parametrize("kind", CONDITIONS)
@pytest.mark.parametrize("modality", ["rgb", "depth", "normal", "mask"])
def test_conditions_that_are_no_images(model_dir, modality, kind):
    model = MMGen.load(model_dir)
    with unchecked(), pytest.raises(UsageError, match=modality) as caught:
        model.generate(given={modality: CONDITIONS[kind]}, steps=1, solver="euler")
    assert "\n" not in str(caught.value)


# ---- the files of samples ----

TEXTS = {"hexadecimal text", "number as text", "control characters"}  # which may be names of folders, and titles


def samples(count=2) -> Outputs:
    return Outputs(tiny_model.values(count), ("rgb",), Facts(PALETTE))


def refused(folder, call, *words) -> None:
    """That a call ends in one line with one of the words, and leaves nothing in a folder."""
    before = sorted(folder.rglob("*"))
    with unchecked(), pytest.raises((UsageError, RunError)) as caught:
        call()
    message = str(caught.value)
    assert any(word in message for word in words) and "\n" not in message and len(message) < 600, message
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("method", ["save", "show"])
def test_arguments_of_saving_that_mean_nothing(tmp_path, monkeypatch, method):
    monkeypatch.chdir(tmp_path)
    outputs, values = samples(), HOSTILE | {"raising": Raising(), "nothing": ""}
    for kind, value in values.items():
        if kind not in TEXTS:
            refused(tmp_path, lambda value=value: getattr(outputs, method)(value, "A", ()), "folder is ")
        if not isinstance(value, str):
            refused(tmp_path, lambda value=value: getattr(outputs, method)("a", value, ()), "title is ")
        if kind != "empty tuple":
            refused(tmp_path, lambda value=value: getattr(outputs, method)("a", "A", value), "sections is ")
    for columns in ({}, {"a": 3}, {"a": np.zeros((2, 4, 4, 3))}, {"a": np.zeros((2, 4, 4), np.uint8)}, 3):
        with unchecked():
            section = gallery.Section("A", columns)
        refused(tmp_path, lambda section=section: getattr(outputs, method)("a", "A", [section]), "section")


@pytest.mark.parametrize("method", ["save", "show"])
def test_places_where_samples_cannot_be_saved(tmp_path, mounted, method):
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "null").symlink_to("/dev/null")
    call = functools.partial(getattr(samples(), method), title="A", sections=())
    for place in ("file", "file/x", "fifo", "fifo/x", "null", "n" * 300):
        refused(tmp_path, lambda place=place: call(tmp_path / place), f"folder {tmp_path / place}")
    refused(tmp_path, lambda: call("/proc/samples"), "folder /proc/samples cannot be written: /proc: ")
    with mounted(tmp_path / "locked", "ro") as locked:
        refused(locked, lambda: call(locked), f"folder {locked} cannot be written: {locked}: Read-only file system")


@pytest.mark.parametrize("modality", ["rgb", "depth", "normal", "mask"])
def test_values_that_were_changed_to_what_they_cannot_be(tmp_path, modality):
    shape = samples()[modality].shape
    wrong = {
        **HOSTILE,
        "nan": np.full(shape, np.nan, np.float32),
        "one image more": np.zeros((3, *shape[1:]), samples()[modality].dtype),
        "no image": np.zeros((0, *shape[1:]), samples()[modality].dtype),
        "another type": np.zeros(shape, np.uint16 if modality == "depth" else np.float16),
        "beyond": np.full(shape, 300, int if modality in ("rgb", "mask") else float),
        "a file": "photo.png",
    }
    for value in wrong.values():
        outputs = samples()
        with unchecked():
            outputs[modality] = value
        refused(tmp_path, lambda outputs=outputs: outputs.save(tmp_path / "a"), f"{modality} of the samples")
    outputs = samples()
    outputs["sound"] = outputs["depth"]
    refused(tmp_path, lambda: outputs.save(tmp_path / "a"), "modality of the samples is 'sound'")


def test_a_disk_that_is_full_leaves_no_gallery_without_its_files(tmp_path, mounted):
    with mounted(tmp_path / "disk", "size=256k") as disk:
        outputs = samples()
        outputs.save(disk / "a")
        (disk / "x").write_bytes(b"x" * (os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize - 4096))
        with pytest.raises(RunError, match="^samples cannot be written: .*/a: No space left on device$"):
            samples(8).save(disk / "a")
        assert not (disk / "a" / "gallery.html").exists() and not list(disk.rglob(".*"))
        (disk / "x").unlink()
        assert set(outputs.save(disk / "a")) < {path.name for path in (disk / "a").iterdir()}
