"""Gives a model other classes: the rows of its class table follow the names of the classes."""

from __future__ import annotations

import numpy as np

from mmgen_jax.models.architectures import Architecture, Params
from mmgen_jax.system.console import say


def fit(params: Params, theirs: Architecture, ours: Architecture) -> Params:
    """Parameters of a model with the classes of another; says how many classes are new, if any.

    A class that both have by name keeps its row. A new one starts from the row of no class, so that the model makes of
    it at first what it makes without a class.
    """
    names = ours.facts.class_names
    if theirs.facts.named(names).class_names == names:
        return params
    known = {} if theirs.facts.is_numbered else {name: row for row, name in enumerate(theirs.facts.class_names)}
    rows = [known.get(name, theirs.null_class) for name in names]
    say(
        f"a new class table of {len(rows)} classes, {len(rows) - rows.count(theirs.null_class)} of them with the row "
        f"of the same name among the model's {theirs.model.num_classes}, the others starting from the row of no class"
    )
    table = np.asarray(params["class_embed"]["embedding"])[[*rows, theirs.null_class]]
    return params | {"class_embed": {"embedding": table}}
