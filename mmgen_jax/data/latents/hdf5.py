"""Converts latents of the official PyTorch code (HDF5 files and a JSONL index) to latents as training reads them.

python -m mmgen_jax.data.latents.hdf5 --index=train.jsonl --rgb=rgb.h5 --depth=depth.h5 --normal=normal.h5
    --mask=mask.h5 --features=dinov2.h5 --out=data/latents

Each line of the index is a sample: `path_rel_rgb` is its key in every file, `idx_cat` and `cat` are the number and the
name of its class. For each key, a file holds an array [C, h, w, 2] of means and standard deviations, the file of
features an array [N, D].
"""

from __future__ import annotations

from absl import flags

from mmgen_jax.modalities.registry import NAMES
from mmgen_jax.system import command

if __name__ == "__main__":
    flags.DEFINE_string("index", None, "JSONL file with one sample a line.")
    for name in NAMES:
        flags.DEFINE_string(name, "", f"HDF5 file with moments of {name}.")
    flags.DEFINE_string("features", "", "HDF5 file with DINOv2 features of rgb.")
    flags.DEFINE_string("out", None, "Folder that the latents are written to.")
    flags.DEFINE_enum("dtype", "float16", ["float16", "bfloat16"], "Type of the stored numbers.")
    flags.DEFINE_string("split", "train", "Name of the split.")
    flags.DEFINE_integer("shard", 4096, "Number of samples in one file.")
    flags.DEFINE_integer("null_class", 1000, "The idx_cat of samples without a class.")
    flags.DEFINE_bool("strict", False, "Stop if a file lacks a key, instead of counting that modality as absent.")
    flags.mark_flags_as_required(["index", "out"])
    command.parse()  # before the imports below, which take seconds

import collections
import contextlib
import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from etils import epath

from mmgen_jax.data.latents import shards
from mmgen_jax.data.latents.dataset import Info
from mmgen_jax.data.latents.record import DTYPES, FEATURES, Layout, check_range
from mmgen_jax.frozen.autoencoders.kl import AutoencoderKL
from mmgen_jax.frozen.autoencoders.kl_layers import KLConfig
from mmgen_jax.system import console, files, reading
from mmgen_jax.system.console import say
from mmgen_jax.system.errors import UsageError, choice

FACTOR = KLConfig().factor  # pixels per latent position of the autoencoder that the official code uses


@dataclass(frozen=True)
class Entry:
    """One line of the index; class_id is -1 if the sample has no class."""

    key: str
    class_id: int


def _whole(value: object) -> int:
    """An integer, also if it is written as text or as 3.0; raises ValueError for other numbers."""
    number = int(value) if isinstance(value, str) else value
    if isinstance(number, bool) or not isinstance(number, int | float) or number != number // 1:
        raise ValueError(f"{value!r} is not a whole number")
    return int(number)


