"""Several classes in one request, each with a weight: v = v_0 + sum_k w_k (v_k - v_0).

In v_k class k is present besides what is given in v_0, which has no class: all conditions, or in a composition none
(`composition.py`). Weights of 1 multiply what classes say, "a torus and a box"; a negative weight leads away from a
class, "not a box" (Liu et al. 2022, "Compositional visual generation with composable diffusion models"). Weights 1 - a
and a lead from one class to another, as v is then (1 - a) v_1 + a v_2. One class of weight w is guidance of scale w.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mmgen_jax.models.architectures import Architecture
from mmgen_jax.sampling import raw
from mmgen_jax.sampling.branches import Member, Term
from mmgen_jax.system.errors import UsageError, about, shown
from mmgen_jax.system.rules import number, require

WEIGHT = number(-100, 100)


def of_text(text: str, architecture: Architecture) -> dict[int, float]:
    """Index -> weight of the classes in a text such as "torus:1+box:-0.5"; a class without a weight has 1.

    Raises UsageError for an unknown class, for one that comes twice, and for a weight outside [-100, 100].
    """
    found: dict[object, object] = {}
    for part in text.split("+") if text else ():
        name, _, weight = part.rpartition(":") if ":" in part else (part, "", "1")
        try:
            value = float(weight)
        except ValueError as error:
            raise UsageError(
                f'classes is {text!r}; allowed: names or indices joined by +, as in "torus:1+box:-0.5"'
            ) from error
        if name.strip() in found:
            raise UsageError(f"classes is {text!r}, which has {name.strip()} twice; allowed: each class once")
        found[name.strip()] = value
    return of_mapping(found, architecture) if found else {}


def of_mapping(classes: object, architecture: Architecture) -> dict[int, float]:
    """Index -> weight of the classes in a dict of name or index -> weight. Raises UsageError as `of_text` does."""
    if not isinstance(classes, Mapping) or not classes:
        raise UsageError(f"classes is {shown(classes)}; allowed: a dict of class -> weight")
    found: dict[int, float] = {}
    for name, value in classes.items():
        weight: Any = raw.plain(value)
        require(f"the weight of {shown(name)} in classes", weight, WEIGHT)
        with about("classes"):
            index = architecture.class_index(name)
        if index == architecture.null_class:
            raise UsageError(f"classes has {shown(name)}; allowed: a name or an index")
        if index in found:
            raise UsageError(f"classes has {shown(name)} twice; allowed: each class once")
        found[index] = float(weight)
    return found


def text(weights: Mapping[int, float]) -> str:
    """The setting `sample.classes` of these weights, by index."""
    return "+".join(f"{index}:{weight!r}" for index, weight in weights.items())


def beside(
    present: Mapping[str, np.ndarray], terms: tuple[Term, ...], members: Mapping[str, Member]
) -> tuple[dict[str, np.ndarray], tuple[Term, ...]]:
    """Adds to branches a further one for each class: that class beside what is present in branch 0.

    Outside its interval a class does not count. Returns condition -> bool [J], in which branches it is present, and
    the terms; see `Branches`.
    """
    first, count = 1 + len(terms), len(members)
    found = {name: np.append(there, np.full(count, there[0])) for name, there in present.items()}
    found |= {name: np.arange(first + count) == first + k for k, name in enumerate(members)}
    return found, (*terms, *(Term(m.weight, m.interval) for m in members.values()))
