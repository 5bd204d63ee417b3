"""A folder, FIFO or dead link where a command writes a file is told before the work, not taken for it and not lost."""

import os
import shutil

import forked
import numpy as np
import pytest
from PIL import Image

from mmgen_jax import MMGen
from mmgen_jax.system.errors import UsageError

SMALL = (
    "--config=configs/shapes_tiny.py",
    "--config.data.image_size=16",
    "--config.autoencoder.components=(6,4,6,6)",
    *(f"--config.model.{name}={value}" for name, value in (("depth", 2), ("width", 16), ("heads", 2))),
)
# Command and its words -> the files that it writes in --out.
WRITES = {
    ("sample", *SMALL, "--workdir={model}", "--config.sample.n=2"): (
        *("samples.json", "rgb_000.png", "normal_001.npy", "mask_ids_000.png", "sheet.png", "grid.png", "gallery.html"),
    ),
    ("label", "--images={photos}", "--depth=precomputed:{photos}"): (
        *("depth/a.png", "depth.json", "failures.jsonl", "contact_sheet.png"),
    ),
    ("label", "--images={photos}", "--depth=precomputed:{photos}", "--size=16"): ("rgb/a.png",),
    ("audit", *SMALL, "--workdir={model}", "--config.data.dir={tiles}"): ("worst.png", "suspects.tsv"),
    ("demo", *SMALL, "--workdir={model}", "--config.data.dir={tiles}", "--name=x"): ("gallery.html", "x/sections.npz"),
    ("export", *SMALL, "--workdir={model}"): (
        *("model.json", "autoencoder.safetensors", "model.safetensors", "config.json", "README.md"),
    ),
}


def put(path, kind):
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "a folder":
        (path / "mine").mkdir(parents=True)
    elif kind == "a FIFO":
        os.mkfifo(path)
    else:
        path.symlink_to("nowhere")


def test_no_command_takes_another_thing_for_its_file(tmp_path, model_dir, tiles_dir):
    (tmp_path / "photos").mkdir()
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(tmp_path / "photos" / "a.png")
    known, cases = {"model": model_dir, "tiles": tiles_dir, "photos": tmp_path / "photos"}, []
    for words, names in WRITES.items():
        for name in names:
            for kind in ("a folder", "a FIFO", "a link that leads nowhere"):
                out = tmp_path / f"out{len(cases)}"
                if words[0] == "export":
                    shutil.copytree(model_dir, out)
                    (out / name).unlink(missing_ok=True)
                put(out / name, kind)
                filled = [word.format(**known) for word in words]
                cases.append(([f"mmgen_jax.{filled[0]}", *filled[1:], f"--out={out}"], out, name, kind))
    before = [sorted(out.rglob("*")) for _, out, _, _ in cases]
    wrong = []
    for (_, out, name, kind), there, done in zip(cases, before, forked.run([c[0] for c in cases]), strict=True):
        line = done.err.strip()
        told = line.count("\n") == 0 and f"{out / name} is {kind}" in line
        if done.code != 2 or not told or sorted(out.rglob("*")) != there:
            wrong.append(f"{name} {kind}: {done}")
    assert not wrong, "\n".join(wrong)


def test_saving_samples_tells_it_before_anything_is_removed(model_dir, tmp_path):
    made = MMGen.load(model_dir).generate(n=1, steps=1)
    made.save(tmp_path)
    (tmp_path / "depth_000.png").unlink()
    put(tmp_path / "depth_000.png", "a folder")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UsageError, match=r"^file .*depth_000.png is a folder; allowed: a file$"):
        made.save(tmp_path)
    assert sorted(tmp_path.iterdir()) == before
