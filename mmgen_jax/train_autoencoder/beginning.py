"""What an autoencoder begins its training with, and keeps: principal components of patches, to which the network adds.

The linear maps are not trained. The best ones for images that go through them alone are known, and an optimizer whose
steps are of one size for all weights would undo the small ones of rare components first.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import numpy as np

from mmgen_jax.frozen.abstract import Params
from mmgen_jax.frozen.autoencoders import conv
from mmgen_jax.frozen.autoencoders.conv_layers import COLOURS, ConvConfig
from mmgen_jax.frozen.autoencoders.patch_pca import fit_patch_pca

LEAST = 1e-3  # deviation, in pixels of [-1, 1], of components that are worth a channel


def held(params: Params) -> Params:
    """The weights, through which no gradient reaches the linear maps of patches."""
    return {
        part: {name: jax.lax.stop_gradient(x) if name == "linear" else x for name, x in layers.items()}
        for part, layers in params.items()
    }


def fresh(config: ConvConfig, key: jax.Array, images: Mapping[str, np.ndarray]) -> Params:
    """Weights of a network that at first encodes and decodes as PCA with `config.channels` components would.

    The linear maps of each modality are those of the principal components of its patches, and the rest adds nothing
    yet. Channels beyond the components that there are get nothing from the linear maps.

    Args:
      config: shapes of the network.
      key: of the random numbers of all other weights.
      images: [N, H, W, C] in [-1, 1] of each modality.

    Raises:
      UsageError: a modality has no images.
    """
    params = jax.tree.map(np.array, jax.jit(conv.init, static_argnums=0)(config, key))
    wide = {m: np.broadcast_to(x, (*x.shape[:-1], COLOURS)) for m, x in images.items()}
    count = min(config.channels, COLOURS * config.factor**2)
    found = fit_patch_pca(wide, config.factor, dict.fromkeys(wide, count), whitening=1.0)
    for m in config.modalities:
        sigma, basis = np.asarray(found.sigma[m]), np.asarray(found.basis[m])
        there = sigma > LEAST
        encode, decode = (part["linear"][m] for part in (params["encoder"], params["decoder"]))
        encode["kernel"][:] = 0
        encode["kernel"][0, 0, :, :count] = np.where(there, basis / np.maximum(sigma, LEAST), 0)
        encode["bias"][:] = -np.asarray(found.mean[m]) @ encode["kernel"][0, 0]
        decode["kernel"][0, 0, :count] = np.where(there, basis * sigma, 0).T
        decode["bias"][:] = found.mean[m]
    return params
