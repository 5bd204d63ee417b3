"""Small benchmarks of depth and of normals, in the layouts that they are published in."""

from __future__ import annotations

from pathlib import Path

import h5py
import imagecodecs
import numpy as np
import OpenEXR
from PIL import Image
from scipy import io


def picture(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def random_rgb(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return rng.integers(0, 256, (*shape, 3)).astype(np.uint8)


def ramp(shape: tuple[int, int], near: float = 1.0, far: float = 9.0) -> np.ndarray:
    """Metres that grow from left to right, float32."""
    return np.tile(np.linspace(near, far, shape[1], dtype=np.float32), (shape[0], 1))


def ibims(root: Path, shape: tuple[int, int] = (48, 64), count: int = 2) -> list[dict[str, np.ndarray]]:
    """With a row each of holes, of invalid and of transparent pixels: the first three."""
    rng, made = np.random.default_rng(0), []
    root.mkdir(parents=True)
    for i in range(count):
        depth, masks = ramp(shape), np.ones((2, *shape), np.uint8)
        depth[0], masks[0, 1], masks[1, 2] = 0, 0, 0
        data = {"rgb": random_rgb(rng, shape), "depth": depth, "mask_invalid": masks[0], "mask_transp": masks[1]}
        io.savemat(root / f"room_{i}.mat", {"data": data})
        made.append(data)
    (root / "imagelist.txt").write_text("".join(f"room_{i}\n" for i in range(count)))
    return made


def nyu(root: Path) -> tuple[np.ndarray, np.ndarray]:
    """Three images, of which the test split has the third and the first; axes as MATLAB writes them."""
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (3, 480, 640, 3)).astype(np.uint8)
    depth = np.stack([ramp((480, 640)) + i for i in range(3)])
    depth[:, 100, 100] = 0
    root.mkdir(parents=True)
    with h5py.File(root / "nyu_depth_v2_labeled.mat", "w") as file:
        file["images"] = rgb.transpose(0, 3, 2, 1)
        file["rawDepths"] = depth.transpose(0, 2, 1)
    io.savemat(root / "splits.mat", {"testNdxs": np.array([[3], [1]]), "trainNdxs": np.array([[2]])})
    return rgb, depth


def kitti(root: Path) -> tuple[np.ndarray, np.ndarray, Path]:
    """One image with depth and one without; returns rgb, depth in steps of 1 / 256 m, and the list."""
    rgb = random_rgb(np.random.default_rng(0), (375, 1242))
    numbers = np.rint(ramp((375, 1242)) * 256).astype(np.uint16)
    numbers[200, 600] = 0
    drive = "2011_09_26_drive_0002_sync"
    names = (
        f"2011_09_26/{drive}/image_02/data/0000000069.png",
        f"{drive}/proj_depth/groundtruth/image_02/0000000069.png",
    )
    picture(root / names[0], rgb)
    picture(root / "val" / names[1], numbers)
    listing = root / "list.txt"
    listing.write_text(f"{names[0]} {names[1]} 721.5377\n{names[0].replace('69', '70')} None 721.5377\n")
    return rgb, numbers / 256, listing


def scannet(root: Path) -> tuple[np.ndarray, Path]:
    """One image twice as large as its depth, in millimetres."""
    picture(root / "scene0000_00/color/20.jpg", np.full((96, 128, 3), 77, np.uint8))
    numbers = np.rint(ramp((48, 64)) * 1000).astype(np.uint16)
    numbers[0, 0] = 0
    picture(root / "scene0000_00/depth/20.png", numbers)
    (root / "list.txt").write_text("scene0000_00/color/20.jpg scene0000_00/depth/20.png\n")
    return numbers / 1000, root / "list.txt"


def diode(root: Path) -> np.ndarray:
    """One image of val/indoors, whose mask leaves out the first row."""
    stem = root / "indoors/scene_00019/scan_00183/00019_00183_indoors_000_010"
    picture(stem.with_suffix(".png"), random_rgb(np.random.default_rng(0), (48, 64)))
    depth, mask = ramp((48, 64)), np.ones((48, 64), np.float32)
    mask[0] = 0
    np.save(f"{stem}_depth.npy", depth[..., None])
    np.save(f"{stem}_depth_mask.npy", mask)
    return depth


def room(
    shape: tuple[int, int], yaw: float, pitch: float, focal: float, focal_y: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Normals of a box seen from its middle by a turned camera, x right, y up, z towards it; and its matrix."""
    height, width = shape
    focal_y = focal_y or focal
    x = (np.arange(width) + 0.5 - width / 2) / focal
    y = -(np.arange(height) + 0.5 - height / 2) / focal_y
    rays = np.stack(np.broadcast_arrays(x[None, :], y[:, None], -1.0), -1)
    cos, sin = np.cos([yaw, pitch]), np.sin([yaw, pitch])
    turn = np.array([[cos[0], 0, sin[0]], [0, 1, 0], [-sin[0], 0, cos[0]]])
    turn = turn @ np.array([[1, 0, 0], [0, cos[1], -sin[1]], [0, sin[1], cos[1]]])
    world = rays @ turn.T
    hit = (np.array([2.0, 1.3, 3.0]) / np.abs(world)).argmin(-1)  # the axis along which a wall is reached first
    normal = -np.eye(3)[hit] * np.sign(np.take_along_axis(world, hit[..., None], -1))
    return normal @ turn, np.array([[focal, 0, width / 2], [0, focal_y, height / 2], [0, 0, 1]])


def dsine(
    root: Path, axes: str = "-x,y,z", kind: str = "u1", shape: tuple[int, int] = (48, 64), count: int = 3
) -> list[np.ndarray]:
    """Rooms, whose normals have files of these axes and none in the first row; returns them in this package's axes."""
    rng, made = np.random.default_rng(0), []
    for i in range(count):
        normal, camera = room(shape, 0.7 * i - 0.6, 0.15 * i - 0.2, 40.0)
        stored = np.zeros_like(normal)
        for k, part in enumerate(axes.split(",")):
            stored[..., "xyz".index(part[-1])] = normal[..., k] * (-1 if part[0] == "-" else 1)
        stem = root / "hall" / f"{i:06d}"
        picture(Path(f"{stem}_img.png"), random_rgb(rng, shape))
        np.save(f"{stem}_intrins.npy", camera)
        if kind == "f4":
            stored[0] = 0
            channels = {"RGB": OpenEXR.Channel(np.ascontiguousarray(stored.astype(np.float32)))}
            OpenEXR.File({"type": OpenEXR.scanlineimage}, channels).write(f"{stem}_normal.exr")
        else:
            numbers = np.rint((stored + 1) / 2 * np.iinfo(kind).max).astype(kind)
            numbers[0] = 0
            Path(f"{stem}_normal.png").write_bytes(imagecodecs.png_encode(numbers))
        made.append(normal)
    return made


def diode_normals(root: Path, axes: str = "x,-y,-z", shape: tuple[int, int] = (48, 64)) -> list[np.ndarray]:
    """Rooms as DIODE has them, seen by its camera, without a normal in the first row; returns this package's axes."""
    rng, made = np.random.default_rng(0), []
    for i in range(3):
        normal, _ = room(shape, 0.7 * i - 0.6, 0.15 * i - 0.2, 886.81 / 1024 * shape[1], 927.06 / 768 * shape[0])
        stored = np.zeros_like(normal)
        for k, part in enumerate(axes.split(",")):
            stored[..., "xyz".index(part[-1])] = normal[..., k] * (-1 if part[0] == "-" else 1)
        stored[0] = 0
        stem = root / "indoors/scene_00019/scan_00183" / f"00019_00183_indoors_000_0{i}0"
        picture(stem.with_suffix(".png"), random_rgb(rng, shape))
        np.save(f"{stem}_normal.npy", stored.astype(np.float32))
        made.append(normal)
    return made
