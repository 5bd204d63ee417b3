"""Remembers with which settings the labels in a folder were made, so that labels of other settings never join them.

Beside each tree of labels, OUT/depth, lies a file of settings, OUT/depth.json.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from mmgen_jax.data.trees import disk
from mmgen_jax.experts.registry import Chosen
from mmgen_jax.modalities.registry import NAMES
from mmgen_jax.system import files, reading
from mmgen_jax.system.console import say
from mmgen_jax.system.errors import UsageError

_CHUNK = 2**24


def begin(out: Path, experts: Mapping[str, Chosen], size: int) -> None:
    """Notes with which settings labels are made, or compares them with those of the labels that are there.

    Args:
      out: folder of the trees of labels.
      experts: modality -> expert, depth first.
      size: height and width that images are cropped to, 0 if they are not.

    Raises:
      UsageError: labels of other settings are there; names the first setting that differs.
    """
    stored = {m: _read(out, m) for m in NAMES}
    wanted: dict[str, dict] = {"rgb": {"size": size}} if size else {}
    for m, chosen in experts.items():
        wanted[m] = {"size": size} | _settings(chosen)
        if not chosen.path:  # it starts from the labels of depth
            depth = wanted.get("depth") or stored["depth"] or {}
            wanted[m] |= {f"{name} of depth": value for name, value in depth.items() if name != "size"}
    for m in NAMES:
        found, now = stored[m], wanted.get(m, {"size": size})
        if (found is None and m not in wanted) or next((out / m).rglob("*.png"), None) is None:
            continue
        if found is None:
            say(f"{out / m} does not say with which settings it was made; they are taken to be the present ones")
            continue
        for name in now if m not in wanted else found | now:
            if found.get(name) != now.get(name):
                raise UsageError(
                    f"{out / m} was made with {name} {found.get(name)!r} instead of {now.get(name)!r}; "
                    "give another --out, or the same settings, or remove that folder to make it anew"
                )
    for m, settings in wanted.items():
        files.write(out / f"{m}.json", (json.dumps(settings, indent=1) + "\n").encode())


def _settings(chosen: Chosen) -> dict[str, object]:
    """Name -> value of everything that labels of an expert depend on."""
    source: dict[str, object] = {}
    if chosen.entry.whole:
        source = {"folder": str(Path(chosen.path).resolve())}
    elif chosen.path:
        source = {"weights": _digest(chosen.path)}
    return {"expert": chosen.name} | chosen.options | source


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
                while chunk := opened.read(_CHUNK):
                    sha.update(chunk)
    return sha.hexdigest()[:16]


def _read(out: Path, modality: str) -> dict | None:
    """The settings of a tree of labels, None if there are none. Raises UsageError for a damaged file."""
    path = out / f"{modality}.json"
    if not path.exists():
        return None
    try:
        return reading.json_file(path)
    except UsageError as error:
        raise UsageError(f"{error}; remove it and its folder, or give another --out") from error
