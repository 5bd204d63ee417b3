"""`sample`, `composed` and `shifted_times` refuse what means nothing in one line, and nothing else."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from annotations import unchecked

from mmgen_jax.sampling import composed, sample, shifted_times


class Unrelated:
    """A value of no use, whose name is the same in every process that runs the tests."""

    def __repr__(self):
        return "unrelated"


NOISE = {"a": jnp.ones((2, 1, 1, 1)), "b": jnp.ones((2, 1, 1, 1))}
GIVEN = {"b": jnp.zeros((2, 1, 1, 1))}
NOTHING = [
    math.nan,
    math.inf,
    -math.inf,
    1e400,
    -1,
    1j,
    "3",
    "x",
    None,
    b"a",
    Unrelated(),
    len,
    {},
    (),
    [[1], [1, 2]],
    True,
]


def field(x, t):
    return x


def drawn(**changed):
    arguments = {"velocity_fn": field, "noise": NOISE, "steps": 2, "given": GIVEN} | changed
    return sample(arguments.pop("velocity_fn"), arguments.pop("noise"), **arguments)


def refused(name, call):
    with unchecked(), pytest.raises(ValueError, match=re.escape(name)) as caught:
        call()
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


@pytest.mark.parametrize("value", [*NOTHING, 0, 2.5, np.array([1, 2])], ids=repr)
@pytest.mark.parametrize("name", ["steps", "particles", "corrector"])
def test_numbers(name, value):
    if name == "corrector" and (value is None or (isinstance(value, int) and value == 0 and value is not False)):
        drawn(corrector=value)  # none, or none
        return
    refused(name, lambda: drawn(**{name: value}, key=jax.random.key(0)))


@pytest.mark.parametrize("value", [v for v in NOTHING if v not in ((), {})] + [1.5, np.array([0.1, 2.0])], ids=repr)
def test_times_at_which_something_is_held(value):
    refused("given_time", lambda: drawn(given_time=value))
    refused("given_time", lambda: drawn(given_time={"b": value}))
    refused("given_time", lambda: composed(field, GIVEN, [1.0], given_time=value))


@pytest.mark.parametrize(
    "value",
    ["x", 0.5, [], [1.0], [1.0, math.nan, 0.0], [2.0, 0.0], [0.0, 1.0], [[[1.0]], [[0.0]]], [[1.0] * 3, [0.0] * 3]],
    ids=str,
)
def test_grids(value):
    refused("times", lambda: drawn(times=value if isinstance(value, str) else jnp.array(value)))


@pytest.mark.parametrize("value", [3, "key", 1.5, jnp.ones(2), Unrelated()], ids=str)
def test_keys(value):
    refused("key", lambda: drawn(key=value))


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, 1e39, 0, -1, "3", None, 1j, [1.0, 2.0], Unrelated()], ids=str
)
def test_shifts(value):
    refused("shift", lambda: shifted_times(4, value))


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e39, 1j, "1", None, Unrelated(), True], ids=str)
def test_weights(value):
    refused("the weight of 'b'", lambda: composed(field, GIVEN, {"b": value}))


def test_what_does_not_belong_together():
    refused("noise is empty", lambda: drawn(noise={}, given={}))
    refused("noise['b']", lambda: drawn(noise=NOISE | {"b": jnp.ones((3, 1, 1, 1))}))
    refused("noise['a']", lambda: drawn(noise={"a": jnp.ones(())}, given={}))
    refused("weights has 2 entries", lambda: composed(field, GIVEN, [1.0, 2.0]))
    refused("steps", lambda: shifted_times(0, 3.0))


def test_what_means_something_is_drawn():
    for arguments in (
        {"given_time": jnp.array([0.0, 1.0])},
        {"times": jnp.array([1.0, 0.5, 0.5, 0.0])},
        {"steps": np.int64(2)},
    ):
        with unchecked():
            made = drawn(**arguments)
        assert np.isfinite(made["a"]).all()
    traced = jax.jit(lambda t, w: sample(composed(field, GIVEN, [w], t), {"a": NOISE["a"]}, steps=2)["a"])
    assert np.isfinite(traced(0.1, 2.0)).all()
