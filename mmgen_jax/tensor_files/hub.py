"""Finds pretrained parts by a local path or by a hub id, and the files of one in its folder."""

from __future__ import annotations

import re
from collections.abc import Sequence

from etils import epath
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from mmgen_jax.system import reading
from mmgen_jax.system.errors import UsageError
from mmgen_jax.system.files import here
from mmgen_jax.tensor_files import tensors

CONFIG = "config.json"
# Names that the libraries of the hub give to weights, those to be preferred first.
WEIGHTS = tuple(
    stem + ending
    for suffix in (".safetensors", ".bin")
    for variant, index in zip(("", ".fp16"), tensors.INDEXES, strict=True)
    for stem in ("model", "diffusion_pytorch_model", "pytorch_model")
    for ending in (variant + suffix, suffix + index)
)
FILES = (CONFIG, *WEIGHTS, "*-of-*.safetensors", "*-of-*.bin")

_ID = re.compile(r"[\w.-]+/[\w.-]+")


def resolve(name: epath.PathLike, files: Sequence[str]) -> epath.Path:
    """Returns the folder or file of a local path, or of a hub id "org/name" that is not a local path.

    Args:
      name: path or hub id.
      files: patterns of the files to download from the hub, unless they are in the cache.

    Raises:
      UsageError: `name` is neither a path that exists nor an id that can be downloaded.
    """
    path = here(name)
    if path.exists():
        return path
    if not _ID.fullmatch(str(name)):
        raise UsageError(f"{str(name)!r} does not exist; allowed: a folder, a file, or a hub id such as org/name")
    try:
        return epath.Path(snapshot_download(str(name), allow_patterns=list(files)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise UsageError(
            f"{str(name)!r} is not a local path and cannot be fetched from the hub ({type(error).__name__}: {reason})"
        ) from error


def weights_file(path: epath.Path) -> epath.Path:
    """The file of weights in a folder, or its index where there are several; a path that is not a folder is returned.

    Without a file of a name that the hub's libraries give, it is the only one with a suffix of weights.
    Raises UsageError if there is none, or if several could be meant.
    """
    if not path.is_dir():
        return path
    for name in WEIGHTS:
        if (path / name).exists():
            return path / name
    others = sorted(p for p in path.iterdir() if p.name.lower().endswith(tensors.SUFFIXES) and not p.is_dir())
    if len(others) != 1:
        names = ", ".join(p.name for p in others[:3]) or "none"
        raise UsageError(f"{path} holds no weights of a known name; it has {names}; give the path of a file")
    return others[0]


def config(folder: epath.Path) -> dict | None:
    """The entries of the `config.json` in a folder; None without one. Raises UsageError for a damaged one."""
    path = folder / CONFIG
    return reading.json_file(path) if path.exists() else None
