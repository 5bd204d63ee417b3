"""MMGen's diffusion transformer: SiT with one time and one output head per modality (MMGen section 3.2).

The latents of one location are concatenated over modalities, so that the number of tokens does not grow with the
number of modalities. Blocks are one stacked module run by a scan: compile time and code size do not grow with depth.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.diffusion.prompt import Prompt
from mmgen_jax.models import attention
from mmgen_jax.models.layers import Head, ScaleEmbedder, TimeEmbedder, linear, normalise, patchify, unpatchify
from mmgen_jax.models.projectors import PROJECTORS
from mmgen_jax.models.recipes import RECIPES, Recipe
from mmgen_jax.parallel.placement import Placement, single
from mmgen_jax.system.errors import UsageError
from mmgen_jax.system.rules import Rule, integer, number, one_of, require

SIZES = {
    "S": {"depth": 12, "width": 384, "heads": 6, "encoder_depth": 4},
    "B": {"depth": 12, "width": 768, "heads": 12, "encoder_depth": 4},
    "L": {"depth": 24, "width": 1024, "heads": 16, "encoder_depth": 8},
    "XL": {"depth": 28, "width": 1152, "heads": 16, "encoder_depth": 8},
}
PATCHES = (2, 4, 8)
DTYPES = ("float32", "bfloat16")
# Activations that are kept for the backward pass: the results of matrix multiplications, which are costly to repeat.
SAVED = jax.checkpoint_policies.save_only_these_names("qkv", "attention", "proj", "mlp_in", "mlp_out")
POLICIES = {
    "names": SAVED,
    "full": jax.checkpoint_policies.nothing_saveable,
}
# What the fields of a model may be, whether they come from settings or from a stored model.
FIELDS: dict[str, Rule] = {
    "depth": integer(1, 10_000),
    **dict.fromkeys(("width", "heads", "projector_width"), integer(1, 2**20)),
    "patch": integer(1, 4096),
    "num_classes": integer(0),
    "encoder_depth": integer(0, 10_000),
    "feature_width": integer(0, 2**20),
    "mlp_ratio": number(0.25, 1024),
    "decoupled": number(0, 1),
    "guided": Rule(lambda v: number(0, 100).allows(v) and not 0 < v <= 1, "a number above 1 to 100, or 0"),
    "recipe": one_of(*RECIPES),
    "projector": one_of(*PROJECTORS),
    "dtype": one_of(*DTYPES),
    "remat": one_of("none", *POLICIES),
    "attention": one_of(*attention.NAMES),
    "unroll": Rule(lambda v: v is True or v is False or integer(1).allows(v), "an integer of at least 1, or True"),
}
_STD = number(1e-12, 1e12)


def parse_size(name: str) -> dict[str, int]:
    """The fields of a published size such as "XL/2": depth, width, heads, encoder_depth and patch."""
    size, _, patch = name.partition("/")
    if size not in SIZES or patch not in map(str, PATCHES):
        raise UsageError(f"model size {name!r}: must be one of {', '.join(SIZES)}, a slash, and a patch of {PATCHES}")
    return SIZES[size] | {"patch": int(patch)}


@dataclass(frozen=True)
class MMDiTConfig:
    """Everything that fixes the network's shapes and how it computes.

    Attributes:
      modalities: (name, latent channels) in the order of t's columns.
      depth, width, heads, patch, mlp_ratio: sizes of the transformer; width must be divisible by heads and by 4.
      num_classes: number of classes without the null class, which is row `num_classes` of the class table.
      encoder_depth: the REPA projector reads the tokens after this many blocks (1..depth).
      projector_width, feature_width: sizes of the REPA projector; feature_width 0 means that there is none.
      projector: kind of the REPA projector, "mlp" or "conv", see `models/projectors.py`.
      dtype: type that matrices are multiplied in, "float32" or "bfloat16"; parameters are always float32.
      remat: what the backward pass computes again instead of keeping it in memory: "none" for nothing, "full" for
        everything, "names" for everything except the results of matrix multiplications.
      attention: "xla", "pallas" (a kernel for TPUs, for shapes that it can compute), or "auto", the faster one.
      unroll: blocks per iteration of the scan; True unrolls it all (3% faster steps on a CPU, longer compilation).
      data_std: standard deviation of each channel of the latents of each modality, for the preconditioned form. None
        means the published form, in which the network's output is the velocity.
      decoupled: share of the blocks, from the first, that see the time t in a flow map; the others and the heads see
        the end r of a step (Decoupled MeanFlow, Lee et al. 2025). 0 means that there is no flow map. It adds no
        parameters.
      guided: largest scale of guidance on the class that the network takes as an input; 0 means that it takes none.
      recipe: kind of the blocks: "published", or "modern", see `models/modern.py`.
    """

    modalities: tuple[tuple[str, int], ...]
    depth: int
    width: int
    heads: int
    patch: int
    num_classes: int
    mlp_ratio: float = 4.0
    encoder_depth: int = 0
    projector_width: int = 2048
    feature_width: int = 0
    dtype: str = "float32"
    remat: str = "none"
    attention: str = "auto"
    unroll: int | bool = 1
    data_std: tuple[tuple[float, ...], ...] | None = None
    decoupled: float = 0.0
    recipe: str = "published"
    projector: str = "mlp"
    guided: float = 0.0

    def __post_init__(self):
        for name, rule in FIELDS.items():
            require(f"model.{name}", getattr(self, name), rule)
        if self.width % self.heads or self.width % 4:
            raise UsageError(f"width={self.width}: must be divisible by heads={self.heads} and by 4")
        if self.feature_width and not 1 <= self.encoder_depth <= self.depth:
            raise UsageError(f"encoder_depth={self.encoder_depth}: must be in 1..depth={self.depth} with a projector")
        if self.recipe == "modern" and self.width // self.heads % 4:
            each = self.width // self.heads
            raise UsageError(f"width={self.width}: must be a multiple of 4 in each of heads={self.heads}, not {each}")
        channels = tuple(c for _, c in self.modalities)
        if self.data_std is not None and tuple(map(len, self.data_std)) != channels:
            raise UsageError(f"data_std has {tuple(map(len, self.data_std))} values: must be {channels} per modality")
        for std in itertools.chain(*(self.data_std or ())):
            require("each value of model.data_std", std, _STD)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.modalities)

    @property
    def mlp_width(self) -> int:
        return int(self.width * self.mlp_ratio)

    @property
    def kind(self) -> Recipe:
        """The kind of its blocks."""
        return RECIPES[self.recipe]

    @property
    def blocks_of_start(self) -> int:
        """Number of blocks, from the first, that see t in a flow map; the others see r."""
        return max(1, round(self.decoupled * self.depth))


class MMDiT(nnx.Module):
    """The network that predicts the velocity of all modalities from all modalities."""

    def __init__(self, config: MMDiTConfig, *, rngs: nnx.Rngs):
        self.config = config
        width, area, dtype = config.width, config.patch**2, jnp.dtype(config.dtype)
        normal = nnx.initializers.normal
        self.patch_embed = linear(area * sum(c for _, c in config.modalities), width, rngs, dtype)
        self.time_embed = TimeEmbedder(width, len(config.modalities), rngs=rngs)
        self.class_embed = nnx.Embed(config.num_classes + 1, width, embedding_init=normal(0.02), rngs=rngs)
        self.task_embed = nnx.Embed(len(config.modalities) + 1, width, embedding_init=normal(1.0), rngs=rngs)
        self.scale_embed = ScaleEmbedder(width, rngs=rngs) if config.guided else None

        def block(key: jax.Array) -> nnx.Module:
            return config.kind.block(width, config.mlp_width, dtype, rngs=nnx.Rngs(key))

        self.blocks = nnx.vmap(block)(jax.random.split(rngs.params(), config.depth))
        self.heads = nnx.Dict({name: Head(width, area * c, rngs=rngs) for name, c in config.modalities})
        self.projector = (
            PROJECTORS[config.projector](width, config.projector_width, config.feature_width, dtype, rngs=rngs)
            if config.feature_width
            else None
        )

    def __call__(
        self,
        x: Latents,
        t: jax.Array,
        prompt: Prompt,
        placement: Placement | None = None,
        r: jax.Array | None = None,
    ) -> tuple[Latents, jax.Array | None]:
        """Predicts d x_t / dt or, with the end r of a step, the average velocity (x_t - x_r) / (t - r) to there.

        Args:
          x: noisy latents, one [B, H, W, C] per modality in the order of `config.modalities`, H and W divisible by
            the patch.
          t: times [B, M] in [0, 1] (1 = noise), one column per modality.
          prompt: class_id is 0..num_classes, where num_classes is the null class; task is 0 for joint generation, and
            i + 1 if modality i alone is given; scale is 1..guided, of a model with `guided`, or None.
          placement: how blocks get their weights; None means that all weights are on the default device.
          r: times [B, M] at which a step ends, of a model with `decoupled`; the way goes straight from t to r. What
            stays where it is has r = t, and where all does, the average velocity is the velocity. None means r = t.

        Returns:
          velocities with the shapes of x, float32; and projected features [B, T, feature_width], float32, or None if
          there is no projector.

        Raises:
          ValueError: modalities, their order, channels or sizes are not those of the config.
          UsageError: there is an r, but the model is no flow map, or a scale, but the model takes none.
        """
        self._check(x, t, prompt, r)
        skip, scale_in, scale_out = self._preconditioning(t)
        scaled = Latents((name, z.astype(jnp.float32) * scale_in[name]) for name, z in x.items())
        outputs, features = self._network(scaled, t, prompt, placement or single(), r)
        velocity = Latents((name, skip[name] * z + scale_out[name] * outputs[name]) for name, z in x.items())
        return velocity, features

    def _check(self, x: Mapping[str, jax.Array], t: jax.Array, prompt: Prompt, r: jax.Array | None) -> None:
        config = self.config
        if prompt.scale is not None and not config.guided:
            raise UsageError("model.guided is 0; a scale as an input needs a model that was trained with it above 1")
        if r is not None and not config.decoupled:
            raise UsageError("model.decoupled is 0; a flow map needs a model that was trained with it above 0")
        if tuple(x) != config.names:
            # The columns of t have this order. In jit, JAX sorts the keys of a dict, but not of an OrderedDict.
            raise ValueError(f"modalities {tuple(x)}: must be an OrderedDict of {config.names}, in this order")
        b, h, w = x[config.names[0]].shape[:3]
        if h % config.patch or w % config.patch:
            raise ValueError(f"latent size {h}x{w}: must be divisible by patch={config.patch}")
        for name, channels in config.modalities:
            if x[name].shape != (b, h, w, channels):
                raise ValueError(f"{name} has shape {x[name].shape}: must be {(b, h, w, channels)}")
        for name, time in (("t", t), ("r", t if r is None else r)):
            if time.shape != (b, len(config.names)):
                allowed = (b, len(config.names))
                raise ValueError(f"{name} has shape {time.shape}: must be {allowed}, one time per modality")

    def _preconditioning(self, t: jax.Array) -> tuple[dict, dict, dict]:
        """Three factors of each modality, [B, 1, 1, C]: of x_t in the velocity, of the network's input, of its output.

        For data of standard deviation s, x_t has the variance q = t^2 + (1-t)^2 s^2. The linear regression of the
        velocity on x_t has the slope (t - (1-t) s^2) / q and the residual variance s^2 / q. With these factors the
        network sees unit variance and has to predict unit variance at all times. At initialisation its output is 0,
        so the velocity is the best linear guess. Without `data_std` the factors are 0, 1 and 1.
        """
        names = self.config.names
        if self.config.data_std is None:
            return dict.fromkeys(names, 0.0), dict.fromkeys(names, 1.0), dict.fromkeys(names, 1.0)
        factors = {}
        for m, name in enumerate(names):
            s = jnp.asarray(self.config.data_std[m], jnp.float32)
            time = t[:, m, None, None, None].astype(jnp.float32)
            q = jnp.square(time) + jnp.square((1 - time) * s)
            factors[name] = ((time - (1 - time) * s**2) / q, jax.lax.rsqrt(q), s * jax.lax.rsqrt(q))
        skip, scale_in, scale_out = ({name: factors[name][i] for name in names} for i in range(3))
        return skip, scale_in, scale_out

    def _network(
        self, x: Latents, t: jax.Array, prompt: Prompt, placement: Placement, r: jax.Array | None
    ) -> tuple[dict[str, jax.Array], jax.Array | None]:
        config = self.config
        height, width = x[config.names[0]].shape[1:3]
        grid = (height // config.patch, width // config.patch)
        position = config.kind.position(*grid, config.width)
        tokens = self.patch_embed(patchify(jnp.concatenate(list(x.values()), -1), config.patch))
        start, end = self._condition(t, prompt), None if r is None else self._condition(r, prompt)
        tokens, tapped = self._trunk(tokens + position.astype(np.dtype(config.dtype)), grid, start, end, placement)
        features = self.projector(tapped, grid).astype(jnp.float32) if self.projector and tapped is not None else None
        # All heads normalise the same tokens in the same way; only the modulation differs.
        normalised, condition = normalise(tokens.astype(jnp.float32)), start if end is None else end
        outputs = {
            name: unpatchify(self.heads[name](normalised, condition), config.patch, height, width)
            for name in config.names
        }
        return outputs, features

    def _condition(self, time: jax.Array, prompt: Prompt) -> jax.Array:
        """silu(condition) [B, width] of times [B, M] and a prompt."""
        total = self.time_embed(time) + self.class_embed(prompt.class_id) + self.task_embed(prompt.task)
        if self.scale_embed is not None and prompt.scale is not None:
            total += self.scale_embed(prompt.scale)
        return jax.nn.silu(total)

    def _trunk(
        self, tokens: jax.Array, grid: tuple[int, int], start: jax.Array, end: jax.Array | None, placement: Placement
    ) -> tuple[jax.Array, jax.Array | None]:
        """Tokens after all blocks, and after block `encoder_depth` if a projector reads those, else None.

        The tokens are those of a `grid` of rows and columns. Blocks see the condition `start`, and from
        `blocks_of_start` on `end`, unless it is None.
        """
        config = self.config
        tapping = self.projector is not None
        head_width = config.width // config.heads
        heads = config.heads // placement.members
        attend = placement.attention or config.attention
        mixer = config.kind.mixer(attend, placement.platform, *grid, head_width)

        def body(carry, layer):
            tokens, memory, tapped = carry
            number, sees_end, block = layer
            condition = start if end is None else jnp.where(sees_end, end, start)
            compute = placement.block(block)
            tokens, memory = compute(tokens, memory, number == 1, condition, heads, mixer, placement)
            # The tokens are selected in the carry, as cutting the stack of blocks in two would cost more.
            tapped = jnp.where(number == config.encoder_depth, tokens, tapped) if tapping else None
            return (tokens, memory, tapped), None

        if config.remat != "none":
            body = jax.checkpoint(body, prevent_cse=False, policy=POLICIES[config.remat])
        number = jnp.arange(1, config.depth + 1)
        sees_end = None if end is None else number > config.blocks_of_start
        memory = config.kind.memory(tokens, heads, head_width)
        carry = (tokens, memory, jnp.zeros_like(tokens) if tapping else None)
        (tokens, _, tapped), _ = jax.lax.scan(body, carry, (number, sees_end, self.blocks), unroll=config.unroll)
        return tokens, tapped
