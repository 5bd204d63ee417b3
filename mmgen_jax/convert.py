"""Converts official PyTorch checkpoints to models of this package, and back.

python -m mmgen_jax.convert 0600000.pt converted/ --sha256=auto --vae=stabilityai/sd-vae-ft-mse
python -m mmgen_jax.convert 0600000.pt runs/a --optimizer   # with Adam's state: train --workdir=runs/a goes on
python -m mmgen_jax.convert runs/a a.pt --to_torch

The first two write OUT/model.json, OUT/config.json and an Orbax checkpoint, or nothing at all.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from absl import flags

from mmgen_jax.system import command


def arguments(argv: Sequence[str]) -> list[str]:
    """Rewrites the arguments: the two bare words become --source and --out, dashes in names of options underscores."""
    names = iter(("--source=", "--out="))

    def option(word: str) -> str:
        if not word.startswith("--"):
            return next(names, "") + word
        name, equals, value = word.partition("=")
        return "--" + name[2:].replace("-", "_") + equals + value

    return [argv[0], *map(option, argv[1:])]


if __name__ == "__main__":
    flags.DEFINE_string("source", None, "The checkpoint (the first bare word), or with --to_torch the model.")
    flags.DEFINE_string("out", None, "The folder, or with --to_torch the file, to write (the second bare word).")
    flags.mark_flags_as_required(["source", "out"])
    flags.DEFINE_enum("weights", "ema", ["ema", "model"], "Averaged weights, or those of the last step.")
    flags.DEFINE_integer(
        "num_heads", 0, "Number of attention heads, if the checkpoint does not tell it.", lower_bound=0
    )
    flags.DEFINE_list("modalities", [], "Modalities of the new model; those that the checkpoint lacks are added.")
    flags.DEFINE_enum(
        "convention", "auto", ["auto", "repa", "sit"], "Time of a checkpoint with one modality: SiT's t = 1 is data."
    )
    flags.DEFINE_string("vae", "", "Stable Diffusion autoencoder to keep with the model: folder, file or hub id.")
    flags.DEFINE_string("classes", "", "File with a class name per line; default: their numbers.")
    flags.DEFINE_string("sha256", "", "Digest that the file must have; auto = that of the released file with its name.")
    flags.DEFINE_bool("optimizer", False, "Also keep the trained weights and Adam's averages, to continue training.")
    flags.DEFINE_bool("to_torch", False, "Convert a model folder or workdir to a file for the official code instead.")
    sys.argv = arguments(sys.argv)
    command.parse()  # before the imports below, which take seconds

from collections.abc import Callable

from mmgen_jax.frozen.autoencoders import kl, protocol
from mmgen_jax.frozen.autoencoders.kl import AutoencoderKL
from mmgen_jax.frozen.autoencoders.kl_layers import KLConfig
from mmgen_jax.official import checkpoint, to_torch
from mmgen_jax.official.from_torch import convert
from mmgen_jax.system.console import say


def stable_diffusion(path: str) -> Callable[[tuple[str, ...]], protocol.Autoencoder]:
    """Function that makes the autoencoder in `path`, or, if that is empty, one without weights that makes no images."""
    if path:
        return lambda names: kl.load(path, names)
    return lambda names: AutoencoderKL(names, KLConfig(), None)


def main(argv: Sequence[str]) -> None:
    del argv
    f = flags.FLAGS
    if f.sha256:
        checkpoint.verify(f.source, f.sha256)
    if f.to_torch:
        to_torch.write(f.source, f.out)
        say(f"wrote {f.out}")
        return
    model = convert(
        f.source,
        f.out,
        stable_diffusion(f.vae),
        weights=f.weights,
        num_heads=f.num_heads,
        modalities=f.modalities,
        convention=f.convention,
        classes=f.classes,
        optimizer=f.optimizer,
    )
    m = model.model
    facts = (checkpoint.size_name(m), " + ".join(m.names), f"{m.num_classes} classes", f"{model.image_size} pixels")
    say(f"wrote {f.out}: {', '.join(facts)}")


if __name__ == "__main__":
    command.run(main)
