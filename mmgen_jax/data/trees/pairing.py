"""Tells which files of several folders belong together, and why others likely do not."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePosixPath

from mmgen_jax.modalities.decoding import SUFFIXES
from mmgen_jax.system.console import say
from mmgen_jax.system.errors import UsageError


def _without_suffixes(key: str) -> str:
    path = PurePosixPath(key)
    while path.suffix.lower() in SUFFIXES:
        path = path.with_suffix("")
    return str(path)


# How two names may differ that were meant to be the same, and what is the same in both then.
_DIFFERENCES: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("in capital letters", str.casefold),
    ("by a second suffix", _without_suffixes),
    ("by spaces", lambda key: "".join(key.split())),
    ("by zeros before a number", lambda key: re.sub(r"0+(?=\d)", "", key)),
    ("in the folders above", lambda key: PurePosixPath(key).name),
    ("in what stands beside a number", lambda key: ".".join(re.findall(r"\d+", key)) or key),
)


def _likely(stray: list[str], keys: Iterable[str]) -> tuple[str, str, str] | None:
    """A stray key, the key that it was likely meant to be, and how they differ; None if nothing is like any."""
    for words, same in _DIFFERENCES:
        by_same = {same(key): key for key in keys}
        for key in stray:
            if same(key) in by_same:
                return key, by_same[same(key)], words
    return None


def check(found: Mapping[str, Mapping[str, str]], folders: Mapping[str, str], strict: bool) -> None:
    """Says how many files of each modality belong to no tile, with an example and its likely cause.

    Args:
      found: modality -> key -> file. The first modality says which tiles there are.
      folders: the folder of each modality, for messages.
      strict: whether a file that belongs to no tile is an error.

    Raises:
      UsageError: no file of a modality belongs to a tile.
    """
    first, *others = found
    for m in others:
        stray = sorted(found[m].keys() - found[first].keys())
        if not stray:
            continue
        example = _likely(stray, sorted(found[first]))
        hint = f"; {example[0]!r} and {example[1]!r} differ {example[2]}" if example else ""
        if len(stray) == len(found[m]):
            mine, theirs = example[:2] if example else (stray[0], min(found[first]))
            raise UsageError(
                f"no {m} in {folders[m]} has the name of an image in {folders[first]}, such as "
                f"{found[m][mine]!r} and {found[first][theirs]!r}{hint}; "
                "allowed: the same path below both folders, with any suffix"
            )
        text = f"{found[m][stray[0]]} has no {first} {stray[0]!r} in {folders[first]}, one of {len(stray)}{hint}"
        if strict:
            raise UsageError(text)
        say(f"left out: {text}")
