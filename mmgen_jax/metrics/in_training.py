"""Scores of a model in training, on a few held-out scenes."""

from __future__ import annotations

import dataclasses

from jax.sharding import Mesh

from mmgen_jax.data import held_out
from mmgen_jax.metrics import dense, report
from mmgen_jax.metrics.runner import Runner, to_values
from mmgen_jax.modalities.measure import Averages, added
from mmgen_jax.models.architectures import Architecture, Params
from mmgen_jax.sampling.sampler import Sampler
from mmgen_jax.settings import Settings
from mmgen_jax.system.console import Progress, say
from mmgen_jax.system.errors import NotFinite


class InTraining:
    """Scores what averaged parameters predict from rgb, always of the same scenes and from the same noise.

    So the scores of different steps can be compared. They are what `mmgen_jax.evaluate` would print with the same
    settings in `evaluate` and `train.evaluate_n` as the number of scenes.
    All processes of a run make the same calls.
    """

    def __init__(self, architecture: Architecture, chosen: Settings, mesh: Mesh | None = None):
        """Raises UsageError if there is no scene to score, as `report.scored` does."""
        data, count, batch = chosen.data, chosen.train.evaluate_n, chosen.evaluate.batch
        names, size = architecture.modalities, architecture.image_size
        self._scenes = held_out.Scenes.first(data.dir, data.test_split, names, size, count, batch, "train.evaluate_n")
        self._count = report.scored(self._scenes, architecture)["rgb"]
        self._runner = Runner.of_sampler(chosen, Sampler(architecture, mesh), {})
        self._seed = chosen.seed

    def __call__(self, params: Params, step: int) -> dict[str, float]:
        """Parameters and their step -> scores by names such as "depth/absrel", of which it says the main ones.

        Predictions that are not finite have no scores: a line says so, and training goes on.
        """
        runner = dataclasses.replace(self._runner, params=params)
        try:
            scores = self._scores(runner, Progress("scores", self._count * runner.draws, "samples"))
        except NotFinite as error:
            say(f"no scores of step {step}: {error}")
            return {}
        say(f"held-out from rgb at step {step} ({self._count} scenes): {dense.line(scores)}")
        return scores

    def _scores(self, runner: Runner, progress: Progress) -> dict[str, float]:
        architecture, first = runner.sampler.architecture, 0
        facts, total = architecture.facts, Averages()
        for batch in report.with_rgb(self._scenes, architecture):
            made = runner.rest_from_rgb(batch["rgb"], self._seed, first=first, progress=progress)
            truth, there = report.truth(batch, architecture.modalities, facts), report.present(batch, architecture)
            total = added(total, dense.averages(to_values(made, facts), truth, facts, there))
            first += len(batch["rgb"])
        return {name: average.value for name, average in total.items()}
