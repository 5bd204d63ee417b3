"""Trains the classifier that judges samples.

python -m mmgen_jax.metrics.train_classifier --data_dir=data/shapes32 --out=classifier.safetensors
"""

from __future__ import annotations

from absl import flags

from mmgen_jax.system import command

if __name__ == "__main__":
    flags.DEFINE_string("data_dir", None, "Folder of a data set of tiles with the splits train and test.")
    flags.DEFINE_string("out", None, "File that the weights are written to, .safetensors.")
    flags.DEFINE_integer("scenes", 20_000, "Largest number of train scenes that are used.", lower_bound=1)
    flags.DEFINE_integer("steps", 1_500, "Number of optimizer steps.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Seed of the weights, the order and the augmentation.", lower_bound=0)
    flags.mark_flags_as_required(["data_dir", "out"])
    command.parse()  # before the imports below, which take seconds

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from etils import epath
from flax import nnx

from mmgen_jax.data import held_out, pipeline, tiles
from mmgen_jax.metrics.classifier import Classifier, ConvNet, _logits, accuracy, load, per_class
from mmgen_jax.modalities.pixels import to_array
from mmgen_jax.system import files
from mmgen_jax.system.arrays import AnyArray
from mmgen_jax.system.console import Progress, say
from mmgen_jax.system.errors import UsageError

_KERNEL = np.array([0.25, 0.5, 0.25], np.float32)
_LEARNING_RATE = 3e-3  # the largest of the schedule
COARSE = 16  # pixels, each way, of the blurred images that a classifier of sharp ones should not recognise
_DETAILED = 64  # pixels from which on images have details that can be lost while the object is still seen
# Shares of the size that an eighth of the images each goes through in training: two are soft, the last is not.
_THROUGH = (0.25, 0.375, 0.5)
_SOFT = 2


def augment(key: jax.Array, x: AnyArray) -> jax.Array:
    """Changes images [B, H, W, 3] in [-1, 1] at random: flip, blur, gain and offset of each channel, and noise."""
    keys = jax.random.split(key, 6)
    count = len(x)
    x = jnp.where(jax.random.bernoulli(keys[0], 0.5, (count, 1, 1, 1)), x[:, :, ::-1], x)
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), "edge")
    blurred = sum(w * padded[:, i : i + x.shape[1]] for i, w in enumerate(_KERNEL))
    blurred = sum(w * blurred[:, :, i : i + x.shape[2]] for i, w in enumerate(_KERNEL))
    strength = jax.random.uniform(keys[1], (count, 1, 1, 1))
    x = x + jnp.where(strength > 0.3, strength, 0) * (blurred - x)
    gain = jax.random.uniform(keys[2], (count, 1, 1, 3), minval=0.9, maxval=1.1)
    offset = jax.random.uniform(keys[3], (count, 1, 1, 3), minval=-0.08, maxval=0.08)
    spread = jax.random.uniform(keys[4], (count, 1, 1, 1), maxval=0.12)
    return jnp.clip(x * gain + offset + spread * jax.random.normal(keys[5], x.shape), -1, 1)


def through(x: AnyArray, size: int) -> jax.Array:
    """Images [N, H, W, C] that have gone through size x size pixels: shrunk without aliasing, and enlarged again."""
    small = jax.image.resize(x, (len(x), size, size, x.shape[-1]), "linear", antialias=True)
    return jax.image.resize(small, x.shape, "linear")


def blurred(rgb: np.ndarray) -> np.ndarray:
    """Images uint8 [N, H, W, 3] that have gone through 16 x 16 pixels."""
    return np.asarray(jnp.rint(jnp.clip(through(rgb.astype(np.float32), COARSE), 0, 255)), np.uint8)


