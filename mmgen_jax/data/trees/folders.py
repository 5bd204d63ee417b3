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

from collections.abc import Mapping

from mmgen_jax.data.trees import builder
from mmgen_jax.data.trees.builder import Plan, TreeTiles
from mmgen_jax.data.trees.groups import Group, Reading, find
from mmgen_jax.system import errors
from mmgen_jax.system.errors import UsageError


class FolderTiles(TreeTiles, skip_registration=True):  # type: ignore[call-arg]  # TFDS is not typed
    """Images of aligned folders, cropped to squares."""

    name = "folder_tiles"


def none(key: str) -> str | None:
    """Returns None: there are no classes."""
    del key
    return None


def folders(key: str) -> str | None:
    """Returns the name of the first folder in a key: each folder of the first level is a class."""
    if "/" not in key:
        raise UsageError(f"{key!r} is in no folder; with --classes=folders its folder is its class")
    return key.split("/")[0]


CLASSES = {"none": none, "folders": folders}


def split_of(group: Group, test_fraction: float) -> str:
    """Chooses "test" for a share of groups, by their keys alone, so that new files move no group to another split."""
    return "test" if int.from_bytes(group.order[-8:], "big") < test_fraction * 2**64 else "train"


def make_plan(
    directories: Mapping[str, str], classes: str, test_fraction: float, strict: bool, reading: Reading
) -> Plan:
    """Plans the tiles of one folder for each modality. The first folder says which tiles there are.

    Raises UsageError for a folder without images, for a split without tiles and, with `strict`, for files in other
    folders that belong to no tile.
    """
    if not directories:
        raise UsageError(f"no folder is given; allowed: --{', --'.join(NAMES)}")
    if not 0 <= test_fraction < 1:
        raise UsageError(f"test_fraction is {test_fraction}; allowed: at least 0 and below 1")
    class_of = CLASSES[errors.choice("classes", classes, CLASSES)]
    found = {m: find(directory) for m, directory in directories.items()}
    first, *others = found
    for m in others:
        stray = sorted(found[m].keys() - found[first].keys())
        if stray:
            text = f"{found[m][stray[0]]} has no {first} {stray[0]!r} in {directories[first]}, one of {len(stray)}"
            if strict:
                raise UsageError(text)
            print(f"left out: {text}")
    keys = found[first]
    names = tuple(sorted({name for key in keys if (name := class_of(key)) is not None}))
    rows = {name: i for i, name in enumerate(names)} | {None: -1}
    groups = [Group(key, {m: found[m][key] for m in found if key in found[m]}, rows[class_of(key)]) for key in keys]
    splits: dict[str, list[Group]] = {name: [] for name in (("train", "test") if test_fraction else ("train",))}
    for group in groups:
        splits[split_of(group, test_fraction)].append(group)
    for name, members in splits.items():
        if not members:
            raise UsageError(
                f"split {name!r} gets none of {len(groups)} tiles with test_fraction = {test_fraction}; change it"
            )
    source = {"folders": dict(directories), "test_fraction": test_fraction, "depth_is": reading.depth_is}
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
