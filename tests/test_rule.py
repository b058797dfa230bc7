"""A Rule is what its switches say, refuses what means nothing, and survives every way of writing it down."""

from __future__ import annotations

import dataclasses
import json
import math
import pickle
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from cases import COVERING, every_rule
from rmsprop import Rule, formula
from rmsprop.errors import RMSpropError, RuleError

DEFAULTS = Rule()
NUMBERS = {
    "rho": "[0, 1]",
    "eps": "[0, inf)",
    "var_floor": "[0, inf)",
    "momentum": "[0, 1)",
    "weight_decay": "[0, inf)",
}


# ---- refused ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1e-300, np.float32("nan")])
def test_a_number_outside_its_domain_is_refused(name, value):
    with pytest.raises(RuleError) as caught:
        Rule(**{name: value})
    assert str(caught.value) == f"{name}={float(value)!r}, expected a finite number in {NUMBERS[name]}"


@pytest.mark.parametrize(("name", "value"), [("rho", 1.0 + 1e-15), ("momentum", 1.0), ("momentum", 2)])
def test_a_number_above_its_domain_is_refused(name, value):
    with pytest.raises(RuleError) as caught:
        Rule(**{name: value})
    assert str(caught.value) == f"{name}={float(value)!r}, expected a finite number in {NUMBERS[name]}"


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", ["0.9", None, True, 1j, Decimal("0.9"), np.array(0.9), [0.9]])
def test_what_is_no_real_number_is_refused(name, value):
    with pytest.raises(RuleError) as caught:
        Rule(**{name: value})
    assert str(caught.value) == f"{name}={value!r}, expected a finite number in {NUMBERS[name]}"


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_too_large_for_a_float_is_refused(name):
    with pytest.raises(RuleError) as caught:
        Rule(**{name: 10**400})
    assert str(caught.value) == f"{name}: too large for a float, expected a finite number in {NUMBERS[name]}"


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("eps_mode", "'outside', 'inside', 'max'"),
        ("buffer", "'none', 'unit', 'lr'"),
        ("nesterov", "'none', 'post'"),
        ("weight_decay_mode", "'none', 'l2', 'decoupled', 'decoupled_corrected', 'in_buffer'"),
    ],
)
@pytest.mark.parametrize("value", ["Inside", "", None, 0, ("none",)])
def test_an_unknown_choice_is_refused(name, choices, value):
    with pytest.raises(RuleError) as caught:
        Rule(**{name: value})
    assert str(caught.value) == f"{name}={value!r}, expected one of {choices}"


@pytest.mark.parametrize("name", ["centered", "bias_correction", "maximize"])
@pytest.mark.parametrize("value", [2, -1, 0.5, "yes", None])
def test_a_flag_that_is_no_flag_is_refused(name, value):
    with pytest.raises(RuleError) as caught:
        Rule(**{name: value})
    assert str(caught.value) == f"{name}={value!r}, expected True or False"


@pytest.mark.parametrize("value", ["one", "0.5", ""])
def test_an_unknown_init_is_refused(value):
    with pytest.raises(RuleError) as caught:
        Rule(init=value)
    assert str(caught.value) == f"init={value!r}, expected 'zeros', 'ones', 'eps' or a number"


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf, True, None])
def test_an_init_outside_its_domain_is_refused(value):
    with pytest.raises(RuleError) as caught:
        Rule(init=value)
    assert str(caught.value) == f"init={value!r}, expected a finite number in [0, inf)"


@pytest.mark.parametrize(
    ("switches", "message"),
    [
        (
            {"momentum": 0.9},
            'momentum=0.9 needs a buffer: buffer="unit" (lr applied after) or buffer="lr" (lr inside)',
        ),
        ({"nesterov": "post"}, "nesterov='post' needs a momentum buffer, but buffer='none'"),
        (
            {"weight_decay": 0.1},
            "weight_decay=0.1 needs a weight_decay_mode: 'l2', 'decoupled', 'decoupled_corrected' or 'in_buffer'",
        ),
        (
            {"weight_decay_mode": "in_buffer"},
            "weight_decay_mode='in_buffer' needs a momentum buffer, but buffer='none'",
        ),
        ({"rho": 1.0, "bias_correction": True}, "bias_correction=True divides by 1 - rho**t, which is 0 at rho=1"),
        (
            {"init": "ones", "bias_correction": True},
            "bias_correction=True corrects a start at zero, but init='ones': choose one of the two",
        ),
        (
            {"init": "eps", "bias_correction": True},
            "bias_correction=True corrects a start at zero, but init='eps': choose one of the two",
        ),
    ],
)
def test_switches_that_contradict_each_other_are_refused(switches, message):
    with pytest.raises(RuleError) as caught:
        Rule(**switches)
    assert str(caught.value) == message
    with pytest.raises(RuleError):
        DEFAULTS.replace(**switches)


def test_a_refusal_is_a_value_error_of_this_library():
    assert issubclass(RuleError, ValueError)
    assert issubclass(RuleError, RMSpropError)


def test_positional_switches_are_refused():
    with pytest.raises(TypeError):
        Rule(0.9)


