"""Stable Diffusion's autoencoder, one pretrained network for all modalities, read from files of several formats."""

from __future__ import annotations

import dataclasses
import functools
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import nnx
from jaxtyping import Array, Float

from mmgen_jax.diffusion import keys
from mmgen_jax.frozen import abstract, torch_names
from mmgen_jax.frozen.abstract import Params
from mmgen_jax.frozen.autoencoders import kl_names, tiny_decoder
from mmgen_jax.frozen.autoencoders.chunks import chunked
from mmgen_jax.frozen.autoencoders.kl_layers import KLConfig, KLNetwork
from mmgen_jax.frozen.autoencoders.protocol import Arrays, Options, ReadImages, clipped
from mmgen_jax.frozen.autoencoders.tiny_decoder import TinyDecoder
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.system.errors import UsageError
from mmgen_jax.tensor_files import hub, states, tensors

OVERLAP = 0.25  # share of a tile that overlaps its neighbour


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("params", "tiny"),
    meta_fields=("modalities", "config", "dtype", "chunk", "tile"),
)
@dataclass(frozen=True)
class AutoencoderKL:
    """Encodes images of all modalities to latents and decodes them, by the same weights; see `protocol.Autoencoder`.

    The channel of images that have only one is repeated for the network, and averaged after decoding. Latents are
    ``(z - shift) * scale`` with z = mean + std * eps of the posterior; see `KLConfig` for both.

    Attributes:
      modalities: modalities that images and latents may have.
      config: config of the network.
      params: its float32 weights; None for a converted checkpoint that has none, and then only `sample` works.
      dtype: type that matrices are multiplied in, "float32" or "bfloat16".
      chunk: number of images that the network computes at once, over all devices. It bounds the memory: in float32,
        decoding an image of 256 x 256 pixels takes 0.24 GB, and encoding 0.11 GB.
      tile: height and width, in latent positions, of tiles for images too large to decode whole; 0 means no tiles.
      tiny: decodes in place of the network, for previews; None means that the network decodes.
    """

    name: ClassVar[str] = "kl"
    fitted: ClassVar[bool] = False
    depends_on: ClassVar[tuple[str, ...]] = ()
    modalities: tuple[str, ...]
    config: KLConfig
    params: Params | None
    dtype: str = "float32"
    chunk: int = 16
    tile: int = 0
    tiny: TinyDecoder | None = None

    @classmethod
    def build(cls, options: Options, modalities: tuple[str, ...], read_images: ReadImages) -> AutoencoderKL:  # noqa: ARG003
        if not options.path:
            raise UsageError('config key autoencoder.name is "kl"; it needs autoencoder.path, which is empty')
        return _load_checked(options, modalities)

    @classmethod
    def rebuild(cls, spec: Mapping, modalities: tuple[str, ...], arrays: Mapping[str, np.ndarray]) -> AutoencoderKL:
        """Makes the stored autoencoder again. Without arrays it has no weights, and neither encodes nor decodes."""
        config = kl_names.parse_config(spec["config"], "model.json")
        return cls(modalities, config, kl_names.from_names(arrays, config, "autoencoder") if arrays else None)

    @classmethod
    def stand_in(cls, options: Options, modalities: tuple[str, ...]) -> AutoencoderKL:
        config = KLConfig()
        if options.factor != config.factor:
            raise UsageError(
                f"config key autoencoder.factor is {options.factor}; that of a kl stand-in is {config.factor}"
            )
        params = jax.jit(lambda: nnx.to_pure_dict(nnx.split(KLNetwork(config, "float32", rngs=nnx.Rngs(0)))[1]))()
        return cls(modalities, config, params, options.dtype, options.chunk)

    def configured(self, options: Options) -> AutoencoderKL:
        """Applies options, and reads from `options.path` the weights that a converted model does not have."""
        if self.params is not None:
            return dataclasses.replace(self, dtype=options.dtype, chunk=options.chunk)
        return _load_checked(options, self.modalities) if options.path else self

    @property
    def factor(self) -> int:
        return self.config.factor

    @property
    def channels(self) -> dict[str, int]:
        return dict.fromkeys(self.modalities, self.config.latent_channels)

    @property
    def std(self) -> dict[str, np.ndarray]:
        """Standard deviation of latent channels: the factor beside `latents_std`, else 1, as factors are chosen."""
        std = self.config.scaling_factor if self.config.latents_std else 1.0
        return {m: np.full(self.config.latent_channels, std, np.float32) for m in self.modalities}

    @property
    def spec(self) -> dict:
        # Without what this network does not have, so that it equals what was stored before there was any of it.
        config = {key: value for key, value in dataclasses.asdict(self.config).items() if value != ()}
        return {"name": self.name, "factor": self.factor, "config": config}

    @property
    def options(self) -> dict[str, object]:
        return {"name": self.name, "factor": self.factor}

    def arrays(self) -> dict[str, np.ndarray]:
        """The weights with diffusers' names and layouts, so that the stored file has its format."""
        return {} if self.params is None else torch_names.to_torch(self.params)

    def moments(self, images: Arrays) -> OrderedDict[str, Array]:
        wide = {m: jnp.broadcast_to(x, (*x.shape[:-1], self.config.in_channels)) for m, x in images.items()}
        return self._each(wide, lambda x: self._network().moments(x), 1 / self.factor)

    def sample(self, moments: Arrays, key: jax.Array | None) -> OrderedDict[str, Array]:
        (shift, scale), latents = self.config.normalization, OrderedDict()
        for m in self.modalities:
            if m in moments:
                z, std = jnp.split(moments[m], 2, -1)
                if key is not None:
                    z = z + std * jax.random.normal(keys.stream(key, m), std.shape, std.dtype)
                latents[m] = (z - shift) * scale
        return latents

    def encode(self, images: Arrays, key: jax.Array | None = None) -> OrderedDict[str, Array]:
        return self.sample(self.moments(images), key)

    def decode(self, latents: Arrays) -> OrderedDict[str, Array]:
        wide = self._each(latents, self.tiny or self._decode, self.factor)
        images = {m: x.mean(-1, keepdims=True) if MODALITIES[m].channels == 1 else x for m, x in wide.items()}
        return OrderedDict((m, clipped(x)) for m, x in images.items())

    def with_tiny_decoder(self, path: epath.PathLike) -> AutoencoderKL:
        """With the tiny decoder at a path in place of the full one, which is not stored with a model.

        Raises UsageError as `tiny_decoder.load` does, or for a decoder of latents of another shape.
        """
        tiny, own = tiny_decoder.load(path, self.dtype), self.config
        if (tiny.config.latent_channels, tiny.config.factor) != (own.latent_channels, own.factor):
            raise UsageError(
                f"it decodes latents of {tiny.config.latent_channels} channels and factor {tiny.config.factor}; "
                f"those of the model have {own.latent_channels} and {own.factor}"
            )
        return dataclasses.replace(self, tiny=tiny)

    def _decode(self, latents: Float[Array, "B h w K"]) -> Float[Array, "B H W C"]:
        shift, scale = self.config.normalization
        return self._network().decode(latents / scale + shift)

    def _network(self) -> KLNetwork:
        if self.params is None:
            raise UsageError(
                "this model has no weights of its autoencoder; convert it with --vae, or set config.autoencoder.path"
            )
        return nnx.merge(abstract.graphdef(KLNetwork, self.config, self.dtype), self.params)

    def _each(self, arrays: Arrays, run: Callable[[Array], Array], zoom: float) -> OrderedDict[str, Array]:
        """Computes `run` on all modalities [B, H, W, C] in one pass, `chunk` images at once.

        `zoom` is the height of what comes out over that of what goes in; where `tile` is set, larger images are tiled.
        """
        if not arrays:
            return OrderedDict()
        side = self.tile if zoom > 1 else self.tile * self.factor
        if side and max(next(iter(arrays.values())).shape[1:3]) > side:
            run = functools.partial(_tiled, run, side=side, zoom=zoom)
        # Modalities are stacked on the second axis, so that a batch stays split over devices by samples.
        names = [m for m in self.modalities if m in arrays]
        stacked = jnp.stack([arrays[m] for m in names], 1)
        out = chunked(run, stacked.reshape(-1, *stacked.shape[2:]), self.chunk)
        out = out.reshape(*stacked.shape[:2], *out.shape[1:])
        return OrderedDict((m, out[:, i]) for i, m in enumerate(names))


