"""Rules of values: what they refuse, and the one line that says so."""

import math
import re

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


@pytest.mark.parametrize(
    "key, value, words",
    [
        ("learning_rate", 1e-300, "of at least 0 that float32 holds"),
        ("weight_decay", 1e-300, "0 or 1e-12 to 1e12"),
        ("weight_decay", 3e38, "0 or 1e-12 to 1e12"),
        ("eps", 1e-300, "above 0 and at most 1, in float32"),
        ("eps", 3e38, "above 0 and at most 1, in float32"),
        ("clip_norm", 1e-300, "above 0, in float32"),
    ],
)
def test_numbers_that_float32_makes_nothing_of_are_refused(key, value, words):
    said = re.escape(f"config key optim.{key} is {value}; it must be a finite number")
    with pytest.raises(UsageError, match=f"^{said},? {words}$"):
        check(Settings().changed(optim={key: value}))


@pytest.mark.parametrize("value", [1e-300, 3e38, 1e-13])
def test_weights_of_losses_neither_vanish_nor_overflow(value):
    with pytest.raises(UsageError, match=r"objective.loss_weights is .*; it must be a tuple .* 0 or 1e-12 to 1e12$"):
        check(Settings().changed(objective={"loss_weights": (1.0, value, 1.0, 1.0)}))
    with pytest.raises(UsageError, match=r"objective.alignment_weight is .*; it must be .* 0 or 1e-12 to 1e12$"):
        check(Settings().changed(objective={"alignment_weight": value}))


def test_rates_and_weights_of_any_use_are_allowed():
    check(Settings().changed(optim={"learning_rate": 0, "weight_decay": 0, "eps": 1.0, "clip_norm": 3e38}))
    check(Settings().changed(objective={"loss_weights": (0, 1, 1e-12, 1e12), "alignment_weight": 0}))
