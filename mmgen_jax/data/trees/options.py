"""Flags that all commands over trees of files share."""

from __future__ import annotations

from absl import flags

NEAR, FAR = "near", "far"  # what the largest numbers of files of depth are


def define() -> None:
    """Defines the flags."""
    flags.DEFINE_string("out", None, "Folder that the data set is written under.", required=True)
    flags.DEFINE_integer("size", 256, "Height and width of the tiles in pixels.")
    flags.DEFINE_string("depth_is", NEAR, f"What the largest numbers of depth files are: {NEAR} or {FAR}.")
    flags.DEFINE_bool("strict", False, "Stop at the first file that is missing or unsuitable.")
    flags.DEFINE_integer("workers", 1, "Number of processes that read.")
