"""Finds pretrained parts by a local path or by a hub id."""

from __future__ import annotations

import re
from collections.abc import Sequence

from etils import epath
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from mmgen_jax.system.errors import UsageError

_ID = re.compile(r"[\w.-]+/[\w.-]+")


def resolve(name: epath.PathLike, files: Sequence[str]) -> epath.Path:
    """Returns the folder or file of a local path, or of a hub id "org/name" that is not a local path.

    Args:
      name: path or hub id.
      files: patterns of the files to download from the hub, unless they are in the cache.

    Raises:
      UsageError: `name` is neither a path that exists nor an id that can be downloaded.
    """
    path = epath.Path(name)
    if path.exists():
        return path
    if not _ID.fullmatch(str(name)):
        raise UsageError(f"{str(name)!r} does not exist; allowed: a folder, a file, or a hub id such as org/name")
    try:
        return epath.Path(snapshot_download(str(name), allow_patterns=list(files)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise UsageError(
            f"{str(name)!r} is not a local path and cannot be fetched from the hub ({type(error).__name__}: {reason})"
        ) from error
