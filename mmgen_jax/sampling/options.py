"""How samples are drawn: the settings of a request, and what a sampling program makes of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import jax
import numpy as np

from mmgen_jax.diffusion.conditioning import subset
from mmgen_jax.modalities.registry import NAMES
from mmgen_jax.sampling.branches import CLASS
from mmgen_jax.sampling.grids import GRID, shifted
from mmgen_jax.sampling.solvers import SOLVERS
from mmgen_jax.sampling.training_free import NETWORK, THROUGH
from mmgen_jax.system.arrays import AnyArray
from mmgen_jax.system.errors import UsageError
from mmgen_jax.system.rules import INTERVAL, SWITCH, TEXT, Rule, integer, number, one_of, setting

AS_GIVEN_TIME = -1.0
WEAK = "weak"  # the member that is a weak model, and no condition

TIMES = Rule(lambda v: (isinstance(v, tuple) and not v) or GRID.allows(v), f"a tuple of {GRID.words}, or ()")
WHOLE = Rule(lambda v: number(0, 64).allows(v) and not 0 < v < 1, "a number 1 to 64, or 0")


def by_modality(name: str, default: object, allowed: Rule, meaning: str, names: Sequence[str] = NAMES) -> type:
    """A section of settings with one for each of the modalities; `meaning` has a place for the modality's name."""
    kind = type(default)
    lines = [(m, kind, setting(default, allowed, meaning.format(m))) for m in names]
    return dataclasses.make_dataclass(name, lines, frozen=True)


Strengths = by_modality("Strengths", 1.0, number(-100, 100), "weight of the given {0}; 1 = as it is, 0 = left out")
Strengths.__doc__ = "How strongly each given modality acts; below 0 leads away from it."
Intervals = by_modality("Intervals", (0.0, 1.0), INTERVAL, "times t when strength.{0} counts; elsewhere it is 1")
Intervals.__doc__ = "When strengths count, by the time of the modality that is made."
GivenTimes = by_modality(
    "GivenTimes",
    AS_GIVEN_TIME,
    Rule(lambda v: number(-1, 1).allows(v) and not -1 < v < 0, "a number 0 to 1, or -1"),
    "t at which a given {0} is held; -1 = given_time",
)
GivenTimes.__doc__ = "How loosely each given modality is held: near 0 exactly, towards 1 not at all."
Order = by_modality("Order", 0.0, number(0, 1), "how far {0} runs ahead; 1 = it is done before the others begin")
Order.__doc__ = "Which modalities are made first; those with the same number run together."


