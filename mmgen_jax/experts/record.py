"""Remembers with which settings the labels in a folder were made, so that labels of other settings never join them.

Beside each tree of labels, OUT/depth, lies a file of settings, OUT/depth.json.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmgen_jax.data.trees import disk
from mmgen_jax.experts.registry import Chosen
from mmgen_jax.modalities.registry import NAMES
from mmgen_jax.system import files, reading
from mmgen_jax.system.console import say
from mmgen_jax.system.errors import UsageError

_IMAGES = "images"


def begin(out: Path, experts: Mapping[str, Chosen], size: int, images: Path, keys: Sequence[str]) -> None:
    """Notes with which settings labels are made, or compares them with those of the labels that are there.

    Args:
      out: folder of the trees of labels.
      experts: modality -> expert, depth first.
      size: height and width that images are cropped to, 0 if they are not.
      images: folder of the images.
      keys: keys of the images.

    Raises:
      UsageError: labels of other settings are there, or of other images of the same names; names what differs.
    """
    stored, here = {m: _read(out, m) for m in NAMES}, str(images.resolve())
    wanted: dict[str, dict] = {"rgb": {"size": size}} if size else {}
    for m, chosen in experts.items():
        wanted[m] = {"size": size} | _settings(chosen)
        if not chosen.path:  # it starts from the labels of depth
            depth = wanted.get("depth") or stored["depth"] or {}
            wanted[m] |= {f"{name} of depth": value for name, value in depth.items() if name not in ("size", _IMAGES)}
    for m in NAMES:
        found, now = stored[m], wanted.get(m, {"size": size})
        if (found is None and m not in wanted) or next((out / m).rglob("*.png"), None) is None:
            continue
        if found is None:
            say(f"{out / m} does not say with which settings it was made; they are taken to be the present ones")
            continue
        for name in found | now if m in wanted else now:
            if name != _IMAGES and found.get(name) != now.get(name):
                raise UsageError(
                    f"{out / m} was made with {name} {found.get(name)!r} instead of {now.get(name)!r}; "
                    "give another --out, or the same settings, or remove that folder to make it anew"
                )
        if m in wanted:
            now[_IMAGES] = _with_images(out / m, found.get(_IMAGES, []), here, keys)
    for m, settings in wanted.items():
        files.write(out / f"{m}.json", (json.dumps({_IMAGES: [here]} | settings, indent=1) + "\n").encode())


def _with_images(tree: Path, known: list[str], here: str, keys: Sequence[str]) -> list[str]:
    """The folders of images that a tree has labels of; raises UsageError if it has labels of others by these names."""
    if here in known:
        return known
    taken = next((key for key in keys if (tree / f"{key}.png").exists()), None)
    if known and taken is not None:
        raise UsageError(
            f"{tree} has a label of {taken!r} of an image in {known[-1]}, not of that in {here}; give another --out, "
            f"or --images as before, or, if the images were moved, change {_IMAGES!r} in {tree}.json"
        )
    return [*known, here]


def _settings(chosen: Chosen) -> dict[str, object]:
    """Name -> value of everything that labels of an expert depend on."""
    source: dict[str, object] = {}
    if chosen.entry.whole:
        source = {"folder": str(Path(chosen.path).resolve())}
    elif chosen.path:
        source = {"weights": _digest(chosen.path)}
    # An option that is NaN was not given; some options are texts.
    unset = [name for name, value in chosen.options.items() if isinstance(value, float) and math.isnan(value)]
    options = chosen.options | dict.fromkeys(unset)
    return {"expert": chosen.name} | options | source


def _digest(path: str) -> str:
    """A short checksum of an expert's weights, a file or all visible files of a folder; a hub id is its own."""
    root, sha = Path(path), hashlib.sha256()
    if not root.exists():
        return path
    found = [root] if root.is_file() else sorted(root.rglob("*"))
    for file in found:
        name = "" if file == root else file.relative_to(root).as_posix()
        if file.is_file() and all(map(disk.is_visible, name.split("/"))):
            sha.update(name.encode(errors="surrogateescape") + b"\0")
            with file.open("rb") as opened:
                hashlib.file_digest(opened, lambda: sha)  # adds the bytes of this file
    return sha.hexdigest()[:16]


def _read(out: Path, modality: str) -> dict | None:
    """The settings of a tree of labels, None if there are none. Raises UsageError for a damaged file."""
    path = out / f"{modality}.json"
    if not path.exists():
        return None
    try:
        found = reading.json_file(path)
        if not isinstance(found.get(_IMAGES, []), list):
            raise UsageError(f"{path} is damaged: {_IMAGES} is {found[_IMAGES]!r}; it must be a list")
    except UsageError as error:
        raise UsageError(f"{error}; remove it and its folder, or give another --out") from error
    return found
