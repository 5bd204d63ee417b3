"""Draws samples of a model: any number of images, from images that are given, in batches of one shape.

Everything that samples a model goes through here: the API and its commands, evaluation, and previews of training.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from mmgen_jax.diffusion import keys
from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.frozen.autoencoders.protocol import Autoencoder
from mmgen_jax.models.architectures import Architecture, Params
from mmgen_jax.models.flops import network_flops, token_count
from mmgen_jax.models.layout import Layout
from mmgen_jax.parallel import compiler_options, sharding
from mmgen_jax.sampling import SOLVERS, bind, classifier_free, requests, sample
from mmgen_jax.system.arrays import AnyArray
from mmgen_jax.system.console import Progress
from mmgen_jax.system.errors import NotFinite, choice

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Options:
    """How samples are drawn: what the settings in `sample` and the arguments of `MMGen.generate` have in common.

    Attributes:
      solver: a key of `sampling.SOLVERS`.
      steps: number of steps of the solver.
      guidance: strength of classifier-free guidance on the class; 1 means none.
      guidance_interval: guidance acts at times t in [low, high].
      given_time: time at which given modalities are held; at 0 the network sees them clean.
      seed: seed of the noise.
      batch: number of samples computed at once.
    """

    solver: str = "heun"
    steps: int = 25
    guidance: float = 1.0
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    given_time: float = 0.005
    seed: int = 0
    batch: int = 32


class Sampler:
    """Samples a model whose weights are passed with every call; compiles once for each kind of request and batch size.

    Weights and the autoencoder are arguments of the compiled programs, never constants in them. Batches are split over
    the devices of a mesh. The default mesh has all devices, and each of them holds all weights.
    """

    def __init__(self, architecture: Architecture, mesh: Mesh | None = None):
        self.architecture = architecture
        self._mesh = mesh or sharding.make_mesh()
        self._everywhere, self._split = sharding.replicated(self._mesh), sharding.batched(self._mesh)
        self._autoencoder = jax.device_put(architecture.autoencoder, self._everywhere)
        self._encode = jax.jit(lambda autoencoder, images: autoencoder.encode(images))
        # Results are whole on every device, so that each host can read them.
        self._decode = jax.jit(lambda *arguments: _decode(*arguments), out_shardings=self._everywhere)
        self._layout = Layout(architecture, self._mesh)
        self._draw = jit_draw(self._layout)

    def place(self, params: Params) -> Params:
        """Puts parameters on the devices, in the types that the programs need; costs nothing if they are there."""
        return jax.tree.map(jax.device_put, self._layout.in_types(params), sharding.state_shardings(self._mesh, params))

    def encode(self, images: Mapping[str, AnyArray]) -> Latents:
        """Encodes arrays [n, H, W, C] in [-1, 1] of some modalities to latents [n, h, w, K], in the model's order."""
        return self._encode(self._autoencoder, self.architecture.ordered(images))

    def decode(self, latents: Mapping[str, AnyArray], numbers: Sequence[int] | np.ndarray | None = None) -> Arrays:
        """Decodes latents [n, h, w, K] of some modalities to arrays [n, H, W, C] in [-1, 1].

        Raises NotFinite for latents or images with NaN or infinity; it names the samples by their `numbers`, which are
        0 .. n - 1 if None.
        """
        images, *checks = self._decode(self._autoencoder, self.architecture.ordered(latents))
        for what, sound in zip(("latents", "decoded images"), checks, strict=True):
            for m, rows in sound.items():
                bad = np.flatnonzero(~np.asarray(rows))
                if bad.size:
                    named = np.unique(bad if numbers is None else np.asarray(numbers)[bad]).tolist()
                    more = f" and {len(named) - 8} more" if len(named) > 8 else ""
                    raise NotFinite(
                        f"{what} of {m} are NaN or infinite in sample {', '.join(map(str, named[:8]))}{more}; "
                        f"look at the weights and the strength of guidance"
                    )
        return {m: np.asarray(x) for m, x in images.items()}

    def __call__(
        self,
        params: Params,
        class_id: np.ndarray,
        given: Mapping[str, np.ndarray],
        options: Options,
        *,
        numbers: Sequence[int] | np.ndarray | None = None,
        finish: Callable[[Arrays], Arrays] = dict,
        progress: Callable[[int], object] | None = None,
        stream: str = "sample",
    ) -> Arrays:
        """Draws arrays [n, H, W, C] in [-1, 1] of all modalities that are not given, in the model's order.

        A sample depends on the seed and its number, not on how many samples there are or on the size of the batches.

        Args:
          params: parameters of the network.
          class_id: int [n], class of each sample; the null class means no class.
          given: arrays [n, H, W, C] in [-1, 1] of some modalities.
          options: how samples are drawn.
          numbers: int [n], numbers of the samples; 0 .. n - 1 if None.
          finish: turns the arrays of each batch into those that are kept.
          progress: is told after each batch how many samples it had; a meter on stderr if None.
          stream: name of the stream of random numbers within the seed, see `diffusion.keys`.

        Raises NotFinite as `decode` does.
        """
        a, n = self.architecture, len(class_id)
        params, class_id = self.place(params), np.asarray(class_id, np.int32)
        numbers = np.arange(n) if numbers is None else np.asarray(numbers)
        shares = sharding.parts(self._mesh)
        size = -(-requests.batch_size(n, options.batch) // shares) * shares
        choices = Choices.of(options)
        if not (class_id != a.null_class).any():
            choices = dataclasses.replace(choices, guided=False)
        values = float(options.guidance), float(options.given_time), keys.of_seed(options.seed, stream)
        parts, progress = [], progress or Progress("sample", n, "samples")
        for rows in requests.batches(n, size):
            kept, classes, images = jax.device_put(
                (numbers[rows], class_id[rows], {m: x[rows] for m, x in given.items()}), self._split
            )
            latents = self._draw(params, Rows(kept, classes, self.encode(images)), *values, choices=choices)
            parts.append(finish(self.decode({m: z for m, z in latents.items() if m not in given}, numbers[rows])))
            progress(min(size, n - (len(parts) - 1) * size))
        return _joined(parts, n)

    def round_trip(self, images: Mapping[str, np.ndarray], batch: int) -> Arrays:
        """Encodes arrays [n, H, W, C] in [-1, 1] of some modalities and decodes them again, `batch` images at once."""
        n = len(next(iter(images.values())))
        rows = requests.batches(n, requests.batch_size(n, batch))
        return _joined([self.decode(self.encode({m: x[r] for m, x in images.items()}), r) for r in rows], n)


def _decode(autoencoder: Autoencoder, latents: Mapping[str, jax.Array]) -> tuple[Latents, Latents, Latents]:
    """Images of latents, and the samples, bool [n], whose latents and whose images are finite, of each modality."""

    def finite(arrays: Mapping[str, jax.Array]) -> Latents:
        return Latents((m, jnp.isfinite(x).all((1, 2, 3))) for m, x in arrays.items())

    images = autoencoder.decode(latents)
    return images, finite(latents), finite(images)


def _joined(parts: Sequence[Arrays], n: int) -> Arrays:
    """The first n rows of all batches together; rows beyond n only filled up the last batch."""
    return {m: np.concatenate([part[m] for part in parts])[:n] for m in parts[0]}


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Rows:
    """One batch of the samples to draw.

    Attributes:
      numbers: int [B], numbers of the samples.
      class_id: int [B], their classes.
      given: clean latents [B, h, w, C] of the modalities that are given.
    """

    numbers: jax.Array
    class_id: jax.Array
    given: Latents


@dataclass(frozen=True)
class Choices:
    """The options that a sampling program is compiled for; all others are arguments of the program.

    Attributes:
      solver: a key of `sampling.SOLVERS`.
      steps: number of steps of the solver.
      guided: whether there is guidance, which takes a second evaluation of the network.
      interval: guidance acts at times t in [low, high].
    """

    solver: str
    steps: int
    guided: bool
    interval: tuple[float, float]

    @classmethod
    def of(cls, chosen: Options) -> Choices:
        """The part of the options that a program is compiled for."""
        low, high = chosen.guidance_interval
        return cls(chosen.solver, chosen.steps, chosen.guidance != 1, (low, high))


def jit_draw(layout: Layout) -> jax.stages.Wrapped:
    """Makes a compiled program of `draw` for this layout."""
    chosen = compiler_options.SAMPLING.on(layout.mesh)
    return jax.jit(functools.partial(draw, layout), static_argnames="choices", compiler_options=chosen)


def draw(
    layout: Layout,
    params: Params,
    rows: Rows,
    guidance: jax.Array,
    given_time: jax.Array,
    key: jax.Array,
    *,
    choices: Choices,
) -> Latents:
    """Draws the latents [B, h, w, K] of the modalities that are not given, for one batch."""
    architecture = layout.architecture
    shapes = OrderedDict((m, shape[1:]) for m, shape in architecture.latent_shapes(1).items())
    arrays = requests.request(key, rows.numbers, rows.class_id, rows.given, shapes)
    network, prompt = functools.partial(layout.apply, params), arrays.prompt
    if choices.guided:
        null, given = architecture.null_class, tuple(rows.given)
        field = classifier_free(network, prompt, null, guidance, choices.interval, given)
    else:
        field = bind(network, prompt)
    return sample(
        field, arrays.noise, arrays.key, choices.solver, choices.steps, given=arrays.given, given_time=given_time
    )


def sampler_flops(architecture: Architecture, batch: int, steps: int, solver: str, guided: bool) -> float:
    """Number of flops of all network evaluations for `batch` samples; guidance doubles them.

    The alignment projector is left out, as sampling does not use it.
    """
    evaluations = SOLVERS[choice("solver", solver, SOLVERS)].evaluations(steps)
    tokens = token_count(architecture)
    return batch * evaluations * (2 if guided else 1) * network_flops(architecture.model, tokens)
