"""Every command and Python block in the README and the guides runs, in order, on tiny stand-ins."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import benchmark_trees
import image_trees
import official_standins
import pytest

from mmgen_jax.compiler.topology import LIBRARY

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden"
# Other guides start from the model that the first one converts.
GUIDES = sorted((ROOT / "docs").rglob("*.md"), key=lambda page: (page.stem != "official-checkpoints", page))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *GUIDES]
BY_SLOW_TESTS = [pytest.param(page, marks=pytest.mark.slow) for page in GUIDES]
LOGS = Path("docs/inside/data")
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
    "mmgen_jax.data.sheet": [],
    "mmgen_jax.train": TRAIN,
    "mmgen_jax.train_autoencoder": [*TRAIN, "--config.autoencoder.width=8", "--config.evaluate.n=8"],
    "mmgen_jax.sample": SAMPLE,
    "mmgen_jax.evaluate": EVALUATE,
    "mmgen_jax.classify": [
        "--config.classify.n=3",
        "--config.classify.calibrate=1",
        "--config.classify.rounds=(2,)",
        "--config.classify.batch=16",
    ],
    "mmgen_jax.audit": ["--config.evaluate.n=4", "--config.evaluate.steps=1", "--draws=1"],
    "mmgen_jax.studies.audit": ["--config.evaluate.n=4", "--config.evaluate.steps=1", "--draws=1"],
    "mmgen_jax.reconstruct": [],
    "mmgen_jax.studies.reconstruction": ["--config.evaluate.n=2", "--config.evaluate.steps=1"],
    "mmgen_jax.studies.relabel": [
        *(*TRAIN, *NETWORK, *EVALUATE),
        "--config.evaluate.samples=0",
        *("--share=0.5", "--beyond=0.1", "--draws=2", "--more=1", "--seeds=1"),
    ],
    "mmgen_jax.benchmark": [*NETWORK, "--config.train.batch=8", *SAMPLE, "--repeats=1", "--seconds=0"],
    "mmgen_jax.compile": ["--config.train.batch=32", "--config.sample.batch=16"],
    "mmgen_jax.studies.solvers": ["--config.evaluate.n=2", "--calls=2", "--reference=2"],
    "mmgen_jax.studies.calibration": [
        "--config.evaluate.n=4",
        "--config.evaluate.draws=2",
        "--config.evaluate.steps=1",
    ],
    "mmgen_jax.studies.information": ["--config.evaluate.n=1", "--draws=2"],
    "mmgen_jax.studies.guides": ["--config.evaluate.n=2", *SAMPLE],
    "mmgen_jax.studies.guidance": ["--config.evaluate.n=12", *SAMPLE],
    "mmgen_jax.studies.inpainting": ["--config.evaluate.n=2", *SAMPLE],
    "mmgen_jax.studies.whole": ["--width=60"],
    "mmgen_jax.studies.noising": [],
    "mmgen_jax.studies.composition": ["--config.evaluate.n=2", *SAMPLE],
    "mmgen_jax.studies.two_models": ["--config.evaluate.n=2", *SAMPLE],
    "mmgen_jax.studies.dial": ["--config.evaluate.n=2", *SAMPLE],
    "mmgen_jax.studies.editing": ["--config.evaluate.n=2", *SAMPLE],
    "mmgen_jax.studies.variations": ["--config.evaluate.n=12", *SAMPLE, "--config.sample.draws=2"],
    "mmgen_jax.studies.layouts": ["--config.train.batch=32", "--only=configured"],
    "mmgen_jax.export": [],
    "mmgen_jax.summary": [],
    "mmgen_jax.verify": [],
    "mmgen_jax.demo": [*SAMPLE, "--config.sample.index=0"],
    "mmgen_jax.metrics.train_classifier": ["--steps=2", "--scenes=16"],
    "mmgen_jax.studies.depth_benchmarks": ["--images=1", "--config.evaluate.steps=1"],
    "mmgen_jax.studies.normal_benchmarks": ["--images=1", "--config.evaluate.steps=1"],
    "mmgen_jax.metrics.generation": ["--samples=data/shapes32"],  # more than the two that are sampled above
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
    """Adds options to a command that make its work small."""
    module = words[2]
    assert words[:2] == ["python", "-m"] and module in SMALLER, f"no stand-in for {shlex.join(words)}"
    extra = list(SMALLER[module])
    if "--config=configs/shapes_any.py" in words:
        extra += ["--config.train.batch=32"]  # so that each row of its mix has a sample
    if any(w.startswith(PUBLISHED) for w in words):
        extra += FROZEN
    elif any(w.startswith("--config=") for w in words) and any(w.startswith("--workdir=runs/") for w in words):
        extra += NETWORK
    return [sys.executable, "-m", module, *words[3:], *extra]


def run(words: list[str], folder: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "1"}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout[-1000:]}\n{done.stderr[-2000:]}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """An empty folder with configs/, where data/ and runs/ of all pages go."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "configs").symlink_to(ROOT / "configs")
    (folder / LOGS).parent.mkdir(parents=True)  # a page reads these logs, and others write pictures into docs/images
    (folder / LOGS).symlink_to(ROOT / LOGS)
    official_standins.write(folder)
    image_trees.folders(folder / "own", count=12, size=64, key="{i}")
    (folder / "own" / "rgb").rename(folder / "photos")
    (folder / "own" / "mask").rename(folder / "regions")
    (folder / "own" / "depth").rename(folder / "millimetres")
    benchmark_trees.ibims(folder / "data" / "ibims1")
    benchmark_trees.dsine(folder / "data" / "dsine_eval" / "ibims")
    image_trees.imagenet(folder / "imagenet", count=8, size=64)
    image_trees.hypersim(folder, count=8, size=64)
    run(smaller("python -m mmgen_jax.data.shapes --data_dir=data/shapes32 --size=32".split()), folder)
    run(smaller("python -m mmgen_jax.train --config=configs/shapes_tiny.py --workdir=runs/a".split()), folder)
    return folder


