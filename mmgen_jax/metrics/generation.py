"""Compares generated images with real ones: FID and its kin by ADM's protocol, or FD-DINOv2; precision and recall.

python -m mmgen_jax.metrics.generation --samples=out/rgb.npz --reference=data/shapes32 --inception=weights.pth
"""

from __future__ import annotations

from absl import flags

from mmgen_jax.system import command

if __name__ == "__main__":
    flags.DEFINE_string("samples", None, "Folder of images or samples, data set of tiles, or ADM's .npz.")
    flags.DEFINE_string("reference", None, "What they are compared with: as --samples, or an .npz of mu and sigma.")
    flags.DEFINE_string("inception", "", "File of the FID Inception-v3, .pth, as the network.")
    flags.DEFINE_string("dino", "", "Folder, file or hub id of a DINOv2, as the network.")
    flags.DEFINE_string(
        "classifier", "", "File or bundled name of a small network; by default the one for the classes."
    )
    flags.DEFINE_string("train", "", "What the model was trained on, as --samples: are samples copies of it?")
    flags.DEFINE_string("train_split", "train", "Name of a split of --train.")
    flags.DEFINE_enum("protocol", "adm", ("adm", "pytorch-fid"), "How images are resized for the Inception-v3.")
    flags.DEFINE_string("split", "train", "Name of a split of --samples and --reference.")
    flags.DEFINE_integer("size", 0, "Side that images in files are cropped to as ADM does, 0 = none.", lower_bound=0)
    flags.DEFINE_string("statistics", "", "File .npz for the statistics of the reference, to be a --reference later.")
    flags.DEFINE_string("seen", "", "Folder for what the network makes of images, shared by --workers; kept.")
    flags.DEFINE_string("out", "generation.json", "File of the report.")
    command.define_share("images")
    flags.mark_flags_as_required(["samples", "reference"])
    command.parse()  # before the imports below, which take seconds

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from etils import epath

from mmgen_jax.metrics import image_sets, judges, neighbours, parts
from mmgen_jax.metrics.comparison import Comparison, table
from mmgen_jax.metrics.image_sets import ImageSet
from mmgen_jax.metrics.judges import Judge
from mmgen_jax.metrics.looked import Looked, look
from mmgen_jax.metrics.memorisation import Memorisation
from mmgen_jax.show import pictures
from mmgen_jax.system import files
from mmgen_jax.system.console import say
from mmgen_jax.system.errors import UsageError
from mmgen_jax.system.shares import ALL, Share

_LEAST = neighbours.NEIGHBOUR + 1  # images that have a third neighbour


@dataclass(frozen=True)
class Compared:
    """What is compared and by which network, as the options of the command of the same names say."""

    samples: epath.PathLike
    reference: epath.PathLike
    inception: epath.PathLike = ""
    dino: epath.PathLike = ""
    classifier: epath.PathLike = ""
    protocol: str = "adm"
    split: str = "train"
    size: int = 0
    train: epath.PathLike = ""
    train_split: str = "train"

    def opened(self) -> tuple[dict[str, ImageSet], Judge]:
        """The sets by the names of their options, and the network.

        Raises UsageError, before images are looked at, for what cannot be read or compared.
        """
        made = image_sets.read(self.samples, "--samples", self.split, self.size)
        real = image_sets.read(self.reference, "--reference", self.split, self.size)
        sets = {"--samples": made, "--reference": real}
        if self.train:
            sets["--train"] = image_sets.read(self.train, "--train", self.train_split, self.size)
        _check_counts(sets)
        classes = real.class_names or made.class_names
        judge = judges.load(self.inception, self.protocol, self.dino, self.classifier, classes)
        _check_statistics(real, judge)
        return sets, judge


