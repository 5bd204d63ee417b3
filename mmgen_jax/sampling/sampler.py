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
from mmgen_jax.diffusion.conditioning import task_row
from mmgen_jax.diffusion.flow import PATHS
from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.diffusion.prompt import Prompt
from mmgen_jax.frozen.autoencoders.protocol import Autoencoder
from mmgen_jax.models.architectures import Architecture, Params
from mmgen_jax.models.flops import network_flops, token_count
from mmgen_jax.models.layout import Layout
from mmgen_jax.parallel import compiler_options, sharding
from mmgen_jax.sampling import classes, others, requests, windows
from mmgen_jax.sampling.branches import CLASS, Branches, Member, Network, Presence, Several, Term
from mmgen_jax.sampling.composition import alone
from mmgen_jax.sampling.grids import in_order
from mmgen_jax.sampling.guidance import leaned, velocity
from mmgen_jax.sampling.inpainting import Inpainted, Mixed, mixed_cells, whole_cells
from mmgen_jax.sampling.options import WEAK, Choices, Dials, Options, plan
from mmgen_jax.sampling.roles import hold
from mmgen_jax.sampling.solvers import SOLVERS, sample
from mmgen_jax.sampling.starts import begun, cut
from mmgen_jax.sampling.training_free import Guide, Loss
from mmgen_jax.system.arrays import AnyArray
from mmgen_jax.system.console import Progress
from mmgen_jax.system.errors import NotFinite, UsageError, choice

