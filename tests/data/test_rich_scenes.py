"""Rich scenes against solids that are written out here as sets of points, and what a class must not be told by."""

import hashlib

import numpy as np
import pytest

from mmgen_jax.data import tiles
from mmgen_jax.data.shapes import builder, rich
from mmgen_jax.data.shapes.coats import PATTERNS, WAVES
from mmgen_jax.data.shapes.render import render
from mmgen_jax.data.shapes.scenes import FOV_DEGREES
from mmgen_jax.data.shapes.solids import SOLIDS
from mmgen_jax.data.shapes.worlds import RICH, WORLDS
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.geometry import angle
from mmgen_jax.modalities.mask import object_pixels
from mmgen_jax.modalities.pixels import nearest_color
from mmgen_jax.system.errors import UsageError

NAMES = tuple(SOLIDS)
SIZE = 64
RAYS = 32  # of each scene


def _ball(x, y, z, r):
    return x**2 + y**2 + z**2 < r**2


def _box(x, y, z, a, b, c):
    return (abs(x) < a) & (abs(y) < b) & (abs(z) < c)


def _rod(along, p, q, r, half):
    return (p**2 + q**2 < r**2) & (abs(along) < half)


def _cone(x, y, z, foot, tip, r):
    return (y > foot) & (y < tip) & (np.hypot(x, z) < r * (tip - y) / (tip - foot))


def _any(*parts):
    return np.logical_or.reduce(parts)


INSIDE = {
    "sphere": lambda x, y, z: _ball(x, y, z, 1),
    "box": lambda x, y, z: _box(x, y, z, 0.85, 0.85, 0.85),
    "cylinder": lambda x, y, z: _rod(y, x, z, 0.72, 0.95),
    "cone": lambda x, y, z: _cone(x, y, z, -0.75, 1.2, 0.98),
    "torus": lambda x, y, z: np.hypot(np.hypot(x, y) - 1, z) < 0.38,
    "cross": lambda x, y, z: _any(*(_box(*p, 1.2, 0.36, 0.36) for p in ((x, y, z), (y, z, x), (z, x, y)))),
    "dumbbell": lambda x, y, z: _any(
        _ball(x - 0.86, y, z, 0.62), _ball(x + 0.86, y, z, 0.62), _rod(x, y, z, 0.22, 0.86)
    ),
    "arch": lambda x, y, z: (
        _box(x, y, z, 1.1, 1, 0.45) & ~((np.hypot(x, y - 0.02) < 0.56) | ((abs(x) < 0.56) & (y < 0.02)))
    ),
    "snowman": lambda x, y, z: _any(
        _ball(x, y + 0.52, z, 0.6),
        _ball(x, y - 0.24, z, 0.44),
        _ball(x, y - 0.8, z, 0.31),
        _rod(y - 0.99, x, z, 0.36, 0.03),
        _rod(y - 1.16, x, z, 0.23, 0.17),
    ),
    "fir": lambda x, y, z: _any(
        _rod(y + 0.85, x, z, 0.17, 0.3),
        _cone(x, y, z, -0.75, 0.3, 0.82),
        _cone(x, y, z, -0.25, 0.75, 0.66),
        _cone(x, y, z, 0.25, 1.2, 0.48),
    ),
    "mushroom": lambda x, y, z: _any(
        _rod(y + 0.55, x, z, 0.28, 0.45),
        (y > -0.14) & ((x / 0.98) ** 2 + ((y + 0.14) / 0.88) ** 2 + (z / 0.98) ** 2 < 1),
    ),
    "cactus": lambda x, y, z: _any(
        _rod(y + 0.9, x, z, 0.42, 0.2),
        _rod(y - 0.1, x, z, 0.29, 0.8),
        _ball(x, y - 0.9, z, 0.29),
        _rod(x - 0.32, y + 0.1, z, 0.16, 0.32),
        _rod(x + 0.3, y - 0.18, z, 0.16, 0.3),
        _rod(y - 0.2, x - 0.64, z, 0.16, 0.3),
        _rod(y - 0.43, x + 0.6, z, 0.16, 0.25),
        *(_ball(x - a, y - b, z, 0.16) for a, b in ((0.64, -0.1), (0.64, 0.5), (-0.6, 0.18), (-0.6, 0.68))),
    ),
    "house": lambda x, y, z: _any(
        _box(x, y + 0.5, z, 0.78, 0.5, 0.62),
        (y > 0) & (abs(x) < 1 - y / 0.84) & (abs(z) < 0.76),
        _box(x - 0.5, y - 0.6, z, 0.13, 0.3, 0.13),
    ),
    "tower": lambda x, y, z: _any(
        _rod(y + 0.33, x, z, 0.5, 0.72), _rod(y - 0.3, x, z, 0.62, 0.1), _cone(x, y, z, 0.4, 1.25, 0.76)
    ),
}


