"""Measures what the frozen networks cost, at their real sizes and with random weights.

python -m mmgen_jax.studies.frozen

It compares Stable Diffusion's autoencoder and DINOv2 ViT-B/14 with diffusers and transformers on the same weights, in
turns within one run. Then it times a training step of B/2 from stored latents and features, with features computed in
the step, and with both computed in the step.
Needs ./launch/setup.sh --experts, or outside a checkout pip install 'mmgen_jax[experts]'.
"""

from __future__ import annotations

from mmgen_jax.system import command

if __name__ == "__main__":
    command.parse()  # before the imports below, which take seconds

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import torch
from diffusers import AutoencoderKL
from transformers import Dinov2Config, Dinov2Model

from mmgen_jax import settings
from mmgen_jax.configs import imagenet256_b2
from mmgen_jax.frozen import abstract, dino, dino_files
from mmgen_jax.frozen.autoencoders import kl, kl_names
from mmgen_jax.frozen.autoencoders.tiny_decoder import TinyConfig, TinyDecoder, TinyNetwork
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.registry import NAMES
from mmgen_jax.parallel import sharding
from mmgen_jax.training import setup
from mmgen_jax.training.architecture import from_settings
from mmgen_jax.training.inputs import Inputs, LatentInputs, TileInputs

REPEATS, BATCH, SIZE = 5, 8, 256


def interleaved(functions: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Median seconds of each function. They are called in turns, after one call of each that does not count."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for repeat in range(REPEATS + 1):
        for name, function in functions.items():
            began = time.perf_counter()
            function()
            if repeat:
                times[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in times.items()}


def difference(ours: jax.Array, theirs: torch.Tensor) -> float:
    return float(np.abs(np.asarray(ours) - theirs.numpy()).max())


def autoencoder(image: np.ndarray) -> kl.AutoencoderKL:
    """Prints parity and speed of encoding and decoding one image; returns the autoencoder."""
    torch.manual_seed(0)
    theirs = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
    ).eval()
    config = kl.KLConfig()
    state = {name: value.numpy() for name, value in theirs.state_dict().items()}
    ours = kl.AutoencoderKL(NAMES, config, kl_names.from_names(state, config, "diffusers"))
    x = torch.from_numpy(image).permute(0, 3, 1, 2)

    def their_moments() -> torch.Tensor:
        posterior = theirs.encode(x).latent_dist
        return torch.cat([posterior.mean, posterior.std], 1).permute(0, 2, 3, 1)

    moments = jax.jit(lambda a, x: a.moments({"rgb": x})["rgb"])
    decode = jax.jit(lambda a, z: a.decode({"rgb": z})["rgb"])
    with torch.no_grad():
        mean = their_moments()[..., : config.latent_channels]
        z = mean.numpy() * config.scaling_factor
        decoded = theirs.decode(mean.permute(0, 3, 1, 2)).sample.permute(0, 2, 3, 1).clip(-1, 1)
        print(f"autoencoder, {SIZE} pixels, largest difference to diffusers: ", end="")
        print(f"moments {difference(moments(ours, image), their_moments()):.1e}, ", end="")
        print(f"images {difference(decode(ours, z), decoded):.1e}")
        times = interleaved(
            {
                "encode ours": lambda: moments(ours, image).block_until_ready(),
                "encode theirs": their_moments,
                "decode ours": lambda: decode(ours, z).block_until_ready(),
                "decode theirs": lambda: theirs.decode(mean.permute(0, 3, 1, 2)),
            }
        )
    for kind in ("encode", "decode"):
        print(f"  {kind}: {times[f'{kind} ours'] / times[f'{kind} theirs']:.2f} of diffusers' time")
    return ours


def features(image: np.ndarray) -> dino.Dino:
    """Prints parity and speed of DINOv2 ViT-B/14 at 224 pixels; returns the network."""
    torch.manual_seed(0)
    theirs = Dinov2Model(Dinov2Config(image_size=224, patch_size=14)).eval()
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        ours = dino_files.load(folder)
    pixels = image[:, :224, :224]
    x = torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2)
    run = jax.jit(lambda model, pixels: model.tokens(pixels))
    with torch.no_grad():
        expected = theirs(x).last_hidden_state[:, 1:]
        print(f"DINOv2 ViT-B/14, largest difference to transformers: {difference(run(ours, pixels), expected):.1e}")
        times = interleaved({"ours": lambda: run(ours, pixels).block_until_ready(), "theirs": lambda: theirs(x)})
    print(f"  {times['ours'] / times['theirs']:.2f} of transformers' time")
    return ours


