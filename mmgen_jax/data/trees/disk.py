"""What a user's disk holds: the visible files and folders below a folder, and the lines of a text file.

Links are followed. What file managers, network drives and notebooks keep beside a user's files is not visible here.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mmgen_jax.system import reading
from mmgen_jax.system.console import say
from mmgen_jax.system.errors import UsageError

# In lower case, besides all names that start with a dot.
_SYSTEM = frozenset(
    "@eadir @__thumb @recently-snapshot @recycle #recycle #snapshot $recycle.bin recycler __macosx __pycache__ "
    "lost+found thumbs.db ehthumbs.db desktop.ini".split()
) | {"system volume information"}


def is_visible(name: str) -> bool:
    """Whether a file or folder is the user's own, and neither hidden nor the system's."""
    return not name.startswith(".") and name.lower() not in _SYSTEM


def composed(name: str) -> str:
    """A name in Unicode's composed form (NFC): file systems and archives store one name in different forms."""
    return unicodedata.normalize("NFC", name)


def visible(folder: Path) -> list[Path]:
    """The visible files and folders in a folder, sorted.

    Raises UsageError if it cannot be read, for a name that is not UTF-8, and for two that are the same, see `composed`.
    """
    try:
        names = sorted(filter(is_visible, os.listdir(folder)))
    except OSError as error:
        raise UsageError(f"folder {str(folder)!r} cannot be read: {error.strerror}") from error
    forms: dict[str, str] = {}
    for name in names:
        if any("\ud800" <= character <= "\udfff" for character in name):
            raise UsageError(f"{str(folder / name)!r} has a name that is not UTF-8; rename it")
        other = forms.setdefault(composed(name), name)
        if other != name:
            raise UsageError(
                f"{str(folder / name)!r} and {str(folder / other)!r} have the same name in two forms of Unicode; "
                "only one may stay"
            )
    return [folder / name for name in names]


def folders(folder: Path) -> list[str]:
    """Names of the visible folders in a folder, sorted, in composed form."""
    return sorted(composed(path.name) for path in visible(folder) if is_folder(path))


def files(root: Path, suffixes: Sequence[str]) -> list[Path]:
    """All visible files below a folder that have one of the suffixes, in capitals or not, sorted.

    Says how many files have other suffixes. Links are followed; a broken one that has a suffix counts as a file.

    Raises UsageError as `visible` does, for a folder that links lead to twice or in a circle, for another link that
    leads nowhere, and for what is neither a file nor a folder.
    """
    found: list[Path] = []
    others: list[Path] = []
    left, once = [root], Once()
    while left:
        folder = left.pop()
        once.check(folder)
        for path in visible(folder):
            if is_image(path, suffixes):
                found.append(path)
            elif is_folder(path):
                left.append(path)
            else:
                others.append(path)
    if others:
        kinds = Counter(path.suffix.lower() or "no suffix" for path in others).most_common(8)
        named = ", ".join(f"{kind} {count}" for kind, count in kinds)
        say(
            f"left out: {len(others)} files in {str(root)!r} that are not images ({named}), "
            f"the first {others[0].name!r}"
        )
    return sorted(found, key=str)


def is_image(path: Path, suffixes: Sequence[str]) -> bool:
    """Whether it is a file, or a broken link, with one of the suffixes, in capitals or not; raises as `is_folder`."""
    return path.suffix.lower() in suffixes and (_is_broken(path) or not is_folder(path))


def is_folder(path: Path) -> bool:
    """True for a folder, False for a file and where nothing is.

    Raises UsageError for a link that leads nowhere, as it may have been one to a folder, and for what blocks a reader.
    """
    if _is_broken(path):
        raise UsageError(f"{str(path)!r} is a link to {os.readlink(path)!r}, which leads nowhere; mend or remove it")
    if path.exists() and not (path.is_dir() or path.is_file()):
        raise UsageError(f"{str(path)!r} is neither a file nor a folder; remove it")
    return path.is_dir()


def _is_broken(path: Path) -> bool:
    return path.is_symlink() and not path.exists()


class Once:
    """Refuses to go to a folder twice: by links that lead in a circle, or by two to one place."""

    def __init__(self) -> None:
        self._reached: dict[str, Path] = {}

    def check(self, folder: Path) -> None:
        """Raises UsageError if `folder` was here before under another name."""
        first = self._reached.setdefault(os.path.realpath(folder), folder)
        if first != folder:
            raise UsageError(f"{str(folder)!r} and {str(first)!r} are the same folder, by a link; only one may stay")


def lines(path: str) -> list[str]:
    """The lines of a text file that are not blank, stripped; raises UsageError as `reading.text` does."""
    return [line.strip() for line in reading.text(path).splitlines() if line.strip()]