def _tiled(run: Callable[[Array], Array], x: Float[Array, "N H W C"], side: int, zoom: float) -> Array:
    """Computes `run` on overlapping tiles and blends them linearly; `zoom` is the size of the result over that of x."""
    step = int(side * (1 - OVERLAP))
    whole, blend = int(side * zoom), int(side * zoom * OVERLAP)
    rows: list[list[Array]] = []
    for top in range(0, x.shape[1], step):
        row: list[Array] = []
        for left in range(0, x.shape[2], step):
            tile = run(x[:, top : top + side, left : left + side])
            if rows:
                tile = _blended(rows[-1][len(row)], tile, blend, axis=1)
            if row:
                tile = _blended(row[-1], tile, blend, axis=2)
            row.append(tile)
        rows.append(row)
    kept = whole - blend
    return jnp.concatenate([jnp.concatenate([t[:, :kept, :kept] for t in row], 2) for row in rows], 1)


def _blended(before: Array, tile: Array, count: int, axis: int) -> Array:
    """Blends the first `count` lines of `tile` along an axis linearly with the last lines of the tile before it."""
    count = min(count, before.shape[axis], tile.shape[axis])
    weight = jnp.arange(count) / count
    weight = weight.reshape([-1 if i == axis else 1 for i in range(tile.ndim)])
    old = jax.lax.slice_in_dim(before, before.shape[axis] - count, before.shape[axis], axis=axis)
    new, rest = (jax.lax.slice_in_dim(tile, a, b, axis=axis) for a, b in ((0, count), (count, tile.shape[axis])))
    return jnp.concatenate([old * (1 - weight) + new * weight, rest], axis)


