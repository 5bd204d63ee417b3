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

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from mmgen_jax.data.trees import builder, disk, groups, pairing
from mmgen_jax.data.trees.builder import Plan, TreeTiles
from mmgen_jax.data.trees.groups import Group, Reading
from mmgen_jax.modalities.registry import NAMES
from mmgen_jax.system.console import say
from mmgen_jax.system.errors import UsageError
from mmgen_jax.system.files import here

ENDING = ".png"  # or in capitals
VISIBLE = ".vis"  # stands before the ending in these modalities; files without it are taken where there are none
WITH_VISIBLE = ("depth", "normal")


class HypersimTiles(TreeTiles, skip_registration=True):  # type: ignore[call-arg]  # TFDS is not typed
    """Rendered rooms with their labels, cropped to squares."""

    name = "hypersim_tiles"


def read_scenes(path: str) -> list[str]:
    """Reads the names of the scenes in a split file; says so if it names one more than once."""
    scenes: dict[str, int] = {}
    for line in disk.lines(path):
        name = PurePosixPath(line)
        if name.is_absolute() or ".." in name.parts:
            raise UsageError(f"split file {path!r} names the scene {line!r}; allowed: folders below the root")
        scenes[str(name)] = scenes.get(str(name), 0) + 1
    if not scenes:
        raise UsageError(f"split file {path!r} names no scene")
    if again := [scene for scene, count in scenes.items() if count > 1]:
        say(f"{path} names {len(again)} scenes more than once, which count once, the first {again[0]!r}")
    return list(scenes)


def frames(root: Path, scene: str, once: disk.Once) -> dict[str, dict[str, str]]:
    """Modality -> key -> file, of all frames of all cameras of a scene."""
    found: dict[str, dict[str, str]] = {m: {} for m in NAMES}
    inside = disk.visible(root / scene) if disk.is_folder(root / scene) else []
    for camera in (path for path in inside if path.name.startswith("cam_") and disk.is_folder(path)):
        once.check(camera)
        for m in NAMES:
            paths = disk.visible(camera / m) if disk.is_folder(camera / m) else []
            images = [path for path in paths if disk.is_image(path, (ENDING,))]
            files = groups.keyed((groups.key_of(path.name), path) for path in images)
            if m in WITH_VISIBLE:
                shown = {key.removesuffix(VISIBLE): path for key, path in files.items() if key.endswith(VISIBLE)}
                files = {key: path for key, path in files.items() if not key.endswith(VISIBLE)} | shown
            found[m] |= {f"{scene}/{camera.name}/{key}": path for key, path in files.items()}
    return found


def find(root: str, scenes: Sequence[str], strict: bool, once: disk.Once) -> dict[str, dict[str, str]]:
    """Modality -> key -> file, of all frames of some scenes; says which scenes have none.

    Raises UsageError if no scene has frames, with `strict` for the first that has none, and for a camera that links
    lead to twice, whichever scenes it is in.
    """
    by_scene = {scene: frames(Path(root), scene, once) for scene in scenes}
    if empty := [scene for scene, found in by_scene.items() if not found["rgb"]]:
        text = (
            f"scene {empty[0]!r} has no frames in {root}: {empty[0]}/cam_XX/rgb/*.png is missing, one of {len(empty)}"
        )
        if strict or len(empty) == len(scenes):
            raise UsageError(text)
        say(f"left out: {text}")
    return {m: {key: path for found in by_scene.values() for key, path in found[m].items()} for m in NAMES}


def make_plan(root: str, splits: dict[str, str], strict: bool, reading: Reading) -> Plan:
    """Plans the scenes that split files name. Raises UsageError for a scene in two splits; see also `find`."""
    scenes = {split: read_scenes(path) for split, path in splits.items()}
    both = sorted(set(scenes["train"]) & set(scenes.get("test", ())))
    if both:
        raise UsageError(f"scene {both[0]!r} is in both split files, one of {len(both)}")
    if not Path(here(root, "root")).is_dir():
        raise UsageError(f"root {root!r} does not exist")
    once = disk.Once()
    found = {split: find(root, names, strict, once) for split, names in scenes.items()}
    whole = {m: {key: path for files in found.values() for key, path in files[m].items()} for m in NAMES}
    there = {m: files for m, files in whole.items() if files}
    # Other files may lie beside the labels.
    pairing.check(there, dict.fromkeys(there, root), strict=False)
    tiles = {
        split: [Group(key, {m: files[m][key] for m in there if key in files[m]}) for key in files["rgb"]]
        for split, files in found.items()
    }
    source = {"root": str(root), "split_files": splits}
    return Plan(tiles, (), tuple(there), reading, strict, source)


def main(argv: list[str]) -> None:
    del argv
    values = flags.FLAGS
    splits = {"train": values.train_split} | ({"test": values.test_split} if values.test_split else {})
    builder.run(HypersimTiles, lambda reading: make_plan(values.root, splits, values.strict, reading))


if __name__ == "__main__":
    command.run(main)
