"""Builds a TFDS data set of tiles of groups of files, and reports which were left out."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import tensorflow_datasets as tfds
from absl import flags
from etils import epath

from mmgen_jax.data import building, tiles
from mmgen_jax.data.trees.groups import Group, Reading, absent, encode
from mmgen_jax.data.trees.look import Look
from mmgen_jax.modalities import holes
from mmgen_jax.modalities.conventions import Axes, DepthFiles
from mmgen_jax.system import console, files
from mmgen_jax.system.errors import UsageError

_CHUNK = 16  # number of groups per job
_UNSTORABLE = ("Cc", "Zl", "Zp")  # Unicode categories: names of classes are lines of a text file
SKIPPED_FILE = "skipped.jsonl"


@dataclass(frozen=True)
class Plan:
    """The plan of a data set.

    Attributes:
      splits: name of each split -> its groups.
      class_names: names of the classes; may be empty.
      modalities: the modalities that were asked for; others are absent everywhere.
      reading: how files become pixels.
      strict: whether a file that is missing or unsuitable is an error; otherwise it is left out and reported.
      source: text for the metadata that says where the files come from.
    """

    splits: Mapping[str, Sequence[Group]]
    class_names: tuple[str, ...]
    modalities: tuple[str, ...]
    reading: Reading
    strict: bool
    source: Mapping[str, object]


# Not in TFDS's process-wide registry, so that a module can run as a script and be imported in the same process.
class TreeTiles(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]  # TFDS is not typed
    """Images with their labels, cropped to squares."""

    VERSION = tfds.core.Version("1.0.0")
    code_path = epath.Path(__file__)  # TFDS would need importlib_resources to find out

    def __init__(self, *, plan: Plan, workers: int = 1, **kwargs):
        self.plan, self.workers = plan, workers
        self.skipped: list[dict[str, str]] = []
        self.seen = Look()
        super().__init__(file_format="array_record", **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        plan = self.plan
        metadata = dict(plan.source) | plan.reading.metadata | {"modalities": list(plan.modalities)}
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tiles.tile_features(plan.reading.size, plan.class_names),
            metadata=tfds.core.MetadataDict(metadata),
            disable_shuffling=True,  # groups are in a random order already
        )

    def _split_generators(self, dl_manager):
        del dl_manager  # nothing is downloaded
        return {split: self._generate_examples(split) for split in self.plan.splits}

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict]]:
        groups = sorted(self.plan.splits[split], key=lambda group: group.order)
        jobs = [(self.plan.reading, groups[i : i + _CHUNK]) for i in range(0, len(groups), _CHUNK)]
        progress, written = console.Progress(split, len(groups), "tiles"), 0
        with building.Mapper(self.workers) as run:
            for results, seen in run(encode, jobs):
                self.seen.add(seen)
                progress(len(results))
                for key, example in results:
                    if isinstance(example, dict):
                        written += 1
                        yield key, example
                    elif self.plan.strict:
                        raise UsageError(example)
                    else:
                        self.skipped.append({"split": split, "key": key, "reason": example})
        if not written:
            raise UsageError(f"split {split!r} has no tile left; the first reason: {self.skipped[-1]['reason']}")
        if self.seen.holes:  # TFDS writes the metadata after the last split
            self.info.metadata[holes.METADATA] = sorted(self.seen.holes)


def write(kind: type[TreeTiles], out: str, plan: Plan, workers: int) -> str:
    """Writes the data set under `out`, prints what is absent and what was skipped, and returns its folder.

    Raises UsageError if there is a data set already, if a modality is absent from all tiles, if a split has no tiles,
    and, with `plan.strict`, for the first file that is missing or unsuitable.
    """
    for name in plan.class_names:
        if name != name.strip() or any(unicodedata.category(character) in _UNSTORABLE for character in name):
            raise UsageError(f"class {name!r} has spaces at its ends or control characters, which TFDS does not keep")
    groups = [group for split in plan.splits.values() for group in split]
    lacking = absent(groups, plan.modalities)
    for m, keys in lacking.items():
        if len(keys) == len(groups):
            raise UsageError(f"{m} is absent from all {len(groups)} tiles, the first {keys[0]!r}; leave it out")
        if plan.strict:
            raise UsageError(f"{m} of {keys[0]!r} is missing, one of {len(keys)}; without --strict it would be absent")
        console.say(f"{m} is absent from {len(keys)} of {len(groups)} tiles, the first {keys[0]!r}")
    builder = kind(plan=plan, workers=workers, data_dir=out)
    if builder.data_path.exists():
        raise UsageError(f"{builder.data_path} exists already; remove it first or give another --out")
    building.prepare(builder)
    path = str(builder.data_path)
    if builder.skipped:
        lines = "".join(json.dumps(entry) + "\n" for entry in builder.skipped)
        files.write(builder.data_path / SKIPPED_FILE, lines.encode())
        console.say(f"skipped {len(builder.skipped)} of {len(groups)}, listed in {path}/{SKIPPED_FILE}; the first:")
        console.say(f"  {builder.skipped[0]['reason']}")
    for line in builder.seen.lines(plan.reading.depth, plan.reading.axes):
        console.say(line)
    counts = ", ".join(f"{builder.info.splits[name].num_examples} {name}" for name in plan.splits)
    console.say(f"written: {path} ({counts})")
    return path


def depth_files(values: flags.FlagValues) -> DepthFiles:
    """What the flags say of files of depth."""
    try:
        limits = tuple(map(float, values.depth_range))
    except ValueError as error:
        raise UsageError(f"depth_range is {','.join(values.depth_range)!r}; allowed: two numbers NEAR,FAR") from error
    if len(limits) not in (0, 2):
        raise UsageError(f"depth_range is {','.join(values.depth_range)!r}; allowed: two numbers NEAR,FAR")
    depth_range = (limits[0], limits[1]) if limits else None
    return DepthFiles(values.depth_is, values.depth_invalid, depth_range, values.depth_metres)


def run(kind: type[TreeTiles], make_plan) -> None:
    """Runs a command over trees. `make_plan` takes the `Reading` that the flags describe and returns the plan."""
    values = flags.FLAGS
    building.check_workers(values.workers)
    reading = Reading(values.size, depth_files(values), Axes(values.normal_axes))
    with building.command(values.out, "--out"):
        write(kind, values.out, make_plan(reading), values.workers)
