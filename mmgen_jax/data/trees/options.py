"""Flags that all commands over trees of files share."""

from __future__ import annotations

from absl import flags


def define() -> None:
    """Defines the flags."""
    flags.DEFINE_string("out", None, "Folder that the data set is written under.", required=True)
    flags.DEFINE_integer("size", 256, "Height and width of the tiles in pixels.")
    flags.DEFINE_string("depth_is", "near", "What the largest numbers of depth files are: near or far.")
    flags.DEFINE_float("depth_invalid", None, "Number of pixels of depth files that have no value, 0 for example.")
    flags.DEFINE_list(
        "depth_range", [], "NEAR,FAR: the numbers of depth files that become the nearest and the farthest."
    )
    flags.DEFINE_float(
        "depth_metres", None, "How many metres a number of 1 in depth files is; then depth_range is too."
    )
    flags.DEFINE_string(
        "normal_axes", "x,y,z", "The axes of normal files that point right, up and to the camera: x,-y,-z."
    )
    flags.DEFINE_bool("strict", False, "Stop at the first file that is missing or unsuitable.")
    flags.DEFINE_integer("workers", 1, "Number of processes that read.")
