"""Sampling: solvers over any velocity function, guidance, and the tasks that a request becomes."""

from mmgen_jax.sampling.guidance import bind, bind_task, classifier_free
from mmgen_jax.sampling.solvers import SCORE_SOLVERS, SOLVERS, sample

__all__ = ["SCORE_SOLVERS", "SOLVERS", "bind", "bind_task", "classifier_free", "sample"]
