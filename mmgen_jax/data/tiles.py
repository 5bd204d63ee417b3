"""The schema that every data set of images shares: a tile has one image per modality, a class and a key.

Tiles are stored in TFDS data sets in ArrayRecord files. Images are PNG bytes, so neither writing nor reading needs
TensorFlow. A modality may be absent from a tile. Then its bytes are empty, it decodes to zeros, and `present` is False.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from PIL import Image

from mmgen_jax.data import description, splits
from mmgen_jax.data.damage import DamagedRecord
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.registry import MODALITIES, NAMES
from mmgen_jax.system import files
from mmgen_jax.system.errors import UsageError

_MODES: dict[tuple[type, int], str] = {(np.uint8, 3): "RGB", (np.uint16, 1): "I;16"}
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)


def tile_features(size: int, class_names: Sequence[str]) -> tfds.features.FeaturesDict:
    """Features of square tiles: one PNG per modality, ``class_id`` with its names, ``key`` as text."""
    images = {
        m.name: tfds.features.Image(shape=(size, size, m.channels), dtype=m.dtype, encoding_format="png")
        for m in MODALITIES.values()
    }
    return tfds.features.FeaturesDict(
        images | {"class_id": tfds.features.ClassLabel(names=list(class_names)), "key": tfds.features.Text()}
    )


def encode_tile(pixels: Mapping[str, np.ndarray], class_id: int, key: str) -> dict:
    """Makes an example of `tile_features` of the pixels of some or all modalities.

    Args:
      pixels: modality -> integers [H, W, C] in the types of the modality table, all of one H and W. A modality that is
        left out is absent.
      class_id: number of the class.
      key: unique name of the tile in its split.

    Raises:
      UsageError: there is no modality, or an unknown one, or one with a wrong type or shape.
    """
    unknown = set(pixels) - set(NAMES)
    if unknown or not pixels:
        raise UsageError(f"tile {key!r} has modalities {sorted(pixels)}; allowed: some of {', '.join(NAMES)}")
    height, width = next(iter(pixels.values())).shape[:2]
    images = dict.fromkeys(NAMES, b"")
    for name, image in pixels.items():
        m = MODALITIES[name]
        if image.dtype != m.dtype or image.shape != (height, width, m.channels):
            raise UsageError(
                f"{name} of tile {key!r} is {image.dtype} {image.shape}; "
                f"allowed: {np.dtype(m.dtype)} {(height, width, m.channels)}"
            )
        images[name] = _encode_png(image)
    return images | {"class_id": int(class_id), "key": key}


def decode_tile(record: Mapping) -> dict:
    """Decodes one record of `read_tiles` to pixels.

    Returns:
      rgb uint8 [H, W, 3], depth uint16 [H, W, 1], normal uint8 [H, W, 3], mask uint8 [H, W, 3] (colours), zeros if
      absent; class_id int32; present bool [4] in the order of the modality table.

    Raises:
      DamagedRecord: an image is damaged, images have different sizes, or there is none. The message has the tile's key.
    """
    key = key_of(record)
    tile = {name: _decode_png(record[name], name, key) for name in NAMES if record.get(name)}
    if not tile:
        raise DamagedRecord(f"tile {key!r} has no image; at least one of {', '.join(NAMES)} must be there")
    sizes = {image.shape[:2] for image in tile.values()}
    if len(sizes) > 1:
        raise DamagedRecord(f"images of tile {key!r} have sizes {sorted(sizes)}; they must all be the same")
    present = np.array([name in tile for name in NAMES])
    for name in NAMES:
        if name not in tile:
            tile[name] = np.zeros((*next(iter(sizes)), MODALITIES[name].channels), MODALITIES[name].dtype)
    return tile | {"class_id": np.int32(record["class_id"]), "present": present}


def key_of(record: Mapping) -> str:
    """The key of a record of `read_tiles`, "?" if it has none."""
    key = record.get("key", b"?")
    return key.decode() if isinstance(key, bytes) else str(key)


def _encode_png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    # Compression level 1 is four times as fast as the default and takes a fifth more bytes.
    Image.fromarray(pixels if pixels.shape[-1] == 3 else pixels[..., 0]).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _decode_png(data: bytes, name: str, key: str) -> np.ndarray:
    m = MODALITIES[name]
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            mode, pixels = image.mode, np.array(image)
    except _BROKEN as error:
        raise DamagedRecord(f"{name} of tile {key!r} is a damaged PNG of {len(data)} bytes ({error})") from error
    if mode != _MODES[m.dtype, m.channels]:
        raise DamagedRecord(f"{name} of tile {key!r} is a PNG of mode {mode}; allowed: {_MODES[m.dtype, m.channels]}")
    return pixels.reshape(*pixels.shape[:2], m.channels)


def find_dataset(directory: epath.PathLike) -> epath.Path:
    """Finds the data set in a folder: the folder itself, or the only data set up to three levels below it.

    Raises:
      UsageError: there is no such folder, or no data set in it, or more than one.
    """
    root = files.path_of(directory, "data directory")
    if not root.is_dir():
        raise UsageError(f"data directory {str(root)!r} does not exist")
    files.check_path(root, "data directory")
    if (root / description.INFO).exists():
        return root
    found = [p.parent for depth in (1, 2, 3) for p in root.glob("*/" * depth + description.INFO)]
    # The remains of an interrupted build are not a data set.
    found = sorted(p for p in found if "incomplete" not in str(p.relative_to(root)))
    if not found:
        raise UsageError(
            f"data directory {str(root)!r} holds no data set (no {description.INFO} up to three levels down)"
        )
    if len(found) > 1:
        raise UsageError(
            f"data directory {str(root)!r} holds {len(found)} data sets; give one of {', '.join(map(str, found))}"
        )
    return found[0]


@dataclass(frozen=True)
class Source:
    """The records of a split at random access. Picklable."""

    records: Sequence
    files: tuple  # parts of shards that make up the split, with attributes filename, skip and take
    classes: int  # number of names of classes

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict:
        """Reads a record.

        Raises DamagedRecord, naming the shard and the number of the record in it, and UsageError for a class without a
        name, which is a fault of the whole data set.
        """
        try:
            record = self.records[index]
        except (RuntimeError, ValueError) as error:  # ArrayRecord raises different types for different damages
            cause = " ".join(str(error).split())
            raise DamagedRecord(f"{self._place(index)} is damaged: {cause}") from error
        check_class(int(record["class_id"]), self.classes, self._place(index))
        return record

    def _place(self, index: int) -> str:
        for file in self.files:
            if index < file.take:
                break
            index -= file.take
        return f"record {index + file.skip} of {file.filename}"


def read_tiles(directory: epath.PathLike, split: str) -> Source:
    """Opens the records of a split at random access, as a picklable source; `decode_tile` decodes them.

    Args:
      directory: folder of a data set, or a parent of exactly one.
      split: name of a split, or a part of it such as ``train[:10%]``.

    Raises:
      UsageError: there is no data set, or one whose description is damaged or does not fit its shards, or the split is
        unknown or empty.
    """
    path = find_dataset(directory)
    builder = description.builder(path)
    splits.check(builder.info.splits, split, path)
    # A data set that was written before a modality was known has no feature for it. It is absent from every tile.
    decoders = {name: tfds.decode.SkipDecoding() for name in NAMES if name in builder.info.features}
    files = tuple(builder.info.splits[split].file_instructions)
    description.check_shards(files, description.INFO)
    classes = len(builder.info.features["class_id"].names)
    return Source(builder.as_data_source(split, decoders=decoders), files, classes)


def check_class(class_id: int, classes: int, place: str) -> None:
    """Raises UsageError for a class beyond the names that there are; -1 is none, and so is 0 where nothing has any."""
    if not -1 <= class_id < max(classes, 1):
        raise UsageError(f"{place} has class_id {class_id}; the data set names {classes} classes")


def class_names(directory: epath.PathLike) -> tuple[str, ...]:
    """Names of the classes of a data set, in the order of class_id."""
    return tuple(description.builder(find_dataset(directory)).info.features["class_id"].names)


def image_size(directory: epath.PathLike) -> tuple[int, int]:
    """Height and width of the tiles of a data set, in pixels."""
    features = description.builder(find_dataset(directory)).info.features
    return tuple(next(features[name] for name in NAMES if name in features).shape[:2])


def read_metadata(directory: epath.PathLike) -> dict:
    """Reads what a data set says of itself: palette, regions, depth range and more. May be empty."""
    return description.metadata(find_dataset(directory))


def read_facts(directory: epath.PathLike) -> Facts:
    """Reads the same as `Facts`, without the names of the classes."""
    return Facts.from_metadata(read_metadata(directory))