def run(
    compared: Compared,
    out: epath.PathLike = "generation.json",
    *,
    statistics: epath.PathLike = "",
    seen: epath.PathLike = "",
) -> dict:
    """Compares, prints the table, and writes the report, which it returns; options are those of the command.

    Raises UsageError, before images are looked at, for what cannot be read, compared or written.
    """
    _check_places(out, statistics)
    picture = _beside(out)
    if compared.train:
        files.check_place(picture, "--out", folder=False)
    _check_seen(seen, ALL)
    sets, judge = compared.opened()
    made, real = sets["--samples"], sets["--reference"]
    looked = _look(sets, judge, seen, ALL)
    comparison = Comparison(judge, looked["--samples"], looked.get("--reference"), real.gaussians)
    scores, told, warnings = comparison.scores(), comparison.protocol(), comparison.warnings()
    memorised = {}
    if "--train" in sets:
        found = Memorisation.of(looked["--samples"], looked["--reference"], looked["--train"])
        scores, told, warnings = scores | found.scores(), told | found.protocol(), warnings + found.warnings()
        pictures.save_png(picture, found.picture(made, sets["--train"]))
        train = sets["--train"]
        memorised = {
            "train": {"source": train.source, "images": train.count, "picture": str(picture), "closest": found.pairs()}
        }
    say(f"network: {judge.network}\nresizing: {judge.resizing}\n\n{table(scores, told)}")
    for line in warnings:
        say(f"warning: {line}")
    report = {
        "scores": scores,
        "protocol": {"network": judge.network, "resizing": judge.resizing} | told,
        "samples": {"source": made.source, "images": made.count},
        "reference": {"source": real.source, "images": real.count, "statistics_of_a_file": bool(real.gaussians)},
        **memorised,
        "warnings": warnings,
    }
    files.write(out, (json.dumps(report, indent=1) + "\n").encode())
    if statistics:
        image_sets.write_statistics(statistics, comparison.gaussians, judge.digest)
    say(f"written: {out}{f', {picture}' if memorised else ''}")
    return report


def _beside(out: epath.PathLike) -> epath.Path:
    """The place of the picture of the closest pairs."""
    return epath.Path(out).with_name(f"{epath.Path(out).stem}_nearest.png")


def look_at_share(compared: Compared, seen: epath.PathLike, share: Share) -> None:
    """Leaves what the network makes of a share of the images in the folder `seen`, from which `run` takes it.

    Raises UsageError, before images are looked at, for what cannot be read, compared or written.
    """
    _check_seen(seen, share)
    sets, judge = compared.opened()
    _look(sets, judge, seen, share)
    say(f"written: {seen}; the same command without --worker compares when all {share.workers} are there")


def _look(sets: Mapping[str, ImageSet], judge: Judge, seen: epath.PathLike, share: Share) -> dict[str, Looked]:
    """What the network makes of a share of each set that has images; each has a folder of its own below `seen`."""
    looked = {}
    for name, images in sets.items():
        if images.count and seen:
            folder = epath.Path(seen) / name.removeprefix("--")
            looked[name] = parts.look_together(images, judge, name, folder, share)
        elif images.count:
            looked[name] = look(images, judge, name)
    return looked


def _check_seen(seen: epath.PathLike, share: Share) -> None:
    share.check()
    if seen:
        files.check_place(files.here(seen, "--seen"), "--seen", folder=True)
    elif not share.is_all:
        raise UsageError(f"--workers={share.workers} needs --seen, a folder that all of them see")


def _check_places(out: epath.PathLike, statistics: epath.PathLike) -> None:
    files.check_place(out, "--out", folder=False)
    if statistics:
        if not str(statistics).endswith(".npz"):
            raise UsageError(f"--statistics is {str(statistics)!r}; allowed: a file with the suffix .npz")
        files.check_place(statistics, "--statistics", folder=False)


def _check_counts(sets: Mapping[str, ImageSet]) -> None:
    for name in sets if "--train" in sets else ("--samples",):
        if not sets[name].count:
            why = " beside --train" if name == "--reference" else ""
            allowed = f"images{why}, as {image_sets.ARRAY}"
            raise UsageError(f"{name} {sets[name].source} has statistics alone; allowed: {allowed}")
    for name, images in sets.items():
        if 0 < images.count < _LEAST:
            raise UsageError(f"{name} {images.source} has {images.count} images; allowed: at least {_LEAST}")


def _check_statistics(real: ImageSet, judge: Judge) -> None:
    if real.gaussians and "features" not in real.gaussians:
        raise UsageError(f"--reference {real.source} has no mu and sigma; allowed: those, images, or both")
    if real.gaussians and (width := len(real.gaussians["features"].mean)) != judge.width:
        raise UsageError(
            f"--reference {real.source} has statistics of {width} features; allowed: {judge.width}, "
            f"those of the {judge.network}; --inception, --dino and --classifier give others"
        )
    if real.digest not in ("", judge.digest):
        raise UsageError(
            f"--reference {real.source} has statistics of another network or resizing than the {judge.network}; "
            "--inception, --dino, --classifier and --protocol give others"
        )


def main(argv: list[str]) -> None:
    del argv
    values = flags.FLAGS
    given: dict[str, Any] = {field.name: values[field.name].value for field in fields(Compared)}
    compared = Compared(**given)
    share = Share(values.worker, values.workers)
    if share == ALL:
        run(compared, values.out, statistics=values.statistics, seen=values.seen)
    else:
        look_at_share(compared, values.seen, share)


if __name__ == "__main__":
    command.run(main)
