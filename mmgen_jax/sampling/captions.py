"""What a gallery says of how its samples were made."""

from __future__ import annotations

from collections.abc import Sequence

from mmgen_jax.sampling.asked import Asked


def caption(asked: Asked, names: Sequence[str], together: str) -> str:
    """Text that says how samples were made, as in "given depth; class torus; seed 0; heun, 25 steps".

    Args:
      asked: the request.
      names: the class of each sample.
      together: all classes, where each sample has several.
    """
    options, given, made, partial, start = asked.options, asked.given, asked.targets, asked.partial, asked.start
    strengths = {m: vars(options.strength)[m] for m in given}
    conditions = [m if strengths[m] == 1 else f"{m} x {strengths[m]:g}" for m in given]
    joined = " and, composed, ".join(conditions) if options.compose else " + ".join(conditions)
    everything = len(given) + len(made) == len(asked.modalities)
    task = "all modalities together" if everything and not given else f"given {joined}" if given else "nothing given"
    task += ", as read from other modalities" if options.via else ""
    task += f", and a part of {' + '.join(partial)}" if partial else ""
    task += f", from {' + '.join(start)} at t = {options.start_time:g}" if start else ""
    wanted = "" if everything else f"; {' + '.join(made)} alone"
    classes = f"class {names[0]}" if len(set(names)) == 1 else "several classes"
    classes = f"classes {together}" if together else classes.replace("class no class", "no class")
    guided = f"; guidance {options.guidance:g}" if options.guidance != 1 and classes != "no class" else ""
    guided += f"; autoguidance {options.autoguidance:g}" if options.autoguidance != 1 else ""
    more = f"; rescale {options.rescale:g}" if options.rescale else ""
    more += f"; times {', '.join(f'{t:g}' for t in options.times)}" if options.times else ""
    more += f"; shift {options.shift:g}" if options.shift != 1 else ""
    more += f"; {options.corrector} corrector steps" if options.corrector > 0 else ""
    more += f"; {options.particles} particles" if options.particles > 1 else ""
    more += f"; whole images at {options.whole:g} times the model's size" if options.whole else ""
    more += f"; temperature {options.temperature:g}" if options.temperature != 1 else ""
    more += f"; {options.draws} draws combined" if options.draws > 1 else ""
    more += f"; guided through the {options.guide_through}" if asked.guided else ""
    return f"{task}{wanted}; {classes}; seed {options.seed}; {options.solver}, {options.count} steps{guided}{more}"
