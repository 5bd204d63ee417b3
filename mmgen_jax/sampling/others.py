"""Other models that have a say in what a model makes: they tell some of the conditions, or they are its weak version.

*Conditions of several models.* Each model knows some of the conditions alone, and none needs to have seen a sample that
has all of them (MCDM, Nair et al. 2022). With v of the first model and v' of another one that tells conditions j,

    v = v_0 + sum_i w_i (v_i - v_0) + sum_j w_j (v'_j - v'_0).

What the other model says is compared with what itself says without the condition, not with v_0. So it is a likelihood:
p'(x | y_j) / p'(x) = p(y_j | x) / p(y_j), whatever density p' of x it has learned from its own data. The result is the
first model's density times all likelihoods. With v_0 in place of v'_0 it would be wrong by the ratio of both densities,
and with one condition of weight 1 the first model would not count at all. Both are the same if both have learned the
same density exactly. It costs the other model one more row. `tests/sampling/test_composition.py` has both formulas on
Gaussians.

*Autoguidance* (Karras et al. 2024, "Guiding a diffusion model with a bad version of itself"): a smaller or an earlier
model of the same modalities, given the same, errs in the same directions and further, so the velocity leads away from
it: v = v_weak + w (v - v_weak). With guidance and strengths, v is here what all conditions together say, and each of
them adds its own difference to it; in a composition v is v_0.

*Reading.* Where conditions are read from what is given (`Options.via`), each is read by the model that tells it, from
those of the given modalities that this model knows. The weak model reads nothing.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import jax
import numpy as np

from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.frozen.autoencoders import registry
from mmgen_jax.models.architectures import Architecture, Params
from mmgen_jax.models.layout import Layout
from mmgen_jax.models.mmdit import MMDiTConfig
from mmgen_jax.sampling.asked import Asked
from mmgen_jax.sampling.branches import CLASS, Branches, Member, Several, Term
from mmgen_jax.sampling.composition import alone
from mmgen_jax.sampling.options import WEAK
from mmgen_jax.system.errors import UsageError

Presences = Mapping[str, np.ndarray]  # condition -> in which branches it is present
Parts = Callable[[Layout, Params, Presences, int], Branches]  # of a network, and the number of its branches


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Other:
    """Another network in a sampling program, which is compiled for its kind and takes its weights as an argument.

    Attributes:
      params: its parameters.
      model: what kind of network it is.
      tells: the conditions that it tells; none for the weak model.
    """

    params: Params
    model: MMDiTConfig = field(metadata={"static": True})
    tells: tuple[str, ...] = field(metadata={"static": True})

    def said(
        self, layout: Layout, first: Presences, members: Mapping[str, Member], parts: Parts
    ) -> tuple[Several, tuple[Term, ...]]:
        """What this network says; see the function `said`."""
        own = dataclasses.replace(layout, architecture=dataclasses.replace(layout.architecture, model=self.model))
        if not self.tells:
            there = {name: present[:1] for name, present in first.items()}
            weak = members[WEAK]
            return parts(own, self.params, there, 1).each, (Term(1 - weak.weight, weak.interval),)
        told = {m: members[m] for m in self.tells}
        present, terms = alone(self.tells, told)
        nothing = {CLASS: np.zeros(len(terms) + 1, bool)}
        pairs = _against(parts(own, self.params, present | nothing, len(terms) + 1))
        return pairs, tuple(x for term in terms for x in (_opposite(term), term))


def said(
    others: Sequence[Other],
    layout: Layout,
    first: Presences,
    members: Mapping[str, Member],
    parts: Parts,
) -> tuple[tuple[Several, ...], tuple[Term, ...]]:
    """What other networks say of the targets, as further branches, and the terms of these; see `Branches`.

    Args:
      others: these networks.
      layout: of the first network, with which they share the mesh, the path and the latents.
      first: condition -> bool [J], in which branches of the first network it is present.
      members: conditions that others tell, and `WEAK`.
      parts: makes branches of a network.
    """
    found = [other.said(layout, first, members, parts) for other in others]
    return tuple(several for several, _ in found), tuple(term for _, terms in found for term in terms)


def _against(branches: Branches) -> Several:
    """Velocities v'_0, v'_1, v'_0, v'_2, ... of the branches, each of which is computed once."""

    def pairs(x: Latents, t: jax.Array) -> list[Latents]:
        nothing, *told = branches.each(x, t)
        return [velocity for each in told for velocity in (nothing, each)]

    return pairs


def _opposite(term: Term) -> Term:
    return Term(-term.weight, term.interval, -term.outside)


@dataclass(frozen=True)
class Company:
    """The models of a request, without their weights: a first one, and others that have a say.

    Attributes:
      first: the model that makes the samples.
      told: condition -> the other model that tells it.
      weak: the model that autoguidance leads away from.

    Raises UsageError for models that cannot go together.
    """

    first: Architecture
    told: Mapping[str, Architecture] = field(default_factory=dict)
    weak: Architecture | None = None

    def __post_init__(self) -> None:
        for m, other in self.told.items():
            if m not in other.modalities:
                raise UsageError(f"the model of {m} has {', '.join(other.modalities)}; allowed: a model that has {m}")
            _check_shared(f"the model of {m}", other, self.first)
        if self.weak:
            if set(self.weak.modalities) != set(self.first.modalities):
                names, allowed = (", ".join(a.modalities) for a in (self.weak, self.first))
                raise UsageError(f"the weak model has {names}; allowed: the modalities of the first model, {allowed}")
            _check_shared("the weak model", self.weak, self.first)

    @functools.cached_property
    def architecture(self) -> Architecture:
        """The first model as one that has the conditions of the others too; this is what a request is of."""
        first = self.first
        added = {m: other for m, other in self.told.items() if m not in first.modalities}
        channels = tuple((m, dict(other.model.modalities)[m]) for m, other in added.items())
        facts = first.facts
        for other in self.told.values():
            facts = dataclasses.replace(facts.completed(other.facts), class_names=facts.class_names)
        model = dataclasses.replace(first.model, modalities=(*first.model.modalities, *channels), data_std=None)
        return dataclasses.replace(first, model=model, facts=facts) if self.told else first

    def check(self, asked: Asked) -> None:
        """Raises UsageError for a request that means nothing with these models."""
        options, given = asked.options, asked.given
        if self.weak and options.autoguidance == 1:
            raise UsageError("autoguidance is 1, which leaves the weak model out; allowed: another number")
        if not self.weak and options.autoguidance != 1:
            raise UsageError(f"autoguidance is {options.autoguidance:g}, which needs a weak model; none is given")
        if self.weak and (asked.conditional or options.classes):
            theirs, ours = self.weak.facts.class_names, self.first.facts.class_names
            if theirs != ours:
                raise UsageError(
                    f"a class is given, and the weak model has the {len(theirs)} classes {theirs[:3]}...; "
                    f"allowed: those of the first model, {len(ours)}, {ours[:3]}..."
                )
        for m in given if options.via else ():
            reader = self.told.get(m, self.first)
            if not set(asked.source) & set(reader.modalities):
                found, allowed = " + ".join(asked.source), [x for x in reader.modalities if x not in given]
                raise UsageError(
                    f"via is {options.via!r}, and the model that tells {m} does not know {found}, which is given; "
                    f"allowed: {'+'.join(allowed) or 'nothing'}"
                )
        for m, other in self.told.items():
            if m not in given:
                found = " + ".join(given) or "nothing"
                raise UsageError(f"there is a model of {m}, but {m} is not given as a whole; given: {found}")
            if not options.compose:
                raise UsageError(f"compose is False; a model of {m} needs it to be True")
            for target in asked.targets:
                if target not in other.modalities:
                    both = [x for x in self.first.modalities if x in other.modalities and x not in given]
                    raise UsageError(
                        f"wanted has {target}, which the model of {m} lacks; allowed: {'+'.join(both) or 'nothing'}"
                    )


def _check_shared(name: str, other: Architecture, first: Architecture) -> None:
    """Raises UsageError unless two models have the same path, and the same latents of what both have."""
    shared = [m for m in first.modalities if m in other.modalities]
    if not shared:
        names = ", ".join(other.modalities)
        raise UsageError(f"{name} has {names}; allowed: a model that shares some of {', '.join(first.modalities)}")
    ours, theirs = (_spec(a, shared) for a in (first, other))
    for key, value in ours.items():
        if theirs.get(key) != value:
            raise UsageError(f"{name} has {key} {theirs.get(key)!r}; allowed: {value!r}, that of the first model")
    colours, known = (np.asarray(a.facts.palette) for a in (first, other))
    if len(colours) and len(known) and not np.array_equal(colours, known):
        raise UsageError(f"{name} has another palette; allowed: that of the first model, or none")
    arrays, found = (_arrays(a, shared) for a in (first, other))
    for key, array in arrays.items():
        if not np.array_equal(found[key], array):
            raise UsageError(f"{name} has another autoencoder, whose {key} differs; allowed: that of the first model")


def _spec(a: Architecture, shared: Sequence[str]) -> dict[str, object]:
    """What models must have in common, by name, besides the arrays of the autoencoder."""
    channels = {f"latent channels of {m}": a.autoencoder.channels[m] for m in shared}
    spec = {f"autoencoder.{key}": value for key, value in a.autoencoder.spec.items()}
    return {"path": a.path, "image_size": a.image_size} | spec | channels


def _arrays(a: Architecture, shared: Sequence[str]) -> dict[str, np.ndarray]:
    """Arrays of the autoencoder by which it makes latents of these modalities."""
    return registry.rebuild(a.autoencoder.spec, tuple(shared), a.autoencoder.arrays()).arrays()
