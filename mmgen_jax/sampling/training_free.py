"""Training-free guidance: samples are led to where a loss of the decoded images is small, by its gradient alone.

A loss L(x0) is a negative log-likelihood of what is known of a sample, such as half the sum of ((what the sample says -
what is known) / standard deviation)^2; it is 0 where a sample fits. On the linear path the network expects the clean
sample x0 = x_t - t v. With g, the gradient of L there, and P, the covariance of the clean sample given x_t, guidance
moves it by

    x0 -> x0 - w a P g,    a = 2 L / (2 L + g.P g),    so    v -> v + w a P g / t.

This is the update of a Kalman filter for one measurement, whatever it is: for a measurement h.x0 of variance s^2, a P g
is P h / (s^2 + h.P h) times what it is off. So with jointly Gaussian data and a weight w of 1 the guided velocity is
exactly that of the posterior. For several measurements a is the first step of conjugate gradients for that update, and
no step goes further than twice the distance at which a linear L would be 0, so guidance is stable at any weight below 1
and whatever the standard deviation. A loss below 0 leads nowhere.

What P g is costs a choice. Through the network ("variance guidance" of Ye et al. 2024, "TFG"; the gradient that DPS of
Chung et al. 2023 follows) it is exact, as P = t^2 / (1 - t) dx0/dx_t (Tweedie's second formula; Boys et al. 2023), so
that P g is a gradient of L(x0(x_t)): a measurement of a pixel changes all that belongs to it. It costs about as much as
two more evaluations. Through the decoder alone ("mean guidance") P is taken for that of a standard normal sample,
t^2 / ((1 - t)^2 + t^2), in each position by itself: nothing but the decoder is differentiated, and what belongs to the
pixel follows in later steps, as the network sees it changed, so it follows too little.

Langevin steps (`corrections`) of the guided velocity let a sample settle at each time, as the recurrence of TFG does,
and halve what is left for several measurements (`tests/sampling/test_training_free.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmgen_jax.diffusion import flow
from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.frozen.autoencoders.protocol import Autoencoder
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.sampling.fields import VelocityFn
from mmgen_jax.system.errors import UsageError, shown

NETWORK, DECODER = "network", "decoder"
THROUGH = (NETWORK, DECODER)


class Images(Mapping[str, jax.Array]):
    """Images [B, H, W(, 3)] of the modalities that are made, as `Modality.differentiable` has them.

    Those that a loss does not look at are never decoded.
    """

    def __init__(self, names: Sequence[str], array: Callable[[str], jax.Array]):
        self._names, self._array, self._seen = tuple(names), array, dict[str, jax.Array]()

    def __getitem__(self, name: str) -> jax.Array:
        if name not in self._names:
            raise UsageError(f"guide looks at {shown(name)}; made: {', '.join(self._names)}")
        if name not in self._seen:
            self._seen[name] = MODALITIES[name].differentiable(self._array(name))
        return self._seen[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


Loss = Callable[[Images], Any]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Plain:
    """A function as a pytree without arrays: programs are compiled for it."""

    function: Loss = field(metadata={"static": True})

    def __call__(self, images: Images) -> Any:
        return self.function(images)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Guide:
    """What a sampling program takes to guide a batch.

    Attributes:
      loss: Images -> loss [B], a pytree whose arrays are [1 or B, ...]; see `prepared`.
      autoencoder: decodes what the network expects.
      weight: how strongly the loss leads.
      through: "network" or "decoder", what it is differentiated through.
    """

    loss: Loss
    autoencoder: Autoencoder
    weight: float | jax.Array
    through: str = field(metadata={"static": True})

    def guided(self, velocity_fn: VelocityFn) -> Guided:
        """The velocity function that is led by this guide."""

        def loss(clean: Latents) -> jax.Array:
            return self.loss(Images(tuple(clean), lambda m: self.autoencoder.decode(Latents({m: clean[m]}))[m]))

        return Guided(velocity_fn, loss, self.weight, self.through)


@dataclass(frozen=True)
class Guided:
    """A velocity function that is led to a small loss of the clean latents, on the linear path; see above.

    Attributes:
      velocity_fn: the velocity without guidance.
      loss: clean latents [B, H, W, C] -> loss [B], each of its own sample.
      weight: how strongly the loss leads; 1 is right for a negative log-likelihood.
      through: "network" or "decoder".
    """

    velocity_fn: VelocityFn
    loss: Callable[[Latents], jax.Array]
    weight: float | jax.Array = 1.0
    through: str = NETWORK

    def __call__(self, x: Latents, t: jax.Array) -> Latents:
        """Velocity of the targets x, dict of [B, H, W, C], at times t [B, M]."""
        times = {name: t[:, m].reshape(-1, 1, 1, 1) for m, name in enumerate(x)}

        def expected(x: Latents) -> tuple[Latents, Mapping[str, jax.Array]]:
            velocity = self.velocity_fn(x, t)
            clean = ((m, flow.x0_from_velocity(flow.LINEAR, velocity[m], x[m], time)) for m, time in times.items())
            return Latents(clean), velocity

        # The rule of the chain backwards through the network is evaluated only where something asks for it.
        clean, back, velocity = jax.vjp(expected, x, has_aux=True)
        loss, backwards = jax.vjp(lambda z: jnp.asarray(self.loss(z), jnp.float32), clean)
        gradient = backwards(jnp.ones_like(loss))[0]
        through_network = back(gradient)[0] if self.through == NETWORK else None
        spread, power = {}, jnp.zeros(len(t))
        for m, time in times.items():
            # Nothing is seen at t = 1, so that P there is the covariance of all samples: of standard normal ones.
            spread[m] = flow.spread_of_normal(time) * gradient[m]
            if through_network is not None:
                tweedie = jnp.square(time) / jnp.where(time < 1, 1 - time, 1) * through_network[m]
                spread[m] = jnp.where(time < 1, tweedie, spread[m])
            power += (gradient[m] * spread[m]).sum((1, 2, 3))
        least = jnp.finfo(jnp.float32).tiny
        twice = jnp.maximum(2 * loss, 0)  # NaN stays NaN, which is told when samples are done
        amount = (self.weight * twice / jnp.maximum(twice + jnp.maximum(power, 0), least)).reshape(-1, 1, 1, 1)
        return Latents((m, velocity[m] + amount * spread[m] / jnp.where(t_m > 0, t_m, 1)) for m, t_m in times.items())


def prepared(guide: object, n: int, targets: Sequence[str], size: int) -> Loss:
    """A guide of n samples as a pytree that is called with `Images`.

    Args:
      guide: a function; or a callable that is a pytree, such as a registered dataclass, whose arrays are then no part
        of what is compiled, and have a first axis of 1, for all samples, or n, one for each.
      n: number of samples.
      targets: names of the modalities that are made.
      size: height and width of the images.

    Raises:
      UsageError: it is not a callable, raises, or does not return a differentiable loss [B]; or its arrays are not of n
        samples. All of this is found without computing anything.
    """
    allowed = "a function of images that returns a loss [B], one number for each"
    if not callable(guide):
        raise UsageError(f"guide is {shown(guide)}; allowed: {allowed}")
    loss: Any = guide
    if jax.tree_util.treedef_is_leaf(jax.tree.structure(guide)):
        try:
            hash(guide)
        except Exception as error:  # an object of the user's may raise anything
            raise UsageError(f"guide of type {type(guide).__name__} has no hash; allowed: {allowed}") from error
        loss = Plain(guide)
    for leaf in jax.tree.leaves(loss):
        if np.ndim(leaf) == 0 or len(leaf) not in (1, n):
            raise UsageError(f"guide has an array of shape {list(np.shape(leaf))}; allowed: [1, ...], or [{n}, ...]")

    def total(arrays: Mapping[str, jax.Array]) -> tuple[jax.Array, Any]:
        found = loss(Images(targets, arrays.__getitem__))
        return jnp.sum(jnp.asarray(found, jnp.float32)), found

    shapes = {m: jax.ShapeDtypeStruct((n, size, size, MODALITIES[m].channels), jnp.float32) for m in targets}
    try:
        _, found = jax.eval_shape(jax.grad(total, has_aux=True), shapes)
    except UsageError:
        raise
    except Exception as error:  # a function of the user's may raise anything
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        raise UsageError(f"guide raises {type(error).__name__} ({reason}); allowed: {allowed}, by JAX") from error
    if found.shape != (n,):
        raise UsageError(f"guide returns a loss of shape {list(found.shape)} for {n} samples; allowed: [{n}]")
    return loss
