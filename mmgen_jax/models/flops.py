"""Counts the floating-point operations of the model's matrix multiplications and convolutions.

A multiplication and an addition count 2. Only matrix multiplications and convolutions count, as is usual for "model
flops". Element-wise arithmetic, recomputation in the backward pass and frozen networks do not count, so that a share of
the peak (MFU) can be compared between implementations.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.extend import core

from mmgen_jax.frozen.autoencoders.protocol import Autoencoder
from mmgen_jax.models.architectures import Architecture
from mmgen_jax.models.layers import SCALE_FREQUENCIES, TIME_FREQUENCIES
from mmgen_jax.models.mmdit import MMDiTConfig
from mmgen_jax.models.projectors import PROJECTORS

# The cost of the backward pass relative to the forward pass: every multiplication needs one more for the gradient of
# its input, and one more for the gradient of its weights.
BACKWARD = 2
# The cost of a derivative in forward mode: one more multiplication for each. (Those of attention need two more, which
# are not counted.)
DERIVATIVE = 1


def token_count(architecture: Architecture) -> int:
    """Number of tokens of one sample."""
    return (architecture.latent_size // architecture.model.patch) ** 2


def _projector_flops(model: MMDiTConfig) -> float:
    """Flops of the alignment projector for one token."""
    numbers = PROJECTORS[model.projector].numbers(model.width, model.projector_width, model.feature_width)
    return 2 * numbers if model.feature_width else 0


def network_flops(model: MMDiTConfig, tokens: int) -> float:
    """Flops of the network, without the alignment projector, for one sample of `tokens` tokens."""
    width, count = model.width, len(model.modalities)
    outputs = model.patch**2 * sum(c for _, c in model.modalities)
    products = 4 * width**2 + model.kind.mlp_numbers(width, model.mlp_width)  # qkv, projection, MLP
    attention = 2 * tokens * width  # scores and mixing
    per_token = 2 * outputs * width + model.depth * (products + attention)
    times = count * (2 * TIME_FREQUENCIES * width + width * width // 2) + count * width * width // 2 + width**2
    scales = 2 * len(SCALE_FREQUENCIES) * width if model.guided else 0
    adaln = (6 * model.depth + 2 * count) * width**2
    return 2 * (tokens * per_token + times + scales + adaln)


def forward_flops(architecture: Architecture, batch: int) -> float:
    """Flops of one evaluation of the network for `batch` samples, with the alignment projector if there is one."""
    tokens = token_count(architecture)
    return batch * (network_flops(architecture.model, tokens) + tokens * _projector_flops(architecture.model))


def train_step_flops(architecture: Architecture, batch: int) -> float:
    """Flops of the forward and the backward pass of one step over a global batch.

    A flow map makes both for its velocity and for its average velocity, and takes a derivative of the latter. A model
    that takes the scale of guidance as an input makes two forward passes more, with the class and without it.
    """
    passes = 1 + BACKWARD
    if architecture.model.decoupled:
        passes = 2 * passes + 1 + DERIVATIVE
    if architecture.model.guided:
        passes += 2
    return passes * forward_flops(architecture, batch)


def decoder_flops(architecture: Architecture, batch: int) -> float:
    """Flops of decoding the latents of all modalities of `batch` samples to images."""
    shapes = {m: jax.ShapeDtypeStruct(s, "float32") for m, s in architecture.latent_shapes(1).items()}
    return batch * program_flops(_decode, architecture.autoencoder, shapes)


def encoder_flops(architecture: Architecture, batch: int) -> float:
    """Flops of encoding the images of all modalities of `batch` samples to moments."""
    images = jax.eval_shape(
        _decode,
        architecture.autoencoder,
        {m: jax.ShapeDtypeStruct(s, "float32") for m, s in architecture.latent_shapes(1).items()},
    )
    return batch * program_flops(_encode, architecture.autoencoder, images)


def _decode(autoencoder: Autoencoder, latents):
    return autoencoder.decode(latents)


def _encode(autoencoder: Autoencoder, images):
    return autoencoder.moments(images)


def program_flops(function: Callable, *arguments) -> float:
    """Flops of the matrix multiplications and convolutions in the program of `function`; arguments may be shapes.

    The body of a loop counts as often as it runs.
    """
    return _jaxpr_flops(jax.make_jaxpr(function)(*arguments).jaxpr)


def _shape(variable: Any) -> tuple[int, ...]:
    return variable.aval.shape


def _jaxpr_flops(jaxpr: core.Jaxpr) -> float:
    total = 0.0
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        if name == "dot_general":
            (contracted, _), _ = params["dimension_numbers"]
            left = _shape(equation.invars[0])
            total += 2 * math.prod(_shape(equation.outvars[0])) * math.prod(left[i] for i in contracted)
        elif name == "conv_general_dilated":
            kernel, numbers = _shape(equation.invars[1]), params["dimension_numbers"].rhs_spec
            # The size of the kernel's input axis is divided by the number of groups already.
            reads = math.prod(kernel[i] for i in numbers[1:])
            total += 2 * math.prod(_shape(equation.outvars[0])) * reads
        else:
            turns = params["length"] if name == "scan" else 1
            total += turns * sum(_jaxpr_flops(inner) for inner in _inner(params))
    return total


def _inner(params: dict) -> list[core.Jaxpr]:
    """Programs within an equation. Of several branches only the first is returned, as all cost the same."""
    found = []
    for key, value in params.items():
        values = value[:1] if key == "branches" else (value if isinstance(value, tuple | list) else (value,))
        for item in values:
            if isinstance(item, core.ClosedJaxpr):
                found.append(item.jaxpr)
            elif isinstance(item, core.Jaxpr):
                found.append(item)
    return found
