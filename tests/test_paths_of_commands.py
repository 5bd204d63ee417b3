"""Every path that a command takes: a FIFO is not waited for, and what cannot be written is told before any work."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import benchmark_trees
import forked
import h5py
import numpy as np
import pytest
from PIL import Image
from test_hostile_values import SETTINGS

ROOT = Path(__file__).parents[1]
GOLDEN = "--source=tests/golden/mmgen_tiny.pt"
# Flags and settings of text that are no paths.
WORDS = {"what", "name", "title", "profile", "topology", "calls", "only", "size", "split", "splits", "sha256", "scenes"}
WORDS |= {"second"}  # as --first of the same study, which must fit before it is looked at
WORDS |= {"depth_is", "depth_range", "normal_axes", "axes", "modalities", "normal", "mask", "depth", "rgb", "classes"}
WORDS |= {"train_split", "formats", "benchmark", "variants", "host", "license"}
PATHS = {"data.dir", "data.latents", "autoencoder.path", "features.path", "train.init_from", "train.preview_decoder"}
PATHS |= {f"sample.{kind}.{m}" for kind in ("images", "given", "keep") for m in ("rgb", "depth", "normal", "mask")}
# command -> how its inputs and outputs are given, and what it needs besides; {} stands for other folders, see `inputs`.
RUN = ("{config}", "{data}", "--workdir={model}")
READ = {
    "train --config=": ("--workdir={new}",),
    "train --config.data.dir=": ("{config}", "--workdir={new}"),
    "train --config.data.latents=": ("{config}", "--workdir={new}", "--config.data.flip=False"),
    "train --config.train.init_from=": ("{config}", "{data}", "--workdir={new}"),
    "train --config.autoencoder.path=": (
        *("{config}", "{data}", "--workdir={new}"),
        *("--config.autoencoder.name=kl", "--config.autoencoder.components=()"),
    ),
    "train --config.train.preview_decoder=": (
        *("{config}", "{data}", "--workdir={new}", "--config.autoencoder.name=kl", "--config.autoencoder.factor=8"),
        *("--config.autoencoder.path=tests/golden/tiny_vae", "--config.autoencoder.components=()"),
        "--config.model.patch=1",
    ),
    "train --config.features.path=": (
        *("{config}", "{data}", "--workdir={new}", "--config.model.feature_width=6"),
        *("--config.features.source=online", "--config.model.encoder_depth=1"),
    ),
    "sample --workdir=": ("{config}", "{data}"),
    **{
        f"sample --config.sample.{kind}.{m}=": ("{config}", "{data}", "--workdir={model}")
        for kind in ("images", "given")
        for m in ("rgb", "depth", "normal", "mask")
    },
    **{
        f"sample --config.sample.keep.{m}=": (*RUN, f"--config.sample.task={m}")
        for m in ("rgb", "depth", "normal", "mask")
    },
    **{f"{name} --workdir=": ("{config}", "{data}") for name in ("classify", "evaluate", "demo", "audit")},
    "app --workdir=": (),
    "app --config=": (),
    "reconstruct --workdir=": ("{config}", "{data}", "--out={new}"),
    "reconstruct --photo=": (*RUN, "--out={new}"),
    "reconstruct --samples=": ("--out={new}",),
    "export --workdir=": ("{config}", "--out={new}"),
    "verify --workdir=": (),
    "summary --log=": (),
    "encode --config.data.dir=": ("{config}", "--out={new}"),
    "label --images=": ("--out={new}", "--depth=precomputed:{photos}"),
    "label --only=": ("--images={photos}", "--out={new}", "--depth=precomputed:{photos}"),
    "label --depth=precomputed:": ("--images={photos}", "--out={new}"),
    "label --depth=depth-anything:": ("--images={photos}", "--out={new}"),
    "convert --source=": ("--out={new}",),
    f"convert --sha256={64 * '0'} --source=": ("--out={new}",),
    "convert --to_torch --source=": ("--out={new}.pt",),
    "convert --vae=": (GOLDEN, "--num_heads=4", "--out={new}"),
    "convert --classes=": (GOLDEN, "--num_heads=4", "--out={new}"),
    "benchmark --checkout=": ("{config}",),
    "benchmark --compare=": ("{config}",),
    "metrics.train_classifier --data_dir=": ("--out={new}.safetensors",),
    "metrics.generation --samples=": ("--reference={tiles}", "--out={new}"),
    "metrics.generation --reference=": ("--samples={tiles}", "--out={new}"),
    "metrics.generation --inception=": ("--samples={tiles}", "--reference={tiles}", "--out={new}"),
    "metrics.generation --train=": ("--samples={tiles}", "--reference={tiles}", "--out={new}"),
    "metrics.generation --classifier=": ("--samples={tiles}", "--reference={tiles}", "--out={new}"),
    "metrics.generation --dino=": ("--samples={tiles}", "--reference={tiles}", "--out={new}"),
    "studies.official --official=": (),
    "studies.depth_benchmarks --workdir=": ("{config}", "--benchmark=diode", "--root={rooms}", "--out={new}"),
    "studies.depth_benchmarks --root=": (*RUN, "--benchmark=diode", "--out={new}"),
    "studies.depth_benchmarks --list=": (*RUN, "--benchmark=kitti", "--root={rooms}", "--out={new}"),
    "studies.normal_benchmarks --workdir=": ("{config}", "--benchmark=ibims", "--root={halls}", "--out={new}"),
    "studies.normal_benchmarks --root=": (*RUN, "--benchmark=ibims", "--out={new}"),
    "studies.learned --before=": ("--after={new}",),
    "studies.learned --after=": ("--before={report}",),
    "studies.two_models --first=": (*RUN, "--second={model}", "--out={new}"),
    "studies.audit --workdir=": ("{config}", "{data}"),
    "data.sheet --data_dir=": ("--out={new}.png",),
    "data.trees.folders --rgb=": ("--out={new}",),
    "data.trees.hypersim --root=": ("--train_split=README.md", "--out={new}"),
    "data.trees.hypersim --train_split=": ("--root={photos}", "--out={new}"),
    "data.trees.hypersim --test_split=": ("--root={photos}", "--train_split=README.md", "--out={new}"),
    "data.trees.imagenet --root=": ("--out={new}",),
    "data.trees.imagenet --synsets=": ("--root={tree}", "--out={new}"),
    "data.latents.hdf5 --index=": ("--rgb={new}", "--out={new}"),
    "data.latents.hdf5 --rgb=": ("--index={index}", "--out={new}"),
    "data.latents.hdf5 --features=": ("--index={index}", "--rgb={moments}", "--out={new}"),
}
WRITTEN = {
    "train --workdir=": ("{config}", "{data}"),
    **{f"{name} --out=": RUN for name in ("sample", "classify", "evaluate", "export", "demo", "audit", "reconstruct")},
    **{f"studies.{name} --out=": RUN for name in ("solvers", "calibration", "composition", "information")},
    **{
        f"studies.{name} --out=": RUN
        for name in (
            "dial",
            "editing",
            "guides",
            "variations",
            "whole",
            "inpainting",
            "guidance",
            "reconstruction",
            "noising",
        )
    },
    "studies.relabel --out=": ("{config}", "{data}"),
    "studies.recipes --out=": ("{config}", "{data}"),
    "studies.two_models --out=": (*RUN, "--first={model}", "--second={model}"),
    "encode --out=": ("{config}", "{data}"),
    "label --out=": ("--images={photos}", "--depth=precomputed:{photos}"),
    "convert --out=": (GOLDEN, "--num_heads=4"),
    "convert --to_torch --out=": ("--source={model}",),
    "compile --json=": ("{config}", "--topology=v5e:1x1"),
    "benchmark --json=": ("{config}", "--what=sample"),
    "metrics.train_classifier --out=": ("--data_dir={tiles}",),
    "metrics.generation --out=": ("--samples={tiles}", "--reference={tiles}"),
    "metrics.generation --statistics=": ("--samples={tiles}", "--reference={tiles}", "--out={new}"),
    "metrics.generation --seen=": ("--samples={tiles}", "--reference={tiles}", "--out={new}"),
    "studies.layouts --json=": ("{config}",),
    "studies.dtypes --json=": ("{config}", "{data}"),
    "studies.depth_benchmarks --out=": (*RUN, "--benchmark=diode", "--root={rooms}"),
    "studies.normal_benchmarks --out=": (*RUN, "--benchmark=ibims", "--root={halls}"),
    "studies.official --json=": ("--official={clone}",),
    "studies.reading --folder=": (),
    "data.shapes --data_dir=": (),
    "data.sheet --out=": ("--data_dir={tiles}",),
    "data.trees.folders --out=": ("--rgb={photos}",),
    "data.trees.hypersim --out=": ("--root={photos}", "--train_split=README.md"),
    "data.trees.imagenet --out=": ("--root={photos}",),
    "data.latents.hdf5 --out=": ("--index={index}", "--rgb={new}"),
}


@pytest.fixture
def words(tmp_path, model_dir, tiles_dir):
    """Fills in a row of the tables above: the command and its words, with a path in the place of its last word."""
    for name in ("photos", "clone/models", "clone/utils", "tree/rgb/train/n01440764"):
        (tmp_path / name).mkdir(parents=True)
    for place in ("photos", "tree/rgb/train/n01440764"):
        Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(tmp_path / place / "a.png")
    with h5py.File(tmp_path / "moments", "w") as file:
        file.create_dataset("a.png", data=np.ones((4, 8, 8, 2), np.float32))
    benchmark_trees.diode(tmp_path / "rooms")
    benchmark_trees.dsine(tmp_path / "halls")
    (tmp_path / "report").write_text('{"understanding": {}}')
    for name in ("models/sit.py", "loss.py", "samplers.py", "utils/latents.py"):
        (tmp_path / "clone" / name).touch()
    (tmp_path / "index").write_text('{"path_rel_rgb": "a.png", "cat": "x", "idx_cat": 0}\n')
    known = {"model": model_dir, "tiles": tiles_dir, "data": f"--config.data.dir={tiles_dir}"}
    known |= {
        name: tmp_path / name
        for name in ("new", "photos", "index", "clone", "tree", "moments", "report", "rooms", "halls")
    }
    small = (
        "data.image_size=16",
        "autoencoder.components=(6,4,6,6)",
        "model.depth=2",
        "model.width=16",
        "model.heads=2",
    )

    def fill(row, besides, path):
        name, *options, last = row.split(" ")
        given = []
        for word in besides:
            shape = ["--config=configs/shapes_tiny.py", *(f"--config.{value}" for value in small)]
            given += shape if word == "{config}" else [word.format(**known)]
        return [f"mmgen_jax.{name}", *given, *options, f"{last}{path}"]

    return fill


def test_no_command_waits_for_a_fifo_or_works_for_a_place_that_cannot_be_written(words, tmp_path):
    """Each ends in one line that names the path, and nothing is written. Root may write to /proc by its rights.

    Nor is anything fetched from the web or from storage that no library reads, or a folder made that is called "s3:".
    """
    fifo, nowhere, *urls = tmp_path / "fifo.pt", Path("/proc/no/such.pt"), "https://a.b/c.pt", "s3://a.b/c.pt"
    os.mkfifo(fifo)
    before = sorted(tmp_path.rglob("*"))
    rows = [(row, path) for row in READ | WRITTEN for path in (fifo, *urls)] + [(row, nowhere) for row in WRITTEN]
    done = forked.run([words(row, (READ | WRITTEN)[row], path) for row, path in rows])
    wrong = [
        f"{row}{path}: {ended}"
        for (row, path), ended in zip(rows, done, strict=True)
        if ended.code not in (2, 3)
        or len(lines := ended.err.splitlines()) != 1
        or not lines[0].startswith("error: ")
        or str(path).rpartition("://")[2] not in lines[0]
    ]
    assert not wrong, "\n".join(wrong)
    assert sorted(tmp_path.rglob("*")) == before


def test_all_paths_of_all_commands_are_tried():
    tried = {(row.split(" ")[0], row.split(" ")[-1].split("=")[0].lstrip("-")) for row in READ | WRITTEN}
    for path in (ROOT / "mmgen_jax").rglob("*.py"):
        name = ".".join(path.relative_to(ROOT / "mmgen_jax").with_suffix("").parts).removesuffix(".__main__")
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and ast.unparse(call.func) in ("flags.DEFINE_string", "flags.DEFINE_list"):
                flag = call.args[0]
                if isinstance(flag, ast.Constant) and flag.value not in WORDS and name[:6] not in ("system", "data.t"):
                    assert (name, flag.value) in tried, f"{name} --{flag.value}"
    swept = {flag.removeprefix("config.") for _, flag in tried}
    assert PATHS <= swept and PATHS <= set(SETTINGS)