def rays(size):
    """Unit-depth directions [H, W, 3], from the field of view alone."""
    half = np.tan(np.radians(FOV_DEGREES) / 2)
    x = ((np.arange(size) + 0.5) / size * 2 - 1) * half
    return np.stack([*np.meshgrid(x, -x), np.full((size, size), -1.0)], -1)


def occupied(scenes, i, points):
    """Which surface of scene i points [..., 3] are behind or in: 0 wall, 1 ground, 2 + slot; -1 for free ones."""
    found = np.full(points.shape[:-1], -1)
    for plane in range(2):
        normal = scenes.plane_normal[i, plane].astype(float)
        found[points @ normal < scenes.plane_offset[i, plane]] = plane
    for slot in np.nonzero(scenes.kind[i] >= 0)[0]:
        local = (points - scenes.center[i, slot]) @ scenes.rotation[i, slot].astype(float) / scenes.scale[i, slot]
        found[INSIDE[NAMES[scenes.kind[i, slot]]](*np.moveaxis(local, -1, 0))] = 2 + slot
    return found


def refined(scenes, i, direction, free, full):
    """Depth [P] to 1e-9 m at which rays [P, 3] enter something between a free depth and an occupied one."""
    for _ in range(40):
        middle = (free + full) / 2
        hit = occupied(scenes, i, direction * middle[:, None]) >= 0
        free, full = np.where(hit, free, middle), np.where(hit, middle, full)
    return full


@pytest.fixture(scope="module")
def scenes():
    return rich.sample_scenes(3, "train", np.arange(45))


@pytest.fixture(scope="module")
def exact():
    """Every pixel is one exact ray."""
    return render(3, "train", np.arange(45), SIZE, oversample=1, world=RICH)


@pytest.fixture(scope="module")
def many():
    return render(5, "train", np.arange(1800), 32, world=RICH)


def test_every_kind_is_in_the_test(scenes):
    assert set(INSIDE) == set(NAMES) == {NAMES[k] for k in np.unique(scenes.kind[scenes.kind >= 0])}


def test_depth_regions_and_normals_are_those_of_sets_of_points(scenes, exact):
    """Steps of 1.5 cm along random rays find what is there first; then the surface is found between two steps."""
    rng, direction = np.random.default_rng(0), rays(SIZE).reshape(-1, 3)
    steps = np.arange(2.9, 14.0, 15e-3)
    wrong = turned = checked = 0
    for i in range(45):
        chosen = rng.choice(SIZE**2, RAYS, replace=False)
        d = direction[chosen]
        inside = occupied(scenes, i, d[:, None] * steps[:, None])
        assert (inside[:, -1] >= 0).all() and (inside[:, 0] < 0).all()
        first = (inside >= 0).argmax(1)
        surface = inside[np.arange(RAYS), first]
        z = refined(scenes, i, d, steps[first - 1], steps[first])
        depth, mask = (exact[name][i].reshape(-1)[chosen] for name in ("depth", "mask"))
        # A ray may graze an edge for less than a step.
        wrong += ((np.abs(depth - z) > 2e-3) | (mask != scenes.region[i, surface])).sum()
        # Two rays nearby, where they meet the same surface, span its tangent plane.
        near = []
        for shift in ((1e-5, 0, 0), (0, 1e-5, 0)):
            moved = d + shift
            bracketed = (occupied(scenes, i, moved * (z - 1e-3)[:, None]) < 0) & (
                occupied(scenes, i, moved * (z + 1e-3)[:, None]) == surface
            )
            near.append((moved * refined(scenes, i, moved, z - 1e-3, z + 1e-3)[:, None], bracketed))
        normal = np.cross(near[0][0] - d * z[:, None], near[1][0] - d * z[:, None])
        good = near[0][1] & near[1][1] & (np.abs(depth - z) < 2e-3)
        turned += (angle(normal, exact["normal"][i].reshape(-1, 3)[chosen])[good] > 1).sum()
        checked += good.sum()
    assert wrong <= 0.003 * 45 * RAYS and checked > 0.9 * 45 * RAYS
    assert turned <= 0.003 * checked


