"""Makes points and meshes of a photo, of samples, or of a folder of samples.

python -m mmgen_jax.reconstruct --config=shapes_tiny --workdir=shapes-tiny --photo=photo.png --out=out/photo
python -m mmgen_jax.reconstruct --config=shapes_tiny --workdir=shapes-tiny --config.sample.class_id=torus
python -m mmgen_jax.reconstruct --samples=out/more --fov=55

Each sample becomes OUT/000.glb (a mesh with its texture), 000.ply (points) and 000.gif (a turntable). One line says of
each which camera and what meaning of depth it was made with, and whether these are known, estimated or assumed.
"""

from __future__ import annotations

from absl import flags

from mmgen_jax.system import command

if __name__ == "__main__":
    command.define_config(what="Recipe, by its name or its file; its `sample` says what is made.", required=False)
    flags.DEFINE_string("workdir", "", "Folder of one run, or the name of a bundled model.")
    flags.DEFINE_string("photo", "", "Image file; the model makes the rest as `evaluate` reads it.")
    flags.DEFINE_string("samples", "", "Folder of samples to take in place of making some.")
    flags.DEFINE_float("fov", None, "Field of view of the width in degrees; default: known or estimated.")
    flags.DEFINE_list("formats", "glb,ply,gif", "Some of glb, ply and gif.")
    flags.DEFINE_string("out", "reconstruction", "Folder of the results.")
    command.parse()  # before the imports below, which take seconds

from collections.abc import Sequence

from etils import epath
from ml_collections import ConfigDict

from mmgen_jax import sample, settings
from mmgen_jax.checkpoints import model_folders
from mmgen_jax.data import tiles
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.models import architectures
from mmgen_jax.reconstruct import sample_folder
from mmgen_jax.sampling.given import set_paths
from mmgen_jax.surfaces.reconstruction import WRITERS, Reconstruction, check_fov, reconstruct
from mmgen_jax.system import files
from mmgen_jax.system.console import Progress, say
from mmgen_jax.system.errors import UsageError, choice

DEPTH, MADE = "depth", "samples"  # what is needed, and the folder in OUT of samples that are made
FORMATS = tuple(suffix.removeprefix(".") for suffix in WRITERS)


def run(
    out: epath.PathLike,
    config: ConfigDict | None = None,
    workdir: str = "",
    photo: str = "",
    samples: str = "",
    fov: float | None = None,
    formats: Sequence[str] = FORMATS,
) -> dict[str, Reconstruction]:
    """Reconstructs samples of a folder, or those that it makes; returns them by number. Raises UsageError."""
    check_fov("--fov", fov)
    for name in formats or [""]:
        choice("--formats", name, FORMATS)
    files.check_place(out, "--out", folder=True)
    target = epath.Path(out)
    if samples and photo:
        raise UsageError(f"--samples is {samples!r} and --photo {photo!r}; allowed: one of them")
    if samples:
        folder, facts = files.path_of(samples, "--samples"), _facts(config, workdir)
    else:
        folder, facts = _made(target / MADE, config, workdir, photo)
    names, found = sample_folder.numbers(folder), dict[str, Reconstruction]()
    progress = Progress("reconstruction", len(names), "samples")
    target.mkdir(parents=True, exist_ok=True)
    files.claim(target, [f"{name}.{kind}" for name in names for kind in formats])
    for name in progress.watch(names):
        one = sample_folder.read(folder, name)
        found[name] = reconstruct(one.depth, one.normal, one.rgb, fov, facts, one.valid, one.mask)
        for kind in formats:
            found[name].save(target / f"{name}.{kind}")
        say(f"{name}: {found[name]}")
    say(f"written: {len(names) * len(formats)} files in {target}")
    return found


def _made(folder: epath.Path, config: ConfigDict | None, workdir: str, photo: str) -> tuple[epath.Path, Facts]:
    """Makes samples as `sample` does; returns their folder and what is known of their data."""
    if config is None or not workdir:
        missing = "--config" if config is None else "--workdir"
        raise UsageError(f"neither --samples nor {missing} is given; allowed: --samples, or --config and --workdir")
    if photo:
        config, e = config.copy_and_resolve_references(), config.evaluate
        config.sample.update({"n": 1, "solver": e.solver, "steps": e.steps, "temperature": e.temperature})
        config.sample.given.rgb = photo
    chosen, stored = settings.parse(config), architectures.load(model_folders.locate(workdir))
    task = sample.task_of(chosen, stored.modalities)
    names, wanted = sample.given_names(task, stored.modalities), chosen.sample.wanted
    if DEPTH not in (*names, *(wanted.split("+") if wanted else stored.modalities)):
        made = f"sample.wanted is {wanted!r}" if wanted else f"the model {workdir!r} has {', '.join(stored.modalities)}"
        raise UsageError(f"{made}; a reconstruction needs depth")
    # A photo is not seen by the camera of the data set.
    own = bool(set_paths(chosen.sample.given) or set_paths(chosen.sample.images))
    return sample.run(config, workdir, folder), _facts(None if own else config, workdir)


def _facts(config: ConfigDict | None, workdir: str) -> Facts:
    """The range of depth of the model, and the camera of the data set, of those that are given and there."""
    facts = architectures.load(model_folders.locate(workdir)).facts if workdir else Facts()
    directory = settings.parse(config).data.dir if config is not None else ""
    there = directory and epath.Path(directory).exists()
    return facts.completed(tiles.read_facts(directory)) if there else facts


def main(argv: Sequence[str]) -> None:
    del argv
    v = flags.FLAGS
    run(v.out, v.config, v.workdir, v.photo, v.samples, v.fov, v.formats)


if __name__ == "__main__":
    command.run(main)
