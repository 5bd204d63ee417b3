"""Scores a model's normals on a benchmark of the papers: NYUv2, ScanNet, iBims-1, Sintel, Virtual KITTI or DIODE.

python -m mmgen_jax.studies.normal_benchmarks --config=shapes_tiny --workdir=shapes-tiny --benchmark=ibims
    --root=data/dsine_eval

Whole images are read as `evaluate` reads scenes, and scored at their own size, over all pixels together.
"""

from __future__ import annotations

from absl import flags

from mmgen_jax.system import command

if __name__ == "__main__":
    command.define_flags()
    flags.DEFINE_string("benchmark", None, "nyuv2, scannet, ibims, sintel, vkitti or diode.", required=True)
    flags.DEFINE_string(
        "root", None, "The folder dsine_eval, or its folder of the benchmark; val of diode.", required=True
    )
    flags.DEFINE_string("axes", "", "Which axes of the files are x right, y up, z towards the camera; empty = look.")
    flags.DEFINE_integer("images", 0, "Only so many images, the first ones; 0 = all.", lower_bound=0)
    flags.DEFINE_string("out", "normals.json", "File of the report.")
    command.parse()  # before the imports below, which take seconds

import functools
import json
import operator

import numpy as np

from mmgen_jax import settings
from mmgen_jax.data.benchmarks import normals
from mmgen_jax.data.benchmarks.facing import Facing
from mmgen_jax.data.benchmarks.normals import NormalScene, NormalScenes
from mmgen_jax.metrics.normal_scores import Errors
from mmgen_jax.metrics.report import table
from mmgen_jax.modalities.conventions import Axes
from mmgen_jax.modalities.geometry import angle
from mmgen_jax.studies.opening import Opened, opened
from mmgen_jax.system import files
from mmgen_jax.system.console import Progress, say
from mmgen_jax.system.errors import NotFinite, UsageError

_LOOKED = 50  # images that axes are looked at in
_EVERY = 4  # pixels, each way, of which one is looked at
PROTOCOL = "angles over all pixels of all images together, at the size of the images; nothing is aligned"


def look(scenes: NormalScenes, count: int) -> Facing:
    """What the first images tell of the axes of their normals."""
    found = []
    for i in range(min(count, _LOOKED)):
        scene = scenes.load(i)
        valid = scene.valid[::_EVERY, ::_EVERY]
        found.append(Facing.of(scene.normal[::_EVERY, ::_EVERY][valid], scene.rays[::_EVERY, ::_EVERY][valid]))
    return functools.reduce(operator.add, found)


def chosen_axes(text: str, seen: Facing, authors: Axes | None = normals.AXES) -> tuple[Axes, str]:
    """The axes that normals are read with, and how they were found, in words. Raises UsageError for axes that are none.

    Args:
      text: axes that were asked for; "" means those that the images tell, or where they do not, those of the authors.
      seen: what the images tell.
      authors: what the authors say, if that is known.
    """
    told = seen.told()
    axes = Axes(text, "axes") if text else told or authors
    if axes is None:
        raise UsageError(
            "axes is empty, and the images do not tell them; allowed: which are right, up, back, as x,-y,-z"
        )
    how = "as asked for" if text else "as the images tell" if told else "as their authors say, for images tell it not"
    share = f"{seen.share(axes):.2%} of the pixels that were looked at face away from the camera"
    if told and told != axes:
        return axes, f"{how}: {share}; with {told.text} only {seen.share(told):.2%} do, which are likely the right ones"
    return axes, f"{how}: {share}"


def errors(predicted: np.ndarray, scene: NormalScene, axes: Axes) -> Errors:
    """Of predicted normals [H, W, 3] of one image, whose files have these axes."""
    return Errors.of(angle(predicted[scene.valid], axes.turned(scene.normal[scene.valid])))


def measured(begun: Opened, scenes: NormalScenes, count: int, axes: Axes) -> Errors:
    """Of the first images together."""
    total: Errors | None = None
    for i in Progress("normals", count, "images").watch(range(count)):
        scene = scenes.load(i)
        predicted = begun.read_whole(scene.rgb)["normal"]
        if not np.isfinite(predicted).all():
            raise NotFinite(f"the predicted normals of {scenes.names[i]} are NaN or infinite")
        part = errors(predicted, scene, axes)
        total = total + part if total else part
    assert total is not None  # there is at least one image
    return total


def run(
    chosen: settings.Settings, workdir: str, benchmark: str, root: str, axes: str = "", images: int = 0,
    out: str = "normals.json",
) -> dict:  # fmt: skip
    """Prints the scores with their protocol, and writes the report, which it returns. Raises UsageError."""
    files.check_place(out, "--out", folder=False)
    scenes = normals.opened(benchmark, root)
    count = min(images or len(scenes.names), len(scenes.names))
    if axes:
        Axes(axes, "axes")  # before images are read
    begun = opened(chosen, workdir, ("rgb", "normal"))
    seen = look(scenes, count)
    if not seen.pixels:
        raise UsageError(f"--root {root}: no pixel of the first {min(count, _LOOKED)} images has a normal")
    used, how = chosen_axes(axes, seen, normals.authors_axes(benchmark))
    say(f"axes of the files: x, y, z are {used.text}, {how}")
    total = measured(begun, scenes, count, used)
    values = {"normals": total.scores()}
    published = normals.IMAGES[benchmark]
    say(f"{benchmark}: {count} images; it is published with {published}\n\n{table(values)}\n\n{PROTOCOL}")
    report = {
        "benchmark": benchmark,
        "images": count,
        "of": published,
        "pixels": total.count,
        "axes": used.text,
        "axes were found": how,
        "protocol": PROTOCOL,
        "scores": values["normals"],
    }
    files.write(out, (json.dumps(report, indent=1) + "\n").encode())
    say(f"written: {out}")
    return report


def main(argv: list[str]) -> None:
    del argv
    f = flags.FLAGS
    run(settings.parse(f.config), f.workdir, f.benchmark, f.root, f.axes, f.images, f.out)


if __name__ == "__main__":
    command.run(main)
