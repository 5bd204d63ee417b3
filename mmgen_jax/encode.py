"""Computes the latents of a data set of tiles with the frozen networks, once for all training runs.

python -m mmgen_jax.encode --config=imagenet256_xl2 --out=data/imagenet256_latents

The same command again continues at the first shard that is not finished. `--worker=0 --workers=4` splits the shards
over machines that share the folder.
"""

from __future__ import annotations

from absl import flags

from mmgen_jax.system import command

if __name__ == "__main__":
    command.define_config()
    flags.DEFINE_string("out", None, "Folder that the latents are written to.", required=True)
    flags.DEFINE_list("splits", [], "Splits of the tiles to encode; default: all.")
    command.define_share("shards")
    command.parse()  # before the imports below, which take seconds

import contextlib
import itertools
from collections.abc import Sequence

import jax
from etils import epath
from ml_collections import ConfigDict

from mmgen_jax import settings
from mmgen_jax.data import description, pipeline, tiles
from mmgen_jax.data.latents import encoding, shards
from mmgen_jax.data.latents.plan import Request, make_info
from mmgen_jax.frozen.autoencoders import arrays_file, registry
from mmgen_jax.frozen.dino import Dino
from mmgen_jax.parallel import sharding
from mmgen_jax.settings import Settings
from mmgen_jax.system import console, files, sealed
from mmgen_jax.system.console import say
from mmgen_jax.system.errors import UsageError, choice
from mmgen_jax.system.shares import ALL, Share
from mmgen_jax.training import setup

# Settings that the latents depend on, besides those of the kind of autoencoder and those that come as digests.
DEPENDS = (
    "data.modalities",
    "data.image_size",
    "autoencoder.name",
    "autoencoder.dtype",
    "encode.dtype",
    "encode.features",
    "encode.rgb",
    "encode.mirror",
    "encode.shard",
)


def load_features(chosen: Settings) -> Dino | None:
    """The network that computes features, or None if none are stored. Raises UsageError for unfit settings."""
    for name in ("features", "rgb"):
        if getattr(chosen.encode, name) and "rgb" not in chosen.data.modalities:
            raise UsageError(f"config key encode.{name} is True; it needs rgb in data.modalities")
    if not chosen.encode.features:
        return None
    if not chosen.features.path:
        raise UsageError("config key encode.features is True; it needs features.path, which is empty")
    return setup.load_dino(chosen)


def request(chosen: Settings) -> Request:
    """The latents to compute, with the settings that they depend on. `make_info` adds digests of the weights."""
    names = list(DEPENDS)
    names += [f"autoencoder.{name}" for name in registry.KINDS[chosen.autoencoder.name].depends_on]
    names += ("features.dtype",) if chosen.encode.features else ()
    values = {name: value for name, _, value in settings.declared(chosen)}
    return Request(
        tiles=chosen.data.dir,
        modalities=chosen.data.modalities,
        image_size=chosen.data.image_size,
        dtype=chosen.encode.dtype,
        rgb=chosen.encode.rgb,
        mirror=chosen.encode.mirror,
        shard=chosen.encode.shard,
        settings={name: values[name] for name in names},
    )


def encode(config: ConfigDict, out: epath.PathLike, splits: Sequence[str] = (), share: Share = ALL) -> None:
    """Writes the latents of some splits (default: all) of `data.dir`, or a share of them; raises UsageError."""
    share.check()
    chosen = settings.parse(config)
    mesh = sharding.make_mesh()
    sharding.check_batch(chosen.encode.batch, mesh, "encode.batch")
    folder = files.path_of(out, "--out")
    autoencoder, dino = setup.make_autoencoder(chosen, folder), load_features(chosen)
    splits_info = description.builder(tiles.find_dataset(chosen.data.dir)).info.splits
    known = sorted(name for name, found in splits_info.items() if found.num_examples)
    splits = [choice("--splits", split, known) for split in splits or known]
    wanted = request(chosen)
    info = make_info(wanted, splits, autoencoder, dino)
    shards.begin(folder, info)
    if registry.KINDS[chosen.autoencoder.name].fitted and not sealed.expects(folder / arrays_file.FILE):
        with sealed.sealing(folder, (arrays_file.FILE,)):
            arrays_file.save_arrays(folder, autoencoder)
    say(shards.describe(info))
    todo = shards.remaining(folder, info, share)
    progress = console.Progress("encode", sum(shard.count for shard in todo), "samples")
    say(f"{len(todo)} shard(s) to do on {mesh.size} {jax.devices()[0].platform} device(s)")
    select = pipeline.Select(chosen.data.modalities, chosen.data.image_size, info.layout.holes)
    autoencoder, dino = jax.device_put((autoencoder, dino), sharding.replicated(mesh))
    for split, group in itertools.groupby(todo, key=lambda shard: shard.split):
        mine = list(group)
        ranges = ((s.index * chosen.encode.shard, s.count // wanted.copies) for s in mine)
        samples = encoding.read(
            tiles.read_tiles(chosen.data.dir, split),
            [i for start, count in ranges for i in range(start, start + count)],
            select,
            mirror=chosen.encode.mirror,
        )
        with contextlib.closing(samples):
            for shard in mine:
                part = itertools.islice(samples, shard.count)
                made = encoding.records(part, info.layout, autoencoder, dino, chosen.encode.batch, mesh)
                shards.write(folder, shard, progress.watch(made))
    missing = shards.finish(folder, info)
    say(f"{missing} shard(s) of other workers are not finished yet" if missing else f"done: latents in {folder}")


def main(argv: list[str]) -> None:
    del argv
    values = flags.FLAGS
    encode(values.config, values.out, values.splits, Share(values.worker, values.workers))


if __name__ == "__main__":
    command.run(main)
