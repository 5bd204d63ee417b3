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

from pathlib import Path

from mmgen_jax.data.trees import builder, groups
from mmgen_jax.data.trees.builder import Plan, TreeTiles
from mmgen_jax.data.trees.groups import Group, Reading
from mmgen_jax.modalities.registry import NAMES
from mmgen_jax.system.errors import UsageError

SPLITS = {"train": "train", "val": "test"}  # name of the folder -> split of the data set


class ImagenetTiles(TreeTiles, skip_registration=True):  # type: ignore[call-arg]  # TFDS is not typed
    """ImageNet with labels of expert models, cropped to squares."""

    name = "imagenet_tiles"


def read_synsets(path: str | None) -> dict[str, str]:
    """Reads synset -> name from lines such as "n01440764 tench, Tinca tinca"; empty if there is no file."""
    if not path:
        return {}
    if not Path(path).is_file():
        raise UsageError(f"synsets file {path!r} does not exist")
    names: dict[str, str] = {}
    for number, line in enumerate(Path(path).read_text().splitlines(), 1):
        synset, _, name = line.strip().partition(" ")
        if synset:
            if not name.strip():
                raise UsageError(f"line {number} of {path} is {line!r}; allowed: a synset, a space and its names")
            names[synset] = name.strip()
    return names


def make_plan(root: str, synsets: str | None, strict: bool, reading: Reading) -> Plan:
    """Plans the tiles of an ImageNet tree. Raises UsageError if its folders are not as the top of this file says."""
    base = Path(root)
    if not (base / "rgb" / "train").is_dir():
        raise UsageError(f"{root!r} is not an ImageNet tree; it needs rgb/train/<synset>/<image>")
    modalities = tuple(m for m in NAMES if (base / m).is_dir())
    folders = {m: {s: groups.find(base / m / s) for s in SPLITS if (base / m / s).is_dir()} for m in modalities}
    classes = sorted({key.split("/")[0] for key in folders["rgb"]["train"]})
    for split, found in folders["rgb"].items():
        loose = [path for key, path in found.items() if key.count("/") != 1 or key.split("/")[0] not in classes]
        if loose:
            raise UsageError(f"{loose[0]} is in no class folder of rgb/train, one of {len(loose)} in rgb/{split}")
    given = read_synsets(synsets)
    unknown = [synset for synset in classes if given and synset not in given]
    if unknown:
        raise UsageError(f"class folder {unknown[0]} is not in {synsets}, one of {len(unknown)}")
    splits = {
        SPLITS[split]: [
            Group(
                key,
                {m: folders[m][split][key] for m in modalities if key in folders[m].get(split, {})},
                classes.index(key.split("/")[0]),
            )
            for key in found
        ]
        for split, found in folders["rgb"].items()
    }
    source = {"root": str(root), "synsets": classes, "depth_is": reading.depth_is}
    return Plan(splits, _names(classes, given), modalities, reading, strict, source)


def _names(classes: list[str], given: dict[str, str]) -> tuple[str, ...]:
    """The first name of each synset, or the synset itself if it has no name or shares it with another ("crane")."""
    first = [given.get(synset, synset).split(",")[0] for synset in classes]
    return tuple(name if first.count(name) == 1 else f"{name} ({s})" for name, s in zip(first, classes, strict=True))


def main(argv: list[str]) -> None:
    del argv
    values = flags.FLAGS
    builder.run(ImagenetTiles, lambda reading: make_plan(values.root, values.synsets, values.strict, reading))


if __name__ == "__main__":
    command.run(main)
