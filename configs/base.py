"""Every setting at its default: the published recipe (MMGen on ImageNet at 256 x 256) where it has a value.

Other files in this folder start from this one and change a few lines. Any value can be changed on the
command line: --config.optim.learning_rate=3e-4

`mmgen_jax/settings.py` declares the settings, and `python -m mmgen_jax.settings` prints what each means.
"""

from mmgen_jax import settings

get_config = settings.defaults