def read_index(path: str, null_class: int) -> tuple[list[Entry], tuple[str, ...]]:
    """Reads the samples of an index and the names of classes. Raises UsageError for a line that cannot be read."""
    entries: list[Entry] = []
    names: dict[int, str] = {}
    lines: dict[str, int] = {}
    if not files.path_of(path, "--index").exists():
        raise UsageError(f"--index {path} does not exist; it must be a JSONL file")
    for number, line in enumerate(reading.text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            fields = reading.parse_json(line, "it")
            key, name, class_id = str(fields["path_rel_rgb"]), str(fields["cat"]), _whole(fields["idx_cat"])
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise UsageError(
                f"line {number} of {path} is not a sample with path_rel_rgb, cat and idx_cat ({error!r})"
            ) from error
        if not 0 <= class_id <= null_class:
            raise UsageError(
                f"line {number} of {path} has idx_cat {class_id}; allowed: 0 to {null_class}, --null_class"
            )
        if class_id == null_class:
            class_id = -1
        elif names.setdefault(class_id, name) != name:
            raise UsageError(
                f"line {number} of {path} names class {class_id} {name!r}; an earlier line, {names[class_id]!r}"
            )
        if lines.setdefault(key, number) != number:
            raise UsageError(f"line {number} of {path} is sample {key!r} again, as line {lines[key]}")
        entries.append(Entry(key, class_id))
    if not entries:
        raise UsageError(f"--index {path} is empty; it must hold at least one sample")
    shared = {name for name, count in collections.Counter(names.values()).items() if count > 1}  # ImageNet has cranes
    numbered = {i: f"{name} {i}" if name in shared else name for i, name in names.items()}
    return entries, tuple(numbered.get(i, f"class_{i}") for i in range(max(names, default=-1) + 1))


def _open(paths: Mapping[str, str], stack: contextlib.ExitStack) -> dict:
    try:
        import h5py
    except ImportError as error:
        raise UsageError("reading HDF5 files needs h5py, which is not installed: pip install h5py") from error
    opened = {}
    for name, path in paths.items():
        try:
            opened[name] = stack.enter_context(h5py.File(reading.regular(path), "r"))
        except (OSError, UsageError) as error:
            raise UsageError(f"--{name} {path} cannot be read as HDF5: {error}") from error
    return opened


def _value(file, name: str, key: str) -> np.ndarray:
    """Reads one stored array. Those of modalities are turned to channels last, means before standard deviations."""
    try:
        value = np.asarray(file[key])
    except (OSError, TypeError, ValueError) as error:  # damaged data; a group instead of an array
        raise UsageError(f"{name} of {key!r} in {file.filename} cannot be read: {error}") from error
    shape, wanted = value.shape, "[N, D]" if name == FEATURES else "[C, h, h, 2]"
    fits = len(shape) == 2 if name == FEATURES else len(shape) == 4 and shape[3] == 2 and shape[1] == shape[2]
    if not fits or value.dtype.kind != "f":
        raise UsageError(f"{name} of {key!r} in {file.filename} is {value.dtype} {list(shape)}; allowed: {wanted}")
    return value if name == FEATURES else value.transpose(1, 2, 3, 0).reshape(*shape[1:3], -1)


def _find(opened: Mapping, entries: Sequence[Entry], strict: bool) -> tuple[list[Entry], dict[str, np.ndarray]]:
    """Finds the samples that have any modality, and for each file which of them it has. Prints what is missing."""
    say(f"looking for {len(entries)} samples in {len(opened)} file(s)")
    there = {name: np.array([entry.key in file for entry in entries]) for name, file in opened.items()}
    for name, found in there.items():
        if not found.all():
            first = entries[int(np.argmin(found))].key
            text = f"{name} of {int((~found).sum())} of {len(entries)} samples is missing, first of {first!r}"
            if strict:
                raise UsageError(f"{text} in {opened[name].filename}; without --strict it counts as absent")
            say(f"{text}: {'stored as zeros' if name == FEATURES else 'absent there'}")
    kept = np.any([found for name, found in there.items() if name != FEATURES], axis=0)
    if not kept.any():
        raise UsageError(
            f"none of the {len(entries)} keys of the index is in the files; the first is {entries[0].key!r}"
        )
    if not kept.all():
        say(f"{int((~kept).sum())} samples have no modality at all and are left out")
    rows = np.flatnonzero(kept)
    return [entries[i] for i in rows.tolist()], {name: found[rows] for name, found in there.items()}


def _layout(opened: Mapping, entries: Sequence[Entry], there: Mapping[str, np.ndarray], dtype: str) -> Layout:
    """The layout of records, from the shapes of the first sample of each file."""
    empty = [name for name, found in there.items() if not found.any()]
    if empty:
        raise UsageError(f"--{empty[0]} {opened[empty[0]].filename} has none of the keys of the index; leave it out")
    shapes = {
        name: _value(opened[name], name, entries[int(np.argmax(found))].key).shape for name, found in there.items()
    }
    features = shapes.pop(FEATURES, None)
    sizes = {name: shape[0] for name, shape in shapes.items()}
    if len(set(sizes.values())) > 1:
        raise UsageError(f"latents have different sizes: {', '.join(f'{m} {size}' for m, size in sizes.items())}")
    channels = tuple((m, shape[2] // 2) for m, shape in shapes.items())
    return Layout(channels, next(iter(sizes.values())), dtype, features)


def _records(
    opened: Mapping, entries: Sequence[Entry], there: Mapping[str, np.ndarray], layout: Layout, start: int, count: int
) -> Iterator[bytes]:
    for i in range(start, start + count):
        entry, values = entries[i], {}
        for name, (dtype, shape) in layout.fields.items():
            if not there[name][i]:
                values[name] = np.zeros(shape, dtype)
                continue
            value = _value(opened[name], name, entry.key)
            if name != FEATURES and (value[..., value.shape[-1] // 2 :] < 0).any():
                raise UsageError(
                    f"{name} of {entry.key!r} in {opened[name].filename} has negative standard deviations; "
                    "allowed: means before standard deviations"
                )
            check_range({name: float(np.abs(value).max())}, layout.dtype, entry.key)
            values[name] = value.astype(dtype)
        yield layout.encode(values, [bool(there[m][i]) for m, _ in layout.modalities], entry.class_id, entry.key)


def convert(
    index: str,
    paths: Mapping[str, str],
    out: epath.PathLike,
    *,
    dtype: str = "float16",
    split: str = "train",
    shard: int = 4096,
    null_class: int = 1000,
    strict: bool = False,
) -> None:
    """Writes the latents of an index as one split. If it was interrupted, it continues where it stopped.

    Args:
      index: path of the JSONL file.
      paths: path of the HDF5 file of each modality, and of "features" if there are any.
      out: folder to write to.
      dtype: type of the stored numbers, "float16" or "bfloat16".
      split: name of the split.
      shard: number of samples in one file.
      null_class: idx_cat of samples without a class.
      strict: whether a key that a file lacks is an error; otherwise that modality is absent from the sample.

    Raises:
      UsageError: a file cannot be read, files do not fit each other, or a number does not fit `dtype`.
    """
    choice("--dtype", dtype, DTYPES)
    if shard < 1:
        raise UsageError(f"--shard is {shard}; it must be at least 1")
    paths = {name: paths[name] for name in (*NAMES, FEATURES) if paths.get(name)}
    if not set(paths) & set(NAMES):
        raise UsageError(f"no latents are given; at least one of {', '.join(f'--{m}' for m in NAMES)} must be")
    files.check_place(out, "--out", folder=True)
    entries, class_names = read_index(index, null_class)
    with contextlib.ExitStack() as stack:
        opened = _open(paths, stack)
        entries, there = _find(opened, entries, strict)
        layout = _layout(opened, entries, there, dtype)
        lengths = {f"bytes of --{name}": epath.Path(path).stat().length for name, path in paths.items()}
        digest = hashlib.sha256(epath.Path(index).read_bytes()).hexdigest()[:16]
        pieces = shards.plan(split, len(entries), shard)
        info = Info(
            layout=layout,
            image_size=FACTOR * layout.size,
            class_names=class_names,
            metadata={},
            autoencoder={"name": AutoencoderKL.name, "factor": FACTOR},
            settings=lengths | {"--index": digest, "--null_class": null_class, "--shard": shard},
            shards={split: pieces},
        )
        shards.begin(out, info)
        say(shards.describe(info))
        todo = shards.remaining(out, info)
        progress = console.Progress("import", sum(s.count for s in todo), "samples")
        starts = dict(zip(pieces, itertools.accumulate((s.count for s in pieces), initial=0), strict=False))
        for part in todo:
            made = _records(opened, entries, there, layout, starts[part], part.count)
            shards.write(out, part, progress.watch(made))
    shards.finish(out, info)
    say(f"done: latents in {out}")


def main(argv: list[str]) -> None:
    del argv
    values = flags.FLAGS
    convert(
        values.index,
        {name: path for name in (*NAMES, FEATURES) if (path := values[name].value)},
        values.out,
        dtype=values.dtype,
        split=values.split,
        shard=values.shard,
        null_class=values.null_class,
        strict=values.strict,
    )


if __name__ == "__main__":
    command.run(main)