Arrays = dict[str, np.ndarray]


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
        self.layout = Layout(architecture, self._mesh)
        self._draw = jit_draw(self.layout)

    def place(self, params: Params) -> Params:
        """Puts parameters on the devices, in the types that the programs need; costs nothing if they are there."""
        return jax.tree.map(jax.device_put, self.layout.in_types(params), sharding.state_shardings(self._mesh, params))

    def encode(self, images: Mapping[str, AnyArray]) -> Latents:
        """Encodes arrays [n, H, W, C] in [-1, 1] of some modalities to latents [n, h, w, K], in the model's order."""
        known = self.architecture.ordered(images)
        return self._encode(self._autoencoder, known) if known else known

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
                        f"look at the weights, the strength of guidance and the loss of a guide"
                    )
        return {m: np.asarray(x) for m, x in images.items()}

    def __call__(
        self,
        params: Params,
        class_id: np.ndarray,
        given: Mapping[str, np.ndarray],
        options: Options,
        *,
        known: Mapping[str, np.ndarray] | None = None,
        start: Mapping[str, np.ndarray] | None = None,
        noise: Mapping[str, AnyArray] | None = None,
        guide: Loss | None = None,
        voices: Sequence[Voice] = (),
        numbers: Sequence[int] | np.ndarray | None = None,
        finish: Callable[[Arrays], Arrays] = dict,
        progress: Callable[[int], object] | None = None,
        stream: str = "sample",
    ) -> Arrays:
        """Draws arrays [n K, H, W, C] in [-1, 1] of the modalities that are wanted, in the model's order.

        K is `options.draws`: row K i + k is draw k of sample i, whose draw 0 is the same whatever K is; see `draws`.
        A draw depends on the seed and its numbers, not on how many samples there are or on the size of the batches.

        Args:
          params: parameters of the network.
          class_id: int [n], class of each sample; the null class means no class.
          given: arrays [n, H, W, C] in [-1, 1] of some modalities, of the model's size or larger; what is made has the
            same size, see `windows`.
          options: how samples are drawn.
          known: bool [n, H, W], the pixels of some given modalities that are known; the rest of them is made.
          start: arrays [n, H, W, C] in [-1, 1] from which wanted modalities begin, see `starts`.
          noise: latents [n, h, w, K] in place of the noise that is drawn, of some modalities.
          guide: leads samples to a small loss, as `training_free.prepared` returns it.
          voices: other models that have a say, see `others`.
          numbers: int [n], numbers of the samples; 0 .. n - 1 if None.
          finish: turns the arrays of each batch into those that are kept.
          progress: is told after each batch how many draws it had; a meter on stderr if None.
          stream: name of the stream of random numbers within the seed, see `diffusion.keys`.

        Raises NotFinite as `decode` does.
        """
        a, n = self.architecture, len(class_id)
        params, class_id = self.place(params), np.asarray(class_id, np.int32)
        numbers = np.arange(n) if numbers is None else np.asarray(numbers)
        shares, count = sharding.parts(self._mesh), n * options.draws
        height, width = (side // a.autoencoder.factor for side in _size(given, a.image_size))
        limit = max(1, options.batch // len(windows.places(height, width, a.latent_size)))
        size = requests.batch_size(count, limit, shares)
        conditional = bool((class_id != a.null_class).any())
        known, start, noise = known or {}, start or {}, noise or {}
        whole, weights = tuple(m for m in given if m not in known), classes.of_text(options.classes, a)
        names = (*a.modalities, *(m for voice in voices for m in voice.tells if m not in a.modalities))
        choices, dials = plan(options, whole, names, conditional, weights, 0 if voices else a.model.guided)
        _check_averages(choices, a, bool(known), guide is not None)
        beside = tuple(others.Other(v.params, v.sampler.architecture.model, v.tells) for v in voices)
        key = keys.of_seed(options.seed, stream)
        across = any(mixed_cells(x, height, width).any() for x in known.values())
        parts, progress = [], progress or Progress("sample", count, "samples")
        for rows in requests.batches(count, size):
            own, draws = np.divmod(rows, options.draws)
            cells = {m: whole_cells(x[own], height, width) for m, x in known.items()}
            images, first, passed = ({m: x[own] for m, x in part.items()} for part in (given, start, noise))
            kept, draws, own_class, images, where, first, passed = jax.device_put(
                (numbers[own], draws, class_id[own], images, a.ordered(cells), first, a.ordered(passed)), self._split
            )
            clean = self.encode(images)
            for voice in voices:  # what both models know has the same latents
                clean |= voice.sampler.encode({m: images[m] for m in voice.tells if m not in a.modalities})
            mixed = self._mixed({m: x[own] for m, x in known.items()}, images, height, width) if across else None
            batch = Rows(kept, draws, own_class, clean, where, mixed, self.encode(first), passed)
            batch = dataclasses.replace(batch, guide=self._guide(guide, own, options))
            latents = self._draw(params, batch, dials, key, beside, choices=choices)
            parts.append(finish(self.decode(latents, numbers[own])))
            progress(min(size, count - (len(parts) - 1) * size))
        return _joined(parts, count)

    def _mixed(
        self, pixels: Mapping[str, np.ndarray], images: Mapping[str, jax.Array], height: int, width: int
    ) -> Mixed:
        """What is known within cells, of pixels bool [B, H, W] and arrays [B, H, W, C]; on the devices."""
        a = self.architecture
        own = a.ordered({m: images[m] for m in pixels})
        where = a.ordered({m: x[..., None] for m, x in pixels.items()})
        cells = a.ordered({m: mixed_cells(x, height, width) for m, x in pixels.items()})
        return Mixed(self._autoencoder, *jax.device_put((own, where, cells), self._split))

    def _guide(self, loss: Loss | None, rows: np.ndarray, options: Options) -> Guide | None:
        """The guide of the samples `rows` [B], of one whose arrays are [1 or n, ...], on the devices."""
        if loss is None:
            return None

        def put(leaf: AnyArray) -> jax.Array:
            return jax.device_put(*((leaf, self._everywhere) if len(leaf) == 1 else (leaf[rows], self._split)))

        weight = float(options.guide_weight)
        return Guide(jax.tree.map(put, loss), self._autoencoder, weight, options.guide_through)

    def round_trip(self, images: Mapping[str, np.ndarray], batch: int) -> Arrays:
        """Encodes arrays [n, H, W, C] in [-1, 1] of some modalities and decodes them again, `batch` images at once."""
        n = len(next(iter(images.values())))
        rows = requests.batches(n, requests.batch_size(n, batch))
        return _joined([self.decode(self.encode({m: x[r] for m, x in images.items()}), r) for r in rows], n)


@dataclass(frozen=True)
class Voice:
    """Another model in a request: its sampler and parameters, and the conditions that it tells, none if it is weak."""

    sampler: Sampler
    params: Params
    tells: tuple[str, ...] = ()


def _size(given: Mapping[str, AnyArray], default: int) -> tuple[int, int]:
    """Height and width of what is given [n, H, W, C], or those of a square if nothing is."""
    for x in given.values():
        return x.shape[1], x.shape[2]
    return default, default


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
      draws: int [B], numbers of their draws.
      class_id: int [B], their classes.
      given: clean latents [B, h, w, C] of the modalities that are given.
      known: bool [B, h, w, 1], where those of them are known that are given only in part.
      mixed: what is known of them within other cells; None if nothing is.
      start: clean latents [B, h, w, C] from which wanted modalities begin.
      noise: latents [B, h, w, C] in place of the noise that is drawn, of some modalities.
      guide: leads them to a small loss.
    """

    numbers: jax.Array
    draws: jax.Array
    class_id: jax.Array
    given: Latents
    known: Latents = dataclasses.field(default_factory=Latents)
    mixed: Mixed | None = None
    start: Latents = dataclasses.field(default_factory=Latents)
    noise: Latents = dataclasses.field(default_factory=Latents)
    guide: Guide | None = None


def jit_draw(layout: Layout) -> jax.stages.Wrapped:
    """Makes a compiled program of `draw` for this layout."""
    chosen = compiler_options.SAMPLING.on(layout.mesh)
    return jax.jit(functools.partial(draw, layout), static_argnames="choices", compiler_options=chosen)


def draw(
    layout: Layout,
    params: Params,
    rows: Rows,
    dials: Dials,
    key: jax.Array,
    beside: Sequence[others.Other] = (),
    *,
    choices: Choices,
) -> Latents:
    """Draws the latents [B, h, w, K] of the modalities that are wanted, for one batch."""
    architecture = layout.architecture
    height, width = _size(rows.given, architecture.latent_size)
    models = (architecture.model, *(other.model for other in beside))
    shapes = OrderedDict((m, (height, width, channels)) for model in models for m, channels in model.modalities)
    arrays = requests.request(requests.draw_keys(key, rows.draws), rows.numbers, shapes)
    drawn = Latents(arrays.noise | rows.noise)
    whole = Latents((m, z) for m, z in rows.given.items() if m not in rows.known)
    noise = Latents((m, z) for m, z in drawn.items() if m not in choices.targets)
    held = Latents((m, hold(z, noise[m], dials.times[m])) for m, z in whole.items())
    rescale = dials.rescale if choices.rescaled else None

    def parts(
        layout: Layout,
        params: Params,
        present: Mapping[str, np.ndarray],
        count: int,
        terms: tuple[Term, ...] = (),
        more: tuple[Several, ...] = (),
    ) -> Branches:
        own = Latents((m, noise[m]) for m in layout.architecture.modalities if m in noise)
        absent = {m: np.zeros(count, bool) for m in own if m not in present}
        network = _network(layout, params, rows, dials, architecture.null_class, choices.guided)
        tiled = windows.over(network, height, width, architecture.latent_size)
        return Branches(tiled, {**absent, **present}, terms, own, held, dials.times, more, rescale=rescale)

    arrangement = alone if choices.compose else leaned
    members = {name: Member(dials.weights[name], interval) for name, interval in choices.members}
    several = {name: members.pop(name) for name in dials.classes}
    theirs = {m: members.pop(m) for other in beside for m in other.tells or (WEAK,)}
    conditions = [*(m for m in whole if m not in theirs), CLASS]
    present, terms = classes.beside(*arrangement(conditions, members), several)
    more, added = others.said(beside, layout, present, theirs, parts)
    branches = parts(layout, params, present, len(terms) + 1, terms + added, more)
    partial = Latents((m, rows.given[m]) for m in rows.known)
    field = Inpainted(branches, partial, rows.known, rows.mixed, architecture.autoencoder.std) if partial else branches
    scaled = Latents((m, dials.temperature * drawn[m]) for m in choices.targets)
    made = sample(
        rows.guide.guided(field) if rows.guide else field,
        begun(PATHS[architecture.path], scaled, rows.start, dials.start_time),
        arrays.key,
        choices.solver,
        times=cut(in_order(dials.grid, choices.order), choices.targets, rows.start, dials.start_time),
        corrector=choices.corrector,
        particles=choices.particles,
    )
    return field.finish(made) if isinstance(field, Inpainted) else made


def _check_averages(choices: Choices, architecture: Architecture, partial: bool, guided: bool) -> None:
    """Raises UsageError for a solver that follows average velocities where the model does not tell them.

    A flow map tells the average of its own velocity, and not that of a sum of velocities or of a velocity that is led.
    """
    if not SOLVERS[choices.solver].averages:
        return
    if not architecture.model.decoupled:
        raise UsageError(
            f"solver is {choices.solver!r}, which needs a flow map, but model.decoupled of the model is 0; "
            "allowed: the other solvers, or a model of the recipe shapes_fewstep"
        )
    for words, used in (
        (f"{next((name for name, _ in choices.members), '')} has a weight (guidance, strength, ...)", choices.members),
        (f"there are {choices.particles} particles", choices.particles > 1),
        ("a part of what is made is kept", partial),
        ("there is a guide", guided),
    ):
        if used:
            raise UsageError(f"solver is {choices.solver!r}, which takes the model's velocity as it is, but {words}")


def _network(layout: Layout, params: Params, rows: Rows, dials: Dials, null_class: int, guided: bool) -> Network:
    """A network for the samples of a batch, whose null class has the number `null_class` in the rows.

    Where it leans on the class itself (`guided`), it is told how strongly.
    """
    architecture = layout.architecture
    class_id = jnp.where(rows.class_id == null_class, architecture.null_class, rows.class_id)

    def network(x: Latents, t: jax.Array, present: Presence, r: jax.Array | None = None) -> Latents:
        names, copies = tuple(x), len(t) // len(class_id)
        columns = jnp.array([names.index(m) for m in architecture.modalities])
        nothing = jnp.zeros(len(t), bool)
        given = jnp.stack([present.get(m, nothing) for m in architecture.modalities], 1)
        prompt = Prompt(jnp.repeat(class_id, copies), task_row(given))
        prompt = prompt.only(present[CLASS], architecture.null_class)
        if guided:
            prompt = dataclasses.replace(prompt, scale=jnp.full(len(t), dials.scale))
        for name in present.keys() & dials.classes.keys():
            prompt = prompt.of_class(present[name], dials.classes[name])
        then = None if r is None else r[:, columns]
        return velocity(functools.partial(layout.apply, params), architecture.ordered(x), t[:, columns], prompt, then)

    return network


def sampler_flops(architecture: Architecture, batch: int, steps: int, solver: str, branches: int) -> float:
    """Number of flops of all network evaluations for `batch` samples; guidance has 2 branches.

    The alignment projector is left out, as sampling does not use it.
    """
    evaluations = SOLVERS[choice("solver", solver, SOLVERS)].evaluations(steps)
    tokens = token_count(architecture)
    return batch * evaluations * branches * network_flops(architecture.model, tokens)
