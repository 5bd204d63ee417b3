"""Compares reconstructions of rendered scenes with their exact geometry: a table, and a sheet of meshes from the side.

python -m mmgen_jax.studies.reconstruction --config=shapes_tiny --workdir=shapes-tiny --config.evaluate.n=64

The first `evaluate.n` scenes of the test split are rendered, the model reads depth and normals from their images as
`evaluate` does, and each way of making a mesh of them is compared with what the renderer knows:

* chamfer: mean distance in metres from points on the mesh to the nearest point of the visible surfaces, which are
  rendered at four times the size (accuracy), and from those to the mesh (completeness), and the mean of both;
* normals: mean angle in degrees between the mesh's own normals and the exact ones, in all pixels with a triangle, and
  in those of objects;
* fov: mean absolute error of the field of view in degrees.

Where the range of depths is not taken from the data set, a mesh has no scale, and gets the one of the median distance.
"""

from __future__ import annotations

from absl import flags

from mmgen_jax.system import command

if __name__ == "__main__":
    command.define_flags()
    flags.DEFINE_string("out", "docs/images/reconstruction/study.png", "File of the sheet.")
    command.parse()  # before the imports below, which take seconds

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from etils import epath
from scipy.spatial import cKDTree

from mmgen_jax.checkpoints import model_folders
from mmgen_jax.data.shapes import builder, render
from mmgen_jax.data.shapes.scenes import FOV_DEGREES
from mmgen_jax.data.shapes.worlds import SINGLE
from mmgen_jax.metrics.runner import Runner, to_values
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.geometry import angle, rays
from mmgen_jax.modalities.mask import REGIONS, object_pixels
from mmgen_jax.modalities.pixels import to_array
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.settings import Settings, parse
from mmgen_jax.show import pictures
from mmgen_jax.studies.opening import Values, table
from mmgen_jax.surfaces import turntable
from mmgen_jax.surfaces.reconstruction import Reconstruction, reconstruct
from mmgen_jax.system import files
from mmgen_jax.system.console import Progress, say
from mmgen_jax.system.errors import UsageError

NEEDED = ("rgb", "depth", "normal", "mask")
FINER = 4  # times the model's size, at which visible surfaces are rendered
STEPS = 4  # points on each triangle are STEPS (STEPS + 1) / 2
HEADS = ("chamfer", "accuracy", "completeness", "normals", "normals, objects", "fov")
SHOWN = 6  # rows of the sheet

_CAMERA = Facts(fov_degrees=FOV_DEGREES, depth_range=SINGLE.depth_range)
_RANGE = Facts(depth_range=SINGLE.depth_range)


@dataclass(frozen=True)
class Way:
    """How a mesh is made: of true or predicted values, what is used besides depth, and what is known of the camera."""

    true: bool
    used: tuple[str, ...]
    facts: Facts


ALONE, GUIDED = "predicted depth alone", "predicted depth, normals and regions"
REST = ("normal", "mask")
WAYS = {
    "true depth alone": Way(True, (), _CAMERA),
    "true depth, normals and regions": Way(True, REST, _CAMERA),
    ALONE: Way(False, (), _CAMERA),
    "predicted depth and normals": Way(False, ("normal",), _CAMERA),
    GUIDED: Way(False, REST, _CAMERA),
    "the same, field of view estimated": Way(False, REST, _RANGE),
    "the same, field of view and range estimated": Way(False, REST, Facts()),
    "predicted depth alone, both assumed": Way(False, (), Facts()),
}


@dataclass(frozen=True)
class Scenes:
    """Rendered scenes and what is known of them.

    Attributes:
      pixels: stored pixels [N, H, W, C] of each modality, as data sets have them.
      normal: exact normals float32 [N, H, W, 3].
      objects: bool [N, H, W].
      surface: points of all that is visible, in metres, float64 [N, P, 3].
    """

    pixels: Mapping[str, np.ndarray]
    normal: np.ndarray
    objects: np.ndarray
    surface: np.ndarray

    @classmethod
    def rendered(cls, count: int, size: int) -> Scenes:
        """The first scenes of the test split."""
        numbers, fine = np.arange(count), FINER * size
        exact = render.render(0, "test", numbers, size)
        z = render.render(0, "test", numbers, fine, oversample=1)["depth"].astype(np.float64)
        surface = (rays(fine, fine, FOV_DEGREES) * z[..., None]).reshape(count, -1, 3)
        objects = object_pixels(exact["mask"], REGIONS)
        assert objects is not None
        return cls(builder.scene_pixels(0, "test", numbers, size)[0], exact["normal"], objects, surface)


