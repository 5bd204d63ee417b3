"""What a modality is for in one request: given (near t = 0), generated, or ignored (pure noise, t = 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

Time = float | jax.Array
Times = Time | Mapping[str, Time]


def per_name(times: Times, names: Sequence[str]) -> dict[str, Time]:
    """One time for each name, from one for all or a mapping. Raises ValueError if the mapping lacks a name."""
    if not isinstance(times, Mapping):
        return dict.fromkeys(names, times)
    for name in names:
        if name not in times:
            raise ValueError(f"given_time has {tuple(times)}: lacks {name!r}")
    return {name: times[name] for name in names}


def hold(clean: jax.Array, noise: jax.Array, time: Time) -> jax.Array:
    """Returns (1 - t) clean + t noise, float32: a given modality [B, h, w, C] as the network sees it at t or t [B]."""
    t = jnp.reshape(time, (-1,) + (1,) * (clean.ndim - 1)) if jnp.ndim(time) else time
    return t * jnp.asarray(noise, jnp.float32) + (1 - t) * jnp.asarray(clean, jnp.float32)


def check(given: Mapping[str, jax.Array], ignored: Sequence[str], noise: Mapping[str, jax.Array]) -> None:
    """Raises ValueError for a role of an unknown modality, for two roles of one, or if nothing is left to sample."""
    for name, value in given.items():
        if name not in noise:
            raise ValueError(f"given has {name!r}: must be among {tuple(noise)}")
        if value.shape != noise[name].shape:
            raise ValueError(f"given[{name!r}] has shape {value.shape}: must be {noise[name].shape}")
    for name in ignored:
        if name not in noise or name in given:
            raise ValueError(f"ignored has {name!r}: must be among {tuple(m for m in noise if m not in given)}")
    if len(given) + len(set(ignored)) == len(noise):
        roles = "given or ignored" if ignored else "given"
        raise ValueError(f"all of {tuple(noise)} are {roles}: at least one must be left to sample")