def softened(x: AnyArray, labels: AnyArray, soft: int) -> tuple[jax.Array, jax.Array]:
    """Images [N, H, W, C] of which some have lost details, and labels [N], which are `soft` where most are lost."""
    part, images, told = len(x) // 8, jnp.asarray(x), jnp.asarray(labels)
    for i, share in enumerate(_THROUGH):
        rows = slice(i * part, (i + 1) * part)
        images = images.at[rows].set(through(images[rows], round(share * images.shape[1])))
        told = told.at[rows].set(soft) if i < _SOFT else told
    return images, told


def train(
    rgb: np.ndarray,
    class_id: np.ndarray,
    class_names: Sequence[str],
    *,
    steps: int = 1500,
    batch: int = 128,
    seed: int = 0,
) -> Classifier:
    """Trains a classifier on square rgb images uint8 [N, H, W, 3] and class_id [N]; deterministic on one machine.

    Images of at least 64 pixels have details, and their classifier learns which have lost them.
    """
    size = int(rgb.shape[1])
    detailed = size >= _DETAILED
    outputs = len(class_names) + detailed
    params = nnx.to_pure_dict(nnx.split(ConvNet(outputs, size, nnx.Rngs(seed)))[1])
    schedule = optax.warmup_cosine_decay_schedule(0.0, _LEARNING_RATE, min(200, steps // 10), steps)
    tx = optax.adamw(schedule, weight_decay=1e-3)

    def loss_fn(params: dict, x: jax.Array, labels: jax.Array) -> jax.Array:
        loss = optax.softmax_cross_entropy_with_integer_labels(_logits(params, x, outputs), labels)
        return loss.mean()

    @jax.jit
    def step(params, state, key, pixels, labels):
        x = to_array(pixels)
        x, labels = softened(x, labels, len(class_names)) if detailed else (x, labels)
        loss, gradient = jax.value_and_grad(loss_fn)(params, augment(key, x), labels)
        updates, state = tx.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, loss

    state, key, rng = tx.init(params), jax.random.key(seed), np.random.default_rng(seed)
    progress = Progress("step", steps, "steps")
    for i in range(steps):
        rows = rng.integers(0, len(rgb), batch)
        params, state, loss = step(params, state, jax.random.fold_in(key, i), rgb[rows], class_id[rows])
        progress()
        if (i + 1) % 250 == 0 or i + 1 == steps:
            say(f"step {i + 1}/{steps}  loss {float(loss):.4f}")
    return Classifier(jax.tree.map(np.asarray, params), tuple(class_names), size, detailed)


def run(data_dir: epath.PathLike, out: epath.PathLike, scenes: int, steps: int, seed: int) -> float:
    """Trains and stores a classifier; returns its accuracy on the test split. Checks all inputs before training."""
    names, size = tiles.class_names(data_dir), tiles.image_size(data_dir)[0]
    counts = {split: len(tiles.read_tiles(data_dir, split)) for split in ("train", "test")}
    files.check_place(out, "--out", folder=False)
    say(f"reading at most {scenes} scenes")
    data = held_out.first(data_dir, "train", ("rgb",), size, scenes)
    known = data["class_id"] >= 0
    if not known.any():
        raise UsageError(f"data directory {str(data_dir)!r} has no train scene with a class; a classifier learns them")
    train(data["rgb"][known], data["class_id"][known], names, steps=steps, seed=seed).save(out)
    test = pipeline.load(data_dir, "test", ("rgb",), size, None)
    judge = load(out)  # the stored weights, in half precision
    probabilities = judge.predict(test["rgb"])
    parts = per_class(probabilities, test["class_id"], names)
    say("  ".join(f"{name} {value:.4f}" for name, value in parts.items()))
    share = accuracy(probabilities, test["class_id"])
    coarse = accuracy(judge.predict(blurred(test["rgb"])), test["class_id"])
    say(f"accuracy on {counts['test']} test scenes {share:.4f}, after {COARSE} x {COARSE} pixels {coarse:.4f}")
    return share


def main(argv: list[str]) -> None:
    del argv
    values = flags.FLAGS
    run(values.data_dir, values.out, values.scenes, values.steps, values.seed)


if __name__ == "__main__":
    command.run(main)
