"""Shows what each solver makes of a number of calls of the network: a table, and a plot of error against calls.

python -m mmgen_jax.studies.solvers --config=shapes_tiny --workdir=shapes-tiny --config.evaluate.n=64

Predicts everything from the rgb of held-out scenes. The distance is that of latents from those of many Heun steps from
the same noise (root of the mean square); the SDE, and what starts without noise, end elsewhere, so they have none.
Average velocities are followed where the model is a flow map.
"""

from __future__ import annotations

from absl import flags

from mmgen_jax.system import command

if __name__ == "__main__":
    command.define_flags()
    flags.DEFINE_list("calls", ["1", "2", "4", "8", "16", "32"], "Largest numbers of calls of the network.")
    flags.DEFINE_integer("reference", 200, "Heun steps of the reference.", lower_bound=1)
    flags.DEFINE_string("out", "docs/images/solvers.png", "File of the plot.")
    command.parse()  # before the imports below, which take seconds

import functools
import math
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mmgen_jax import settings
from mmgen_jax.data import held_out
from mmgen_jax.diffusion import keys
from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.diffusion.prompt import Prompt
from mmgen_jax.metrics import dense, report
from mmgen_jax.metrics.runner import to_values
from mmgen_jax.modalities.pixels import to_array
from mmgen_jax.sampling import SOLVERS, bind, requests, sample
from mmgen_jax.sampling.sampler import Sampler
from mmgen_jax.settings import Settings
from mmgen_jax.show import pictures
from mmgen_jax.studies.opening import opened
from mmgen_jax.system import files
from mmgen_jax.system.console import say
from mmgen_jax.system.errors import UsageError

# Name -> solver and temperature of the noise that it starts from.
RUNS = {name: (name, 1.0) for name in SOLVERS} | {f"{name}, temperature 0": (name, 0.0) for name in ("euler", "heun")}
METRICS = {"depth/absrel": "depth AbsRel", "normal/mean": "normals, degrees", "mask/miou": "regions, mIoU"}
Row = dict[str, float]  # calls, distance and metrics
COLORS = ("#2563eb", "#ea580c", "#16a34a", "#9333ea", "#6b7280", "#0891b2")
WIDTH, HEIGHT, LEFT, RIGHT, EDGE = 760, 460, 80, 180, 50


def steps_within(solver: str, calls: int) -> int:
    """The largest number of steps that take at most so many calls, or 0 if even one takes more."""
    return max((n for n in range(1, calls + 1) if SOLVERS[solver].evaluations(n) <= calls), default=0)


def study(chosen: Settings, workdir: str, calls: Sequence[int], reference: int) -> dict[str, list[Row]]:
    """Name of `RUNS` -> a row for each number of calls that its solver can use, if the model can use the solver.

    Raises UsageError as `opened` does.
    """
    begun = opened(chosen, workdir, ("rgb",))
    architecture, params, facts = begun.architecture, begun.params, begun.facts
    sampler, names = Sampler(architecture), architecture.modalities
    data = chosen.data
    batch = held_out.first(data.dir, data.test_split, names, architecture.image_size, chosen.evaluate.n, "evaluate.n")
    n = len(batch["rgb"])
    truth, there = report.truth(batch, names, facts), report.present(batch, architecture)
    given = sampler.encode({"rgb": to_array(batch["rgb"])})
    request = requests.request(keys.of_seed(chosen.seed, "understanding"), jnp.arange(n), architecture.sample_shapes)
    prompt = Prompt(jnp.full(n, architecture.null_class), jnp.full(n, 1 + names.index("rgb")))

    @functools.partial(jax.jit, static_argnums=(1, 2))
    def drawn(params, solver: str, steps: int, temperature: float | jax.Array) -> Latents:
        field = bind(functools.partial(architecture.apply, params), prompt)
        noise = Latents((m, z if m == "rgb" else temperature * z) for m, z in request.noise.items())
        out = sample(field, noise, request.key, solver, steps, given=given)
        return Latents((m, z) for m, z in out.items() if m != "rgb")

    best = drawn(params, "heun", reference, 1.0)
    maps = architecture.model.decoupled > 0
    rows: dict[str, list[Row]] = {name: [] for name, (key, _) in RUNS.items() if maps or not SOLVERS[key].averages}
    for name in rows:
        key, temperature = RUNS[name]
        solver = SOLVERS[key]
        for steps in sorted({steps_within(key, most) for most in calls} - {0}):
            latents = drawn(params, key, steps, temperature)
            off = np.concatenate([np.ravel(z - best[m]) for m, z in latents.items()])
            distance = math.nan if solver.stochastic or temperature != 1 else float(np.sqrt(np.square(off).mean()))
            scores = dense.summary(to_values(sampler.decode(latents), facts), truth, facts, there)
            rows[name].append({"calls": solver.evaluations(steps), "distance": distance} | scores)
            say(line(name, rows[name][-1]))
    return rows


