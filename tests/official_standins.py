"""Small files that stand for the released ones where a page's commands are run."""

from __future__ import annotations

import json
from pathlib import Path

import golden_arrays
import h5py
import numpy as np

from mmgen_jax.tensor_files import torch_write


def write(folder: Path) -> None:
    """0600000.pt: the golden model with an optimizer's state; last.pt: a REPA model with rgb alone, weights only."""
    weights = golden_arrays.weights()
    state = {
        i: {"step": np.asarray(600_000, np.float32), "exp_avg": 0 * value, "exp_avg_sq": 0 * value + 1}
        for i, (name, value) in enumerate(weights.items())
        if name != "pos_embed"
    }
    args = {"model": "custom", "encoder_depth": 2, "path_type": "linear", "batch_size": 256}
    entries = {"model": weights, "ema": weights, "opt": {"state": state}, "args": args, "steps": 600_000}
    torch_write.write(folder / "0600000.pt", entries)
    torch_write.write(folder / "last.pt", _one_modality(weights))
    _write_latents(folder / "official")


def _one_modality(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The golden model's weights cut to rgb, with SiT's embedding of one time."""
    dropped = ("lis_final_layer.", "taskcond_embedder.", "t_embedder.mlp_fused.", "t_embedder.mlp.2.")
    new = {name: value for name, value in weights.items() if not name.startswith(dropped)}
    new["x_embedder.proj.weight"] = weights["x_embedder.proj.weight"][:, :4]
    for part in ("weight", "bias"):
        new[f"t_embedder.mlp.2.{part}"] = weights[f"t_embedder.mlp_fused.2.{part}"]
        for layer in ("linear", "adaLN_modulation.1"):
            new[f"final_layer.{layer}.{part}"] = weights[f"lis_final_layer.0.{layer}.{part}"]
    return new


def _write_latents(folder: Path, count: int = 8) -> None:
    """train.jsonl and HDF5 files as the official code writes them, of 8 x 8 latents."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    keys = [f"n01440764/{i}.JPEG" for i in range(count)]
    lines = [{"path_rel_rgb": key, "cat": "tench", "idx_cat": 0} for key in keys]
    (folder / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    shapes = dict.fromkeys(("rgb", "depth", "normal", "mask"), (4, 8, 8, 2)) | {"dinov2": (16, 24)}
    for name, shape in shapes.items():
        with h5py.File(folder / f"{name}.h5", "w") as file:
            for key in keys:
                file[key] = rng.uniform(0.1, 1, shape).astype(np.float32)
