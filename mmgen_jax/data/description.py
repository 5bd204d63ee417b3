"""The files in which a data set of tiles describes itself: sealed when it is written, and checked before TFDS reads it.

TFDS takes what they say for true and meets damage with a traceback, or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader
from etils import epath

from mmgen_jax.modalities import facts
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.system import reading, sealed
from mmgen_jax.system.errors import UsageError
from mmgen_jax.system.rules import integer, number, one_of, require

INFO, _FEATURES, METADATA, _LABELS = "dataset_info.json", "features.json", "metadata.json", "class_id.labels.txt"
_FILES = (INFO, _FEATURES, METADATA, _LABELS)
_MOST_CLASSES = 10**7  # which without a file of names get some
_THREADS = 16  # shards that are opened at once, as storage elsewhere takes long to answer


def seal(folder: epath.PathLike) -> None:
    """Notes the checksums of the files of a data set that was just written; its shards have some for each record."""
    with sealed.sealing(folder, _FILES):
        pass


def metadata(folder: epath.PathLike) -> dict:
    """What a data set says of its images: palette, regions, depth range and more. May be empty."""
    path = epath.Path(folder) / METADATA
    if not sealed.expects(path):
        return {}
    found = reading.parse_json(sealed.read(path), path)
    facts.check(found, path)
    return found


def builder(folder: epath.PathLike) -> tfds.core.DatasetBuilder:
    """Opens a data set with TFDS. Raises UsageError if a file that describes it is damaged or makes no sense."""
    folder = epath.Path(folder)
    for name in (INFO, _FEATURES):
        reading.parse_json(sealed.read(folder / name), folder / name)
    metadata(folder)
    if sealed.expects(folder / _LABELS):
        lines = reading.decoded(sealed.read(folder / _LABELS), folder / _LABELS).split("\n")
        facts.check({"class_names": [line for line in lines if line]}, folder / _LABELS)
    try:
        found = tfds.builder_from_directory(folder)
        require("fileFormat", found.info.file_format.value, one_of("array_record"))
        _check_features(found.info.features)
        for split in found.info.splits.values():
            if len(split.filepaths) != split.num_shards:  # TFDS cannot make the names from a template that is damaged
                raise UsageError(f"split {split.name} has {len(split.filepaths)} names for {split.num_shards} shards")
            for count in split.shard_lengths:
                require(f"shardLengths of {split.name}", count, integer(0))
    except Exception as error:  # the types, the modules and the versions that the files name may be anything
        cause = next(iter(str(error).strip().splitlines()), repr(error))
        raise UsageError(f"{folder} does not describe a data set of tiles in {INFO}, {_FEATURES}: {cause}") from error
    return found


def _check_features(features: tfds.features.FeaturesDict) -> None:
    if not any(name in features for name in MODALITIES):
        raise UsageError(f"no feature is one of {', '.join(MODALITIES)}")
    for m in MODALITIES.values():
        if m.name in features:
            found = (features[m.name].shape[-1], np.dtype(features[m.name].np_dtype).name)
            wanted = (m.channels, np.dtype(m.dtype).name)
            if found != wanted:
                raise UsageError(f"{m.name} has channels and type {found}; allowed: {wanted}")
    classes = features["class_id"]
    require("numClasses", classes.num_classes, number(0, _MOST_CLASSES))
    facts.check({"class_names": list(classes.names)}, _FEATURES)
    if len(classes.names) != classes.num_classes:
        raise UsageError(f"class_id has {classes.num_classes} classes, with {len(classes.names)} names in {_LABELS}")


def check_shards(parts: Iterable[Any], told: str) -> None:
    """Raises UsageError for the first part of a shard, as TFDS lists them, whose shard has more or fewer records.

    `told` is the file that says how many there are.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        for _ in pool.map(lambda part: _check_shard(part, told), parts):
            pass


def _check_shard(part: Any, told: str) -> None:
    path = reading.regular(part.filename)
    try:
        file = ArrayRecordReader(str(path))
        found = file.num_records()
        file.close()
    except (RuntimeError, ValueError):  # damaged: each of its records is named and counted when it is read
        return
    if found != part.examples_in_shard:
        raise UsageError(f"shard {path} has {found} records; {told} says {part.examples_in_shard}")
