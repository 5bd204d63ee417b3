"""The programs by which a config trains, samples or encodes, lowered for a mesh of devices that need not exist."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from mmgen_jax.data.latents import encoding
from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.models.layout import Layout
from mmgen_jax.parallel import sharding
from mmgen_jax.sampling import sampler
from mmgen_jax.sampling.options import plan
from mmgen_jax.settings import Settings
from mmgen_jax.training import setup, standins


def _placed(tree, where):
    """Makes ShapeDtypeStructs of arrays or shapes, with one sharding for all or a tree of shardings."""
    if isinstance(where, jax.sharding.Sharding):
        one = where
        where = jax.tree.map(lambda _: one, tree)
    return jax.tree.map(lambda x, w: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=w), tree, where)


def train(chosen: Settings, mesh: Mesh) -> jax.stages.Lowered:
    """Lowers one training step."""
    a = standins.architecture(chosen)
    training = setup.assemble(chosen, a, mesh)
    inputs = standins.inputs(chosen, a.autoencoder)
    batch = standins.batch_shapes(chosen, a)
    return training.step.lower(
        training.state,
        _placed(inputs, sharding.replicated(mesh)),
        _placed(batch, sharding.batched(mesh)),
    )


def sample(chosen: Settings, mesh: Mesh) -> jax.stages.Lowered:
    """Lowers the sampling of one batch of `sample.batch` latents of all modalities, as the settings in `sample` say."""
    a, section = standins.architecture(chosen), chosen.sample
    sharding.check_batch(section.batch, mesh, "sample.batch")
    layout = Layout(a, mesh)
    params = jax.eval_shape(lambda key: layout.in_types(a.init(key)), jax.random.key(0))
    rows: Any = jax.ShapeDtypeStruct((section.batch,), np.int32, sharding=sharding.batched(mesh))
    placed = _placed(params, sharding.state_shardings(mesh, params))
    choices, dials = plan(section.options(), (), a.modalities, conditional=True, largest=a.model.guided)
    return sampler.jit_draw(layout).lower(
        placed,
        sampler.Rows(rows, rows, rows, Latents()),
        dials,
        jax.eval_shape(jax.random.key, section.seed),
        choices=choices,
    )


def encode(chosen: Settings, mesh: Mesh) -> jax.stages.Lowered:
    """Lowers the encoding of one batch of `encode.batch` tiles to moments and features."""
    source = "online" if chosen.encode.features else "none"
    chosen = chosen.changed(data={"latents": ""}, train={"batch": chosen.encode.batch}, features={"source": source})
    sharding.check_batch(chosen.encode.batch, mesh, "encode.batch")
    a = standins.architecture(chosen)
    inputs = standins.inputs(chosen, a.autoencoder)
    pixels = {m: s for m, s in standins.batch_shapes(chosen, a).items() if m in a.modalities}
    networks = _placed((inputs.autoencoder, inputs.dino), sharding.replicated(mesh))
    return encoding.compute.lower(*networks, _placed(pixels, sharding.batched(mesh)), chosen.encode.dtype)


LOWER = {"train": train, "sample": sample, "encode": encode}
