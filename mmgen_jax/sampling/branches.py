"""Several velocities at the same point, each under other conditions, and the sum of them that a solver follows.

Guidance, strengths and composition are all such sums (`guidance.py`, `composition.py`):

    v = v_0 + sum_j a_j (v_j - v_0)

The branches j differ in which conditions are present. A condition is a modality, which is held near t = 0 where it is
present and ignored, at pure noise and t = 1, where it is absent; or it belongs to the prompt, as the class does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.sampling.rescale import rescaled
from mmgen_jax.sampling.roles import Time

Weight = float | jax.Array
Presence = Mapping[str, jax.Array]  # condition -> whether it is present, bool [R]
# of x [R, H, W, C], t [R, M] and presence, and of the ends r [R, M] of steps where it is a flow map
Network = Callable[..., Mapping[str, jax.Array]]
Several = Callable[[Latents, jax.Array], Sequence[Mapping[str, jax.Array]]]  # velocities of the targets, of branches
CLASS = "class"  # the condition that is no modality


class Member(NamedTuple):
    """A condition whose weight is chosen.

    Attributes:
      weight: a number or [B]; 1 is the condition as it is.
      interval: (low, high); the weight counts for a target while low <= its t <= high, and elsewhere it is 1.
    """

    weight: Weight
    interval: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True)
class Term:
    """One of the branches beyond the first.

    Attributes:
      weight: a_j where the interval holds, a number or [B].
      interval: (low, high); it holds for a target while low <= its t <= high.
      outside: a_j elsewhere.
    """

    weight: Weight
    interval: tuple[float, float] = (0.0, 1.0)
    outside: float = 0.0

    def inside(self, t: jax.Array) -> jax.Array:
        """Whether times t are in the interval."""
        return (self.interval[0] <= t) & (t <= self.interval[1])

    def amount(self, t: jax.Array) -> jax.Array:
        """a_j [B], float32, at times t [B]."""
        return jnp.where(self.inside(t), jnp.asarray(self.weight, jnp.float32), self.outside)

    @property
    def optional(self) -> bool:
        """Whether there are times at which this branch does not count."""
        return self.outside == 0 and (self.interval[0] > 0 or self.interval[1] < 1)


@dataclass(frozen=True)
class Branches:
    """A velocity function of the targets.

    The network is evaluated once for all its branches, with J B rows: row J b + j is branch j of sample b. So branches
    of a sample are neighbours, and a batch that is split over devices grows without samples moving between devices.

    Attributes:
      network: velocity of the targets and of the modalities in `noise`, where rows have the conditions that are told.
      present: condition -> bool [J], the branches of the network in which it is present; the first branch is v_0.
      terms: of branches 1 .. J - 1 of the network, and then of `others`.
      noise: standard normal noise [B, h, w, C] of the modalities that the network sees besides the targets.
      held: latents [B, h, w, C] of those of them that are present in some branch, as the network sees them there (see
        `roles.hold`).
      times: time at which each of these is held.
      others: functions to velocities of the targets, each of one branch or of several.
      fixed: names of targets that are held at a fixed time, which intervals do not look at.
      rescale: phi of `rescale.py`, a number or [B], on the linear path; None means none.
    """

    network: Network
    present: Mapping[str, np.ndarray]
    terms: tuple[Term, ...]
    noise: Latents
    held: Latents
    times: Mapping[str, Time]
    others: tuple[Several, ...] = ()
    fixed: tuple[str, ...] = ()
    rescale: Weight | None = None

    def __call__(self, x: Latents, t: jax.Array, r: jax.Array | None = None) -> Latents:
        """Velocity of the targets x, dict of [B, H, W, C], at times t [B, M]; skips branches that do not count.

        With r [B, M], the average velocity from t to r. It is that of a single branch: a sum of average velocities is
        not the average of the summed velocity.
        """
        if not self.terms:
            return self._first(x, t, r)
        if r is not None:
            raise ValueError(f"there are {len(self.terms)} terms: must be none of an average velocity")
        if not all(term.optional for term in self.terms):
            return self._summed(x, t)
        free = t[:, jnp.array([m for m, name in enumerate(x) if name not in self.fixed])]
        inside = jnp.stack([term.inside(free).any() for term in self.terms])
        return jax.lax.cond(inside.any(), self._summed, self._first, x, t)

    def each(self, x: Latents, t: jax.Array) -> list[Latents]:
        """Velocities of the targets in each branch of the network, which other branches may take as theirs."""
        found = self._network(x, t, self._all)
        return [Latents((m, parts[j]) for m, parts in found.items()) for j in self._all]

    def with_spread(self, x: Latents, t: jax.Array) -> tuple[Latents, Mapping[str, jax.Array]]:
        """Returns the velocity v, and sum_j c_j |v_j - v|^2 [B] of each target, with c_0 = 1 - sum_j a_j, c_j = a_j."""
        branches, coefficients = self._evaluate(x, t), self._coefficients(x, t)
        velocity, spread = Latents(), {}
        for m, parts in branches.items():
            velocity[m] = _sum(parts, coefficients[m])
            squares = (jnp.square(v - velocity[m]).sum(range(1, v.ndim)) for v in parts)
            spread[m] = _sum(list(squares), coefficients[m])
        return velocity, spread

    @property
    def _all(self) -> np.ndarray:
        """Numbers of the network's branches."""
        return np.arange(max([1, *map(len, self.present.values())]))

    def _first(self, x: Latents, t: jax.Array, r: jax.Array | None = None) -> Latents:
        return Latents((m, parts[0]) for m, parts in self._network(x, t, np.array([0]), r).items())

    def _summed(self, x: Latents, t: jax.Array) -> Latents:
        coefficients, branches = self._coefficients(x, t), self._evaluate(x, t)
        summed = Latents((m, _sum(parts, coefficients[m])) for m, parts in branches.items())
        if self.rescale is None:
            return summed
        times = {m: t[:, i] for i, m in enumerate(x)}
        return Latents(
            (m, rescaled(x[m], times[m], v, branches[m], coefficients[m], self.rescale)) for m, v in summed.items()
        )

    def _coefficients(self, x: Latents, t: jax.Array) -> dict[str, list[jax.Array]]:
        """c_j [B] of each branch, of each target."""
        found = {}
        for m, name in enumerate(x):
            amounts = [term.amount(t[:, m]) for term in self.terms]
            found[name] = [1 - sum(amounts, jnp.zeros(len(t))), *amounts]
        return found

    def _evaluate(self, x: Latents, t: jax.Array) -> dict[str, list[jax.Array]]:
        """Velocities [B, H, W, C] of each target in each branch."""
        branches = self._network(x, t, self._all)
        for other in self.others:
            extra = other(x, t)
            branches = {m: [*parts, *(velocity[m] for velocity in extra)] for m, parts in branches.items()}
        return branches

    def _network(
        self, x: Latents, t: jax.Array, chosen: np.ndarray, r: jax.Array | None = None
    ) -> dict[str, list[jax.Array]]:
        """Velocities [B, H, W, C] of each target in the chosen branches of the network."""
        rows, count = len(t), len(chosen)
        everything = Latents((m, jnp.repeat(value, count, axis=0)) for m, value in x.items())
        held: list[jax.Array] = []
        for m, noise in self.noise.items():
            if m in x or len(noise) != rows:
                raise ValueError(f"condition {m!r} has shape {noise.shape}: must have {rows} rows and be no target")
            absent, one = jnp.asarray(noise, jnp.float32), jnp.ones(rows)
            shown = self.held.get(m, absent)
            own = jnp.broadcast_to(jnp.asarray(self.times.get(m, 1.0), jnp.float32), (rows,))
            there = self.present[m][chosen]
            everything[m] = _interleaved([shown if yes else absent for yes in there])
            held.append(_interleaved([own if yes else one for yes in there])[:, None])
        present = {name: jnp.tile(jnp.asarray(there[chosen]), rows) for name, there in self.present.items()}
        now, *ends = (
            jnp.concatenate([jnp.repeat(time, count, axis=0), *held], 1) for time in (t, r) if time is not None
        )
        out = self.network(everything, now, present, *ends)
        return {m: [out[m][j::count] for j in range(count)] for m in x}


def _interleaved(parts: list[jax.Array]) -> jax.Array:
    """[J B, ...] of J arrays [B, ...], with the branches of a sample as neighbours."""
    return jnp.stack(parts, 1).reshape(-1, *parts[0].shape[1:])


def _sum(parts: list[jax.Array], coefficients: list[jax.Array]) -> jax.Array:
    """sum_j c_j v_j of v_j [B, ...] and c_j [B]. Not a matrix product, whose numbers a TPU would round."""
    return sum(
        (c.reshape(-1, *(1,) * (v.ndim - 1)) * v for c, v in zip(coefficients[1:], parts[1:], strict=True)),
        coefficients[0].reshape(-1, *(1,) * (parts[0].ndim - 1)) * parts[0],
    )
