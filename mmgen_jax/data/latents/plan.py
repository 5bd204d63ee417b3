"""What stored latents depend on, and which are to be written."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from mmgen_jax.data import tiles
from mmgen_jax.data.latents import shards as latent_shards
from mmgen_jax.data.latents.folder import Info
from mmgen_jax.data.latents.record import Layout
from mmgen_jax.frozen.autoencoders.protocol import Autoencoder
from mmgen_jax.frozen.autoencoders.registry import KINDS
from mmgen_jax.frozen.dino import Dino
from mmgen_jax.system.errors import UsageError

# Settings that the latents depend on, besides those of the kind of autoencoder and those that come as digests.
_KEYS = (
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


def digest(tree: object) -> str:
    """A short name of a network's weights: its arrays and where they are in it."""
    sha = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        array = np.asarray(leaf)
        sha.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode() + array.tobytes())
    return sha.hexdigest()[:16]


def make_info(config: ConfigDict, splits: Sequence[str], autoencoder: Autoencoder, dino: Dino | None) -> Info:
    """What the latents are going to be."""
    size = config.data.image_size
    if size % autoencoder.factor:
        raise UsageError(
            f"config key data.image_size is {size}; the autoencoder needs a multiple of {autoencoder.factor}"
        )
    image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    layout = Layout(
        modalities=tuple((m, autoencoder.channels[m]) for m in config.data.modalities),
        size=size // autoencoder.factor,
        dtype=config.encode.dtype,
        features=jax.eval_shape(lambda x: dino(x), image).shape[1:] if dino else None,
        pixels=size if config.encode.rgb else 0,
    )
    directory = tiles.find_dataset(config.data.dir)
    of_kind = tuple(f"autoencoder.{name}" for name in KINDS[config.autoencoder.name].depends_on)
    depends = {key: _value(config, key) for key in _KEYS + of_kind}
    depends["tiles"] = hashlib.sha256((directory / "dataset_info.json").read_bytes()).hexdigest()[:16]
    depends["weights of the autoencoder"] = digest(autoencoder)
    if dino:
        depends |= {"features.dtype": config.features.dtype, "weights of DINOv2": digest(dino)}
    copies = _copies(config)
    counts = {split: len(tiles.read_tiles(config.data.dir, split)) for split in splits}
    return Info(
        layout=layout,
        image_size=size,
        class_names=tiles.class_names(config.data.dir),
        metadata=tiles.read_metadata(config.data.dir),
        autoencoder=autoencoder.spec,
        settings=depends,
        shards={s: latent_shards.plan(s, copies * n, copies * config.encode.shard) for s, n in counts.items()},
    )


def _copies(config: ConfigDict) -> int:
    """Samples that are made of one tile."""
    return 2 if config.encode.mirror else 1


def _value(config: ConfigDict, key: str) -> object:
    section, name = key.split(".")
    value = config[section][name]
    return list(value) if isinstance(value, tuple) else value
