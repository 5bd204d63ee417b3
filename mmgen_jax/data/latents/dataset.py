"""The data set of stored latents. Training reads it instead of tiles, so that frozen networks run only once.

A folder holds `latents.json` and ArrayRecord shards `SPLIT-00000-of-000NN.array_record`, whose records are described in
`record.py`. A decoded record has the keys of a tile: each modality (moments instead of pixels), class_id, present and
key, and also features and rgb_pixels if they are stored.
"""

from __future__ import annotations

import bisect
import dataclasses
import functools
import itertools
import json
from dataclasses import dataclass

import grain.python as grain
import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_data_source import ArrayRecordDataSource
from etils import epath

from mmgen_jax.data import description, splits
from mmgen_jax.data.damage import DamagedRecord
from mmgen_jax.data.latents.record import DTYPES, FEATURES, PIXELS, Layout
from mmgen_jax.data.tiles import check_class
from mmgen_jax.modalities import facts, holes
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.system import files, reading, sealed
from mmgen_jax.system.errors import UsageError
from mmgen_jax.system.rules import integer, one_of, require, some_of

FILE = "latents.json"
UNFINISHED = "unfinished.json"  # is there in place of FILE until all shards are written
FORMAT = 1


@dataclass(frozen=True)
class Shard:
    """One file: the number of its records, its size in bytes and its CRC-32 (both 0 before it is written)."""

    split: str
    index: int
    of: int
    count: int
    size: int = 0
    crc32: int = 0

    @property
    def name(self) -> str:
        return f"{self.split}-{self.index:05d}-of-{self.of:05d}.array_record"


@dataclass(frozen=True)
class Info:
    """The contents of `latents.json`.

    Attributes:
      layout: the layout of the records.
      image_size: height and width, in pixels, of the images that the latents were made of.
      class_names: the names of the classes; class_id counts them.
      metadata: what the data set of tiles says of itself: palette, regions and more.
      autoencoder: the autoencoder's spec, as far as it is known.
      settings: everything else that the latents depend on, by name. Encoding continues only with equal settings.
      shards: the shards of each split.
    """

    layout: Layout
    image_size: int
    class_names: tuple[str, ...]
    metadata: dict
    autoencoder: dict
    settings: dict
    shards: dict[str, tuple[Shard, ...]]

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(m for m, _ in self.layout.modalities)

    def to_json(self) -> bytes:
        stored = {"format": FORMAT, "sample_bytes": self.layout.sample_bytes} | dataclasses.asdict(self)
        return (json.dumps(stored, indent=1) + "\n").encode()


def parse_info(path: epath.PathLike) -> Info:
    """Reads what `Info.to_json` made. Raises UsageError if the file is damaged or of another version."""
    path = epath.Path(path)
    stored = reading.parse_json(sealed.read(path) if path.name == FILE else reading.contents(path), path)
    try:
        version = stored.pop("format")
        if version != FORMAT:
            raise UsageError(f"format is {version!r}; this version reads {FORMAT}")
        del stored["sample_bytes"]
        for name in ("metadata", "autoencoder", "settings"):
            if not isinstance(stored[name], dict):
                raise UsageError(f"{name} is {stored[name]!r}; it must be an object")
        facts.check(stored["metadata"] | {"class_names": stored["class_names"]}, path)
        layout, shards = stored.pop("layout"), stored.pop("shards")
        layout["modalities"] = tuple((name, channels) for name, channels in layout["modalities"])
        layout["features"] = layout["features"] and tuple(layout["features"])
        layout["holes"] = holes.of(layout)
        stored["class_names"] = tuple(stored["class_names"])
        shards = {split: tuple(Shard(**shard) for shard in found) for split, found in shards.items()}
        info = Info(layout=Layout(**layout), shards=shards, **stored)
        _check(info)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"{path} is damaged ({error!r})") from error
    return info


def _check(info: Info) -> None:
    """Raises UsageError for a value that makes no sense, and another error for one of another type."""
    layout = info.layout
    require("modalities", info.modalities, some_of(*MODALITIES))
    require("dtype", layout.dtype, one_of(*DTYPES))
    sizes = (info.image_size, layout.size, *(layout.features or ()), *(channels for _, channels in layout.modalities))
    for number in sizes:
        require("each size", number, integer(1))
    require("pixels", layout.pixels, integer(0))
    for split, shards in info.shards.items():
        for i, shard in enumerate(shards):
            require(f"count of shard {i} of {split}", shard.count, integer(1))
            if (shard.split, shard.index, shard.of) != (split, i, len(shards)):
                raise UsageError(f"shard {i} of {len(shards)} of {split} is named {shard.name}")
            if not all(type(n) is int and n >= 0 for n in (shard.size, shard.crc32)):
                raise UsageError(f"shard {shard.name} has size {shard.size!r} and crc32 {shard.crc32!r}")


def read_info(directory: epath.PathLike) -> Info:
    """Reads what a folder of latents says of itself. Raises UsageError if it has no latents or unfinished ones."""
    folder = files.path_of(directory, "latents folder")
    files.check_path(folder, "latents folder")
    if (folder / FILE).exists():
        return parse_info(folder / FILE)
    if (folder / UNFINISHED).exists():
        raise UsageError(f"latents in {str(folder)!r} are not finished; the command that was stopped continues them")
    raise UsageError(f"{str(folder)!r} holds no latents ({FILE} is missing); python -m mmgen_jax.encode makes them")


