"""The mix is what its table says: exact shares, masks and times."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import base
from mmgen_jax.diffusion import conditioning
from mmgen_jax.modalities.registry import NAMES
from mmgen_jax.system.errors import UsageError

OFFICIAL = base.get_config().objective.mix
UNIFORM = conditioning.TIME_SAMPLERS["uniform"]


def draw_many(mix, batch, seeds, present=None, time_sampler=UNIFORM, ends=False):
    """Draws the conditions of one batch for each seed; the leading axis of every leaf is that of the seeds."""
    present = np.ones((batch, 4), bool) if present is None else present
    rows = conditioning.parse_mix(mix, NAMES)
    keys = jax.vmap(jax.random.key)(jnp.arange(seeds))
    drawn = jax.jit(jax.vmap(lambda key: conditioning.draw(key, rows, present, time_sampler, ends)))(keys)
    return jax.tree.map(np.asarray, drawn)


def draw(mix, batch=64, **kwargs):
    return jax.tree.map(lambda a: a[0], draw_many(mix, batch, 1, **kwargs))


def each(conditions):
    return [jax.tree.map(lambda a: a[i], conditions) for i in range(len(conditions.task))]  # noqa: B023


def test_official_mix_has_exact_shares_tasks_and_times():
    for c in each(draw_many(OFFICIAL, 64, 5)):
        joint, conditional = slice(0, 48), slice(48, 64)
        assert not c.given[joint].any() and (c.task[joint] == 0).all()
        np.testing.assert_array_equal(c.given[conditional].sum(1), 1)
        np.testing.assert_array_equal(c.task[conditional], c.given[conditional].argmax(1) + 1)
        assert (c.t[joint] == c.t[joint][:, :1]).all(), "one common time for all modalities"
        assert c.t[c.given].max() < 0.01
        others = np.where(c.given, np.nan, c.t)[conditional]
        assert (np.nanmax(others, 1) == np.nanmin(others, 1)).all()


def test_official_mix_supervises_rgb_only_in_the_first_half_and_never_what_is_given():
    for c in each(draw_many(OFFICIAL, 64, 5)):
        np.testing.assert_array_equal(c.supervised[:32], [[True, False, False, False]] * 32)
        assert not (c.supervised & c.given).any()
        assert (c.supervised[32:, 0] | c.given[32:, 0]).all(), "rgb pairs are never dropped"


def test_dropped_pairs_are_uniform_in_number():
    counts = []
    for c in each(draw_many(OFFICIAL, 8, 400)):
        free = ~c.given[4:, 1:]
        counts.append((~c.supervised[4:, 1:] & free).sum() / free.sum())
    # The number is uniform over 0 .. 15 of 16 pairs, so the kept share has mean about 1/2 and all extremes.
    assert abs(np.mean(counts) - 15 / 32) < 0.05
    assert min(counts) == 0 and max(counts) > 0.85


def test_condition_is_uniform_over_modalities():
    picks = draw_many(OFFICIAL, 256, 10).task[:, 192:].reshape(-1)
    np.testing.assert_allclose(np.bincount(picks, minlength=5)[1:] / len(picks), 0.25, atol=0.06)


def test_any_draws_every_proper_subset_and_tells_by_time():
    c = draw(((1.0, "any", 0.01, "all"),), 512)
    seen = {tuple(row) for row in c.given.tolist()}
    assert len(seen) == 14
    several = c.given.sum(1) > 1
    assert (c.task[several] == 0).all()
    np.testing.assert_array_equal(c.supervised, ~c.given)


EVERY_ROLE = ((15 / 65, "none", 0.0, "all", "any", "common"), (50 / 65, "any", 0.01, "all", "any", "own"))


def test_ignored_modalities_are_pure_noise_and_all_65_patterns_are_drawn_equally_often():
    c = draw(EVERY_ROLE, 65 * 100)
    ignored = c.t == 1
    assert not (ignored & (c.given | c.supervised)).any()
    np.testing.assert_array_equal(c.supervised, ~c.given & ~ignored)
    patterns, counts = np.unique(np.where(c.given, 2, np.where(ignored, 1, 0)), axis=0, return_counts=True)
    assert len(patterns) == 65 and (patterns == 0).any(1).all()
    assert np.abs(counts - 100).max() < 45  # 4.5 standard deviations


def test_own_times_are_independent_and_common_ones_are_equal():
    c = draw(EVERY_ROLE, 6500)
    for rows, own in ((slice(0, 1500), False), (slice(1500, 6500), True)):
        both = c.supervised[rows, 0] & c.supervised[rows, 3]
        first, last = c.t[rows][both, 0], c.t[rows][both, 3]
        assert abs(np.corrcoef(first, last)[0, 1] - (not own)) < 0.1
        np.testing.assert_allclose([first.mean(), last.mean()], 0.5, atol=0.05)


def test_a_named_modality_is_ignored():
    c = draw(((1.0, "one", 0.0, "all", "mask"),), 300)
    assert (c.t[:, 3] == 1).all() and not c.given[:, 3].any() and not c.supervised[:, 3].any()
    np.testing.assert_allclose(c.given.mean(0)[:3], 1 / 3, atol=0.1)


def test_rows_of_which_some_sets_count_nothing_keep_them():
    c = draw(((1.0, "one", 0.0, "rgb"),), 400)
    np.testing.assert_allclose(c.given.mean(0), 0.25, atol=0.1)
    assert not c.supervised[c.given[:, 0]].any()


def test_named_condition_at_time_zero_is_exactly_clean():
    c = draw(((1.0, "rgb", 0.0, "all"),), 16)
    assert (c.t[:, 0] == 0).all() and (c.task == 1).all()
    np.testing.assert_array_equal(c.supervised, [[False, True, True, True]] * 16)


def test_absent_modalities_are_pure_noise_and_count_for_nothing():
    present = np.ones((32, 4), bool)
    present[:, 2] = False
    c = draw(((1.0, "any", 0.01, "all"),), 32, present=present)
    assert (c.t[:, 2] == 1).all()
    assert not c.given[:, 2].any() and not c.supervised[:, 2].any()


def test_logit_normal_times_gather_in_the_middle():
    c = draw(((1.0, "none", 0.0, "all"),), 4096, time_sampler=conditioning.TIME_SAMPLERS["logit_normal"])
    # Quartiles of sigmoid(N(0, 1)).
    np.testing.assert_allclose(np.quantile(c.t[:, 0], [0.25, 0.5, 0.75]), [0.3375, 0.5, 0.6625], atol=0.02)


@pytest.mark.parametrize("batch", [1, 2, 3, 5, 7, 10, 255])
def test_row_sizes_add_up(batch):
    sizes = conditioning.row_sizes(conditioning.parse_mix(OFFICIAL, NAMES), batch)
    assert sum(sizes) == batch and min(sizes) >= 0


def test_task_row():
    given = jnp.array([[0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [1, 1, 0, 0]], bool)
    np.testing.assert_array_equal(conditioning.task_row(given), [0, 1, 4, 0])


@pytest.mark.parametrize(
    "mix, message",
    [
        (((0.5, "none", 0.0, "all"),), "add up to 1"),
        (((1.0, "colour", 0.0, "all"),), "'colour'; allowed: rgb, depth, normal, mask"),
        (((1.0, "none", 2.0, "all"),), "given_time"),
        (((1.0, "none", 0.0, "rgb+x"),), "'x'; allowed"),
        (((1.0, "none", 0.0),), "needs 4 to 6 entries"),
        (((1.0, "none", 0.0, "all", "none", "own", 1),), "needs 4 to 6 entries"),
        (((1.0, "none", 0.0, "all", "x"),), "'x'; allowed"),
        (((1.0, "none", 0.0, "all", "none", "two"),), "'two'; allowed: common, own"),
        (((1.0, "rgb", 0.0, "depth", "depth"),), "given and ignored modalities never count"),
        (((1.0, "rgb", 0.0, "all", "rgb"),), "given and ignored modalities never count"),
        (((float("nan"), "none", 0.0, "all"),), "add up to 1"),
        (((1.0, "rgb", 0.0, "rgb"),), "counts nothing in the loss"),
        (((1.0, "rgb+depth+normal+mask", 0.0, "all"),), "counts nothing in the loss"),
    ],
)
def test_bad_mix(mix, message):
    with pytest.raises(UsageError, match=message.replace("+", r"\+")):
        conditioning.parse_mix(mix, NAMES)


@pytest.mark.parametrize("given", ["one", "any"])
def test_one_modality_alone_cannot_be_given(given):
    with pytest.raises(UsageError, match="counts nothing in the loss"):
        conditioning.parse_mix(((1.0, given, 0.0, "all"),), ("rgb",))


ANY = ((0.25, "none", 0.0, "all"), (0.5, "any", 0.01, "all", "any"), (0.25, "none", 0.0, "all", "none", "own"))


def test_flow_maps_have_ends_before_times_except_where_nothing_moves():
    c = draw_many(ANY, 64, 200, ends=True)
    plain = draw_many(ANY, 64, 200)
    assert plain.r is None
    for name in ("given", "task", "supervised"):
        np.testing.assert_array_equal(getattr(c, name), getattr(plain, name))
    stays = c.given | (plain.t == 1)
    assert (c.r <= c.t).all() and ((c.r == c.t) == stays).all()
    np.testing.assert_array_equal(c.t[stays], plain.t[stays])
    joint, own = c.t[:, :16], c.t[:, 48:]
    assert (joint == joint[..., :1]).all() and (c.r[:, :16] == c.r[:, :16, :1]).all()
    assert (own != own[..., :1])[..., 1:].all(), "each modality has a way of its own"
    # The larger and the smaller of two uniform numbers have the means 2/3 and 1/3.
    assert abs(joint.mean() - 2 / 3) < 0.02 and abs(c.r[:, :16].mean() - 1 / 3) < 0.02
