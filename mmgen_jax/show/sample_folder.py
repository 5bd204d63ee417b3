"""A folder of samples that is written batch by batch: any number in little memory, continued where it was stopped."""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from etils import epath

from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.show.outputs import GALLERY, GRID, RECORD, SHEET, Outputs, file_name
from mmgen_jax.system import files, reading
from mmgen_jax.system.errors import UsageError
from mmgen_jax.system.shares import ALL, Share

SHOWN = 32  # samples on the sheet and in the gallery: the first ones


class SampleFolder:
    """The files of samples 0 to n - 1, whose numbers are in their names, and a record of how they are made.

    A sample whose files are all there is done. The sheet and the gallery show the first `SHOWN` samples, and who makes
    all of these makes them.
    """

    def __init__(
        self, path: epath.PathLike, names: Sequence[str], n: int, made_by: Mapping[str, object], share: Share = ALL
    ):
        """Begins a folder, or goes on with one.

        Args:
          path: is made if it does not exist; no other process may write to it, see `files.alone`, but those that make
            other shares.
          names: of the files of one sample, see `outputs.file_names`.
          n: number of samples; there may be fewer or more already.
          made_by: name -> value, as JSON has it, of all that a sample depends on.
          share: which of the samples this process makes.

        Raises:
          UsageError: the folder has samples that were made otherwise, or files with the names of samples.
        """
        self.path, self._names, self._n = epath.Path(path), tuple(names), n
        self.mine = share.block(n)
        self.path.mkdir(parents=True, exist_ok=True)
        self._check()
        there, begun = self._there(), self._begun()
        if begun is None:
            foreign = next((x for i in range(n) for x in self._of(i) if x in there), None)
            if foreign:
                raise UsageError(f"{self.path} has {foreign}, but no {RECORD} that says how; give another --out")
        elif conflict := _difference(begun["made_by"], made_by):
            raise UsageError(f"{self.path} was begun with {conflict}; give another --out, or the same settings")
        if begun is None or begun["n"] < n:
            if begun and begun["n"] < SHOWN:
                (self.path / GALLERY).unlink(missing_ok=True)  # it will show more
            record = {"n": n, "made_by": dict(made_by)}
            files.write(self.path / RECORD, (json.dumps(record, indent=1) + "\n").encode())
        own = {name for i in self.mine for name in self._of(i)}
        for name in there:
            part = re.fullmatch(r"\.(.+)\.\d+\.part", name)  # of a process that was killed
            if part and (share.is_all or part[1] in own):
                (self.path / name).unlink(missing_ok=True)

    def todo(self) -> list[int]:
        """Numbers of the samples to make here, in order. Those that are to be shown are made again."""
        there, unseen = self._there(), self.unseen()
        return [i for i in self.mine if i < unseen or any(name not in there for name in self._of(i))]

    def unseen(self) -> int:
        """How many samples are to be shown here that are not: the first ones, or none of them."""
        count = min(self._n, SHOWN)
        shown = all((self.path / name).exists() for name in (SHEET, GALLERY))
        return 0 if shown or self.mine[:count] != range(count) else count

    def write(self, outputs: Outputs, numbers: Sequence[int]) -> None:
        """Writes the files of the first rows of `outputs`, the samples `numbers`; each file is whole or not there.

        Files that samples of this folder do not have, of modalities that are only shown, are not written.
        """
        for row, number in enumerate(numbers):
            made = outputs.files(row, number)
            for name in self._of(number):
                files.write(self.path / name, made[name])

    def write_npz(self, name: str) -> None:
        """Writes all rgb images to one NPZ file, uint8 [n, H, W, 3] as `arr_0`, as ADM's evaluation reads them.

        Raises UsageError for an image that cannot be read.
        """
        images = self._images()
        first = next(images)
        header = {"descr": "|u1", "fortran_order": False, "shape": (self._n, *first.shape)}
        with (
            files.replacing(self.path / name) as part,
            part.open("wb") as file,
            zipfile.ZipFile(file, "w") as archive,
            archive.open("arr_0.npy", "w", force_zip64=True) as member,
        ):
            np.lib.format.write_array_header_1_0(member, header)
            member.write(first.tobytes())
            for image in images:
                member.write(image.tobytes())

    def _images(self) -> Iterator[np.ndarray]:
        return (MODALITIES["rgb"].read(self.path / file_name("rgb.png", i)) for i in range(self._n))

    def _check(self) -> None:
        """Raises UsageError for a folder, FIFO or the like with the name of a file: it would be taken for that."""
        if files.is_remote(self.path):
            return
        with os.scandir(self.path) as entries:
            odd = {entry.name for entry in entries if not entry.is_file()}
        if odd:
            own = {SHEET, GRID, GALLERY, RECORD, *(name for i in range(self._n) for name in self._of(i))}
            files.check_files(self.path, sorted(odd & own), "--out")

    def _of(self, number: int) -> list[str]:
        return [file_name(name, number) for name in self._names]

    def _there(self) -> set[str]:
        return {path.name for path in self.path.iterdir()}

    def _begun(self) -> dict | None:
        """The record of the samples that are there; None for none."""
        path = self.path / RECORD
        if not path.exists():
            return None
        record = reading.json_file(path)
        try:
            return {"n": int(record["n"]), "made_by": dict(record["made_by"])}
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise UsageError(f"{path} is damaged ({type(error).__name__}); give another --out") from error


def _difference(begun: Mapping[str, object], wanted: Mapping[str, object]) -> str | None:
    """The first entry that differs, as "name A instead of B", or None."""
    now = json.loads(json.dumps(wanted))
    for name in begun | now:
        if begun.get(name) != now.get(name):
            return f"{name} {json.dumps(begun.get(name))} instead of {json.dumps(now.get(name))}"
    return None
