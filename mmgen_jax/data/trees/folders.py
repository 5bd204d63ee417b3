"""Makes tiles of any aligned folders of images and labels.

python -m mmgen_jax.data.trees.folders --rgb=photos --depth=labels/depth --out=data/mine

Files that have the same path below their folders, whatever their suffixes, belong together.
"""

from __future__ import annotations

from absl import flags

from mmgen_jax.data.trees import options
from mmgen_jax.modalities.registry import NAMES
from mmgen_jax.system import command

if __name__ == "__main__":
    for m in NAMES:
        flags.DEFINE_string(m, None, f"Folder of {m} images.")
    flags.DEFINE_string("classes", "none", "Where classes come from: none, or folders (the first level).")
    flags.DEFINE_float("test_fraction", 0.01, "Share of the tiles that become the test split.")
    options.define()
    command.parse()  # before the imports below, which take seconds

from collections.abc import Iterable, Mapping
from pathlib import Path

from mmgen_jax.data.trees import builder, disk, groups, pairing
from mmgen_jax.data.trees.builder import Plan, TreeTiles
from mmgen_jax.data.trees.groups import Group, Reading
from mmgen_jax.system import errors
from mmgen_jax.system.errors import UsageError


class FolderTiles(TreeTiles, skip_registration=True):  # type: ignore[call-arg]  # TFDS is not typed
    """Images of aligned folders, cropped to squares."""

    name = "folder_tiles"


def none(folder: str, keys: Iterable[str]) -> dict[str, str]:
    """No key has a class."""
    del folder, keys
    return {}


def folders(folder: str, keys: Iterable[str]) -> dict[str, str]:
    """Key -> class: each folder of the first level is one. Raises UsageError for one without images."""
    classes = {key: key.split("/")[0] for key in keys if "/" in key}
    if loose := [key for key in keys if key not in classes]:
        raise UsageError(f"{loose[0]!r} is in no folder; with --classes=folders its folder is its class")
    groups.check_classes(disk.folders(Path(folder)), classes.values(), folder)
    return classes


CLASSES = {"none": none, "folders": folders}


def split_of(group: Group, test_fraction: float) -> str:
    """Chooses "test" for a share of groups, by their keys alone, so that new files move no group to another split."""
    return "test" if int.from_bytes(group.order[-8:], "big") < test_fraction * 2**64 else "train"


def make_plan(
    directories: Mapping[str, str], classes: str, test_fraction: float, strict: bool, reading: Reading
) -> Plan:
    """Plans the tiles of one folder for each modality. The first folder says which tiles there are.

    Raises UsageError for a folder without images or of which none belongs to a tile, for a class without images, for a
    split without tiles and, with `strict`, for files in other folders that belong to no tile.
    """
    if not directories:
        raise UsageError(f"no folder is given; allowed: --{', --'.join(NAMES)}")
    if not 0 <= test_fraction < 1:
        raise UsageError(f"test_fraction is {test_fraction}; allowed: at least 0 and below 1")
    errors.choice("classes", classes, CLASSES)
    found = {m: groups.find(directory) for m, directory in directories.items()}
    pairing.check(found, directories, strict)
    first = next(iter(found))
    class_of = CLASSES[classes](directories[first], found[first])
    names = tuple(sorted(set(class_of.values())))
    rows = {name: i for i, name in enumerate(names)}
    made = [
        Group(key, {m: found[m][key] for m in found if key in found[m]}, rows.get(class_of.get(key, ""), -1))
        for key in found[first]
    ]
    splits: dict[str, list[Group]] = {name: [] for name in (("train", "test") if test_fraction else ("train",))}
    for group in made:
        splits[split_of(group, test_fraction)].append(group)
    for name, members in splits.items():
        if not members:
            raise UsageError(
                f"split {name!r} gets none of {len(made)} tiles with test_fraction = {test_fraction}; change it"
            )
    source = {"folders": dict(directories), "test_fraction": test_fraction}
    return Plan(splits, names, tuple(found), reading, strict, source)


def main(argv: list[str]) -> None:
    del argv
    values = flags.FLAGS
    directories = {m: folder for m in NAMES if (folder := values[m].value)}
    builder.run(
        FolderTiles,
        lambda reading: make_plan(directories, values.classes, values.test_fraction, values.strict, reading),
    )


if __name__ == "__main__":
    command.run(main)
