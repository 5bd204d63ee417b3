"""Flow maps: what the average velocity of the flow on the way from t to r must be (MeanFlow, Geng et al. 2025).

Times of all modalities go straight from t [B, M] to r [B, M]: at r + s (t - r) after the share 1 - s of the way. With
spans d_m = t_m - r_m, the velocity v of the flow and x as it flows, the average velocity of modality m is

    u_m = (x_m(t) - x_m(r)) / d_m,  so that for all s  s d_m u_m(x(s), r + s d, r) = x_m(s) - x_m(r)

Its derivative by s at s = 1 is the identity u_m = v_m - du_m / ds, along x' = d v and t' = d. With one time for all
this is the published u = v - (t - r) du/dt. What is given or ignored has d = 0: it stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax

from mmgen_jax.diffusion.latents import Latents


def target(
    average: Callable[[Latents, jax.Array], Mapping[str, jax.Array]],
    x: Latents,
    t: jax.Array,
    r: jax.Array,
    velocity: Mapping[str, jax.Array],
) -> Latents:
    """What average velocities at x should be by their own derivative, as constants for a loss.

    Args:
      average: function of x and t to the average velocities from t to this r; it is differentiated in forward mode.
      x: noisy latents [B, H, W, C] of each modality.
      t: times [B, M].
      r: ends [B, M] of the ways, of which each is at most its t.
      velocity: velocities [B, H, W, C] at x and t.
    """
    span = t - r
    along = Latents((m, span[:, i, None, None, None] * velocity[m]) for i, m in enumerate(x))

    def ordered(x: Latents, t: jax.Array) -> Latents:
        found = average(x, t)
        return Latents((m, found[m]) for m in x)

    _, slope = jax.jvp(ordered, (x, t), (along, span))
    return jax.lax.stop_gradient(Latents((m, velocity[m] - slope[m]) for m in x))
