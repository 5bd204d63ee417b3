"""Windows over a canvas, on velocities that are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.sampling import sample, windows


def gaussian(mean, spread):
    """Exact velocity of independent normal numbers on the linear path; `mean` and `spread` have the shape of a row."""

    def network(x, t, present):
        del present
        return Latents((m, _velocity(z, t[:, i], mean, spread)) for i, (m, z) in enumerate(x.items()))

    return network


def _velocity(x, t, mean, spread):
    """E[noise - data | x] for data N(mean, spread^2) and x = (1 - t) data + t noise."""
    t = t[:, None, None, None]
    variance = (1 - t) ** 2 * spread**2 + t**2
    off = (x - (1 - t) * mean) / variance
    return t * off - (mean + (1 - t) * spread**2 * off)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (8, 19), (21, 8), (13, 30)])
def test_windows_cover_the_canvas_and_overlap_by_half(height, width):
    corners = windows.places(height, width, 8)
    seen = np.zeros((height, width), int)
    for y, x in corners:
        assert 0 <= y <= height - 8 and 0 <= x <= width - 8
        seen[y : y + 8, x : x + 8] += 1
    assert seen.min() >= 1
    for axis in (0, 1):
        starts = sorted({corner[axis] for corner in corners})
        assert starts == [0] or max(np.diff(starts)) <= 4


def test_a_canvas_of_one_window_is_the_network_itself():
    network = gaussian(0.3, 0.5)
    assert windows.over(network, 8, 8, 8) is network
    with pytest.raises(ValueError, match=r"canvas is 4 x 8: must be at least 8 x 8"):
        windows.over(network, 4, 8, 8)


def test_pixels_that_are_independent_are_drawn_exactly():
    """What windows say of a pixel does not depend on where it lies in them: averages are exact, and so are samples."""
    canvas = windows.over(gaussian(0.3, 0.5), 13, 30, 8)
    noise = {m: jax.random.normal(jax.random.key(i), (6, 13, 30, 2)) for i, m in enumerate(("rgb", "depth"))}
    for m, z in sample(lambda x, t: canvas(x, t, {}), noise, solver="heun", steps=40).items():
        np.testing.assert_allclose(z, 0.3 + 0.5 * noise[m], atol=2e-3)


def test_a_plane_stays_a_plane_over_windows():
    """Each window follows what it is given, a slope over the canvas, and there is no seam where windows meet."""
    slope = jnp.broadcast_to(jnp.linspace(-1, 1, 30)[None, None, :, None], (2, 8, 30, 1))

    def network(x, t, present):
        del present
        return Latents(rgb=0 * x["rgb"], depth=_velocity(x["depth"], t[:, 1], 0.5 * x["rgb"], 0.0))

    canvas = windows.over(network, 8, 30, 8)
    noise = {m: jax.random.normal(jax.random.key(0), slope.shape) for m in ("rgb", "depth")}
    made = sample(lambda x, t: canvas(x, t, {}), noise, given={"rgb": slope}, given_time=0.0, steps=5)
    np.testing.assert_allclose(made["depth"], 0.5 * slope, atol=1e-5)


def test_rows_and_conditions_go_along_with_their_windows():
    """Row r of the canvas is rows r W .. r W + W - 1 of the network, with its times and conditions."""
    seen = {}

    def network(x, t, present):
        seen.update(t=t, present=present["class"])
        return Latents(rgb=x["rgb"] * 0 + jnp.where(present["class"], t[:, 0], 0)[:, None, None, None])

    canvas, t = windows.over(network, 8, 16, 8), jnp.array([[0.2], [0.7], [0.4]])
    x, present = Latents(rgb=jnp.ones((3, 8, 16, 1))), {"class": jnp.array([True, True, False])}
    found = canvas(x, t, present)["rgb"]
    np.testing.assert_allclose(seen["t"][:, 0], np.repeat([0.2, 0.7, 0.4], 3))
    np.testing.assert_allclose(found, np.array([0.2, 0.7, 0])[:, None, None, None] * np.ones((3, 8, 16, 1)), rtol=1e-6)
