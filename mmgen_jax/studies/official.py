"""Compares the speed of training and sampling with the official PyTorch code, in turns on this machine's CPU.

git clone https://github.com/jiepengwang/MMGen ../MMGen && pip install torch torchvision timm
python -m mmgen_jax.studies.official --official=../MMGen

Both use the same model (four modalities, 32 x 32 latents, random weights), batch and type (float32), and do the same
work. A step has posterior samples, noise, masks, velocity and alignment losses, the backward pass, clipping, AdamW and
averaged weights. Sampling makes guided Euler-Maruyama steps of the averaged network.
"""

from __future__ import annotations

from absl import flags

from mmgen_jax.system import command

if __name__ == "__main__":
    flags.DEFINE_string("official", None, "A clone of the official repository.", required=True)
    flags.DEFINE_string("size", "S/2", "Size of the model, as published.")
    flags.DEFINE_integer("batch", 8, "Samples in a training step and in a batch of samples.", lower_bound=1)
    flags.DEFINE_integer("steps", 4, "Steps of the sampler.", lower_bound=2)
    flags.DEFINE_integer("unroll", 0, "config.model.unroll; 0 = the default.", lower_bound=0)
    flags.DEFINE_integer("repeats", 5, "Number of measurements of each.", lower_bound=1)
    flags.DEFINE_float("seconds", 5.0, "Seconds that each measurement takes, but at least one call.", lower_bound=0.0)
    flags.DEFINE_string("json", "", "File to write all results to, as JSON.")
    command.parse()  # before the imports below, which take seconds

import contextlib
import copy
import functools
import io
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from mmgen_jax import settings
from mmgen_jax.benchmark import cases, measure
from mmgen_jax.configs import imagenet256_xl2
from mmgen_jax.models.mmdit import parse_size
from mmgen_jax.settings import Settings
from mmgen_jax.system import files
from mmgen_jax.system.console import say
from mmgen_jax.system.errors import UsageError
from mmgen_jax.training import standins

LOSS_WEIGHTS = (1.0, 0.2, 0.1, 0.1)
GUIDANCE = 1.8
SCALE = 0.18215  # factor of Stable Diffusion's latents


def our_config(size: str, batch: int, steps: int, unroll: int) -> Settings:
    """The settings of the published recipe, in float32 and with another size of model."""
    config = imagenet256_xl2.get_config()
    config.model.update(parse_size(size))
    config.model.update({"dtype": "float32", "remat": "none", "unroll": unroll or config.model.unroll})
    config.train.batch = batch
    config.sample.update({"batch": batch, "steps": steps, "guidance": GUIDANCE, "solver": "euler_maruyama"})
    return settings.parse(config)


def check_clone(folder: Path) -> None:
    """Raises UsageError for a folder that is no clone of the official repository."""
    for name in ("models/sit.py", "loss.py", "samplers.py", "utils/latents.py"):
        if not (folder / name).is_file():
            raise UsageError(f"--official is {str(folder)!r}; it must be a clone of MMGen, which has {name}")


