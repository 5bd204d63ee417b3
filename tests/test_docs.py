"""Every command and Python block in the README and the guides runs, in order, on tiny stand-ins."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import image_trees
import official_standins
import pytest

from mmgen_jax.compiler import topology as chips

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden"
GUIDES = sorted((ROOT / "docs").glob("*.md"), key=lambda page: (page.stem != "official-checkpoints", page.stem))
PAGES = [ROOT / "README.md", *GUIDES]  # other guides start from the model that this one converts
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```$", re.M | re.S)

# Added to each command, so that the page's own options are parsed but the work is small.
DATA = ["--train=48", "--test=16"]
NETWORK = ["--config.model.depth=1", "--config.model.width=16", "--config.model.heads=2"]
TRAIN = [
    "--config.train.steps=2",
    "--config.train.batch=8",
    "--config.train.sample_every=0",
    "--config.optim.warmup_steps=0",
    "--config.optim.decay_steps=0",
]
SAMPLE = ["--config.sample.n=2", "--config.sample.steps=2", "--config.sample.batch=2"]
EVALUATE = [*SAMPLE, "--config.evaluate.n=8", "--config.evaluate.samples=8", "--config.evaluate.steps=2"]
# What a reader would name by its hub id, and networks that fit it: the golden model, which stands for the released one.
FROZEN = [
    "--config.data.image_size=64",
    "--config.data.workers=0",
    f"--config.autoencoder.path={GOLDEN}/tiny_vae",
    f"--config.features.path={GOLDEN}/tiny_dino",
    "--config.encode.batch=8",
    *(
        f"--config.model.{key}={value}"
        for key, value in {
            "depth": 3,
            "width": 48,
            "heads": 4,
            "encoder_depth": 2,
            "projector_width": 40,
            "feature_width": 24,
            "dtype": "float32",
        }.items()
    ),
]
PUBLISHED = ("--config=configs/imagenet256", "--config=configs/hypersim")
SMALLER = {
    "mmgen_jax.data.shapes": DATA,
    "mmgen_jax.train": TRAIN,
    "mmgen_jax.sample": SAMPLE,
    "mmgen_jax.evaluate": EVALUATE,
    "mmgen_jax.benchmark": [*NETWORK, "--config.train.batch=8", *SAMPLE, "--repeats=1", "--seconds=0"],
    "mmgen_jax.compile": ["--config.train.batch=32", "--config.sample.batch=16"],
    "mmgen_jax.studies.layouts": ["--config.train.batch=32", "--only=configured"],
    "mmgen_jax.export": [],
    "mmgen_jax.summary": [],
    "mmgen_jax.verify": [],
    "mmgen_jax.demo": [*SAMPLE, "--config.sample.index=0"],
    "mmgen_jax.metrics.train_classifier": ["--steps=2", "--scenes=16"],
    "mmgen_jax.label": [
        f"--depth=depth-anything:{GOLDEN}/tiny_depth_anything",
        "--mask=precomputed:regions",
        "--size=64",
    ],
    "mmgen_jax.data.trees.folders": ["--size=64", "--test_fraction=0.4"],
    "mmgen_jax.data.trees.imagenet": ["--size=64"],
    "mmgen_jax.data.trees.hypersim": ["--size=64"],
    "mmgen_jax.data.latents.hdf5": [],
    "mmgen_jax.encode": [],
    "mmgen_jax.convert": ["--num_heads=4", "--sha256=", f"--vae={GOLDEN}/tiny_vae"],
}


def commands(text: str) -> list[list[str]]:
    return [shlex.split(line) for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def smaller(words: list[str]) -> list[str]:
    """The command with options that make its work small."""
    module = words[2]
    assert words[:2] == ["python", "-m"] and module in SMALLER, f"no stand-in for {shlex.join(words)}"
    extra = list(SMALLER[module])
    if any(w.startswith(PUBLISHED) for w in words):
        extra += FROZEN
    elif any(w.startswith("--config=") for w in words) and any(w.startswith("--workdir=runs/") for w in words):
        extra += NETWORK
    return [sys.executable, "-m", module, *words[3:], *extra]


def run(words: list[str], folder: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": ""}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout[-1000:]}\n{done.stderr[-2000:]}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """An empty folder with configs/, where data/ and runs/ of all pages go."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "configs").symlink_to(ROOT / "configs")
    (folder / "docs").mkdir()  # pages read their log there and write pictures beside it
    (folder / "docs" / "shapes-tiny.jsonl").symlink_to(ROOT / "docs" / "shapes-tiny.jsonl")
    official_standins.write(folder)
    image_trees.folders(folder / "own", count=12, size=64, key="{i}")
    (folder / "own" / "rgb").rename(folder / "photos")
    (folder / "own" / "mask").rename(folder / "regions")
    image_trees.imagenet(folder / "imagenet", count=8, size=64)
    image_trees.hypersim(folder, count=8, size=64)
    run(smaller("python -m mmgen_jax.data.shapes --data_dir=data/shapes32 --size=32".split()), folder)
    run(smaller("python -m mmgen_jax.train --config=configs/shapes_tiny.py --workdir=runs/a".split()), folder)
    return folder


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_of_a_page_runs(page, folder):
    for kind, text in BLOCK.findall(page.read_text()):
        if kind == "python" and not text.startswith("config."):
            run([sys.executable, "-c", text], folder)
        elif kind == "bash":
            for words in commands(text):
                # tests/test_launch*.py and CI run those.
                if words[0].startswith("./launch/") or words[0] == "gcloud":
                    continue
                if words[2] in ("mmgen_jax.compile", "mmgen_jax.studies.layouts") and not chips.LIBRARY.exists():
                    continue
                run(smaller(words), folder)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_exist(page):
    for target in re.findall(r"\]\(([^)#:]+)\)|src=\"([^\":]+)\"", page.read_text()):
        path = next(filter(None, target))
        assert (page.parent / path).exists(), f"{page.name} links to {path}"
