"""A picture of some images with their labels, to look at before training on them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mmgen_jax.data.trees.groups import Group, Reading
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.pixels import to_array
from mmgen_jax.modalities.registry import MODALITIES, NAMES
from mmgen_jax.show import pictures
from mmgen_jax.system.errors import UsageError

FILE = "contact_sheet.png"
ROWS = 12  # images, spread evenly over the set
SIDE = 160  # height and width of each picture, in pixels


def write(out: Path, sources: Mapping[str, str], size: int) -> Path | None:
    """Writes OUT/contact_sheet.png: rows are images, columns rgb and labels; grey where there is none.

    Args:
      out: folder of label trees.
      sources: key -> file of each image.
      size: size of the cropped images in OUT/rgb, 0 if the labels belong to `sources`.

    Returns:
      its path, or None if no image has a label.
    """
    labels = [m for m in NAMES if m != "rgb" and (out / m).is_dir()]
    groups = []
    for key, path in sources.items():
        found = {m: str(file) for m in labels if (file := out / m / f"{key}.png").exists()}
        rgb = out / "rgb" / f"{key}.png" if size else Path(path)
        if found and rgb.exists():
            groups.append(Group(key, {"rgb": str(rgb)} | found))
    if not groups:
        return None
    rows = [groups[i] for i in np.linspace(0, len(groups) - 1, min(ROWS, len(groups))).round().astype(int)]
    shown = {m: np.stack([_picture(group, m) for group in rows]) for m in ("rgb", *labels)}
    pictures.save_png(out / FILE, pictures.sheet(shown, scale=1, names=[Path(group.key).name for group in rows]))
    return out / FILE


def _picture(group: Group, modality: str) -> np.ndarray:
    if modality not in group.files:
        return np.full((SIDE, SIDE, 3), 128, np.uint8)
    try:
        pixels = Reading(SIDE).tile(Group(group.key, {modality: group.files[modality]}))[modality]
    except UsageError:  # the other labels are shown even if one file is damaged
        return np.full((SIDE, SIDE, 3), 128, np.uint8)
    row, facts = MODALITIES[modality], Facts()
    return row.picture(row.value(to_array(pixels), facts), facts)