def load(path: epath.PathLike, modalities: tuple[str, ...], dtype: str = "float32", chunk: int = 16) -> AutoencoderKL:
    """Reads a diffusers folder (or a pipeline's, with `vae/`), a hub id, or a file with diffusers' or CompVis' names.

    A file may be of the autoencoder alone or of a whole Stable Diffusion. A `config.json` beside it is used; what it
    lacks, shapes and names tell, and of the statistics of latents a `latents_stats.pt`, as VA-VAE has it. With
    `latents_std`, a scaling factor that is absent or that of Stable Diffusion is 1.
    Raises UsageError if there is no autoencoder, or if nothing tells its scaling factor, or for the first weight or
    entry that does not fit.
    """
    found = hub.resolve(path, [*hub.FILES, "vae/*"])
    file = hub.weights_file(found / "vae" if (found / "vae").is_dir() else found)
    network = states.read(tensors.read(file), kl_names.ANCHORS, file)
    state = kl_names.diffusers_names(network)
    stored = hub.config(file.parent)
    entries = kl_names.from_shapes(state, file) | (stored or {})
    if entries.get("latents_std") is None and (beside := file.parent / kl_names.STATISTICS).exists():
        entries |= kl_names.statistics(beside)
    if entries.get("latents_std") is not None and entries.get("scaling_factor", kl_names.SD) == kl_names.SD:
        entries["scaling_factor"] = 1.0  # diffusers writes Stable Diffusion's into configs that do not mean any
    if "scaling_factor" not in entries:
        entries["scaling_factor"] = kl_names.scale(entries["latent_channels"], stored, network, file)
    config = kl_names.parse_config(entries, file if stored is None else file.parent / hub.CONFIG)
    return AutoencoderKL(modalities, config, kl_names.from_names(state, config, file), dtype, chunk)


def _load_checked(options: Options, modalities: tuple[str, ...]) -> AutoencoderKL:
    """Loads the autoencoder at `options.path`. Raises UsageError as `load` does, or if its factor is another."""
    found = load(options.path, modalities, options.dtype, options.chunk)
    if found.factor != options.factor:
        raise UsageError(f"config key autoencoder.factor is {options.factor}; {options.path} has {found.factor}")
    return found
