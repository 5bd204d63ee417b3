"""Scores a model's depth on a benchmark of the papers: NYUv2, KITTI, ScanNet, DIODE or iBims-1, from their own files.

python -m mmgen_jax.studies.depth_benchmarks --config=shapes_tiny --workdir=shapes-tiny --benchmark=ibims
    --root=data/ibims1

Whole images are read as `evaluate` reads scenes, and scored at their own size.
"""

from __future__ import annotations

from absl import flags

from mmgen_jax.system import command

if __name__ == "__main__":
    command.define_flags()
    flags.DEFINE_string("benchmark", None, "nyuv2, kitti, scannet, diode or ibims.", required=True)
    flags.DEFINE_string("root", None, "Folder of the benchmark, in the layout that it is published in.", required=True)
    flags.DEFINE_string("list", "", "File with a line RGB DEPTH for each image, of kitti and scannet.")
    flags.DEFINE_integer("images", 0, "Only so many images, the first ones; 0 = all.", lower_bound=0)
    flags.DEFINE_string("out", "depth.json", "File of the report.")
    command.parse()  # before the imports below, which take seconds

import json

import numpy as np

from mmgen_jax import settings
from mmgen_jax.data.benchmarks import registry
from mmgen_jax.data.benchmarks.scene import DepthScene, Scenes
from mmgen_jax.metrics.report import table
from mmgen_jax.modalities.depth import FITS, depth_errors, fitted
from mmgen_jax.modalities.measure import Averages, added, over_images
from mmgen_jax.studies.opening import Opened, opened
from mmgen_jax.system import files
from mmgen_jax.system.console import Progress, say
from mmgen_jax.system.errors import NotFinite, UsageError


def scores(
    relative: np.ndarray, scene: DepthScene, bounds: tuple[float, float], own: tuple[float, float] | None
) -> dict[str, Averages]:
    """Kind of fit -> scores of relative inverse depth [H, W] of one scene; the one in depth needs the model's range."""
    near, far = bounds
    valid = (scene.valid & (scene.depth > near) & (scene.depth < far))[None]
    depth = np.where(valid, scene.depth[None], 1).astype(np.float64)
    found = {}
    for kind in FITS if own else ("disparity",):
        prediction = fitted(relative[None].astype(np.float64), depth, valid, bounds, own if kind == "depth" else None)
        values = depth_errors(np.where(valid, prediction, 1), depth, valid)
        found[kind] = {name: over_images(value, valid) for name, value in values.items()}
    return found


def measured(begun: Opened, scenes: Scenes, count: int, bounds: tuple[float, float]) -> dict[str, Averages]:
    """Kind of fit -> scores over the first scenes; a scene without a valid pixel counts in none."""
    total: dict[str, Averages] = {}
    for i in Progress("depth", count, "images").watch(range(count)):
        scene = scenes.load(i)
        relative = begun.read_whole(scene.rgb)["depth"]
        if not np.isfinite(relative).all():
            raise NotFinite(f"the predicted depth of {scenes.names[i]} is NaN or infinite")
        for kind, part in scores(relative, scene, bounds, begun.architecture.facts.depth_range).items():
            total[kind] = added(total.get(kind, {}), part)
    return total


def run(
    chosen: settings.Settings, workdir: str, benchmark: str, root: str, listing: str = "", images: int = 0,
    out: str = "depth.json",
) -> dict:  # fmt: skip
    """Prints the scores with their protocol, and writes the report, which it returns. Raises UsageError."""
    files.check_place(out, "--out", folder=False)
    scenes = registry.opened(benchmark, root, listing)
    protocol = registry.BENCHMARKS[benchmark]
    count = min(images or len(scenes.names), len(scenes.names))
    begun = opened(chosen, workdir, ("rgb", "depth"))
    total = measured(begun, scenes, count, (protocol.near, protocol.far))
    if not any(average.count.sum() for average in total["disparity"].values()):
        raise UsageError(f"--root {root}: no image has a valid pixel between {protocol.near:g} and {protocol.far:g} m")
    values = {f"fit in {kind}": {name: x.value for name, x in part.items()} for kind, part in total.items()}
    say(f"{benchmark}: {protocol.split}\n{count} of {len(scenes.names)} images\n\n{table(values)}\n")
    for kind in total:
        say(f"fit in {kind}: {FITS[kind]}")
    report = {
        "benchmark": benchmark,
        "split": protocol.split,
        "images": count,
        "of": len(scenes.names),
        "fits": {f"fit in {kind}": FITS[kind] for kind in total},
        "scores": values,
    }
    files.write(out, (json.dumps(report, indent=1) + "\n").encode())
    say(f"written: {out}")
    return report


def main(argv: list[str]) -> None:
    del argv
    f = flags.FLAGS
    run(settings.parse(f.config), f.workdir, f.benchmark, f.root, f.list, f.images, f.out)


if __name__ == "__main__":
    command.run(main)