# ---- accepted --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.float32(0.5), Fraction(1, 2), np.float64(0.5)])
def test_any_real_number_becomes_a_python_float(value):
    rule = Rule(rho=value, init=value)
    assert rule == Rule(rho=0.5, init=0.5)
    assert type(rule.rho) is type(rule.init) is float


def test_the_ends_of_the_domains_are_inside():
    Rule(rho=0, eps=0, var_floor=0, momentum=0, weight_decay=0, init=0)
    Rule(rho=1, eps=1e300)


def test_equal_starts_are_one_start():
    assert Rule(init=0.0) == Rule(init=-0.0) == Rule(init="zeros")
    assert Rule(init=1) == Rule(init="ones")
    assert Rule(init="eps", eps=1e-3).init_value == 1e-3
    assert [Rule(init=init).init_value for init in ("zeros", "ones", 0.3)] == [0.0, 1.0, 0.3]


def test_a_negative_zero_is_a_zero():
    assert repr(Rule(eps=-0.0)) == repr(Rule(eps=0.0))


def test_flags_of_zero_and_one_become_booleans():
    assert Rule(centered=1) == Rule(centered=True)
    assert type(Rule(centered=1).centered) is bool


@pytest.mark.parametrize(
    ("switches", "buffers"),
    [
        ({}, ("mean_sq",)),
        ({"centered": True}, ("mean_grad", "grad_var")),
        ({"buffer": "lr"}, ("mean_sq", "momentum_buf")),
        ({"buffer": "unit", "momentum": 0.9, "centered": True}, ("mean_grad", "grad_var", "momentum_buf")),
    ],
)
def test_a_rule_names_the_arrays_it_keeps(switches, buffers):
    assert Rule(**switches).buffers == buffers


def test_the_decay_is_that_of_corrected_averages():
    assert formula.decay(0.9) == (0.9, 1.0 - 0.9)
    assert formula.decay(0.9, 1) == (0.0, 1.0)
    for step in (2, 10, 1000):
        # v_t / (1 - rho^t) = rho_t v_{t-1} / (1 - rho^(t-1)) + fresh_t g^2
        rho, t = Fraction(0.9), step
        expected = (1 - rho) / (1 - rho**t)
        kept, fresh = formula.decay(0.9, step)
        assert abs(Fraction(fresh) - expected) < 4 * Fraction(2) ** -52
        assert kept == 1.0 - fresh


# ---- immutable, comparable, hashable ---------------------------------------------------------------------------------


def test_a_rule_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        DEFAULTS.rho = 0.5


def test_equal_rules_hash_alike_and_others_differ():
    rules = list(every_rule(maximize=False, nesterov="none"))
    assert len(set(rules)) == len(rules)
    assert {rule: i for i, rule in enumerate(rules)} == {rule.replace(): i for i, rule in enumerate(rules)}


def test_replace_changes_what_it_names_and_nothing_else():
    changed = DEFAULTS.replace(rho=0.5, centered=True)
    assert changed.difference(DEFAULTS) == {"rho": (0.5, 0.9), "centered": (True, False)}
    assert Rule() == DEFAULTS


def test_replace_refuses_an_unknown_switch_by_name():
    with pytest.raises(RuleError, match=r"^unknown switch 'alpha', expected one of bias_correction, buffer, centered"):
        DEFAULTS.replace(alpha=0.9, rho=0.5)


def test_the_difference_of_equal_rules_is_empty():
    assert DEFAULTS.difference(Rule()) == {}


# ---- written down ----------------------------------------------------------------------------------------------------

RULES = [*COVERING.values(), *every_rule(maximize=True, buffer="lr"), Rule(rho=1 / 3, eps=5e-324, init=0.1 + 0.2)]


def test_the_repr_evaluates_to_the_rule():
    for rule in RULES:
        assert eval(repr(rule), {"Rule": Rule}) == rule


def test_the_repr_shows_what_differs_from_the_defaults():
    assert repr(DEFAULTS) == "Rule(rho=0.9, eps=1e-08, eps_mode='inside')"
    assert repr(Rule(centered=True)) == "Rule(rho=0.9, eps=1e-08, eps_mode='inside', centered=True)"


def test_json_keeps_every_digit():
    for rule in RULES:
        assert Rule.from_json(rule.to_json()) == rule
    assert set(json.loads(DEFAULTS.to_json())) == {field.name for field in dataclasses.fields(Rule)}


def test_pickle_keeps_every_digit():
    for rule in RULES[-20:]:
        assert pickle.loads(pickle.dumps(rule)) == rule


def test_a_switch_missing_in_json_takes_its_default():
    assert Rule.from_json('{"rho": 0.5}') == Rule(rho=0.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        (None, "not JSON"),
        ("[1]", "expected a JSON object of switches, got list"),
        ("0.9", "expected a JSON object of switches, got float"),
        ('{"alpha": 0.9}', "unknown switch 'alpha'"),
        ('{"rho": NaN}', "rho=nan, expected a finite number"),
        ('{"rho": "0.9"}', "rho='0.9', expected a finite number"),
        ('{"momentum": 0.9}', "momentum=0.9 needs a buffer"),
    ],
)
def test_json_that_is_no_rule_is_refused(text, message):
    with pytest.raises(RuleError) as caught:
        Rule.from_json(text)
    assert str(caught.value).startswith(message)