def line(name: str, row: Mapping[str, float]) -> str:
    """One row of the Markdown table."""
    numbers = ("-" if math.isnan(row[key]) else f"{row[key]:.4f}" for key in ("distance", *METRICS))
    return f"| `{name}` | {row['calls']} | {' | '.join(numbers)} |"


def plot(rows: Mapping[str, Sequence[Row]]) -> np.ndarray:
    """Picture uint8 [H, W, 3] of the distance against calls, both in logarithmic scales."""
    lines = {s: [(r["calls"], r["distance"]) for r in rs if r["distance"] > 0] for s, rs in rows.items()}
    x, y = (np.log10([point[i] for points in lines.values() for point in points]) for i in (0, 1))
    low, high = math.floor(y.min()), math.ceil(y.max())
    canvas = Image.new("RGB", (WIDTH, HEIGHT), pictures.PAPER)
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(14)

    def place(calls: float, distance: float) -> tuple[float, float]:
        across = (math.log10(calls) - x.min()) / max(x.max() - x.min(), 1e-9)
        up = (math.log10(distance) - low) / max(high - low, 1)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - EDGE - up * (HEIGHT - 2 * EDGE)

    for power in range(low, high + 1):
        height = place(10 ** x.min(), 10.0**power)[1]
        draw.line([(LEFT, height), (WIDTH - RIGHT, height)], fill=pictures.MUTED)
        draw.text((LEFT - 10, height), f"{10.0**power:g}", fill=pictures.INK, font=font, anchor="rm")
    for calls in (2**k for k in range(20) if x.min() <= math.log10(2**k) <= x.max()):
        draw.text((place(calls, 1)[0], HEIGHT - EDGE + 8), f"{calls}", fill=pictures.INK, font=font, anchor="ma")
    draw.text(((WIDTH + LEFT - RIGHT) / 2, HEIGHT - 6), "calls of the network", pictures.INK, font, anchor="md")
    draw.text((LEFT, 12), "distance of latents from those of many Heun steps", pictures.INK, font, anchor="la")
    for i, (name, points) in enumerate((s, p) for s, p in lines.items() if p):
        places = [place(*point) for point in points]
        draw.line(places, fill=COLORS[i], width=3)
        for across, up in places:
            draw.ellipse((across - 4, up - 4, across + 4, up + 4), fill=COLORS[i])
        draw.text((WIDTH - RIGHT + 16, EDGE + 24 * i), name, fill=COLORS[i], font=font, anchor="lm")
    return np.asarray(canvas)


def main(argv: list[str]) -> None:
    del argv
    values = flags.FLAGS
    if not all(text.isdecimal() and 0 < int(text) <= 10_000 for text in values.calls) or not values.calls:
        raise UsageError(f"--calls is {','.join(values.calls)!r}; it must be whole numbers from 1 to 10000")
    files.check_place(values.out, "--out", folder=False)
    chosen = settings.parse(values.config)
    say(f"| solver | calls | distance | {' | '.join(METRICS.values())} |\n|---|---|---|---|---|---|")
    rows = study(chosen, values.workdir, [int(text) for text in values.calls], values.reference)
    pictures.save_png(values.out, plot(rows))
    say(f"\nwritten: {values.out}")


if __name__ == "__main__":
    command.run(main)
