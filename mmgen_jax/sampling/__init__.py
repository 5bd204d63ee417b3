"""Sampling: solvers for any velocity function, guidance, composition, and the arrays that a request becomes."""

from mmgen_jax.sampling.composition import composed
from mmgen_jax.sampling.grids import shifted_times, uniform_times
from mmgen_jax.sampling.guidance import bind, classifier_free
from mmgen_jax.sampling.solvers import SOLVERS, Solver, sample
from mmgen_jax.sampling.starts import slerp

__all__ = [
    "SOLVERS",
    "Solver",
    "bind",
    "classifier_free",
    "composed",
    "sample",
    "shifted_times",
    "slerp",
    "uniform_times",
]
