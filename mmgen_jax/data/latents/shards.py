"""Writes latents shard by shard. Each shard is complete or absent, so that a stopped command continues where it was.

Beside a finished shard lies a JSON file with its size and checksum. `unfinished.json` describes what the folder will
hold; the worker that writes the last shard replaces it by `latents.json`.
"""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Callable, Iterable
from typing import TypeVar

from array_record.python.array_record_module import ArrayRecordWriter
from etils import epath

from mmgen_jax.data.latents import dataset
from mmgen_jax.data.latents.dataset import Info, Shard
from mmgen_jax.system import files, reading, sealed
from mmgen_jax.system.errors import UsageError
from mmgen_jax.system.shares import ALL, Share

T = TypeVar("T")

# Groups of one record allow random access. Compression would save 8% and cost three quarters of the reading speed.
_OPTIONS = "group_size:1,uncompressed"
_CHUNK = 2**24


def plan(split: str, samples: int, per_shard: int) -> tuple[Shard, ...]:
    """Plans the shards of a split; the last one may be smaller. Raises UsageError for an empty split."""
    if not samples:
        raise UsageError(f"split {split!r} is empty; it must hold at least one sample")
    starts = range(0, samples, per_shard)
    return tuple(Shard(split, i, len(starts), min(per_shard, samples - start)) for i, start in enumerate(starts))


def describe(info: Info) -> str:
    """Text that says how many bytes will be written, and what for."""
    parts = info.layout.sample_bytes
    shards = [shard for found in info.shards.values() for shard in found]
    count, each = sum(shard.count for shard in shards), sum(parts.values())
    fields = ", ".join(f"{name} {size:,}" for name, size in parts.items())
    return (
        f"{each:,} bytes a sample ({fields}); {count:,} samples of {', '.join(info.shards)} "
        f"in {len(shards)} shard(s): {_bytes(count * each)}"
    )


def _bytes(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def begin(directory: epath.PathLike, info: Info) -> None:
    """Makes the folder, or checks that it was begun with the same settings; raises UsageError naming the difference."""
    folder = files.path_of(directory, "--out")
    files.check_path(folder, "--out")
    files.check_place(folder, "--out", folder=True)
    begun = [folder / name for name in (dataset.FILE, dataset.UNFINISHED) if (folder / name).exists()]
    if begun:
        conflict = _difference(dataset.parse_info(begun[0]), info)
        if conflict:
            raise UsageError(f"{str(folder)!r} was begun with {conflict}; give another --out, or the same settings")
        return
    # Hidden files are not of the user: another worker that begins at the same time makes some to see that it may.
    if folder.exists() and any(not path.name.startswith(".") for path in folder.iterdir()):
        raise UsageError(f"{str(folder)!r} holds other files than latents; give another --out")
    folder.mkdir(parents=True, exist_ok=True)
    files.write(folder / dataset.UNFINISHED, info.to_json())


def _difference(begun: Info, wanted: Info) -> str | None:
    """The first setting that differs, as "name A instead of B", or None."""
    a, b = (_facts(info) for info in (begun, wanted))
    for name in a | b:
        if a.get(name) != b.get(name):
            return f"{name} {_short(a.get(name))} instead of {_short(b.get(name))}"
    return None


def _facts(info: Info) -> dict:
    stored = json.loads(info.to_json())
    shards = {f"samples of {s}": sum(x["count"] for x in found) for s, found in stored.pop("shards").items()}
    layout, settings, autoencoder = (stored.pop(name) for name in ("layout", "settings", "autoencoder"))
    return settings | shards | layout | {f"autoencoder.{k}": v for k, v in autoencoder.items()} | stored


def _short(value: object) -> str:
    text = "nothing" if value is None else json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."


def remaining(directory: epath.PathLike, info: Info, share: Share = ALL) -> list[Shard]:
    """Lists the shards that this process still has to write. Finished shards are compared with their checksums."""
    mine = share.dealt([shard for shards in info.shards.values() for shard in shards])
    return [shard for shard in mine if not _is_whole(epath.Path(directory), shard)]


def _sidecar(folder: epath.Path, shard: Shard) -> epath.Path:
    return folder / (shard.name + ".json")


def _written(folder: epath.Path, shard: Shard) -> Shard | None:
    """The shard with its size and checksum, or None if it is not finished."""
    sidecar, path = _sidecar(folder, shard), folder / shard.name
    if not (sidecar.exists() and path.exists()):
        return None
    try:
        found = dataclasses.replace(shard, **reading.json_file(sidecar))
    except (UsageError, TypeError):  # a damaged file counts as missing
        return None
    return found if path.stat().length == found.size else None


def _is_whole(folder: epath.Path, shard: Shard) -> bool:
    found = _written(folder, shard)
    return found is not None and _crc32(folder / shard.name) == found.crc32


def _crc32(path: epath.Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            crc = zlib.crc32(chunk, crc)
    return crc


def write(directory: epath.PathLike, shard: Shard, records: Iterable[bytes]) -> None:
    """Writes one shard whole or not at all; raises UsageError if it cannot be written."""
    folder = epath.Path(directory)
    for remains in folder.glob(f".{shard.name}.*.part"):  # of a killed run, as only this worker writes this shard
        remains.unlink()
    with files.replacing(folder / shard.name) as part:
        writer = _guarded(part, ArrayRecordWriter, str(part), _OPTIONS)
        count = 0
        for record in records:
            _guarded(part, writer.write, record)
            count += 1
        _guarded(part, writer.close)
        if count != shard.count:
            raise RuntimeError(f"{shard.name} got {count} records instead of {shard.count}")
        sums = {"size": part.stat().length, "crc32": _crc32(part)}
        _sidecar(folder, shard).unlink(missing_ok=True)
    files.write(_sidecar(folder, shard), json.dumps(sums).encode())


def _guarded(path: epath.Path, function: Callable[..., T], *arguments: object) -> T:
    """Calls `function`; turns the RuntimeError of ArrayRecord (disk full, folder not writable) into UsageError."""
    try:
        return function(*arguments)
    except RuntimeError as error:
        raise UsageError(f"{path} cannot be written: {error}") from error


def finish(directory: epath.PathLike, info: Info) -> int:
    """Writes `latents.json` once all shards of all workers are there; returns how many are not."""
    folder = epath.Path(directory)
    found = {split: [_written(folder, shard) for shard in shards] for split, shards in info.shards.items()}
    whole = {split: tuple(shard for shard in shards if shard) for split, shards in found.items()}
    missing = sum(len(found[split]) - len(shards) for split, shards in whole.items())
    if not missing:
        done = dataclasses.replace(info, shards=whole)
        with sealed.sealing(folder, (dataset.FILE,)):
            files.write(folder / dataset.FILE, done.to_json())
        (folder / dataset.UNFINISHED).unlink(missing_ok=True)
    return missing