def test_normals_agree_with_differences_of_depth():
    scene = render(3, "test", np.arange(27), 128, oversample=1, world=RICH)
    point = rays(128) * scene["depth"][..., None].astype(float)
    across, down = point[:, 1:-1, 2:] - point[:, 1:-1, :-2], point[:, 2:, 1:-1] - point[:, :-2, 1:-1]
    found, normal = np.cross(down, across), scene["normal"][:, 1:-1, 1:-1]
    turned = angle(found, normal)
    for region in range(len(RICH.regions)):
        assert np.median(turned[scene["mask"][:, 1:-1, 1:-1] == region]) < 3, RICH.regions[region]
    np.testing.assert_allclose(np.linalg.norm(scene["normal"], axis=-1), 1, atol=1e-5)
    assert (-(scene["normal"] * rays(128)).sum(-1)).min() > -2e-3


def test_everything_is_finite_and_within_the_range(many):
    near, far = RICH.depth_range
    assert np.isfinite(many["depth"]).all() and np.isfinite(many["normal"]).all()
    assert near < many["depth"].min() and many["depth"].max() < far
    assert set(np.unique(many["mask"])) == set(range(5))
    np.testing.assert_array_equal(np.bincount(many["class_id"]), [200] * 9)


def test_two_to_five_objects_apart_and_the_class_is_the_largest():
    scenes = rich.sample_scenes(0, "test", np.arange(6000))
    there, distance = scenes.kind >= 0, np.where(scenes.kind >= 0, -scenes.center[..., 2], 1)
    assert there[:, 0].all() and set(np.unique(there.sum(1))) == {2, 3, 4, 5}
    np.testing.assert_array_equal(scenes.kind[:, 0], [NAMES.index(rich.CLASSES[c]) for c in scenes.class_id])
    foot = np.array([s.footprint for s in SOLIDS.values()])[scenes.kind] * scenes.scale
    up = scenes.plane_normal[:, 1, None]
    level = scenes.center - (scenes.center * up).sum(-1, keepdims=True) * up
    for a in range(5):
        for b in range(a):
            both = there[:, a] & there[:, b]
            gap = np.linalg.norm(level[:, a] - level[:, b], axis=-1) - foot[:, a] - foot[:, b]
            assert gap[both].min() > 0
    low = np.array([s.reach(np.array([0.0, -1.0, 0.0])) for s in SOLIDS.values()])[scenes.kind] * scenes.scale
    height = (scenes.center * up).sum(-1) - scenes.plane_offset[:, 1:] - low
    assert np.abs(height[there]).max() < 1e-5  # everything stands on the ground
    seen = rich._faces()[scenes.kind] * scenes.scale / distance
    assert (seen[:, 1:] / seen[:, :1])[there[:, 1:]].max() < 1


def test_size_and_colours_do_not_tell_the_class(many):
    """Gaussians of mean colours and areas, one for each class, are right little more often than chance."""
    objects = object_pixels(many["mask"], RICH.regions)
    rgb = many["rgb"].astype(float)
    share = objects.mean((1, 2))
    colour = (rgb * objects[..., None]).sum((1, 2)) / objects.sum((1, 2))[:, None]
    features = np.concatenate([rgb.mean((1, 2)), rgb.std((1, 2)), colour, share[:, None]], 1)
    features = np.concatenate([features, features**2], 1)
    features = (features - features.mean(0)) / features.std(0)
    fitted, class_id = np.arange(1800) < 900, many["class_id"]
    means = np.stack([features[fitted & (class_id == c)].mean(0) for c in range(9)])
    within = features[fitted] - means[class_id[fitted]]
    weights = np.linalg.solve(np.cov(within.T) + 1e-3 * np.eye(features.shape[1]), means.T)
    score = features[~fitted] @ weights - 0.5 * (means.T * weights).sum(0)
    assert (score.argmax(1) == class_id[~fitted]).mean() < 2 / 9
    areas = [share[class_id == c].mean() for c in range(9)]
    assert max(areas) - min(areas) < 0.04


def test_no_mixture_of_two_colours_is_a_third_region():
    palette = RICH.palette.astype(np.float32)
    share = np.linspace(0, 1, 1001, dtype=np.float32)[:, None]
    for a in range(5):
        for b in range(a):
            found = nearest_color(share * palette[a] + (1 - share) * palette[b], RICH.palette)
            assert set(np.unique(found)) == {a, b}
    assert len({tuple(c) for c in palette}) == 5 and Facts(RICH.palette, RICH.regions)


