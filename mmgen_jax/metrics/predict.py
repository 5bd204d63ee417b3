"""Runs a model over many scenes in batches of one shape: the rest from rgb, or all modalities from a class."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from mmgen_jax.architecture import Architecture, Params
from mmgen_jax.modalities import MODALITIES, to_array
from mmgen_jax.sampling import bind, bind_task, classifier_free, sample
from mmgen_jax.telemetry import duration, say

Arrays = dict[str, np.ndarray]
_PROGRESS_SECONDS = 10.0


@dataclass(frozen=True)
class Sampling:
    """How samples are drawn: solver, its steps, scenes at once, and what only one of the two uses."""

    solver: str
    steps: int
    batch: int
    draws: int = 1
    given_time: float = 0.005
    guidance: float = 1.0
    interval: tuple[float, float] = (0.0, 1.0)

    @classmethod
    def understanding(cls, config: ConfigDict) -> Sampling:
        e = config.evaluate
        return cls(e.solver, e.steps, e.batch, draws=e.draws, given_time=config.sample.given_time)

    @classmethod
    def generation(cls, config: ConfigDict) -> Sampling:
        s = config.sample
        return cls(s.solver, s.steps, config.evaluate.batch, guidance=s.guidance, interval=s.guidance_interval)


def to_values(arrays: Mapping[str, np.ndarray], palette: np.ndarray) -> Arrays:
    """Arrays in [-1, 1] [N, H, W, C] of some modalities to values; see `modalities`."""
    return {m: MODALITIES[m].value(np.asarray(x), palette) for m, x in arrays.items()}


def _noise(architecture: Architecture, count: int, key: jax.Array) -> dict[str, jax.Array]:
    shapes = architecture.latent_shapes(count)
    return {m: jax.random.normal(jax.random.fold_in(key, i), shape) for i, (m, shape) in enumerate(shapes.items())}


class Runner:
    """A model without its weights, compiled once for predictions from rgb and once for samples of classes."""

    def __init__(self, architecture: Architecture, understanding: Sampling, generation: Sampling):
        self.architecture = architecture
        self._understanding, self._generation = understanding, generation
        self._rest = jax.jit(self._rest_from_rgb)
        self._joint = jax.jit(self._from_class)

    def rest_from_rgb(self, params: Params, rgb: np.ndarray, seed: int) -> Arrays:
        """Arrays [N, H, W, C] of all modalities but rgb, for rgb uint8 [N, H, W, 3], no class; draws averaged."""
        s = self._understanding
        total = dict.fromkeys((m for m in self.architecture.modalities if m != "rgb"), 0.0)
        for draw in range(s.draws):
            label = "from rgb" if s.draws == 1 else f"from rgb, draw {draw + 1}/{s.draws},"
            key = jax.random.fold_in(jax.random.key(seed), draw)
            out = _in_batches(functools.partial(self._rest, params), rgb, s.batch, key, label)
            total = {m: total[m] + out[m] / s.draws for m in total}
        return total

    def from_class(self, params: Params, class_id: np.ndarray, seed: int) -> Arrays:
        """Arrays [N, H, W, C] of all modalities, sampled jointly for class_id int [N]."""
        run = functools.partial(self._joint, params)
        return _in_batches(run, np.asarray(class_id, np.int32), self._generation.batch, jax.random.key(seed), "samples")

    def _rest_from_rgb(self, params: Params, rgb: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
        a, s = self.architecture, self._understanding
        noise_key, step_key = jax.random.split(key)
        task, nulls = jnp.full(len(rgb), a.modalities.index("rgb") + 1), jnp.full(len(rgb), a.null_class)
        velocity = bind(functools.partial(a.apply, params), nulls, task, a.modalities)
        given = a.autoencoder.encode({"rgb": to_array(rgb)})
        noise = _noise(a, len(rgb), noise_key)
        latents = sample(velocity, noise, step_key, s.solver, s.steps, given=given, given_time=s.given_time)
        return {m: x for m, x in a.autoencoder.decode(latents).items() if m != "rgb"}

    def _from_class(self, params: Params, class_id: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
        a, s = self.architecture, self._generation
        noise_key, step_key = jax.random.split(key)
        apply, task = functools.partial(a.apply, params), jnp.zeros_like(class_id)
        velocity = bind(apply, class_id, task, a.modalities)
        if s.guidance != 1:
            conditional = bind_task(apply, task, a.modalities)
            velocity = classifier_free(conditional, class_id, a.null_class, s.guidance, s.interval)
        noise = _noise(a, len(class_id), noise_key)
        return a.autoencoder.decode(sample(velocity, noise, step_key, s.solver, s.steps))


def _in_batches(run: Callable, inputs: np.ndarray, batch: int, key: jax.Array, label: str) -> Arrays:
    """run(inputs, key) over batches of one shape, the last filled up; tells now and then how far it is."""
    batch = min(batch, len(inputs))
    parts: list[Arrays] = []
    start = said = time.monotonic()
    for first in range(0, len(inputs), batch):
        rows = inputs[first : first + batch]
        full = np.concatenate([rows, np.repeat(rows[-1:], batch - len(rows), axis=0)])
        out = run(full, jax.random.fold_in(key, first))
        parts.append({m: np.asarray(x)[: len(rows)] for m, x in out.items()})
        now, done = time.monotonic(), first + len(rows)
        if now - said > _PROGRESS_SECONDS:
            said = now
            left = duration((now - start) / done * (len(inputs) - done))
            say(f"{label} {done}/{len(inputs)}  {done / (now - start):.1f}/s  left {left}")
    return {m: np.concatenate([part[m] for part in parts]) for m in parts[0]}
