"""Trains variants of a config on as many samples, with several seeds, and tells how many fewer one needs.

python -m mmgen_jax.data.shapes --data_dir=data/quickstart --size=32 --train=4000 --test=512
python -m mmgen_jax.studies.recipes --config=shapes_quick --variants=modern,logit-normal --out=runs/recipes

Each run is scored on predictions from rgb of held-out scenes at several points of the training. The speed of a variant
is the number of samples of the config divided by the number after which the variant is as good as the config at its
end, which is found by interpolation between the points. Runs go on where they were stopped.
"""

from __future__ import annotations

from absl import flags

from mmgen_jax.system import command

BASELINE = "config"
# What is changed of the config, by section.
VARIANTS: dict[str, dict[str, dict]] = {
    "modern": {"model": {"recipe": "modern"}},
    "logit-normal": {"objective": {"time": "logit_normal"}},
    "plain-output": {"model": {"precondition": False}},
    "bfloat16": {"model": {"dtype": "bfloat16"}},
}

if __name__ == "__main__":
    command.define_config()
    flags.DEFINE_string("out", None, "Folder of the runs and of recipes.json.", required=True)
    flags.DEFINE_list("variants", list(VARIANTS), f"Some of {', '.join(VARIANTS)}.")
    flags.DEFINE_integer("steps", 0, "Steps of each run; 0 = train.steps.", lower_bound=0)
    flags.DEFINE_integer("points", 4, "Number of points of a run at which it is scored.", lower_bound=2)
    flags.DEFINE_integer("seeds", 3, "Number of runs of each variant.", lower_bound=2)
    command.parse()  # before the imports below, which take seconds

import dataclasses
import json
import math
import statistics
from collections.abc import Mapping, Sequence

from etils import epath

from mmgen_jax import evaluate, settings, train
from mmgen_jax.checkpoints import restore
from mmgen_jax.settings import Settings
from mmgen_jax.system import files
from mmgen_jax.system.console import say
from mmgen_jax.system.errors import UsageError

METRICS = {"depth/absrel": -1, "normal/mean": -1, "mask/miou": 1}  # name and the sign of what is better
FILE = "recipes.json"

Curve = list[dict[str, float]]  # scores at each point of a run


def curve(chosen: Settings, workdir: epath.Path, points: Sequence[int]) -> Curve:
    """Trains up to each of the points, numbers of steps, and scores the run there."""
    found = []
    for steps in points:
        until = settings.check(chosen.changed(train={"steps": steps, "save_every": steps, "keep": len(points)}))
        if not (workdir / restore.FOLDER / str(steps)).is_dir():
            train.run(until, workdir)
        at = until.changed(sample={"checkpoint": steps})
        scores = evaluate.score(at, workdir, workdir / f"metrics_{steps}.json")["understanding"]["model"]
        found.append({name: scores[name] for name in METRICS})
    return found


def samples_until(wanted: float, counts: Sequence[int], values: Sequence[float], sign: int) -> float:
    """After how many samples a curve of scores is as good as `wanted`, by interpolation in the logarithm of samples.

    Infinity if it never is, and the first count if it is so from the start, as nothing is known of what was before.
    """
    better = [sign * (value - wanted) >= 0 for value in values]
    if True not in better:
        return math.inf
    i = better.index(True)
    if not i:
        return counts[0]
    share = (wanted - values[i - 1]) / (values[i] - values[i - 1])
    return math.exp(math.log(counts[i - 1]) + share * (math.log(counts[i]) - math.log(counts[i - 1])))


def compared(curves: Mapping[str, Sequence[Curve]], counts: Sequence[int]) -> dict[str, dict[str, dict[str, float]]]:
    """By variant and metric: mean and standard deviation at the end over seeds, and the speeds of the seeds.

    Each run is compared with the mean score of the config's runs at their end.
    """
    found: dict[str, dict[str, dict[str, float]]] = {}
    for variant, runs in curves.items():
        found[variant] = {}
        for metric, sign in METRICS.items():
            wanted = statistics.mean(run[-1][metric] for run in curves[BASELINE])
            ends = [run[-1][metric] for run in runs]
            speeds = [
                counts[-1] / samples_until(wanted, counts, [point[metric] for point in run], sign) for run in runs
            ]
            found[variant][metric] = {
                "mean": statistics.mean(ends),
                "deviation": statistics.stdev(ends),
                "slowest": min(speeds),
                "speed": statistics.median(speeds),
                "fastest": max(speeds),
            }
    return found


def table(found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Variants, their scores at the end with the spread over seeds, and how many times fewer samples they need."""
    heads = " | ".join(f"{name} | speed" for name in METRICS)
    lines = [f"| variant | {heads} |", "|---" * (1 + 2 * len(METRICS)) + "|"]
    for variant, rows in found.items():
        cells = []
        for row in rows.values():
            cells.append(f"{row['mean']:.4f} ± {row['deviation']:.4f}")
            cells.append(f"{row['speed']:.2f} ({row['slowest']:.2f} to {row['fastest']:.2f})")
        lines.append(f"| {variant} | {' | '.join(cells)} |")
    return "\n".join(lines)


def run(chosen: Settings, out: epath.PathLike, variants: Sequence[str], seeds: int, count: int) -> dict:
    """Trains and scores the config and its variants, prints the table and writes it with all scores to `out`.

    Raises UsageError for a variant that there is not, and for a run that is too short for `count` points.
    """
    for name in variants:
        if name not in VARIANTS:
            raise UsageError(f"--variants has {name!r}; allowed: {', '.join(VARIANTS)}")
    total = chosen.train.steps
    if total < count:
        raise UsageError(f"--steps is {total}; it must be at least --points, {count}")
    chosen = chosen.changed(optim={"decay_steps": 0}, train={"sample_every": 0}, evaluate={"samples": 0})
    points = [total * (i + 1) // count for i in range(count)]
    if points[0] < (warmup := chosen.optim.warmup_steps):
        raise UsageError(f"--steps is {total}, so the first point is step {points[0]}; warmup takes {warmup} steps")
    curves: dict[str, list[Curve]] = {}
    # The seeds are the outer loop, so that what is there of a study that is stopped compares all variants.
    for seed in range(seeds):
        for name in (BASELINE, *variants):
            say(f"\n{name}, seed {seed}")
            changed = dataclasses.replace(chosen.changed(**VARIANTS.get(name, {})), seed=seed)
            curves.setdefault(name, []).append(curve(changed, epath.Path(out) / f"{name}_{seed}", points))
    counts = [steps * chosen.train.batch for steps in points]
    found = compared(curves, counts)
    say(f"\nafter {counts[-1]} samples, {seeds} seeds:\n{table(found)}")
    report = {"samples": counts, "scores": curves, "compared": found}
    files.write(epath.Path(out) / FILE, (json.dumps(report, indent=1) + "\n").encode())
    return report


def main(argv: Sequence[str]) -> None:
    del argv
    given = flags.FLAGS
    files.check_place(given.out, "--out", folder=True)
    chosen = settings.parse(given.config)
    chosen = settings.check(chosen.changed(train={"steps": given.steps or chosen.train.steps}))
    run(chosen, given.out, given.variants, given.seeds, given.points)
    say(f"\nwritten: {epath.Path(given.out) / FILE}")


if __name__ == "__main__":
    command.run(main)
