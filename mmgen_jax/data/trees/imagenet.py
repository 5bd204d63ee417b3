"""Makes tiles of ImageNet with pseudo-labels: folders of classes, and the same folders of each other modality.

python -m mmgen_jax.data.trees.imagenet --root=imagenet --out=data/imagenet256

The root holds `rgb/train/<synset>/<image>.JPEG`, and likewise `depth`, `normal`, `mask`, ... with .png; `val` beside
`train` becomes the test split. Classes are numbered by their synsets in sorted order, as is usual.
"""

from __future__ import annotations

from absl import flags

from mmgen_jax.data.trees import options
from mmgen_jax.system import command

if __name__ == "__main__":
    flags.DEFINE_string("root", None, "Folder with rgb/ and a folder of each other modality.", required=True)
    flags.DEFINE_string("synsets", None, "File of lines 'n01440764 tench, Tinca tinca': names of the classes.")
    options.define()
    command.parse()  # before the imports below, which take seconds

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from mmgen_jax.data.trees import builder, disk, groups, pairing
from mmgen_jax.data.trees.builder import Plan, TreeTiles
from mmgen_jax.data.trees.groups import Group, Reading
from mmgen_jax.modalities.registry import NAMES
from mmgen_jax.system.console import say
from mmgen_jax.system.errors import UsageError
from mmgen_jax.system.files import here

SPLITS = {"train": "train", "val": "test"}  # name of the folder -> split of the data set


class ImagenetTiles(TreeTiles, skip_registration=True):  # type: ignore[call-arg]  # TFDS is not typed
    """ImageNet with labels of expert models, cropped to squares."""

    name = "imagenet_tiles"


def read_synsets(path: str | None) -> dict[str, str]:
    """Reads synset -> name from lines such as "n01440764 tench, Tinca tinca"; empty if there is no file."""
    names: dict[str, str] = {}
    for number, line in enumerate(disk.lines(path) if path else (), 1):
        synset, *name = line.split(maxsplit=1)
        if not name:
            raise UsageError(f"line {number} of {path} is {line!r}; allowed: a synset, a space and its names")
        if synset in names:
            raise UsageError(f"line {number} of {path} names {synset} again; allowed: one line for each")
        names[synset] = name[0]
    return names


def find_classes(base: Path, keys: Iterable[str], synsets: str | None, strict: bool) -> dict[str, str]:
    """Synset -> name, in sorted order: of the file of synsets, or else of the folders in rgb/train.

    Those of the file keep their rows even without images, and it is said how many have none. Raises UsageError for a
    folder that the file does not name, and for a class without images if there is no file, or with `strict`.
    """
    there, given = disk.folders(base), read_synsets(synsets)
    if unknown := [synset for synset in there if given and synset not in given]:
        raise UsageError(f"class folder {unknown[0]} is not in {synsets}, one of {len(unknown)}")
    classes = given or {synset: synset for synset in there}
    used = {key.split("/")[0] for key in keys}
    if strict or not given:
        groups.check_classes(sorted(classes), used, str(base))
    elif empty := sorted(classes.keys() - used):
        say(f"{len(empty)} of {len(classes)} classes have no images and keep their rows, the first {empty[0]}")
    return dict(sorted(classes.items()))


def make_plan(root: str, synsets: str | None, strict: bool, reading: Reading) -> Plan:
    """Plans the tiles of an ImageNet tree. Raises UsageError if its folders are not as the top of this file says."""
    base = Path(here(root, "root"))
    if not (base / "rgb" / "train").is_dir():
        raise UsageError(f"{root!r} is not an ImageNet tree; it needs rgb/train/<synset>/<image>")
    modalities = tuple(m for m in NAMES if disk.is_folder(base / m))
    folders = {m: {s: groups.find(base / m / s) for s in SPLITS if disk.is_folder(base / m / s)} for m in modalities}
    once = disk.Once()
    for split in folders["rgb"]:
        once.check(base / "rgb" / split)
    classes = find_classes(base / "rgb" / "train", folders["rgb"]["train"], synsets, strict)
    rows = {synset: row for row, synset in enumerate(classes)}
    for split, found in folders["rgb"].items():
        loose = [path for key, path in found.items() if key.count("/") != 1 or key.split("/")[0] not in rows]
        if loose:
            raise UsageError(f"{loose[0]} is in no class folder of rgb/train, one of {len(loose)} in rgb/{split}")
    whole = {m: {f"{s}/{key}": path for s, found in folders[m].items() for key, path in found.items()} for m in folders}
    pairing.check(whole, {m: str(base / m) for m in whole}, strict)
    splits = {
        SPLITS[split]: [
            Group(
                key,
                {m: folders[m][split][key] for m in modalities if key in folders[m].get(split, {})},
                rows[key.split("/")[0]],
            )
            for key in found
        ]
        for split, found in folders["rgb"].items()
    }
    source = {"root": str(root), "synsets": list(classes)}
    return Plan(splits, _names(classes), modalities, reading, strict, source)


def _names(classes: Mapping[str, str]) -> tuple[str, ...]:
    """The first name of each synset, and the synset beside it where two share a name ("crane")."""
    first = {synset: name.split(",")[0] for synset, name in classes.items()}
    counts = Counter(first.values())
    return tuple(name if counts[name] == 1 else f"{name} ({synset})" for synset, name in first.items())


def main(argv: list[str]) -> None:
    del argv
    values = flags.FLAGS
    builder.run(ImagenetTiles, lambda reading: make_plan(values.root, values.synsets, values.strict, reading))


if __name__ == "__main__":
    command.run(main)