@dataclass(frozen=True)
class Options:
    """How samples are drawn: what the settings in `sample` and the arguments of `MMGen.generate` have in common."""

    solver: str = setting("euler_maruyama", one_of(*SOLVERS), "of the differential equation")
    steps: int = setting(250, integer(1), "of the solver; as many as `times` has, if that is set")
    guidance: float = setting(1.0, number(0, 10_000), "classifier-free guidance; 1 = none")
    guidance_interval: tuple[float, float] = setting((0.0, 1.0), INTERVAL, "times t when guidance, or classes, act")
    given_time: float = setting(0.005, number(0, 1), "t at which given modalities are held")
    seed: int = setting(0, integer(0), "of the noise")
    temperature: float = setting(
        1.0, number(0, 10), "scale of the noise at the start; 0 = none, one answer for each input"
    )
    start_time: float = setting(0.6, number(0, 1), "t at which what has a start begins; 1 = nothing is left of it")
    batch: int = setting(32, integer(1), "samples computed at once")
    draws: int = setting(1, integer(1), "predictions of each sample, which are combined and tell how uncertain it is")
    whole: float = setting(
        0.0, WHOLE, "short side of whole images, times the model's size; 0 = the central square alone"
    )
    wanted: str = setting("", TEXT, 'what is made, as "rgb+depth", all else is ignored; empty = all that is not given')
    classes: str = setting("", TEXT, 'several classes with weights, "torus:1+box:-0.5", in place of one; empty = none')
    rescale: float = setting(0.0, number(0, 1), "of guided samples to the contrast of those that are not; 0 = none")
    autoguidance: float = setting(1.0, number(0, 10_000), "guidance away from sample.weak; 1 = none")
    times: tuple[float, ...] = setting((), TIMES, "grid of the steps, in place of the solver's own; () = its own")
    shift: float = setting(1.0, number(0.01, 100), "of the solver's own grid, as SD3; above 1 = more steps on noise")
    via: str = setting("", TEXT, 'what is read from what is given, and made from alone, as "depth+normal"')
    compose: bool = setting(False, SWITCH, "multiply what each condition says alone, as MCDM, instead of all together")
    corrector: int = setting(-1, integer(-1), "Langevin steps after each step; -1 = none, or 1 with particles")
    particles: int = setting(1, integer(1), "weighted candidates of which each sample is drawn; 1 = no candidates")
    guide_weight: float = setting(
        1.0, number(0, 100), "how strongly a guide leads; 1 = as a likelihood, 0 = not at all"
    )
    guide_through: str = setting(NETWORK, one_of(*THROUGH), "what guides are differentiated through; decoder is cheap")
    strength: Strengths = dataclasses.field(default_factory=Strengths)  # type: ignore[valid-type]
    interval: Intervals = dataclasses.field(default_factory=Intervals)  # type: ignore[valid-type]
    given_times: GivenTimes = dataclasses.field(default_factory=GivenTimes)  # type: ignore[valid-type]
    order: Order = dataclasses.field(default_factory=Order)  # type: ignore[valid-type]

    def plain(self) -> Options:
        """The same without what belongs to one request: classes, a weak model, draws, what is wanted, its grid, ..."""
        own = {"classes": "", "autoguidance": 1.0, "draws": 1, "wanted": "", "via": "", "times": (), "order": Order()}
        return dataclasses.replace(self, **own, start_time=Options.start_time)

    @property
    def count(self) -> int:
        """Number of steps of the solver."""
        return len(self.times) - 1 if self.times else self.steps

    def grid(self) -> np.ndarray:
        """Times float32 [count + 1] of the solver, from 1 to 0."""
        if self.times:
            return np.array(self.times, np.float32)
        own = SOLVERS[self.solver].times(self.steps)
        return np.asarray(own if self.shift == 1 else shifted(own, self.shift))

    def seen(self, given: Sequence[str], modalities: Sequence[str]) -> tuple[str, ...]:
        """The modalities that others are made from: those that are given, or what is read from them by `via`.

        Raises UsageError if that cannot be read from them.
        """
        if not self.via:
            return tuple(given)
        chosen = subset(self.via, modalities)
        names = tuple(m for m, yes in zip(modalities, chosen, strict=True) if yes)
        if not given:
            raise UsageError(f"via is {self.via!r}, but nothing is given that it could be read from")
        for m in names:
            if m in given:
                raise UsageError(f"via is {self.via!r}, but {m} is given; allowed: what is not given")
        return names

    def targets(self, given: Sequence[str], modalities: Sequence[str]) -> tuple[str, ...]:
        """The modalities that are made, in the model's order. Raises UsageError for others or given ones."""
        if not self.wanted:
            return tuple(m for m in modalities if m not in given)
        chosen = subset(self.wanted, modalities)
        names = tuple(m for m, yes in zip(modalities, chosen, strict=True) if yes)
        for m in names:
            if m in given:
                raise UsageError(f"wanted is {self.wanted!r}, but {m} is given; allowed: what is not given")
        return names


