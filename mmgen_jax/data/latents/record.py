"""The format of one record of latents: a header with a checksum, the arrays of `Layout.fields` in order, and the key.

Everything is little-endian and has a fixed place, so that arrays are decoded without a copy.
"""

from __future__ import annotations

import functools
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ml_dtypes
import numpy as np

from mmgen_jax.modalities import holes
from mmgen_jax.system.errors import UsageError

DTYPES = {"float16": np.dtype("<f2"), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
FEATURES, PIXELS = "features", "rgb_pixels"
# CRC-32 of all that follows, class_id, a bit for each present modality, length of the key in bytes
_HEADER = struct.Struct("<IiIHxx")


def check_range(peaks: Mapping[str, float], dtype: str, key: str) -> None:
    """Raises UsageError if a field, given its largest magnitude in float32, is not finite in `dtype`."""
    for name, peak in peaks.items():
        with np.errstate(over="ignore"):
            fits = np.isfinite(np.float32(peak).astype(DTYPES[dtype]))
        if not fits:
            hint = "; bfloat16 can" if np.isfinite(peak) else ""
            raise UsageError(f"{name} of {key!r} reaches {peak:g}, which {dtype} cannot hold{hint}")


@dataclass(frozen=True)
class Layout:
    """The layout of the records of one data set.

    Attributes:
      modalities: (name, latent channels K) of each modality. Its moments ``[size, size, 2K]`` are stored, means first.
      size: height and width of the latents.
      dtype: type of moments and features, a name in `DTYPES`.
      features: (tokens N, width D) of the features of rgb, or None if they are not stored.
      pixels: height and width of the stored rgb pixels, or 0 if they are not stored.
      holes: modalities with holes. Which cells of their latents are made of pixels that all have a value is stored as
        uint8 ``[size, size]`` of 0 and 1 at `holes.key`.
    """

    modalities: tuple[tuple[str, int], ...]
    size: int
    dtype: str
    features: tuple[int, int] | None = None
    pixels: int = 0
    holes: tuple[str, ...] = ()

    @functools.cached_property
    def fields(self) -> dict[str, tuple[np.dtype, tuple[int, ...]]]:
        """Type and shape of each array, in the order of a record."""
        dtype = DTYPES[self.dtype]
        fields: dict[str, tuple[np.dtype, tuple[int, ...]]] = {
            m: (dtype, (self.size, self.size, 2 * k)) for m, k in self.modalities
        }
        if self.features:
            fields[FEATURES] = (dtype, self.features)
        if self.pixels:
            fields[PIXELS] = (np.dtype(np.uint8), (self.pixels, self.pixels, 3))
        fields |= {holes.key(m): (np.dtype(np.uint8), (self.size, self.size)) for m in self.holes}
        return fields

    @functools.cached_property
    def sample_bytes(self) -> dict[str, int]:
        """Bytes of each array of a record, without the header and the key."""
        return {name: dtype.itemsize * int(np.prod(shape)) for name, (dtype, shape) in self.fields.items()}

    def encode(
        self, values: Mapping[str, np.ndarray], present: Sequence[bool] | np.ndarray, class_id: int, key: str
    ) -> bytes:
        """Makes one record.

        Args:
          values: the arrays of `fields`. Those of absent modalities may be left out and are stored as zeros; if rgb is
            absent, so are its features and pixels.
          present: whether the sample has each modality.
          class_id: number of the class, or -1 for none.
          key: name of the sample.

        Raises:
          UsageError: an array is missing, or has a wrong type or shape.
        """
        names = [m for m, _ in self.modalities]
        absent = {m for m, there in zip(names, present, strict=True) if not there}
        absent |= ({FEATURES, PIXELS} if "rgb" in absent else set()) | {holes.key(m) for m in absent}
        parts = []
        for name, (dtype, shape) in self.fields.items():
            value = np.zeros(shape, dtype) if name in absent else values.get(name)
            if value is None or value.dtype != dtype or value.shape != shape:
                found = "missing" if value is None else f"{value.dtype} {value.shape}"
                raise UsageError(f"{name} of {key!r} is {found}; allowed: {dtype} {shape}")
            parts.append(value.tobytes())
        parts.append(key.encode())
        bits = sum(1 << i for i, m in enumerate(names) if m not in absent)
        body = _HEADER.pack(0, class_id, bits, len(parts[-1]))[4:] + b"".join(parts)
        return struct.pack("<I", zlib.crc32(body)) + body

    def decode(self, record: bytes) -> dict:
        """Returns the arrays of `fields` as read-only views, and class_id int32, present bool [M] and key.

        Raises ValueError if the record has a wrong length, or if its checksum does not fit.
        """
        size = sum(self.sample_bytes.values())
        if len(record) < _HEADER.size + size:
            raise ValueError(f"{len(record)} bytes, which is too short")
        crc, class_id, bits, length = _HEADER.unpack_from(record)
        if len(record) != _HEADER.size + size + length:
            raise ValueError(f"{len(record)} bytes instead of {_HEADER.size + size + length}")
        if zlib.crc32(memoryview(record)[4:]) != crc:
            raise ValueError("its checksum does not fit")
        sample, offset = {}, _HEADER.size
        for name, (dtype, shape) in self.fields.items():
            values = np.frombuffer(record, dtype, int(np.prod(shape)), offset)
            sample[name] = values.reshape(shape)
            offset += self.sample_bytes[name]
        present = np.array([bool(bits >> i & 1) for i in range(len(self.modalities))])
        return sample | {"class_id": np.int32(class_id), "present": present, "key": record[offset:].decode()}