def test_a_scene_depends_on_its_number_alone():
    batch = render(7, "test", np.array([11, 3, 8, 250]), 32, world=RICH)
    alone = render(7, "test", np.array([8]), 32, world=RICH)
    for name in batch:
        np.testing.assert_array_equal(batch[name][2], alone[name][0], err_msg=name)
    others = ((8, "test", 8, RICH), (7, "train", 8, RICH), (7, "test", 17, RICH), (7, "test", 8, WORLDS["single"]))
    for seed, split, number, world in others:
        other = render(seed, split, np.array([number]), 32, world=world)
        assert (other["rgb"] != alone["rgb"]).mean() > 0.2


def test_the_second_version_is_as_it_was_written():
    """Colours are left out: they go through cosines in single precision, whose last bit may differ between machines."""
    pixels, class_id = builder.scene_pixels(0, "train", np.arange(16), 32, RICH)
    total = hashlib.sha256()
    for array in (*(pixels[m] for m in ("depth", "normal", "mask")), class_id):
        total.update(np.ascontiguousarray(array).tobytes())
    assert total.hexdigest() == "6ae5bca850d93984d83f53b954efcc0b39bd672e675d47659d6829e54b87ba39"


def test_few_rays_are_enough_for_patterns():
    """Pixels of four rays are near those of 36 rays, so that nothing finer than pixels is on the surfaces."""
    few, all_ = (render(0, "test", np.arange(18), SIZE, oversample=n, world=RICH)["rgb"].astype(float) for n in (2, 6))
    assert np.sqrt(((few - all_) ** 2).mean()) < 4.5
    small = render(0, "test", np.arange(18), 32, world=RICH)["rgb"]
    halved = few.reshape(18, 32, 2, 32, 2, 3).mean((2, 4))
    assert np.abs(halved - small).mean() < 2.5


def test_patterns_mix_two_colours():
    scenes = rich.sample_scenes(0, "train", np.arange(64))
    point = np.random.default_rng(0).uniform(-8, 8, (3, 6400)).astype(np.float32)
    scene = np.arange(64).repeat(100)
    for surface in range(scenes.albedo.shape[1]):
        share = scenes.coats.share(scene, surface, point)
        assert share.min() >= 0 and share.max() <= 1
        plain = (scenes.coats.wave[scene, surface] == WAVES[PATTERNS.index("plain")]).all(-1)
        assert (share[plain] == 0).all() and share[~plain].std() > 0.2


def test_patterns_move_with_objects():
    """The same object elsewhere has the same colours at the same points of its own space."""
    scenes = rich.sample_scenes(1, "train", np.arange(9))
    rng = np.random.default_rng(0)
    for slot in range(5):
        for i in np.nonzero(scenes.kind[:, slot] >= 0)[0]:
            local = rng.uniform(-1, 1, (3, 50))
            point = scenes.scale[i, slot] * scenes.rotation[i, slot] @ local + scenes.center[i, slot][:, None]
            along = scenes.coats.axes[i, 2 + slot] @ scenes.rotation[i, slot] * scenes.scale[i, slot]
            at = scenes.coats.phase[i, 2 + slot] + scenes.coats.axes[i, 2 + slot] @ scenes.center[i, slot]
            expected = along @ local + at[:, None]
            found = scenes.coats.axes[i, 2 + slot] @ point + scenes.coats.phase[i, 2 + slot][:, None]
            np.testing.assert_allclose(found, expected, atol=1e-3)


def test_builder_writes_the_second_version(tmp_path, monkeypatch):
    monkeypatch.setattr(builder, "_CHUNK", 16)
    recipe = builder.Recipe(size=16, train=40, test=9, seed=4)
    paths = [builder.build(str(tmp_path / str(n)), recipe, n, "rich") for n in (1, 2)]
    assert paths[0].endswith("shapes/2.0.0")
    pixels, class_id = builder.scene_pixels(4, "train", np.arange(40), 16, RICH)
    assert tiles.class_names(paths[0]) == rich.CLASSES
    facts = tiles.read_facts(paths[0])
    assert facts.regions == RICH.regions and facts.camera.depth_range == RICH.depth_range
    np.testing.assert_array_equal(facts.palette, RICH.palette)
    sources = [tiles.read_tiles(path, "train") for path in paths]
    for i in range(40):
        tile, other = (tiles.decode_tile(source[i]) for source in sources)
        assert tile["class_id"] == class_id[i] == other["class_id"]
        for name, values in pixels.items():
            np.testing.assert_array_equal(tile[name], values[i])
            np.testing.assert_array_equal(tile[name], other[name])


def test_unknown_scenes(tmp_path):
    with pytest.raises(UsageError, match="scenes is 'poor'; it must be one of single, rich"):
        builder.build(str(tmp_path), builder.Recipe(size=8), 1, "poor")