@pytest.mark.parametrize("page", [*PAGES[:2], *BY_SLOW_TESTS], ids=lambda page: page.name)
def test_every_block_of_a_page_runs(page, folder):
    for kind, text in BLOCK.findall(page.read_text()):
        if kind == "python" and not text.startswith("config."):
            run([sys.executable, "-c", text], folder)
        elif kind == "bash":
            for words in commands(text):
                # tests/test_launch*.py and CI run those.
                if words[0].startswith("./launch/") or words[0] == "gcloud":
                    continue
                if words[2] in ("mmgen_jax.compile", "mmgen_jax.studies.layouts") and not LIBRARY.exists():
                    continue
                run(smaller(words), folder)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_resolve(page):
    """A link must lead to a file or folder of this repository and, after a #, to a heading of that page."""
    for target in re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", page.read_text()):
        path, _, heading = next(filter(None, target)).partition("#")
        if path.startswith(("http://", "https://")):
            continue
        linked = (page.parent / path).resolve() if path else page
        assert linked.is_relative_to(ROOT) and linked.exists(), f"{page.name} links to {path}"
        assert not heading or heading in anchors(linked), f"{page.name} links to {path}#{heading}"


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", BLOCK.sub("", page.read_text()), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_every_page_is_linked_from_the_readme():
    text = (ROOT / "README.md").read_text()
    for page in PAGES[1:]:
        assert f"]({page.relative_to(ROOT)})" in text, f"README.md does not link to {page.relative_to(ROOT)}"


def test_code_names_only_pages_that_exist():
    """Docstrings, comments and scripts that point to a page point to one that is there."""
    sources = [path for folder in ("mmgen_jax", "configs", "launch") for path in (ROOT / folder).rglob("*.[ps][yh]")]
    assert sources
    for source in sources:
        for page in re.findall(r"\bdocs/[\w/-]+\.(?:md|jsonl)", source.read_text()):
            assert (ROOT / page).exists(), f"{source.relative_to(ROOT)} names {page}"