@dataclass(frozen=True)
class Choices:
    """The options that a sampling program is compiled for; all others are arguments of the program.

    Attributes:
      solver: a key of `sampling.SOLVERS`.
      steps: number of steps of the solver.
      targets: the modalities that are made; what is neither made nor given is ignored.
      members: conditions whose weight is chosen, and `WEAK`, with the intervals in which they have it; several classes
        come last.
      compose: whether what the members say alone is multiplied.
      rescaled: whether what is guided is rescaled.
      corrector: number of Langevin steps after each step; None means 0, or what particles need.
      particles: number of particles of each sample.
      order: how far each target runs ahead.
      guided: whether the network itself leans on the class, see `Dials.scale`.
    """

    solver: str
    steps: int
    targets: tuple[str, ...]
    members: tuple[tuple[str, tuple[float, float]], ...]
    compose: bool
    rescaled: bool
    corrector: int | None
    particles: int
    order: tuple[float, ...]
    guided: bool


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Dials:
    """Numbers of a request that a sampling program takes as arguments, so that others compile nothing.

    Attributes:
      weights: weight of each member.
      classes: index of each member that is one of several classes.
      times: time at which each given modality is held.
      temperature: scale of the noise from which targets start.
      start_time: time at which targets begin that have a start.
      rescale: how far the contrast of what is guided is moved to that of what is not.
      scale: strength of guidance that the network takes as an input.
      grid: times [steps + 1] of the solver.
    """

    weights: dict[str, float]
    classes: dict[str, int]
    times: dict[str, float]
    temperature: float
    start_time: float
    rescale: float
    scale: float
    grid: AnyArray


def plan(
    options: Options,
    given: Sequence[str],
    modalities: Sequence[str],
    conditional: bool,
    classes: Mapping[int, float] = MappingProxyType({}),
    largest: float = 0.0,
) -> tuple[Choices, Dials]:
    """What a sampling program is compiled for, and the numbers that it takes.

    Args:
      options: how samples are drawn.
      given: names of the modalities that are given as a whole.
      modalities: names of the model's modalities.
      conditional: whether a class is given to each sample.
      classes: weights of several classes by index, which `options` has as a text.
      largest: `guided` of the network. Up to this strength plain guidance needs no branch of its own.
    """
    strength, targets = vars(options.strength), options.targets(given, modalities)
    weights = {m: float(strength[m]) for m in modalities if m in given and (options.compose or strength[m] != 1)}
    guided = dict.fromkeys((CLASS, WEAK), options.guidance_interval)
    intervals: Mapping[str, tuple[float, float]] = vars(options.interval) | guided
    if conditional and (options.compose or options.guidance != 1):
        weights[CLASS] = float(options.guidance)
    several = {f"{CLASS} {k}": index for k, index in enumerate(classes)}
    weights |= {name: float(classes[index]) for name, index in several.items()}
    intervals = {**intervals, **dict.fromkeys(several, options.guidance_interval)}
    if options.autoguidance != 1:
        weights[WEAK] = float(options.autoguidance)
    inside = list(weights) == [CLASS] and _is_plain(options) and 1 <= options.guidance <= largest
    if inside:
        del weights[CLASS]
    members = tuple((name, (float(intervals[name][0]), float(intervals[name][1]))) for name in weights)
    own = vars(options.given_times)
    times = {m: float(options.given_time if own[m] == AS_GIVEN_TIME else own[m]) for m in given}
    corrector = None if options.corrector < 0 else options.corrector
    order = tuple(float(vars(options.order)[m]) for m in targets)
    choices = Choices(
        options.solver,
        options.count,
        targets,
        members,
        options.compose,
        options.rescale > 0,
        corrector,
        options.particles,
        order,
        inside,
    )
    temperature, start_time, rescale = map(float, (options.temperature, options.start_time, options.rescale))
    scale = float(options.guidance)
    return choices, Dials(weights, several, times, temperature, start_time, rescale, scale, options.grid())


def _is_plain(options: Options) -> bool:
    """Whether the velocities that are followed are those of guidance alone, at all times."""
    others = options.compose or options.rescale or options.corrector > 0 or options.particles > 1
    return options.guidance_interval == (0.0, 1.0) and not others
