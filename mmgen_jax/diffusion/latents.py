"""A sample of several modalities: an `OrderedDict` of arrays [B, H, W, C] whose order is that of the columns of t.

It is made once, where data comes in, in the model's order. JAX sorts the keys of a plain dict whenever one passes
through jit, scan, cond, vmap or grad; it registers `OrderedDict` with the keys as a part of the structure, so that its
order survives all of these and column m of t [B, M] belongs to the m-th modality everywhere.
"""

from __future__ import annotations

from collections import OrderedDict

import jax

Latents = OrderedDict[str, jax.Array]
