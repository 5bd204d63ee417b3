"""The Python interface: load a model, generate samples, look at them.

from mmgen_jax import MMGen

model = MMGen.load("shapes-tiny")
out = model.generate(class_id="torus", n=4, given={"depth": "depth.png"})
out["rgb"]          # uint8 [4, H, W, 3]
out.save("folder")  # PNGs and a gallery
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from mmgen_jax.checkpoints import model_folders, pretrained
from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.diffusion.prompt import Prompt
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.models.architectures import Architecture, Params
from mmgen_jax.sampling import canvas, raw
from mmgen_jax.sampling import classes as several
from mmgen_jax.sampling.asked import Asked
from mmgen_jax.sampling.captions import caption
from mmgen_jax.sampling.draws import combined
from mmgen_jax.sampling.given import given_values, known_pixels, noise_values, pasted, values_of
from mmgen_jax.sampling.grids import GRID
from mmgen_jax.sampling.joining import Joining
from mmgen_jax.sampling.options import GivenTimes, Intervals, Options, Order, Strengths
from mmgen_jax.sampling.sampler import Sampler
from mmgen_jax.sampling.training_free import prepared
from mmgen_jax.settings import Evaluate, Sample, rules
from mmgen_jax.show.outputs import Outputs
from mmgen_jax.system.arrays import AnyArray
from mmgen_jax.system.errors import UsageError, choice, shown
from mmgen_jax.system.rules import integer, require

_ALLOWED = rules(Sample())


class MMGen(Joining):
    """A trained model; `load` makes one."""

    def __init__(self, architecture: Architecture, params: Params):
        super().__init__(Sampler(architecture), params)
        self._velocity = jax.jit(lambda params, x, t, prompt, r: architecture.apply(params, x, t, prompt, r=r)[0])

    @classmethod
    def load(cls, name: epath.PathLike, step: int | None = None) -> MMGen:
        """Loads a bundled model by name ("shapes-tiny"), a model folder, or a workdir (`step`, default the newest).

        Raises UsageError if there is no such model.
        """
        return cls(*model_folders.load(name, step))

    @classmethod
    def from_pretrained(cls, name: epath.PathLike) -> MMGen:
        """Loads a model folder or a hub id "org/name"; raises UsageError for others, and for damaged files."""
        return cls(*pretrained.load(name))

    def save_pretrained(self, folder: epath.PathLike, dtype: str = "float32", license: str = "unknown") -> None:
        """Writes a folder for the hub, with a model card; see `checkpoints.pretrained.save`. Raises UsageError."""
        pretrained.save(folder, self.architecture, self._params, dtype, license)

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.architecture.facts.class_names

    @property
    def modalities(self) -> tuple[str, ...]:
        return self.architecture.modalities

    def velocity(self, x: Mapping, t, class_id, task, r=None) -> Latents:
        """Computes the raw network: x dict of [B, H, W, C], t [B, M], class_id [B], task [B] -> velocities, float32.

        Column m of t is the time of the m-th key of x; velocities come in the model's order. A task is 0, or 1 + m for
        samples with the m-th modality alone given. With r [B, M] <= t, a flow map tells the average velocities on the
        straight way from t to r. Works under jit. Raises UsageError for anything else.
        """
        a, arrays = self.architecture, raw.latents("x", x, self.architecture)
        names, count = tuple(arrays), len(next(iter(arrays.values())))
        if missing := [m for m in self.modalities if m not in names]:
            raise UsageError(f"x has {', '.join(names)}; {', '.join(missing)} is missing")
        order = np.array([names.index(m) for m in self.modalities])
        at = jnp.asarray(raw.times("t", t, (count, len(names))))[:, order]
        end = None if r is None else jnp.asarray(raw.times("r", r, (count, len(names))))[:, order]
        classes = jnp.asarray(raw.numbers("class_id", class_id, count, a.null_class))
        prompt = Prompt(classes, jnp.asarray(raw.numbers("task", task, count, len(names))))
        return self._velocity(self._params, a.ordered(arrays), at, prompt, end)

    def encode(self, values: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
        """Encodes values of some modalities, as `generate` returns them, to latents [n, h, w, C].

        Takes all that may be given to `generate`. Raises UsageError for anything else.
        """
        return self.encoded("values", values)

    def decode(self, latents: Mapping[str, jax.Array]) -> dict[str, np.ndarray]:
        """Decodes latents [n, h, w, C] of some modalities to values, as `generate` returns them.

        Raises UsageError for other names, types or shapes, and NotFinite for NaN and infinity.
        """
        return self._values(self._sampler.decode(raw.latents("latents", latents, self.architecture)))

    def _arrays(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {m: MODALITIES[m].array(value, self.architecture.facts) for m, value in values.items()}

    def _values(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {m: MODALITIES[m].value(array, self.architecture.facts) for m, array in arrays.items()}

    def generate(
        self,
        class_id: int | str | Sequence[int | str] | AnyArray | None = None,
        n: int | np.integer | Sequence[int] | AnyArray = 1,
        given: Mapping[str, object] | None = None,
        steps: int | None = None,
        solver: str = "heun",
        guidance: float = 1.0,
        guidance_interval: tuple[float, float] = (0.0, 1.0),
        given_time: float | Mapping[str, float] = 0.005,
        seed: int = 0,
        batch: int = 32,
        wanted: Sequence[str] | None = None,
        via: Sequence[str] | None = None,
        strength: Mapping[str, float] | None = None,
        interval: Mapping[str, tuple[float, float]] | None = None,
        order: Mapping[str, float] | None = None,
        compose: bool = False,
        corrector: int | None = None,
        particles: int = 1,
        draws: int = 1,
        temperature: float = 1.0,
        whole: float = 0.0,
        keep: Mapping[str, object] | None = None,
        start: Mapping[str, object] | None = None,
        start_time: float = Options.start_time,
        noise: Mapping[str, object] | None = None,
        classes: Mapping[int | str, float] | None = None,
        rescale: float = 0.0,
        times: Sequence[float] | AnyArray | None = None,
        shift: float = 1.0,
        guide: Callable[[Mapping[str, jax.Array]], object] | None = None,
        guide_weight: float = 1.0,
        guide_through: str = "network",
        models: Mapping[str, MMGen] | None = None,
        weak: MMGen | None = None,
        autoguidance: float = 1.0,
        progress: Callable[[int], object] | None = None,
    ) -> Outputs:
        """Draws n samples; sample i depends on `seed` and i, not on n or `batch`.

        All of them are kept in memory. To make many, ask for some at a time: n=range(32), n=range(32, 64), ...

        Args:
          class_id: index or name of a class, one for all samples or one for each; None means no class.
          n: how many samples, those with the numbers 0 to n - 1; or their numbers.
          given: modality -> a file or array (see `modalities.modality`), one for all samples or one for each.
          steps: number of steps of the solver; None means 25, or those of `times`.
          solver: a name of `mmgen_jax.sampling.SOLVERS`.
          guidance: strength of classifier-free guidance on the class; 1 means none.
          guidance_interval: guidance of both kinds, or several classes, act at times t in [low, high].
          given_time: time in [0, 1] at which given modalities are held, one for all or by name; at 0 the network sees
            them clean, and the later it is, the more loosely they are followed.
          seed: seed of the noise.
          batch: number of samples computed at once.
          wanted: names of the modalities that are made; None means all that are not given. What is neither given nor
            wanted is ignored, which a model must have been trained for.
          via: names of the modalities that are read from all that is given, as `evaluate` reads them, and from which
            alone the rest is made: rgb of another class or seed from the geometry of an image. What another of the
            `models` tells, that one reads.
          strength: given modality -> weight of it, between 0 (left out) and 1 (as it is), above 1 (guidance on it) or
            below 0 (away from it). Needs a model that was trained to ignore modalities.
          interval: given modality -> times [low, high] of what is made when its strength counts; elsewhere it is 1.
          order: wanted modality -> how far it runs ahead of those that are not named, from 0 to 1 (it is done before
            they begin). Needs a model that was trained with times of their own.
          compose: multiply what each given modality and the class say alone, as MCDM does, instead of giving all of
            them together; `strength` and `guidance` are the weights. See `sampling.composition`.
          corrector: number of Langevin steps after each step; None means none, or 1 with particles.
          particles: number of weighted candidates of which each sample is drawn, which makes a composition exact as it
            grows; costs so many times as much.
          draws: number of predictions of each sample, each from noise of its own. They are combined as each modality
            says (`Modality.combine`), and how far they are apart is the uncertainty.
          temperature: scale of the noise from which the solver starts. At 0 there is one answer to what is given, near
            the middle of all that is possible: the best single prediction of depth, normals and regions.
          whole: 0 takes the central square of what is given; 1 takes all of it, computes with its shorter side at the
            model's size, and returns what is made at its own size and shape, with its edges; more computes at so many
            times the model's size, in windows that overlap. All draws stay at the size that they are computed at.
          keep: given modality -> the pixels of it that are known, white in a file or True in an array [H, W], one for
            all samples or one for each; the rest of it is made. Costs about three times as much.
          start: wanted modality -> a file or array at which it begins, not at noise; all others begin at noise, which
            needs a model that was trained with times of their own. See `sampling.starts`.
          start_time: time in [0, 1] at which it begins: near 0 it stays as it is, and at 1 nothing is left of it.
          noise: modality -> latents [1 or n, h, w, C] in place of the noise that is drawn, as `noise` and `invert`
            return them.
          classes: class -> weight of it, for several classes in place of one: 1 for each that it must be, below 0 for
            what it must not be, 1 - a and a for what lies between two. See `sampling.classes`.
          rescale: how far the contrast of what is guided is moved to that of what is not, from 0 to 1, which keeps
            colours from saturating at large guidance; 0.7 is usual. See `sampling.rescale`.
          times: grid of times that fall from 1 to 0, in place of `steps` and the solver's own grid.
          shift: moves the solver's own grid, as SD3 does: above 1 more of the steps are made at noise.
          guide: a function of what is made, modality -> JAX array [B, H, W(, 3)] (see `Modality.differentiable`), that
            returns a loss [B], a negative log-likelihood which is 0 where a sample fits; samples are led to a small
            loss. `sampling.guides` has some, and `sampling.training_free` says how they lead.
          guide_weight: how strongly the guide leads.
          guide_through: "network" leads all that belongs to what the loss looks at, and costs about as much as two more
            evaluations of the network; "decoder" costs none, and leads less.
          models: given modality -> another model that tells it, in a composition; see `sampling.others`.
          weak: a smaller or earlier model of the same modalities, for autoguidance.
          autoguidance: how far it leads away from `weak`: v = v_weak + autoguidance (v - v_weak); 1 means none.
          progress: is told after each batch how many draws it had; a meter on stderr if None.

        Returns:
          `Outputs`, in which given modalities are as they were given, resized to the model's size.

        Raises:
          UsageError: an argument is not allowed.
        """
        joined, by_name = self.joined(models, weak), isinstance(given_time, Mapping)
        plain: dict[str, Any] = {
            "solver": solver,
            "steps": 25 if steps is None else steps,
            "shift": shift,
            "guidance": guidance,
            "guidance_interval": guidance_interval,
            "given_time": Options.given_time if by_name else given_time,
            "seed": seed,
            "batch": batch,
            "compose": compose,
            "rescale": rescale,
            "times": () if times is None else times,
            "corrector": -1 if corrector is None else corrector,
            "particles": particles,
            "draws": draws,
            "temperature": temperature,
            "start_time": start_time,
            "autoguidance": autoguidance,
            "whole": float(whole) if isinstance(whole, bool) else whole,
            "guide_weight": guide_weight,
            "guide_through": guide_through,
        }
        sections = {
            "strength": (strength, Strengths),
            "interval": (interval, Intervals),
            "given_times": (given_time if by_name else None, GivenTimes),
            "order": (order, Order),
        }
        values: dict[str, Any] = {name: raw.plain(value) for name, value in plain.items()}
        options = Options(
            **values,
            **{name: joined._section(name, chosen, kind) for name, (chosen, kind) in sections.items()},
            wanted=joined._joined("wanted", wanted),
            via=joined._joined("via", via),
            classes="" if classes is None else several.text(several.of_mapping(classes, self.architecture)),
        )
        for name, value in values.items():
            require(name, value, _ALLOWED[name])
        if times is not None:
            require("times", values["times"], GRID)
            if steps is not None:
                raise UsageError(f"steps is {steps}, but times are given too; allowed: one of them")
        if corrector is not None:
            require("corrector", values["corrector"], integer(0))
        return joined.draw(options, class_id, n, given, keep, start, noise, guide, progress)

    def draw(
        self,
        options: Options,
        class_id: int | str | Sequence[int | str] | AnyArray | None = None,
        n: int | np.integer | Sequence[int] | AnyArray = 1,
        given: Mapping[str, object] | None = None,
        keep: Mapping[str, object] | None = None,
        start: Mapping[str, object] | None = None,
        noise: Mapping[str, object] | None = None,
        guide: object = None,
        progress: Callable[[int], object] | None = None,
    ) -> Outputs:
        """Draws n samples as `generate` does, whose other arguments are `options`."""
        a, numbers = self.architecture, raw.sample_numbers(n)
        count = len(numbers)
        class_ids, weights = raw.classes(class_id, count, a), several.of_text(options.classes, a)
        given, keep = _mapping("given", given), _mapping("keep", keep)
        if given.keys() - keep.keys() >= set(a.modalities):
            raise UsageError(f"given has all of {', '.join(given)}; at least one must be left to generate")
        conditions = self._conditions(given, count, options.whole)
        known = _for_each(known_pixels(keep, tuple(conditions), count, a), count)
        begin = _for_each(values_of("start", _mapping("start", start), count, a), count)
        passed = _for_each(noise_values(noise, count, a), count)
        whole = tuple(m for m in conditions if m not in known)
        asked = Asked(
            options,
            a.modalities,
            given=options.seen(whole, a.modalities),
            source=whole,
            partial=tuple(known),
            start=tuple(begin),
            conditional=bool((class_ids != a.null_class).any()),
            noise=bool(passed),
            guided=guide is not None,
        )
        asked.check(a.path)
        self._company.check(asked)
        loss = None if guide is None else prepared(guide, count, asked.targets, a.image_size)
        source: Mapping[str, np.ndarray] = begin
        if options.via:
            source = _for_each(conditions, count) | begin
            conditions = self._read(conditions, numbers, options)
        inner = canvas.fitted(conditions, options.whole, a) if options.whole else conditions
        shown = _for_each(self._arrays(inner), count)
        made = self._sampler(
            self._params,
            class_ids,
            shown,
            options,
            known=known,
            start=self._arrays(begin),
            noise=passed,
            guide=loss,
            voices=self._voices,
            numbers=numbers,
            finish=self._values,
            progress=progress,
        )
        values = _for_each(conditions, count)
        for m, pixels in known.items():
            made[m] = pasted(made[m], *(np.repeat(x, options.draws, 0) for x in (values[m], pixels)))
        seen = combined(made, options.draws, a.facts)
        seen = canvas.restored(seen, conditions, a.facts) if options.whole else seen
        values |= seen.values
        names = [self._class_name(i) for i in class_ids.tolist()]
        together = ", ".join(f"{self._class_name(i)} x {weight:g}" for i, weight in weights.items())
        return Outputs(
            a.ordered(values),
            asked.given,
            a.facts,
            caption=caption(asked, names, together),
            rows=[f"{i} {name}" if len(set(names)) > 1 else f"{i}" for i, name in zip(numbers, names, strict=True)],
            uncertainty={m: x * np.float32(a.calibration.get(m, 1)) for m, x in seen.uncertainty.items()},
            draws=seen.draws,
            source=a.ordered(source),
        )

    def _joined(self, name: str, chosen: Sequence[str] | None) -> str:
        """Names of modalities as a setting has them."""
        if chosen is None:
            return ""
        if isinstance(chosen, str) or not isinstance(chosen, Sequence) or not chosen:
            raise UsageError(f"{name} is {shown(chosen)}; allowed: a list of some of {', '.join(self.modalities)}")
        return "+".join(choice(f"{name} modality", m, self.modalities) for m in chosen)

    def _read(self, given: Mapping[str, np.ndarray], numbers: np.ndarray, options: Options) -> dict[str, np.ndarray]:
        """Values [1 or n, ...] of what `options.via` names, read from what is given [1 or n, ...]; see `others`."""
        how = Options(solver=Evaluate.solver, steps=Evaluate.steps, temperature=Evaluate.temperature)
        how = dataclasses.replace(how, **{name: getattr(options, name) for name in ("seed", "batch", "whole")})
        names = options.seen(tuple(given), self.modalities)
        readers, found = {m: cast(MMGen, self._told.get(m, self._first)) for m in names}, dict[str, np.ndarray]()
        for reader in dict.fromkeys(readers.values()):
            known = {m: x for m, x in given.items() if m in reader.modalities}
            read = reader.draw(how, n=numbers[: max(map(len, known.values()))], given=known, progress=lambda _: None)
            found |= {m: read[m] for m in names if readers[m] is reader}
        return {m: found[m] for m in names}

    def _section(self, name: str, chosen: object, kind: type) -> Any:
        """Values by modality as a section of the settings. Raises UsageError."""
        if chosen is None:
            return kind()
        if not isinstance(chosen, Mapping):
            raise UsageError(f"{name} is {shown(chosen)}; allowed: a dict of modality -> value")
        values = {choice(f"modality of {name}", m, self.modalities): raw.plain(value) for m, value in chosen.items()}
        for m, value in values.items():
            require(f"{name} of {m}", value, _ALLOWED[f"{name}.{m}"])
        return kind(**values)

    def _class_name(self, index: int) -> str:
        return "no class" if index == self.architecture.null_class else self.class_names[index]

    def _conditions(self, given: Mapping[str, object], n: int, whole: float) -> dict[str, np.ndarray]:
        """Values [1 or n, ...] of what is given, in the model's order."""
        a = self.architecture
        for m in given:
            choice("given modality", m, a.modalities)
        return given_values(given, n, a, whole)


def _mapping(name: str, value: Mapping[str, object] | None) -> Mapping[str, object]:
    """The argument `name`, empty for None. Raises UsageError for what is no mapping."""
    if value is not None and not isinstance(value, Mapping):
        raise UsageError(f"{name} is of type {type(value).__name__}; allowed: a dict of modality -> file or array")
    return value or {}


def _for_each(values: Mapping[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
    """Values [count, ...] of those [1 or count, ...], of which one is the same for all samples."""
    return {m: np.broadcast_to(x, (count, *x.shape[1:])) for m, x in values.items()}
