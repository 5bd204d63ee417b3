"""Makes tiles of Hypersim, as the official release processes it; they have no classes.

python -m mmgen_jax.data.trees.hypersim --root=processed --train_split=train.txt --test_split=test.txt --out=data/mine

The root holds `<scene>/cam_XX/rgb/frame.XXXX.png`, the same name in `mask` and any further modality, and
`frame.XXXX.vis.png` in `depth` and `normal`. Split files name one scene in each line.
"""

from __future__ import annotations

from absl import flags

from mmgen_jax.data.trees import options
from mmgen_jax.system import command

if __name__ == "__main__":
    flags.DEFINE_string("root", None, "Folder of the processed scenes.", required=True)
    flags.DEFINE_string("train_split", None, "File that names the scenes of the train split.", required=True)
    flags.DEFINE_string("test_split", None, "File that names the scenes of the test split.")
    options.define()
    command.parse()  # before the imports below, which take seconds

from pathlib import Path

from mmgen_jax.data.trees import builder
from mmgen_jax.data.trees.builder import Plan, TreeTiles
from mmgen_jax.data.trees.groups import Group, Reading
from mmgen_jax.modalities.registry import NAMES
from mmgen_jax.system.errors import UsageError

# Endings of the files of one frame; the first file that exists is taken.
ENDINGS = dict.fromkeys(NAMES, (".png",)) | dict.fromkeys(("depth", "normal"), (".vis.png", ".png"))


class HypersimTiles(TreeTiles, skip_registration=True):  # type: ignore[call-arg]  # TFDS is not typed
    """Rendered rooms with their labels, cropped to squares."""

    name = "hypersim_tiles"


def read_scenes(path: str) -> list[str]:
    """Reads the names of the scenes in a split file."""
    if not Path(path).is_file():
        raise UsageError(f"split file {path!r} does not exist")
    scenes = [line.strip() for line in Path(path).read_text().splitlines() if line.strip()]
    if not scenes:
        raise UsageError(f"split file {path!r} names no scene")
    return scenes


def frames(root: Path, scene: str) -> list[Group]:
    """Finds the files of all frames of all cameras of a scene."""
    groups = []
    for camera in sorted((root / scene).glob("cam_*"), key=str):
        there = {m: {path.name for path in (camera / m).glob("*.png")} for m in ENDINGS}
        for name in sorted(there["rgb"]):
            stem = name.removesuffix(".png")
            files = {}
            for m, endings in ENDINGS.items():
                ending = next((e for e in endings if stem + e in there[m]), None)
                if ending:
                    files[m] = str(camera / m / (stem + ending))
            groups.append(Group(f"{scene}/{camera.name}/{stem}", files))
    if not groups:
        raise UsageError(f"scene {scene!r} has no frames in {root}: {scene}/cam_XX/rgb/*.png is missing")
    return groups


def make_plan(root: str, splits: dict[str, str], strict: bool, reading: Reading) -> Plan:
    """Plans the scenes that split files name. Raises UsageError for a scene in two splits or without frames."""
    scenes = {split: read_scenes(path) for split, path in splits.items()}
    both = sorted(set(scenes["train"]) & set(scenes.get("test", ())))
    if both:
        raise UsageError(f"scene {both[0]!r} is in both split files, one of {len(both)}")
    if not Path(root).is_dir():
        raise UsageError(f"root {root!r} does not exist")
    groups = {split: [g for s in found for g in frames(Path(root), s)] for split, found in scenes.items()}
    source = {"root": str(root), "split_files": splits, "depth_is": reading.depth_is}
    there = {m for found in groups.values() for group in found for m in group.files}
    return Plan(groups, (), tuple(m for m in NAMES if m in there), reading, strict, source)


def main(argv: list[str]) -> None:
    del argv
    values = flags.FLAGS
    splits = {"train": values.train_split} | ({"test": values.test_split} if values.test_split else {})
    builder.run(HypersimTiles, lambda reading: make_plan(values.root, splits, values.strict, reading))


if __name__ == "__main__":
    command.run(main)
