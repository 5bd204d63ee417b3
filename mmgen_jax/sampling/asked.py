"""What a request asks for besides how samples are drawn, and the checks that all of it means something together."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from mmgen_jax.sampling.options import Options
from mmgen_jax.sampling.solvers import SOLVERS
from mmgen_jax.system.errors import UsageError


@dataclass(frozen=True)
class Asked:
    """A request for samples, by the names of what belongs to it.

    Attributes:
      options: how samples are drawn; each of them alone has a value that is allowed.
      modalities: those of the model.
      given: the modalities that are given as a whole, or read from those, see `Options.seen`.
      source: those that are given as a whole, from which `given` is read where `options.via` says so.
      partial: the modalities of which a part is given.
      start: the modalities that do not begin at noise.
      conditional: whether a class is given to each sample.
      noise: whether noise is passed.
      guided: whether there is a guide.
    """

    options: Options
    modalities: tuple[str, ...]
    given: tuple[str, ...] = ()
    source: tuple[str, ...] = ()
    partial: tuple[str, ...] = ()
    start: tuple[str, ...] = ()
    conditional: bool = False
    noise: bool = False
    guided: bool = False

    @property
    def targets(self) -> tuple[str, ...]:
        """The modalities that are made. Raises UsageError as `Options.targets` does."""
        return self.options.targets(self.given, self.modalities)

    def check(self, path: str) -> None:
        """Raises UsageError for a request that means nothing to a model with this path from data to noise."""
        self._check_roles()
        self._check_start()
        self._check_conditions()
        self._check_ways()
        self._check_path(path)

    def _check_roles(self) -> None:
        """What is said of a modality is said of one that has the role for it."""
        options, targets = self.options, self.targets
        for section, names, role in (
            ("strength", self.given, "given"),
            ("interval", self.given, "given"),
            ("given_times", self.given, "given"),
            ("order", targets, "wanted"),
        ):
            values = getattr(options, section)
            for field in dataclasses.fields(values):
                m, value = field.name, getattr(values, field.name)
                if value != field.default and m not in names:
                    allowed = " + ".join(names) or "nothing"
                    raise UsageError(f"{section} of {m} is {value}, but {m} is not {role}; {role}: {allowed}")
        for m in self.partial:
            if m not in targets:
                raise UsageError(f"wanted is {options.wanted!r}; it must have {m}, of which only a part is kept")

    def _check_start(self) -> None:
        """What has a start is made, and the time of the start is of something."""
        options = self.options
        for m in self.start:
            if m in self.given:
                raise UsageError(f"{m} is in start and is given; allowed: one of both")
            if m not in self.targets:
                raise UsageError(f"wanted is {options.wanted!r}; it must have {m}, which has a start")
        if options.start_time != Options.start_time and not self.start:
            raise UsageError(f"start_time is {options.start_time:g}, but nothing has a start")

    def _check_conditions(self) -> None:
        """Conditions are there, and none is told in two ways."""
        options = self.options
        if options.via and self.partial:
            kept = " + ".join(self.partial)
            raise UsageError(f"via is {options.via!r}; allowed: empty, as a part of {kept} is kept")
        if options.classes and self.conditional:
            raise UsageError(f"classes is {options.classes!r}, but class_id is given too; allowed: one of them")
        if options.classes and options.guidance != 1:
            raise UsageError(f"guidance is {options.guidance:g}; allowed: 1, as each of the classes has its own weight")
        for name in ("guide_weight", "guide_through"):
            if not self.guided and (value := getattr(options, name)) != getattr(Options, name):
                raise UsageError(f"{name} is {value}, but there is no guide")
        if options.compose and not self.given and not self.conditional and not options.classes:
            raise UsageError("compose is True, but neither a modality nor a class is given")

    def _check_ways(self) -> None:
        """The ways in which samples are drawn go together."""
        options = self.options
        for names, why in (
            (self.partial, "a part of {} is kept"),
            (self.start, "{} has a start"),
            (("",) * self.guided, "there is a guide"),
        ):
            why = why.format(" + ".join(names))
            if names and options.whole:
                raise UsageError(f"whole is {options.whole:g}; allowed: 0, as {why}")
            if names and options.particles > 1:
                raise UsageError(f"particles is {options.particles}; allowed: 1, as {why}")
        if options.times and options.shift != 1:
            raise UsageError(f"shift is {options.shift:g}; allowed: 1, as times are given")
        for name, value, alone in (("draws", options.draws, 1), ("whole", options.whole, 0)):
            if self.noise and value != alone:
                raise UsageError(f"{name} is {value:g}; allowed: {alone}, as noise is passed")
        if options.draws > 1 and certain(options):
            raise UsageError(f"draws is {options.draws}, which needs noise; temperature is 0: all would be the same")
        if options.particles > 1 and options.corrector == 0:
            raise UsageError(f"corrector is 0; {options.particles} particles need at least 1, or -1")
        if options.particles > 1 and options.rescale:
            raise UsageError(
                f"rescale is {options.rescale:g}; allowed: 0, as {options.particles} particles are weighed"
            )

    def _check_path(self, path: str) -> None:
        """What holds on the linear path alone is asked of a model with that path."""
        options, kept = self.options, " + ".join(self.partial)
        for name, value, used in (
            ("solver", options.solver, SOLVERS[options.solver].needs_linear_path),
            ("corrector", options.corrector, options.corrector > 0),
            ("particles", options.particles, options.particles > 1),
            ("rescale", options.rescale, options.rescale > 0),
            ("keep", kept, bool(kept)),
            ("guide", "a loss", self.guided),
        ):
            if used and path != "linear":
                raise UsageError(f"{name} is {value!r}, which needs the linear path; the model's is {path}")


def certain(options: Options) -> bool:
    """Whether what is made starts from no noise and gets none on the way."""
    noisy = SOLVERS[options.solver].stochastic or options.corrector > 0 or options.particles > 1
    return options.temperature == 0 and not noisy
