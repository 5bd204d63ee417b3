"""Times training, sampling, decoding and reading data, also of two configs or two checkouts in turns.

python -m mmgen_jax.benchmark --config=shapes_tiny --what=train,sample
python -m mmgen_jax.benchmark --config=shapes_tiny --compare=shapes_quick
python -m mmgen_jax.benchmark --config=shapes_tiny --checkout=../before
"""

from __future__ import annotations

from absl import flags

from mmgen_jax.system import command

if __name__ == "__main__":
    command.define_config()
    command.define_config("compare", "Another config to take turns with.", required=False)
    flags.DEFINE_list("what", "train,sample,decode", "Some of train, sample, decode and data.")
    flags.DEFINE_integer("repeats", 5, "Number of measurements of each.", lower_bound=1)
    flags.DEFINE_float("seconds", 1.0, "Seconds that each measurement takes, but at least one call.", lower_bound=0.0)
    flags.DEFINE_string("checkout", "", "Another checkout of this repository to take turns with.")
    flags.DEFINE_string("json", "", "File to write all results to, as JSON.")
    # Another benchmark starts this one so. Under another module's name, --help leaves it out.
    flags.DEFINE_bool("serve", False, "Answer its questions on standard input.", module_name="benchmark.worker")
    command.parse()  # before the imports below, which take seconds

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence

import jax

from mmgen_jax import settings
from mmgen_jax.benchmark import measure
from mmgen_jax.benchmark.cases import CASES
from mmgen_jax.benchmark.worker import Contestant, Local, Remote, serve
from mmgen_jax.system import files
from mmgen_jax.system.console import say
from mmgen_jax.system.errors import UsageError, choice

FIRST, SECOND = "first", "second"


def measured(case: str, contestants: Mapping[str, Contestant], repeats: int, seconds: float) -> dict[str, dict]:
    """Measures one case for each contestant. The second also gets the ratio of its samples/s to the first's."""
    runs = {name: (lambda calls, one=one: one.run(case, calls)) for name, one in contestants.items()}
    times = measure.interleaved(runs, repeats, seconds)
    found = {}
    for name, one in contestants.items():
        facts, median = one.describe(case), measure.spread(times[name])["median"]
        found[name] = {"seconds": measure.spread(times[name]), "all_seconds": times[name], **facts}
        found[name]["calls_per_second"] = 1 / median
        found[name]["samples_per_second"] = facts["samples"] / median
        if facts["flops"]:
            found[name]["model_tflops"] = facts["flops"] / median / 1e12
        if facts["flops"] and facts["peak"]:
            found[name]["mfu"] = facts["flops"] / median / facts["peak"]
    if SECOND in times:
        # Times of one sample are compared, as the sizes of batches may differ.
        first, second = ([t / found[name]["samples"] for t in times[name]] for name in (FIRST, SECOND))
        found[SECOND]["speedup"] = measure.ratios(first, second)
    return found


def lines(case: str, found: Mapping[str, dict]) -> list[str]:
    """Lines of text that show what `measured` returned."""
    shown = []
    for name, one in found.items():
        s = one["seconds"]
        parts = [
            f"{1e3 * s['median']:10.2f} ms ({1e3 * s['min']:.2f} to {1e3 * s['max']:.2f})",
            f"{one['samples_per_second']:9.1f} samples/s",
        ]
        parts += [f"{one['model_tflops']:8.3f} TFLOP/s"] if "model_tflops" in one else []
        parts += [f"{one['mfu']:.1%} of peak"] if "mfu" in one else []
        parts += [f"program {one['program_gb']:.3f} GB"] if one.get("program_gb") else []
        parts += [f"dispatch {one['dispatch_ms']:.2f} ms"] if "dispatch_ms" in one else []
        shown.append(f"{case:<8}{name if len(found) > 1 else '':<8}" + "  ".join(parts))
    if SECOND in found:
        ratio = found[SECOND]["speedup"]
        text = f"{ratio['median']:.3f} times as fast ({ratio['min']:.3f} to {ratio['max']:.3f})"
        shown.append(f"{case:<8}second over first: {text}")
    return shown


def _opponent() -> Contestant | None:
    """The second contestant, or None if the flags name none."""
    compare, checkout = flags.FLAGS.compare, flags.FLAGS.checkout
    if compare is not None and checkout:
        raise UsageError("--compare and --checkout are both given; give one")
    if compare is not None:
        return Local(settings.parse(compare))
    if not checkout:
        return None
    if jax.default_backend() == "tpu":
        raise UsageError("--checkout needs two processes, but one alone can use a TPU; compare configs, or run each")
    return Remote(checkout, command.repeated())


def main(argv: Sequence[str]) -> None:
    del argv
    chosen = settings.parse(flags.FLAGS.config)
    if flags.FLAGS.serve:
        # Other prints must not get into the pipe that carries the answers.
        answers, sys.stdout = sys.stdout, sys.stderr
        serve(Local(chosen), sys.stdin, answers)
        return
    wanted = [choice("--what", name, CASES) for name in flags.FLAGS.what or [""]]
    if flags.FLAGS.json:
        files.check_place(flags.FLAGS.json, "--json", folder=False)
    opponent = _opponent()
    contestants: dict[str, Contestant] = {FIRST: Local(chosen)} | ({SECOND: opponent} if opponent else {})
    report: dict = {"jax": jax.__version__, "config": dataclasses.asdict(chosen), "argv": sys.argv[1:], "cases": {}}
    try:
        for case in wanted:
            report["cases"][case] = measured(case, contestants, flags.FLAGS.repeats, flags.FLAGS.seconds)
            for line in lines(case, report["cases"][case]):
                say(line)
    finally:
        for one in contestants.values():
            one.close()
    if flags.FLAGS.json:
        files.write(flags.FLAGS.json, (json.dumps(report, indent=1, default=str) + "\n").encode())


if __name__ == "__main__":
    command.run(main)
