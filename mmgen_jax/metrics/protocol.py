"""How scores came about, in words and numbers that stand beside them in a report."""

from __future__ import annotations

from collections.abc import Mapping

import mmgen_jax
from mmgen_jax.metrics.runner import Runner
from mmgen_jax.modalities.borders import tolerance
from mmgen_jax.modalities.depth import FITS
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.grouping import DISTANCE
from mmgen_jax.sampling.options import Options
from mmgen_jax.sampling.solvers import SOLVERS
from mmgen_jax.settings import Settings

METRES = (
    "metres, after a scale of at least 0 and a shift per image, fitted in inverse depth by least squares over all "
    "valid pixels and clipped to the data set's range of {:g} to {:g} m; fit_in_depth: " + FITS["depth"]
)
RELATIVE = (
    "relative inverse depth (the data set has no depth range), after a scale of at least 0 and a shift per image, "
    "fitted by least squares over all valid pixels"
)
NAMED = (
    "miou and iou by their names, not matched; ari and matched_iou compare groups of pixels, whatever their names: "
    "each true region of an image is matched with at most one predicted region for the largest sum of IoU, one without "
    "a partner counts 0, predicted ones that are left over count nothing"
)
UNNAMED = (
    "without names, as the model has no palette: true ones have one colour each, predicted ones are what is near the "
    f"main colours that are painted ({DISTANCE:g} of 255); {NAMED.split('; ', 1)[1]}"
)
BORDERS = "borders may be apart by 0.75% of the diagonal, rounded up to whole pixels ({})"
Protocol = dict[str, str | int | dict[str, int]]


def protocol(
    chosen: Settings,
    model: str,
    runner: Runner,
    facts: Facts,
    scored: Mapping[str, int],
    pixels: Mapping[str, int],
    tasks: Mapping[str, int],
) -> Protocol:
    """Model, data, counts, alignment, draws, calls of the network and seed of an evaluation.

    Args:
      chosen: the settings that it was made with.
      model: its workdir or name, and which checkpoint of it.
      runner: how it was sampled.
      facts: what the data set says of itself.
      scored: number of scenes in which each modality has a pixel to compare with.
      pixels: number of pixels that predictions from rgb were compared in.
      tasks: the same of each other task, by its name.
    """
    a, e = runner.sampler.architecture, chosen.evaluate
    found: Protocol = {
        "model": model,
        "modalities": f"{', '.join(a.modalities)}, {a.image_size} x {a.image_size} pixels",
        "data": f"{chosen.data.dir}, split {chosen.data.test_split}",
        "scenes with truth": dict(scored),
        "pixels compared": dict(pixels),
        "tasks, pixels compared": dict(tasks) or "rgb to all others alone; evaluate.tasks has more, as one->each",
        "predictions": f"{_calls(runner.understanding)}, without a class",
        "draws": f"{e.draws} of each scene{', combined' if e.draws > 1 else ''}",
        "samples": f"{e.samples}; {_calls(runner.generation)}, guidance {runner.generation.guidance:g}",
        "seed": chosen.seed if e.seeds == 1 else f"{e.seeds} seeds from {chosen.seed} on; mean and standard deviation",
        "averages": "over images, regions over the whole set; pixels without a truth are left out",
    }
    if "depth" in a.modalities:
        found["depth"] = RELATIVE if facts.depth_range is None else METRES.format(*facts.depth_range)
    if "normal" in a.modalities:
        found["normals"] = "angles in degrees; axes of the camera: x right, y up, z towards it; not aligned"
    if "mask" in a.modalities:
        found["regions"] = f"{NAMED if facts.regions else UNNAMED}; {BORDERS.format(tolerance(*[a.image_size] * 2))}"
    return found | {"software": f"mmgen_jax {mmgen_jax.__version__}"}


def said(found: Mapping) -> dict[str, str]:
    """Entries of a protocol as text; those of several modalities or tasks in one line."""
    return {
        name: ", ".join(f"{m} {x}" for m, x in value.items()) if isinstance(value, Mapping) else str(value)
        for name, value in found.items()
    }


def _calls(options: Options) -> str:
    calls = SOLVERS[options.solver].evaluations(options.count)
    taken = f"{options.solver}, {options.count} steps, {calls} evaluations of the velocity"
    return f"{taken}, temperature {options.temperature:g}"
