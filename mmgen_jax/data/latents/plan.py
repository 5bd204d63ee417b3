"""Plans which latents are to be written, and records what they depend on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from mmgen_jax.data import tiles
from mmgen_jax.data.latents import shards
from mmgen_jax.data.latents.dataset import Info
from mmgen_jax.data.latents.record import Layout
from mmgen_jax.frozen.autoencoders.protocol import Autoencoder
from mmgen_jax.frozen.dino import Dino
from mmgen_jax.modalities import holes
from mmgen_jax.system.errors import UsageError


def digest(tree: object) -> str:
    """A short checksum of a network's weights: of its arrays and their paths."""
    sha = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        array = np.asarray(leaf)
        sha.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode() + array.tobytes())
    return sha.hexdigest()[:16]


@dataclass(frozen=True)
class Request:
    """The latents that are to be computed of a data set of tiles.

    Attributes:
      tiles: folder of the data set.
      modalities: the modalities to encode.
      image_size: height and width of the images, in pixels.
      dtype: type of the stored latents.
      rgb: whether the pixels of rgb are stored too.
      mirror: whether a mirror image of each tile is stored too.
      shard: number of tiles in one file.
      settings: dotted name -> value of every setting that the stored numbers depend on.
    """

    tiles: str
    modalities: tuple[str, ...]
    image_size: int
    dtype: str
    rgb: bool
    mirror: bool
    shard: int
    settings: Mapping[str, object]

    @property
    def copies(self) -> int:
        """Number of samples that are made of one tile."""
        return 2 if self.mirror else 1


def make_info(wanted: Request, splits: Sequence[str], autoencoder: Autoencoder, dino: Dino | None) -> Info:
    """Describes the latents that will be written. Raises UsageError for a size that the autoencoder cannot take."""
    size = wanted.image_size
    if size % autoencoder.factor:
        raise UsageError(
            f"config key data.image_size is {size}; the autoencoder needs a multiple of {autoencoder.factor}"
        )
    image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    metadata = tiles.read_metadata(wanted.tiles)
    layout = Layout(
        modalities=tuple((m, autoencoder.channels[m]) for m in wanted.modalities),
        size=size // autoencoder.factor,
        dtype=wanted.dtype,
        features=jax.eval_shape(lambda x: dino(x), image).shape[1:] if dino else None,
        pixels=size if wanted.rgb else 0,
        holes=tuple(m for m in wanted.modalities if m in holes.of(metadata)),
    )
    directory = tiles.find_dataset(wanted.tiles)
    depends = {key: list(value) if isinstance(value, tuple) else value for key, value in wanted.settings.items()}
    depends["tiles"] = hashlib.sha256((directory / "dataset_info.json").read_bytes()).hexdigest()[:16]
    depends["weights of the autoencoder"] = digest(autoencoder)
    if dino:
        depends["weights of DINOv2"] = digest(dino)
    copies = wanted.copies
    counts = {split: len(tiles.read_tiles(wanted.tiles, split)) for split in splits}
    return Info(
        layout=layout,
        image_size=size,
        class_names=tiles.class_names(wanted.tiles),
        metadata=metadata,
        autoencoder=autoencoder.spec,
        settings=depends,
        shards={s: shards.plan(s, copies * n, copies * wanted.shard) for s, n in counts.items()},
    )
