"""Guidance: velocity functions of a network that lean more, or less, on some of what it is given.

A network is any `network(x, t, prompt)` that returns velocities, or (velocities, features) as `MMDiT` does. `bind`
fixes the prompt; `classifier_free` also evaluates the network without the class and extrapolates. Both keep the
solvers' convention that column m of t is the time of the m-th key of x.

A modality that is given has a strength in the same way: with all conditions J and weights w_k of some,

    v = v_J + sum_k (w_k - 1) (v_J - v_without_k)

A weight of 1 leaves the condition as it is, 0 leaves it out, and with one condition k = J this is classifier-free
guidance of scale w_k on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.diffusion.prompt import Prompt
from mmgen_jax.sampling.branches import CLASS, Branches, Member, Presence, Term
from mmgen_jax.sampling.fields import VelocityFn

Velocities = Mapping[str, jax.Array]
# (x, t, prompt), and the ends r of steps where it is a flow map
Network = Callable[..., Velocities | tuple[Velocities, jax.Array | None]]


def velocity(network: Network, x: Latents, t: jax.Array, prompt: Prompt, r: jax.Array | None = None) -> Latents:
    """The velocities that a network computes, or with r the average ones from t to r, in the order of x."""
    out = network(x, t, prompt) if r is None else network(x, t, prompt, r)
    found = out[0] if isinstance(out, tuple) else out
    return Latents((name, found[name]) for name in x)


def bind(network: Network, prompt: Prompt) -> VelocityFn:
    """Makes `velocity_fn(x, t)`, or of a flow map also `(x, t, r)`, by fixing the prompt; there is no guidance."""

    def velocity_fn(x: Latents, t: jax.Array, r: jax.Array | None = None) -> Latents:
        return velocity(network, x, t, prompt, r)

    return velocity_fn


def leaned(names: Sequence[str], members: Mapping[str, Member]) -> tuple[dict[str, np.ndarray], tuple[Term, ...]]:
    """Branches for conditions `names` that are given together: all of them, and all except each of the members.

    Returns condition -> bool [J], in which branches it is present, and the terms; see `Branches`.
    """
    without = [None, *members]
    present = {name: np.array([name != member for member in without]) for name in names}
    return present, tuple(Term(1 - m.weight, m.interval) for m in members.values())


def classifier_free(
    network: Network,
    prompt: Prompt,
    null_class: int,
    scale: float | jax.Array,
    interval: tuple[float, float] = (0.0, 1.0),
    given: Sequence[str] = (),
    rescale: float | jax.Array | None = None,
) -> Branches:
    """Classifier-free guidance on the class (Ho & Salimans 2022): v = v_null + scale (v_class - v_null).

    Args:
      network: (x, t, prompt) -> velocities.
      prompt: classes and tasks of B samples.
      null_class: the class of the unconditional branch. Given modalities and the task stay the same in both branches.
      scale: strength of guidance; 1 means none.
      interval: (low, high); a modality is guided while low <= its t <= high (Kynkaanniemi et al. 2024) and follows
        the conditional velocity elsewhere. If no generated modality is inside, the second branch is not computed.
      given: names of the given modalities. They are held at a fixed time, which `interval` does not look at.
      rescale: how far the contrast of what is guided is moved to that of the conditional branch, from 0 to 1, on the
        linear path (see `rescale.py`); None means not at all.
    """

    def branched(x: Latents, t: jax.Array, present: Presence) -> Latents:
        copies = len(t) // len(prompt.class_id)
        repeated = jax.tree.map(lambda leaf: jnp.repeat(leaf, copies, axis=0), prompt)
        return velocity(network, x, t, repeated.only(present[CLASS], null_class))

    present, terms = leaned([CLASS], {CLASS: Member(scale, interval)})
    return Branches(branched, present, terms, Latents(), Latents(), {}, fixed=tuple(given), rescale=rescale)
