"""Rules of values: what they refuse, and the one line that says so."""

import math

import pytest

from mmgen_jax.settings import Settings, check
from mmgen_jax.system import rules
from mmgen_jax.system.errors import UsageError

NOT_FINITE = (math.inf, -math.inf, math.nan, 10**400)


@pytest.mark.parametrize("value", NOT_FINITE)
@pytest.mark.parametrize(
    "rule", [rules.number(0), rules.number(0, 1), rules.POSITIVE, rules.BELOW_ONE, rules.integer(0)]
)
def test_no_rule_of_numbers_allows_infinity_or_nan(rule, value):
    assert not rule.allows(value)
    assert not rules.each(rule).allows((value,))


@pytest.mark.parametrize("value", NOT_FINITE[:3])
@pytest.mark.parametrize("name", ["eps", "clip_norm", "weight_decay", "ema_ramp"])
def test_a_setting_that_is_not_finite_is_named(name, value):
    with pytest.raises(UsageError, match=rf"^config key optim\.{name} is {value}; it must be a finite number"):
        check(Settings().changed(optim={name: value}))


@pytest.mark.parametrize("value", [(0.7, 0.1), (0.5,), (0.0, 1.5), (math.nan, 1.0), [0.0, 1.0]])
def test_an_interval_has_two_ordered_ends(value):
    with pytest.raises(UsageError, match=r"it must be a tuple \(low, high\) with 0 <= low <= high <= 1$"):
        rules.require("sample.guidance_interval", value, rules.INTERVAL)
    rules.require("sample.guidance_interval", (0.0, 1.0), rules.INTERVAL)


@pytest.mark.parametrize("name", ["a b", "a\u3000b", "a\u202fb", "a\u00a0b", "caf\udce9", "עברית", "[0]*?\\"])
def test_a_text_may_be_any_path(name):
    assert rules.TEXT.allows(name)


@pytest.mark.parametrize("name", ["a\nb", "a\0b", "a\x1b[2J", "a\x85b", "a\u2028b", b"a", None, 1])
def test_a_text_has_no_control_characters(name):
    assert not rules.TEXT.allows(name)


def test_what_float32_rounds_to_one_is_not_below_one():
    assert rules.BELOW_ONE.allows(0.9999) and not rules.BELOW_ONE.allows(0.99999999999)
