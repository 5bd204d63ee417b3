"""What turns tokens into features of a frozen encoder, for representation alignment (REPA)."""

from __future__ import annotations

import jax
from flax import nnx

from mmgen_jax.models.layers import XAVIER, linear
from mmgen_jax.parallel.precision import precision_of


class Perceptron(nnx.Module):
    """Projector of REPA (Yu et al. 2024, section 3.2): tokens [B, T, D] -> features [B, T, out], token by token."""

    def __init__(self, width: int, hidden: int, out: int, dtype, *, rngs: nnx.Rngs):
        self.fc1 = linear(width, hidden, rngs, dtype)
        self.fc2 = linear(hidden, hidden, rngs, dtype)
        self.fc3 = linear(hidden, out, rngs, dtype)

    def __call__(self, x: jax.Array, grid: tuple[int, int]) -> jax.Array:
        del grid  # where tokens are does not matter
        return self.fc3(jax.nn.silu(self.fc2(jax.nn.silu(self.fc1(x)))))

    @staticmethod
    def numbers(width: int, hidden: int, out: int) -> int:
        """Numbers in its matrices."""
        return width * hidden + hidden**2 + hidden * out


class Convolution(nnx.Module):
    """Projector of iREPA (Singh et al. 2025, arXiv 2512.10794): one 3 x 3 convolution over the grid of tokens.

    It sees neighbours, so that tokens need not tell where they are in order to be told apart. `hidden` has no effect.
    """

    def __init__(self, width: int, hidden: int, out: int, dtype, *, rngs: nnx.Rngs):
        del hidden
        exact = precision_of(dtype)
        self.conv = nnx.Conv(width, out, (3, 3), padding=1, dtype=dtype, kernel_init=XAVIER, precision=exact, rngs=rngs)

    def __call__(self, x: jax.Array, grid: tuple[int, int]) -> jax.Array:
        found = self.conv(x.reshape(x.shape[0], *grid, x.shape[-1]))
        return found.reshape(x.shape[0], -1, found.shape[-1])

    @staticmethod
    def numbers(width: int, hidden: int, out: int) -> int:
        """Numbers in its kernel."""
        del hidden
        return 9 * width * out


PROJECTORS: dict[str, type[Perceptron] | type[Convolution]] = {"mlp": Perceptron, "conv": Convolution}