@dataclass(frozen=True)
class Source:
    """The records of a split at random access: `[i]` is a decoded record. Picklable; files are opened when needed."""

    layout: Layout
    files: tuple  # the parts of shards that make up the split, with attributes filename, skip and take
    records: ArrayRecordDataSource
    classes: int  # number of names of classes

    @functools.cached_property
    def _ends(self) -> list[int]:
        return list(itertools.accumulate(file.take for file in self.files))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> dict:
        """Decodes a record.

        Raises DamagedRecord, naming the shard and the number of the record in it, and UsageError for a class without a
        name, which is a fault of the whole data set.
        """
        if not 0 <= index < len(self):
            raise IndexError(index)
        try:
            record = self.layout.decode(self.records[index])
        # ArrayRecord raises different types for different damages.
        except (ValueError, RuntimeError, IndexError) as error:
            raise DamagedRecord(
                f"{self._place(index)} is damaged: {error}; the command that wrote it makes it again"
            ) from error
        check_class(int(record["class_id"]), self.classes, self._place(index))
        return record

    def _place(self, index: int) -> str:
        number = bisect.bisect_right(self._ends, index)
        file = self.files[number]
        return f"record {index - self._ends[number] + file.take + file.skip} of {file.filename}"


def read(directory: epath.PathLike, split: str) -> Source:
    """Opens the latents of a split at random access.

    Args:
      directory: folder that `mmgen_jax.encode` or `mmgen_jax.data.latents.hdf5` wrote.
      split: name of a split, or a part of it such as ``train[:10%]``.

    Raises:
      UsageError: there are no latents, or unfinished ones; the split is unknown or empty; a shard is missing or has
        another size or number of records.
    """
    info, folder = read_info(directory), epath.Path(directory)
    known = _splits(folder, info)
    splits.check(known, split, folder)
    files = known[split].file_instructions
    sizes = {shard.name: shard.size for shards in info.shards.values() for shard in shards}
    for path in (epath.Path(file.filename) for file in files):
        found = reading.regular(path).stat().length if path.exists() else None
        if found != sizes[path.name]:
            what = "is missing" if found is None else f"has {found} bytes instead of {sizes[path.name]}"
            raise UsageError(f"shard {path} {what}; the command that wrote it makes it again")
    description.check_shards(files, FILE)
    return Source(info.layout, tuple(files), ArrayRecordDataSource(files), len(info.class_names))


def _splits(folder: epath.Path, info: Info) -> tfds.core.SplitDict:
    """The splits as TFDS knows them, so that its slicing works; TFDS names files as this package does."""
    template = "{SPLIT}-{SHARD_X_OF_Y}.array_record"
    return tfds.core.SplitDict(
        [
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=[shard.count for shard in shards],
                num_bytes=sum(shard.size for shard in shards),
                filename_template=tfds.core.ShardedFileTemplate(
                    folder, template, dataset_name="latents", filetype_suffix="array_record", split=split
                ),
            )
            for split, shards in info.shards.items()
        ]
    )


@dataclass(frozen=True)
class Select(grain.MapTransform):
    """Keeps of a record what training wants: the modalities' moments, class_id, present, and the extra fields."""

    layout: Layout
    modalities: tuple[str, ...]
    extra: tuple[str, ...] = ()

    @classmethod
    def checked(
        cls,
        info: Info,
        modalities: tuple[str, ...],
        *,
        image_size: int,
        autoencoder: str,
        factor: int,
        features: str,
        feature_width: int,
        patch: int,
    ) -> Select:
        """Makes a `Select` for the given settings. Raises UsageError for the first setting that the latents do not fit.

        Args:
          info: what the latents say of themselves.
          modalities: the modalities that training wants.
          image_size: height and width of the images, in pixels.
          autoencoder: name of the autoencoder.
          factor: pixels per latent position, each way.
          features: "none", "stored" or "online".
          feature_width: width of the features that the model is aligned with.
          patch: latent positions per token, each way.
        """
        known, layout = info.autoencoder, info.layout
        facts = {
            "data.image_size": (image_size, info.image_size),
            "autoencoder.name": (autoencoder, known.get("name", autoencoder)),
            "autoencoder.factor": (factor, info.image_size // layout.size),
        }
        for key, (wanted, found) in facts.items():
            if wanted != found:
                raise UsageError(f"config key {key} is {wanted!r}; the latents have {found!r}")
        missing = [m for m in modalities if m not in info.modalities]
        if missing:
            raise UsageError(
                f"config key data.modalities has {', '.join(missing)}; the latents have {', '.join(info.modalities)}"
            )
        tokens = (layout.size // patch) ** 2
        if features == "stored" and layout.features != (tokens, feature_width):
            found = "no features" if layout.features is None else "{} features of width {}".format(*layout.features)
            raise UsageError(
                f'config key features.source is "stored" and model.feature_width {feature_width}, for {tokens} tokens; '
                f"the latents have {found}"
            )
        if features == "online" and not layout.pixels:
            raise UsageError(
                'config key features.source is "online"; the latents have no rgb pixels: encode.rgb was False'
            )
        extra = {"stored": (FEATURES,), "online": (PIXELS,)}.get(features, ())
        return cls(layout, tuple(modalities), extra)

    def map(self, sample: dict) -> dict[str, np.ndarray]:
        names = [m for m, _ in self.layout.modalities]
        columns = [names.index(m) for m in self.modalities]
        kept = {name: sample[name] for name in (*self.modalities, *self.extra, "class_id")}
        kept |= {key: sample[key].astype(bool) for m in self.modalities if (key := holes.key(m)) in sample}
        return kept | {"present": sample["present"][columns]}
