"""Small trees of image files in the layouts that builders of tiles read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from mmgen_jax.data.shapes import builder

LABELS = ("depth", "normal", "mask")


def pixels(count: int, size: int, split: str = "train") -> dict[str, np.ndarray]:
    """Stored pixels of rendered scenes, [count, size, size, C] of each modality."""
    return builder.scene_pixels(0, split, np.arange(count), size)[0]


def save(path: Path, image: np.ndarray) -> None:
    """Writes an image in the format of its suffix, and makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(path)


def folders(root: Path, count: int = 6, size: int = 16, key="{i:03d}") -> dict[str, np.ndarray]:
    """Writes root/<modality>/<key>.png; returns the pixels."""
    scenes = pixels(count, size)
    for m, images in scenes.items():
        for i, image in enumerate(images):
            save(root / m / f"{key.format(i=i, c=i % 2)}.png", image)
    return scenes


def imagenet(root: Path, count: int = 4, size: int = 16) -> dict[str, np.ndarray]:
    """Writes rgb/{train,val}/<synset>/<image>.png and the same for the labels."""
    scenes = pixels(2 * count, size)
    for m, images in scenes.items():
        for i, image in enumerate(images):
            split, synset = ("train", "val")[i // count], ("n01440764", "n01443537")[i % 2]
            save(root / m / split / synset / f"{i:03d}.png", image)
    return scenes


def hypersim(root: Path, count: int = 2, size: int = 16) -> dict[str, np.ndarray]:
    """Writes processed/<scene>/cam_00/{rgb,depth,normal,mask}/frame.XXXX(.vis).png, train.txt and test.txt."""
    scenes = pixels(2 * count, size)
    for m, images in scenes.items():
        for i, image in enumerate(images):
            ending = ".vis.png" if m in ("depth", "normal") else ".png"
            name = f"frame.{i % count:04d}{ending}"
            save(root / "processed" / ("ai_001_001", "ai_002_001")[i // count] / "cam_00" / m / name, image)
    (root / "train.txt").write_text("ai_001_001\n")
    (root / "test.txt").write_text("ai_002_001\n")
    return scenes