class Official:
    """A training step and a sampler of the official code, put together as its train.py does."""

    def __init__(self, folder: Path, size: str, batch: dict[str, np.ndarray], steps: int, encoder_depth: int):
        sys.path.insert(0, str(folder))
        try:
            import torch
            from loss import SILoss
            from models.sit import SiT_models
            from samplers import euler_maruyama_sampler
            from utils.latents import sample_posterior
        except ImportError as error:
            raise UsageError(
                f"the official code cannot be loaded: {error}; pip install torch torchvision timm"
            ) from error
        self._torch, self._posterior, self._steps = torch, sample_posterior, steps
        torch.manual_seed(0)
        tasks = {"num_tasks": 4, "use_decouple_task": True}
        with contextlib.redirect_stdout(io.StringIO()):
            self._model = SiT_models[f"SiT-{size}"](
                input_size=32,
                num_classes=1000,
                class_dropout_prob=0.1,
                z_dims=[768],
                encoder_depth=encoder_depth,
                is_mmcat_diff=True,
                use_taskcond_emb=True,
                fused_attn=True,
                qk_norm=False,
                **tasks,
            )
            self._loss = SILoss(ratio_train_onlyrgb=0.5, use_quater_mixing=True, use_decouple_rand1=True, **tasks)
        self._ema = copy.deepcopy(self._model).requires_grad_(False).eval()
        self._optimizer = torch.optim.AdamW(self._model.parameters(), lr=1e-4, betas=(0.9, 0.999), weight_decay=0.0)
        self._sampler = functools.partial(euler_maruyama_sampler, self._ema, num_steps=steps, cfg_scale=GUIDANCE)
        # The moments [B, h, w, 2K] of each modality become one array [B, M K, h, w, 2], as in the official files.
        halves = [
            np.stack(np.split(batch[m].astype(np.float32), 2, -1), -1) for m in ("rgb", "depth", "normal", "mask")
        ]
        self._moments = torch.from_numpy(np.concatenate(halves, 3)).permute(0, 3, 1, 2, 4).contiguous()
        self._features = torch.from_numpy(batch["features"].astype(np.float32))
        self._labels = torch.from_numpy(batch["class_id"].astype(np.int64))

    @property
    def parameters(self) -> int:
        """Number of trained parameters."""
        return sum(p.numel() for p in self._model.parameters() if p.requires_grad)

    def step(self) -> None:
        """Makes one training step, and reads the losses that the official loop reads in every step."""
        torch, model = self._torch, self._model
        x = self._posterior(self._moments, latents_scale=SCALE, is_mmcat_diff=True, num_tasks=4)
        errors_, alignment, valid = self._loss(model, x, {"y": self._labels}, zs=[self._features])
        loss = 0.0
        for weight, error, mask in zip(
            LOSS_WEIGHTS, errors_.chunk(4, 1), valid[..., 0, 0].bool().chunk(4, 1), strict=True
        ):
            error = error.mean((1, 2, 3))[mask[:, 0]]
            if len(error):
                loss = loss + weight * error.mean()
                error.mean().item()
        (loss + 0.5 * alignment.mean()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            for average, parameter in zip(self._ema.parameters(), model.parameters(), strict=True):
                if parameter.requires_grad:
                    average.mul_(0.9999).add_(parameter, alpha=1e-4)

    def sample(self) -> None:
        """Draws guided samples for a whole batch."""
        noise = self._torch.randn(len(self._labels), 16, 32, 32)
        self._sampler(noise, self._labels)


def timed(call: Callable[[], None], count: int) -> float:
    """Seconds that `count` calls take."""
    start = time.perf_counter()
    for _ in range(count):
        call()
    return time.perf_counter() - start


def compare(official: Path, size: str, batch: int, steps: int, unroll: int, repeats: int, seconds: float) -> dict:
    """Times a training step and a batch of samples of both; returns the times and their ratios."""
    config = our_config(size, batch, steps, unroll)
    architecture = standins.architecture(config)
    theirs = Official(official, size, standins.batch(config, architecture), steps, config.model.encoder_depth)
    found: dict[str, dict] = {}
    for name, make, call in (("train", cases.train, theirs.step), ("sample", cases.sampling, theirs.sample)):
        runs: dict[str, measure.Run] = {"ours": make(config).run, "official": functools.partial(timed, call)}
        times = measure.interleaved(runs, repeats, seconds)
        found[name] = {side: measure.spread(values) for side, values in times.items()}
        found[name]["speedup"] = measure.ratios(times["official"], times["ours"])
        shown = "  ".join(f"{side} {1e3 * found[name][side]['median']:.1f} ms" for side in runs)
        ratio = found[name]["speedup"]
        say(f"{name:<8}{shown}  ours is {ratio['median']:.3f} times as fast ({ratio['min']:.3f} to {ratio['max']:.3f})")
    return found | {"official_parameters": theirs.parameters, "size": size, "batch": batch, "steps": steps}


def main(argv: Sequence[str]) -> None:
    del argv
    given = flags.FLAGS
    folder = Path(files.here(given.official, "--official"))
    check_clone(folder)
    if given.json:
        files.check_place(given.json, "--json", folder=False)
    found = compare(folder, given.size, given.batch, given.steps, given.unroll, given.repeats, given.seconds)
    if given.json:
        files.write(given.json, (json.dumps(found, indent=1) + "\n").encode())


if __name__ == "__main__":
    command.run(main)
