"""Tests the study of composed conditions."""

import dataclasses

import jax
import numpy as np
import pytest
from PIL import Image

from mmgen_jax import settings
from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.sampling import sample
from mmgen_jax.sampling.options import Options
from mmgen_jax.studies import composition
from mmgen_jax.system.errors import UsageError

MODEL = ("rgb", "depth", "normal", "mask")


@pytest.mark.parametrize(
    "way, expected",
    [("neither", 5), ("given together", 5), ("composed", 15), ("composed, 3 corrector steps", 3 * (5 + 3 * 2))]
    + [("composed, 8 particles", 8 * 3 * (5 + 2))],
)
def test_calls_are_rows_of_the_network(way, expected):
    options = dataclasses.replace(Options("heun", 3, wanted="rgb"), **composition.WAYS[way].options)
    assert composition.calls(options, composition.WAYS[way].given, MODEL) == expected


@pytest.mark.parametrize("corrector, particles", [(0, 1), (2, 1), (None, 3), (2, 3)])
def test_calls_are_those_that_are_made(corrector, particles):
    made = []

    class Counted:
        """Counts rows where they are computed."""

        def __call__(self, x, t):

            jax.debug.callback(lambda z: made.append(1), x["a"][0, 0, 0, 0])
            return x

        def with_spread(self, x, t):
            return self(x, t), {"a": 0 * t[:, 0]}

    jax.block_until_ready(
        sample(
            Counted(),
            Latents(a=jax.numpy.ones((1, 1, 1, 1))),
            key=jax.random.key(0),
            solver="heun",
            steps=3,
            corrector=corrector,
            particles=particles,
        )
    )
    jax.effects_barrier()
    options = Options("heun", 3, wanted="rgb", corrector=-1 if corrector is None else corrector, particles=particles)
    assert len(made) == composition.calls(options, (), MODEL)


@pytest.mark.slow
def test_a_table_and_four_sheets(model_config, model_dir, tmp_path):
    model_config.evaluate.n, model_config.sample.steps = 3, 2
    chosen = settings.parse(model_config)
    rows = composition.run(chosen, str(model_dir), str(tmp_path))
    assert list(rows) == list(composition.WAYS) and rows["given together"]["time"] == 1
    assert all(np.isfinite(list(row.values())).all() for row in rows.values())
    assert composition.line("composed", rows["composed"]).count("|") == 6
    for name in ("composition", "negation", "classes", "between"):
        assert Image.open(tmp_path / f"{name}.png").width > 300


def test_a_model_without_regions_is_refused(model_config, model_dir, monkeypatch, tmp_path):
    monkeypatch.setattr(composition, "GIVEN", ("depth", "albedo"))
    with pytest.raises(UsageError, match="has no albedo; this study needs depth, albedo"):
        composition.run(settings.parse(model_config), str(model_dir), str(tmp_path))
