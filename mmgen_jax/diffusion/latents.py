"""The type of samples of several modalities: an `OrderedDict` of arrays [B, H, W, C], in the order of t's columns.

It is made once, where data come in, in the model's order. JAX sorts the keys of a plain dict in jit, scan, cond, vmap
and grad. The keys of an `OrderedDict` are a part of its structure for JAX, so their order survives all of these, and
column m of t [B, M] belongs to the m-th modality everywhere.
"""

from __future__ import annotations

from collections import OrderedDict

import jax

Latents = OrderedDict[str, jax.Array]
