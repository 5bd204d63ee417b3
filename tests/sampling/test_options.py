"""Tests what a request makes of its options, and which of them mean nothing."""

import dataclasses
import re

import numpy as np
import pytest

from mmgen_jax.sampling.asked import Asked
from mmgen_jax.sampling.grids import in_order, last_step_times, shifted, shifted_times
from mmgen_jax.sampling.options import (
    CLASS,
    GivenTimes,
    Intervals,
    Options,
    Order,
    Strengths,
    plan,
)
from mmgen_jax.system.errors import UsageError

MODEL = ("rgb", "depth", "normal", "mask")


def options(**chosen):
    return dataclasses.replace(Options("heun", 4), **chosen)


@pytest.mark.parametrize(
    ("chosen", "given", "message"),
    [
        ({"strength": Strengths(depth=0.5)}, ("rgb",), "strength of depth is 0.5, but depth is not given; given: rgb"),
        ({"strength": Strengths(rgb=2.0)}, (), "strength of rgb is 2.0, but rgb is not given; given: nothing"),
        ({"interval": Intervals(mask=(0.0, 0.5))}, ("rgb",), "interval of mask is (0.0, 0.5), but mask is not given"),
        ({"given_times": GivenTimes(mask=0.5)}, ("rgb",), "given_times of mask is 0.5, but mask is not given"),
        (
            {"order": Order(rgb=0.5)},
            ("rgb",),
            "order of rgb is 0.5, but rgb is not wanted; wanted: depth +",
        ),
        ({"wanted": "depth", "order": Order(mask=0.5)}, ("rgb",), "order of mask is 0.5, but mask is not wanted"),
        ({"wanted": "rgb+depth"}, ("rgb",), "wanted is 'rgb+depth', but rgb is given; allowed: what is not given"),
        ({"wanted": "sound"}, ("rgb",), "modality is 'sound'; allowed: rgb, depth, normal, mask"),
        ({"compose": True}, (), "compose is True, but neither a modality nor a class is given"),
        ({"particles": 4, "rescale": 0.7}, ("rgb",), "rescale is 0.7; allowed: 0, as 4 particles are weighed"),
        ({"times": (1.0, 0.5, 0.0), "shift": 3.0}, (), "shift is 3; allowed: 1, as times are given"),
        ({"particles": 4, "corrector": 0}, ("rgb",), "corrector is 0; 4 particles need at least 1, or -1"),
    ],
)
def test_requests_that_mean_nothing_are_named(chosen, given, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        Asked(options(**chosen), MODEL, given).check("linear")


@pytest.mark.parametrize("chosen", [{"corrector": 2}, {"particles": 4}, {"solver": "euler_maruyama"}, {"rescale": 0.7}])
def test_what_needs_the_score_needs_the_linear_path(chosen):
    Asked(options(**chosen), MODEL, ("rgb",)).check("linear")
    with pytest.raises(UsageError, match="needs the linear path; the model's is cosine"):
        Asked(options(**chosen), MODEL, ("rgb",)).check("cosine")


def test_a_program_is_compiled_for_members_and_takes_their_weights():
    one, dials = plan(options(strength=Strengths(depth=0.6), guidance=2.0), ("depth", "mask"), MODEL, True)
    other, others = plan(options(strength=Strengths(depth=-3.0), guidance=9.0), ("depth", "mask"), MODEL, True)
    assert (
        one == other and dials.weights == {"depth": 0.6, CLASS: 2.0} and others.weights == {"depth": -3.0, CLASS: 9.0}
    )
    assert one.members == (("depth", (0.0, 1.0)), (CLASS, (0.0, 1.0))) and one.targets == ("rgb", "normal")


def test_without_strengths_and_guidance_the_network_has_one_branch():
    choices, dials = plan(options(guidance=3.0), ("depth",), MODEL, conditional=False)
    assert choices.members == () and dials.weights == {} and dials.times == {"depth": 0.005}
    assert plan(options(), (), MODEL, conditional=True)[0].members == ()


def test_everything_given_is_a_member_of_a_composition():
    choices, dials = plan(options(compose=True), ("depth", "mask"), MODEL, conditional=True)
    assert dials.weights == {"depth": 1.0, "mask": 1.0, CLASS: 1.0} and choices.compose


def test_given_modalities_have_times_of_their_own():
    _, dials = plan(options(given_time=0.1, given_times=GivenTimes(mask=0.4)), ("depth", "mask"), MODEL, False)
    assert dials.times == {"depth": 0.1, "mask": 0.4}


def test_a_modality_that_runs_ahead_by_one_is_done_before_the_others_begin():
    choices, dials = plan(options(wanted="rgb+depth", order=Order(depth=1.0)), (), MODEL, False)
    expected = [[1, 1], [1, 0.5], [1, 0], [0.5, 0], [0, 0]]
    np.testing.assert_allclose(in_order(dials.grid, choices.order), expected)


def test_grids_are_uniform_shifted_or_of_the_user_on_the_clock_of_orders():
    _, dials = plan(options(shift=3.0), (), MODEL, False)
    np.testing.assert_allclose(dials.grid, shifted_times(4, 3.0))
    _, own = plan(options(solver="euler_maruyama", shift=3.0), (), MODEL, False)
    np.testing.assert_allclose(own.grid, shifted(last_step_times(4), 3.0))
    choices, dials = plan(options(times=(1, 0.6, 0.0), wanted="rgb+depth", order=Order(depth=0.5)), (), MODEL, False)
    assert choices.steps == 2 and dials.grid.dtype == np.float32
    np.testing.assert_allclose(in_order(dials.grid, choices.order), [[1, 1], [0.9, 0.4], [0, 0]], atol=1e-6)
