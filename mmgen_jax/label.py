"""Labels images with expert models; labels are trees of files that mirror those of the images.

python -m mmgen_jax.label --images=photos --out=labels --depth=depth-anything:PATH --normal=from-depth --mask=sam:PATH

The same command again labels what has no labels yet. Failures are listed in `failures.jsonl`. With --size, images are
cropped first and written to OUT/rgb, and the labels belong to these. With --only, a list of suspects that
`python -m mmgen_jax.audit` has written, only those labels are made: by another expert, in another --out.
"""

from __future__ import annotations

from absl import flags

from mmgen_jax.experts import registry
from mmgen_jax.system import command

if __name__ == "__main__":
    flags.DEFINE_string("images", None, "Folder of images, with folders below it.", required=True)
    flags.DEFINE_string("out", None, "Folder of the labels.", required=True)
    for m, entries in registry.EXPERTS.items():
        flags.DEFINE_string(m, None, f"Expert for {m}: {', '.join(entries)}.")
    flags.DEFINE_integer("batch", 8, "Number of images computed at once.")
    flags.DEFINE_integer("size", 0, "Crop images to this size first and keep them in OUT/rgb; 0 = do not crop.")
    flags.DEFINE_string("only", "", "List of the labels to make, as audit writes it; empty = all.")
    command.define_share("images")
    command.parse()  # before the imports below, which take seconds

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from etils import epath

from mmgen_jax.experts import contact_sheet, record, suspects
from mmgen_jax.experts.labelling import Job, Tree, find_jobs, run_expert
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.system import files
from mmgen_jax.system.console import say
from mmgen_jax.system.errors import RunError, UsageError
from mmgen_jax.system.shares import ALL, Share

FAILURES_FILE = "failures.jsonl"


def label(
    folder: epath.PathLike,
    out: epath.PathLike,
    descriptions: Mapping[str, str],
    *,
    batch: int = 8,
    size: int = 0,
    share: Share = ALL,
    only: epath.PathLike = "",
) -> None:
    """Runs the described experts, depth first, over all images below a folder.

    Raises UsageError before any work for what does not fit, as other settings than those of labels that are there, and
    RunError at the end if images failed.
    """
    if not descriptions:
        raise UsageError(f"no expert is given; allowed: --{', --'.join(registry.EXPERTS)}")
    if batch < 1:
        raise UsageError(f"batch is {batch}; allowed: at least 1")
    if size and not 8 <= size <= 4096:
        raise UsageError(f"size is {size}; allowed: 0 for images as they are, or 8 to 4096")
    share.check()
    for name, path in (("images", folder), ("out", out)):
        files.here(path, name)
    if Path(out).resolve().is_relative_to(Path(folder).resolve()):
        raise UsageError(f"out {out!r} is inside images {folder!r}, where its labels would be taken for images")
    files.check_place(out, "out", folder=True)
    chosen = {m: registry.parse(m, descriptions[m]) for m in MODALITIES if m in descriptions}
    jobs, tree = find_jobs(folder, share), Tree(Path(out), size)
    places = {Path(job.path).parent.resolve() for job in jobs}  # links may lead anywhere
    for m in MODALITIES:
        written = (Path(out) / m).resolve()
        if (size or m != "rgb") and any(place.is_relative_to(written) for place in places):
            raise UsageError(f"images {folder!r} has images in {written}, where labels are written; give another --out")
    listed = _listed(only, chosen, jobs, folder) if only else {m: jobs for m in chosen}
    name = FAILURES_FILE if share.is_all else f"failures-{share.worker}-of-{share.workers}.jsonl"
    files.check_files(out, [name, contact_sheet.FILE, *(f"{m}.json" for m in chosen)], "out")
    for m in ["rgb"] * bool(size) + list(chosen):
        files.check_place(Path(out) / m, "out", folder=True)
    for m, some in listed.items():
        for job in some:
            for label_of in ["rgb"] * bool(size) + [m]:
                tree.has(label_of, job.key)  # raises for what would be found in the middle of the work
    experts = {m: described.make(str(Path(out) / "depth")) for m, described in chosen.items()}
    record.begin(Path(out), chosen, size, Path(folder), [job.key for job in jobs])
    say(f"{len(jobs)} images; {', '.join(f'{m} by {descriptions[m]}' for m in experts)}")
    failures = []
    for m, expert in experts.items():
        failures += run_expert(m, expert, listed[m], tree, batch, chosen[m].entry.whole)
    files.write(Path(out) / name, "".join(json.dumps(failure) + "\n" for failure in failures).encode())
    if share.worker == 0:
        shown = contact_sheet.write(Path(out), {job.key: job.path for job in jobs}, size)
        say(f"look at {shown}" if shown else "no image has a label to show")
    labelled = {m: sum(tree.has(m, job.key) for job in listed[m]) for m in experts}
    say(", ".join(f"{m} {count}/{len(listed[m])}" for m, count in labelled.items()))
    if failures:
        first = failures[0]
        raise RunError(
            f"{len(failures)} labels failed, listed in {Path(out) / name}; "
            f"the first: {first['modality']} of {first['image']}: {first['reason']}"
        )


def _listed(
    only: epath.PathLike, modalities: Iterable[str], jobs: Sequence[Job], folder: epath.PathLike
) -> dict[str, list[Job]]:
    """The images of each modality that a list names. Raises UsageError if it names none of all in the folder."""
    named = suspects.read(only)
    found = {m: [job for job in jobs if job.key in named.get(m, ())] for m in modalities}
    if not any(job.key in named.get(m, ()) for m in found for job in find_jobs(folder, ALL)):
        raise UsageError(f"list {str(only)!r} names no {' or '.join(found)} of an image in {folder}")
    return found


def main(argv: list[str]) -> None:
    del argv
    v = flags.FLAGS
    descriptions = {m: described for m in registry.EXPERTS if (described := v[m].value)}
    label(v.images, v.out, descriptions, batch=v.batch, size=v.size, share=Share(v.worker, v.workers), only=v.only)


if __name__ == "__main__":
    command.run(main)
