"""What a sample is asked to be, besides the modalities that are given: one value, which every network takes whole."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Prompt:
    """The condition of a batch; another one (a text, for instance) is one more field and what `null` does to it.

    Every leaf has the batch as its leading axis.

    Attributes:
      class_id: 0 .. number of classes; the last one is the null class.
      task: row of the task table, see `conditioning.task_row`.
    """

    class_id: Int[Array, " B"]
    task: Int[Array, " B"]

    def null(self, null_class: int) -> Prompt:
        """The unconditional branch of guidance: the same task, and the null class for all."""
        return dataclasses.replace(self, class_id=jnp.full_like(self.class_id, null_class))