def macs(function: Callable, *arguments: object) -> float:
    """Billions of multiply-adds of a function, as XLA counts them for this machine. Loops must be unrolled."""
    costs = jax.jit(function).lower(*arguments).compile().cost_analysis() or {}
    return costs["flops"] / 2e9


def training(vae: kl.AutoencoderKL, vit: dino.Dino) -> None:
    """Prints the cost of a step of B/2 that computes features, or features and latents, relative to stored ones."""
    chosen = settings.parse(imagenet256_b2.get_config()).changed(model={"dtype": "float32", "remat": "none"})
    architecture = from_settings(chosen, vae, Facts(class_names=("a", "b")))
    mesh = sharding.make_mesh(jax.devices()[:1])
    training = setup.assemble(chosen, architecture, mesh)
    rng = np.random.default_rng(0)
    shared = {"class_id": np.zeros(BATCH, np.int32), "present": np.ones((BATCH, len(NAMES)), bool)}
    pixels = rng.integers(0, 256, (BATCH, SIZE, SIZE, 3)).astype(np.uint8)
    stored = shared | {m: rng.normal(size=(BATCH, 32, 32, 8)).astype(np.float16) for m in NAMES}
    tile = shared | dict.fromkeys(NAMES, pixels) | {"depth": pixels[..., :1].astype(np.uint16)}
    token_features = rng.normal(size=(BATCH, 256, 768)).astype(np.float16)
    cases: dict[str, tuple[Inputs, dict]] = {
        "latents and features stored": (LatentInputs(vae), stored | {"features": token_features}),
        "features online": (LatentInputs(vae, vit), stored | {"rgb_pixels": pixels}),
        "latents and features online": (TileInputs(vae, vit), tile),
    }
    states = {name: training.init(jax.random.key(0)) for name in cases}

    def advance(name: str) -> Callable[[], None]:
        inputs, batch = cases[name]

        def run() -> None:
            states[name], metrics = training.step(states[name], inputs, batch)
            metrics["loss"].block_until_ready()

        return run

    times = interleaved({name: advance(name) for name in cases})
    base = times["latents and features stored"]
    print(f"a step of B/2, batch {BATCH}, float32, against {next(iter(cases))}:")
    for name, value in times.items():
        print(f"  {value / base:.2f}  {name}")


def counts(vae: kl.AutoencoderKL, vit: dino.Dino) -> None:
    """Prints the number of multiply-adds of one sample."""
    image = {m: jax.ShapeDtypeStruct((1, SIZE, SIZE, 3), jnp.float32) for m in NAMES}
    config = dataclasses.replace(vit.config, depth=1)
    one = dataclasses.replace(vit, config=config, params=dino.abstract_params(config))
    pixels = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    first = macs(lambda model, x: model.tokens(x), one, pixels)
    print(f"autoencoder, four images of {SIZE} pixels: {macs(lambda a, x: a.moments(x), vae, image):.0f} GMAC")
    latents = {m: jax.ShapeDtypeStruct((1, SIZE // 8, SIZE // 8, 4), jnp.float32) for m in NAMES}
    tiny = TinyDecoder(TinyConfig(), abstract.params(TinyNetwork, TinyConfig(), "float32"))
    for name, decoder in (("full", vae), ("tiny", dataclasses.replace(vae, tiny=tiny))):
        print(f"its {name} decoder, the same: {macs(lambda a, z: a.decode(z), decoder, latents):.0f} GMAC")
    print(f"DINOv2 ViT-B/14, one image of 224: about {first * vit.config.depth:.0f} GMAC")


def main(argv: list[str]) -> None:
    del argv
    rng = np.random.default_rng(0)
    image = rng.uniform(-1, 1, (1, SIZE, SIZE, 3)).astype(np.float32)
    vae, vit = autoencoder(image), features(image)
    counts(vae, vit)
    training(vae, vit)


if __name__ == "__main__":
    command.run(main)