def scores(made: Reconstruction, scenes: Scenes, row: int) -> dict[str, float]:
    """Scores of one scene, by `HEADS`."""
    exact, grid = scenes.surface[row], tuple(made.mesh.pixel.T)
    points = made.mesh.spread(made.points, STEPS)
    if not made.view.metric:
        points *= np.median(np.linalg.norm(exact, axis=-1)) / np.median(np.linalg.norm(points, axis=-1))
    accuracy = float(cKDTree(exact).query(points)[0].mean())
    completeness = float(cKDTree(points).query(exact)[0].mean())
    own = made.mesh.normals()
    there = np.linalg.norm(own, axis=-1) > 0
    errors, objects = angle(own, scenes.normal[row][grid]), there & scenes.objects[row][grid]
    fov = abs(made.view.camera.fov - FOV_DEGREES)
    numbers = (accuracy + completeness) / 2, accuracy, completeness, errors[there].mean(), errors[objects].mean(), fov
    return dict(zip(HEADS, map(float, numbers), strict=True))


def run(chosen: Settings, workdir: str, out: epath.PathLike) -> dict[str, dict[str, float]]:
    """Prints the table, writes the sheet, returns the means over scenes. Raises UsageError."""
    files.check_place(out, "--out", folder=False)
    architecture, params = model_folders.load(workdir, chosen.sample.step)
    if missing := [m for m in NEEDED if m not in architecture.modalities]:
        raise UsageError(f"the model {workdir!r} has no {' and no '.join(missing)}; this study needs them")
    scenes = Scenes.rendered(chosen.evaluate.n, architecture.image_size)
    true = {m: MODALITIES[m].value(to_array(scenes.pixels[m]), architecture.facts) for m in NEEDED}
    arrays = Runner.from_settings(chosen, architecture, params).rest_from_rgb(true["rgb"], chosen.seed)
    read = to_values({m: arrays[m] for m in NEEDED[1:]}, architecture.facts)
    progress, count = Progress("reconstruction", len(WAYS) * chosen.evaluate.n, "meshes"), chosen.evaluate.n
    made: dict[str, list[Reconstruction]] = {name: [] for name in WAYS}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in WAYS}
    for name, way in WAYS.items():
        values = true if way.true else read
        for i in range(count):
            used = {m: values[m][i] for m in ("depth", *way.used)}
            made[name].append(reconstruct(**used, rgb=true["rgb"][i], facts=way.facts))
            found[name].append(scores(made[name][-1], scenes, i))
            progress()
    means = {name: {head: float(np.nanmean([x[head] for x in rows])) for head in HEADS} for name, rows in found.items()}
    say(table("mesh of", HEADS, means))
    for head in HEADS[:-1]:
        better = np.mean([b[head] < a[head] for a, b in zip(found[ALONE], found[GUIDED], strict=True)])
        say(f"{head}: better with normals and regions in {better:.0%} of {count} scenes")
    files.write(out, pictures.png(sheet(true, made)))
    say(f"look at {out}")
    return means


def sheet(true: Values, made: Mapping[str, list[Reconstruction]]) -> np.ndarray:
    """Picture of the first scenes: the image, and meshes in plain grey, seen from the side."""
    columns = {"image": pictures.enlarge(true["rgb"][:SHOWN], turntable.SIDE // true["rgb"].shape[1])}
    for name, label in (("true depth alone", "exact depth"), (ALONE, "depth alone"), (GUIDED, "guided")):
        sides = [turntable.frames(one.mesh, one.colors, one.view.camera.fov, 4)[1] for one in made[name][:SHOWN]]
        columns[label] = np.stack(sides)[:, :, turntable.SIDE :]
    return pictures.sheet(columns, scale=1)


def main(argv: list[str]) -> None:
    del argv
    v = flags.FLAGS
    run(parse(v.config), v.workdir, v.out)


if __name__ == "__main__":
    command.run(main)
