"""What is asked of a sample besides the modalities that are given: its class and its task, as one value."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Prompt:
    """The conditions of a batch. A new one (a text, for instance) is a new field, and a line in `only`.

    Every leaf has the batch as its leading axis.

    Attributes:
      class_id: 0 .. number of classes; the last number is the null class.
      task: row of the task table, see `conditioning.task_row`.
      scale: strength of classifier-free guidance on the class, for a network that takes it as an input
        (`model.guided`); None means 1 everywhere, which is none.
    """

    class_id: Int[Array, " B"]
    task: Int[Array, " B"]
    scale: Float[Array, " B"] | None = None

    def only(self, rows: Bool[Array, " B"], null_class: int) -> Prompt:
        """The prompt with the null class in all other rows, as in the unconditional branch of guidance."""
        return dataclasses.replace(self, class_id=jnp.where(rows, self.class_id, null_class))

    def of_class(self, rows: Bool[Array, " B"], class_id: int | jax.Array) -> Prompt:
        """The prompt with one class in these rows."""
        return dataclasses.replace(self, class_id=jnp.where(rows, class_id, self.class_id))
