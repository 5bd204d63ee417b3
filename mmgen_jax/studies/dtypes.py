"""Compares training in bfloat16 with training in float32, on rendered scenes and with several seeds.

python -m mmgen_jax.data.shapes --data_dir=data/quickstart --size=32 --train=4000 --test=512
python -m mmgen_jax.studies.dtypes --config=shapes_quick --steps=600 --seeds=3

Prints the errors of predictions from rgb on held-out scenes. The exit code is 1 if the means of both types differ by
more than the spread over seeds explains.
"""

from __future__ import annotations

from absl import flags

from mmgen_jax.system import command

if __name__ == "__main__":
    command.define_config()
    flags.DEFINE_integer("steps", 0, "Steps of each run; 0 = train.steps.", lower_bound=0)
    flags.DEFINE_integer("seeds", 3, "Number of runs of each type.")
    flags.DEFINE_string("json", "", "File to write all results to, as JSON.")
    command.parse()  # before the imports below, which take seconds

import dataclasses
import json
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmgen_jax import evaluate, settings, train
from mmgen_jax.models.mmdit import DTYPES
from mmgen_jax.settings import Settings
from mmgen_jax.system import files
from mmgen_jax.system.console import say
from mmgen_jax.system.errors import UsageError

METRICS = ("depth/absrel", "normal/mean", "mask/miou")
LIMIT = 2.0  # largest accepted difference of two means, in standard errors of that difference


def errors_of(chosen: Settings, dtype: str, seed: int, folder: Path) -> dict[str, float]:
    """Trains a whole run with this type and seed, and returns its scores on held-out scenes."""
    chosen = dataclasses.replace(chosen.changed(model={"dtype": dtype}), seed=seed)
    workdir = folder / f"{dtype}_{seed}"
    train.run(chosen, workdir)
    return evaluate.score(chosen, str(workdir))["understanding"]["model"]


def compared(scores: Mapping[str, Sequence[Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """For each metric, the means of both types, their difference, and its standard error by the spread over seeds."""
    found = {}
    for metric in METRICS:
        first, second = ([score[metric] for score in scores[dtype]] for dtype in DTYPES)
        error = ((statistics.variance(first) + statistics.variance(second)) / len(first)) ** 0.5
        means = statistics.mean(first), statistics.mean(second)
        found[metric] = dict(zip(DTYPES, means, strict=True)) | {"difference": means[1] - means[0], "error": error}
    return found


def main(argv: Sequence[str]) -> int:
    del argv
    chosen = settings.parse(flags.FLAGS.config)
    if flags.FLAGS.seeds < 2:
        raise UsageError(f"--seeds is {flags.FLAGS.seeds}; it must be at least 2, to tell a spread")
    if flags.FLAGS.json:
        files.check_place(flags.FLAGS.json, "--json", folder=False)
    steps = flags.FLAGS.steps or chosen.train.steps
    short = {"steps": steps, "save_every": steps, "sample_every": 0, "log_every": min(100, steps)}
    chosen = settings.check(chosen.changed(train=short, evaluate={"samples": 0}))
    scores: dict[str, list] = {dtype: [] for dtype in DTYPES}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(flags.FLAGS.seeds):
            for dtype in DTYPES:
                say(f"\n{dtype}, seed {seed}")
                scores[dtype].append(errors_of(chosen, dtype, seed, Path(folder)))
    found = compared(scores)
    say(f"\n{'':<16}{DTYPES[0]:>10}{DTYPES[1]:>10}{'difference':>12}{'its standard error':>20}")
    for metric, row in found.items():
        say(
            f"{metric:<16}{row[DTYPES[0]]:>10.4f}{row[DTYPES[1]]:>10.4f}{row['difference']:>12.4f}{row['error']:>20.4f}"
        )
    if flags.FLAGS.json:
        files.write(flags.FLAGS.json, (json.dumps({"scores": scores, "compared": found}, indent=1) + "\n").encode())
    apart = [metric for metric, row in found.items() if abs(row["difference"]) > LIMIT * row["error"]]
    if apart:
        print(f"error: {', '.join(apart)}: the types differ by more than the seeds do", file=sys.stderr)
    return 1 if apart else 0


if __name__ == "__main__":
    command.run(main)
