"""A convolutional autoencoder that is trained on one's own tiles, one network for all modalities.

`python -m mmgen_jax.train_autoencoder` trains it. Its file has the weights by names as PyTorch would have them, and
the statistics of the latents; the shapes of both tell the whole configuration.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
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

from mmgen_jax.frozen import abstract, torch_names
from mmgen_jax.frozen.abstract import Params
from mmgen_jax.frozen.autoencoders import arrays_file
from mmgen_jax.frozen.autoencoders.chunks import chunked
from mmgen_jax.frozen.autoencoders.conv_layers import COLOURS, ConvConfig, ConvNetwork
from mmgen_jax.frozen.autoencoders.protocol import Arrays, Deterministic, Options, ReadImages, clipped
from mmgen_jax.frozen.autoencoders.whitening import deviations
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.system.arrays import AnyArray
from mmgen_jax.system.errors import UsageError
from mmgen_jax.system.files import here
from mmgen_jax.tensor_files import fit

EPSILON = 1e-5  # added to the variance of latents
_LEAST = 1e-5  # deviation of a channel that is constant, since nothing may divide by zero
_FAINT = 1e-3  # change of pixels, which reach from -1 to 1, of a channel that the linear maps do not decode
_STATISTICS = ("mean", "scale", "sigma")
# Begins names of what one modality has.
_OF_ONE = re.compile(r"(?:(?:en|de)coder\.(?:modality|linear)|latents)\.([^.]+)\.")


def init(config: ConvConfig, key: jax.Array) -> Params:
    """Fresh float32 weights of the network; works under jit."""
    return nnx.to_pure_dict(nnx.split(ConvNetwork(config, "float32", rngs=nnx.Rngs(key)))[1])


def network(config: ConvConfig, dtype: str, params: Params) -> ConvNetwork:
    """The network with these weights, multiplying in "float32" or "bfloat16"."""
    return nnx.merge(abstract.graphdef(ConvNetwork, config, dtype), params)


def stacked(images: Arrays, names: tuple[str, ...]) -> Float[Array, "B M H W 3"]:
    """Images [B, H, W, C] of each modality as the network takes them; a single channel is repeated."""
    wide = [jnp.broadcast_to(images[m], (*images[m].shape[:-1], COLOURS)) for m in names]
    return jnp.stack(wide, 1)


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("params", *_STATISTICS),
    meta_fields=("config", "dtype", "chunk"),
)
@dataclass(frozen=True)
class ConvAutoencoder(Deterministic):
    """Encodes images of all modalities to latents and decodes them, by the same weights; see `protocol.Autoencoder`.

    The channel of images that have only one is repeated for the network, and averaged after decoding. Latents are
    (z - mean) / scale with z of the network, by modality and channel; see `whitened` for scale.

    Attributes:
      config: shapes of the network.
      params: its float32 weights.
      mean: [K] of each modality.
      scale: [K] of each modality.
      sigma: [K] of each modality, standard deviation of z.
      dtype: type that matrices are multiplied in, "float32" or "bfloat16".
      chunk: number of images that the network computes at once, over all devices; it bounds the memory.
    """

    name: ClassVar[str] = "conv"
    fitted: ClassVar[bool] = False
    depends_on: ClassVar[tuple[str, ...]] = ()
    config: ConvConfig
    params: Params
    mean: Arrays
    scale: Arrays
    sigma: Arrays
    dtype: str = "float32"
    chunk: int = 16

    @classmethod
    def build(cls, options: Options, modalities: tuple[str, ...], read_images: ReadImages) -> ConvAutoencoder:  # noqa: ARG003
        if not options.path:
            raise UsageError(
                'config key autoencoder.name is "conv"; it needs autoencoder.path, which is empty: the workdir of '
                "mmgen_jax.train_autoencoder"
            )
        found = load(options.path, modalities).configured(options)
        if found.factor != options.factor:
            raise UsageError(f"config key autoencoder.factor is {options.factor}; {options.path} has {found.factor}")
        return found

    @classmethod
    def rebuild(cls, spec: Mapping, modalities: tuple[str, ...], arrays: Mapping[str, np.ndarray]) -> ConvAutoencoder:  # noqa: ARG003
        return from_arrays(arrays, modalities, "autoencoder")

    @classmethod
    def stand_in(cls, options: Options, modalities: tuple[str, ...]) -> ConvAutoencoder:
        config = ConvConfig(modalities, options.factor, options.width, options.blocks, options.channels)
        params = jax.jit(functools.partial(init, config))(jax.random.key(0))
        zeros, ones = (dict.fromkeys(modalities, np.full(config.channels, v, np.float32)) for v in (0, 1))
        return cls(config, params, zeros, ones, ones, options.dtype, options.chunk)

    def configured(self, options: Options) -> ConvAutoencoder:
        return dataclasses.replace(self, dtype=options.dtype, chunk=options.chunk)

    @property
    def modalities(self) -> tuple[str, ...]:
        return self.config.modalities

    @property
    def factor(self) -> int:  # type: ignore[override]  # the others store it beside their arrays
        return self.config.factor

    @property
    def channels(self) -> dict[str, int]:
        return dict.fromkeys(self.modalities, self.config.channels)

    @property
    def std(self) -> Arrays:
        return {m: self.sigma[m] / self.scale[m] for m in self.modalities}

    def arrays(self) -> dict[str, np.ndarray]:
        """Weights with names and layouts as PyTorch would have them, and the statistics of latents."""
        parts = {part: getattr(self, part) for part in _STATISTICS}
        latents = {_statistic(m, part): np.asarray(x[m]) for part, x in parts.items() for m in self.modalities}
        return torch_names.to_torch(self.params) | latents

    def encode(self, images: Arrays, key: jax.Array | None = None) -> OrderedDict[str, Array]:
        del key  # there is no posterior to draw from
        if not images:
            return OrderedDict()
        names = tuple(m for m in self.modalities if m in images)
        found = self._each(stacked(images, names), lambda net, x: net.encode(x, names))
        return OrderedDict((m, (found[:, i] - self.mean[m]) / self.scale[m]) for i, m in enumerate(names))

    def decode(self, latents: Arrays) -> OrderedDict[str, Array]:
        if not latents:
            return OrderedDict()
        names = tuple(m for m in self.modalities if m in latents)
        z = jnp.stack([latents[m] * self.scale[m] + self.mean[m] for m in names], 1)
        found = self._each(z, lambda net, z: net.decode(z, names))
        return OrderedDict((m, clipped(_channels(found[:, i], m))) for i, m in enumerate(names))

    def _each(self, x: Array, compute: Callable[[ConvNetwork, Array], Array]) -> Array:
        """Computes images or latents [B, M, ...] of a few samples at once."""
        net = network(self.config, self.dtype, self.params)
        return chunked(lambda part: compute(net, part), x, max(1, self.chunk // x.shape[1]))


def _channels(images: Float[Array, "B H W 3"], modality: str) -> Array:
    """Images with as many channels as those of a modality have."""
    return images.mean(-1, keepdims=True) if MODALITIES[modality].channels == 1 else images


def _statistic(modality: str, part: str) -> str:
    """The name of a statistic of latents in a file."""
    return f"latents.{modality}.{part}"


def whitened(
    config: ConvConfig, params: Params, images: Arrays, whitening: float, dtype: str = "float32", chunk: int = 16
) -> ConvAutoencoder:
    """The autoencoder of trained weights, with the statistics of the latents of images [N, H, W, C] in [-1, 1].

    With sigma the standard deviation of a channel of z, scale brings sqrt(sigma^2 + `EPSILON`) to what
    `whitening.deviations` wants of the change of pixels that its linear map decodes. So a channel that says nothing of
    a modality stays close to 0. Each modality may have images of its own samples.

    Raises:
      UsageError: a modality has no images.
    """
    zeros, ones = (dict.fromkeys(config.modalities, np.full(config.channels, v, np.float32)) for v in (0, 1))
    plain = ConvAutoencoder(config, params, zeros, ones, ones, dtype, chunk)
    encode = jax.jit(lambda autoencoder, images: autoencoder.encode(images))
    mean, scale, sigma = {}, {}, {}
    for m in config.modalities:
        if not len(images[m]):
            raise UsageError(f"no tile has {m}, whose latents are to be measured")
        z = np.asarray(encode(plain, {m: images[m]})[m], np.float64).reshape(-1, config.channels)
        variance = z.var(0)
        mean[m], sigma[m] = z.mean(0).astype(np.float32), np.sqrt(variance + _LEAST**2).astype(np.float32)
        size = np.sqrt(variance + EPSILON)
        drawn = size * np.linalg.norm(np.asarray(params["decoder"]["linear"][m]["kernel"], np.float64)[0, 0], axis=1)
        scale[m] = (size / deviations(np.maximum(drawn, _FAINT), whitening)).astype(np.float32)
    return dataclasses.replace(plain, mean=mean, scale=scale, sigma=sigma)


def load(path: epath.PathLike, modalities: tuple[str, ...]) -> ConvAutoencoder:
    """Reads what `mmgen_jax.train_autoencoder` wrote: a folder, or the file in it.

    Raises UsageError if there is none, or for the first array that is missing, damaged or does not fit.
    """
    file = here(path)
    file = file / arrays_file.FILE if file.is_dir() else file
    return from_arrays(arrays_file.read_arrays(file), modalities, file)


def from_arrays(arrays: Mapping[str, np.ndarray], modalities: tuple[str, ...], source: object) -> ConvAutoencoder:
    """The autoencoder of some of the modalities whose arrays these are. Raises UsageError for what does not fit."""
    known = sorted({match[1] for name in arrays if (match := _OF_ONE.match(name))}, key=_place)
    if unknown := [m for m in modalities if m not in known]:
        raise UsageError(f"{source} was trained on {', '.join(known) or 'nothing'}; it does not know {unknown[0]}")
    own = {name: x for name, x in arrays.items() if not (match := _OF_ONE.match(name)) or match[1] in modalities}
    config = _config(own, modalities, source)
    statistics = {_statistic(m, part): (config.channels,) for m in modalities for part in _STATISTICS}
    weights = {name: x for name, x in own.items() if name not in statistics}
    params = torch_names.from_torch(weights, abstract.params(ConvNetwork, config, "float32"), source)
    fit.check({name: own[name] for name in statistics if name in own}, statistics, source)
    parts = {part: {m: own[_statistic(m, part)].astype(np.float32) for m in modalities} for part in _STATISTICS}
    for part in ("scale", "sigma"):
        for m, x in parts[part].items():
            if not (x > 0).all():
                raise UsageError(f"{source}: {_statistic(m, part)} has values that are not above 0")
    return ConvAutoencoder(config, params, parts["mean"], parts["scale"], parts["sigma"])


def _place(modality: str) -> tuple[int, str]:
    """Sorts modalities as the registry does, those that it does not know last."""
    names = tuple(MODALITIES)
    return names.index(modality) if modality in names else len(names), modality


def _config(arrays: Mapping[str, AnyArray], modalities: tuple[str, ...], source: object) -> ConvConfig:
    """The shapes of the network, as the arrays tell them; those that contradict it are found when it is filled."""
    width, numbers, *_ = fit.shape_of(arrays, "encoder.stem.weight", 4, source)
    channels = fit.shape_of(arrays, "encoder.out.weight", 4, source)[0]
    linear = f"encoder.linear.{modalities[0]}.weight"
    pixels = fit.shape_of(arrays, linear, 4, source)[1]
    blocks = sum(re.fullmatch(r"encoder\.stages\.0\.blocks\.\d+\.norm\.weight", name) is not None for name in arrays)
    factor, stem = (math.isqrt(n // COLOURS) for n in (pixels, numbers))
    try:
        found = ConvConfig(modalities, factor, width, blocks, channels)
    except UsageError:
        found = None
    if found is None or found.stem != stem:
        raise UsageError(
            f"{source} is not that of the network: {linear} has {pixels} inputs and encoder.stem.weight "
            f"{numbers}, for patches of {factor} and {stem} pixels"
        )
    return found
