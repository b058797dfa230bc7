"""Promise: a Rule checks its switches, cannot be changed, and is restored exactly from repr, JSON and pickle."""

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


# ---- bad switches ----------------------------------------------------------------------------------------------------

UNIT, BELOW_1, POSITIVE = "[0, 1]", "[0, 1)", "[0, inf)"
DOMAINS = {"rho": UNIT, "eps": POSITIVE, "var_floor": POSITIVE, "momentum": BELOW_1, "weight_decay": POSITIVE}
OUTSIDE = [math.nan, math.inf, -math.inf, -1e-300, np.float32("nan")]
NOT_A_NUMBER = ["0.9", None, True, 1j, Decimal("0.9"), np.array(0.9), [0.9]]
CHOICES = {
    "eps_mode": "'outside', 'inside', 'max'",
    "buffer": "'none', 'unit', 'lr'",
    "nesterov": "'none', 'post'",
    "weight_decay_mode": "'none', 'l2', 'decoupled', 'decoupled_corrected', 'in_buffer'",
}
NOT_A_CHOICE = ["Inside", "", None, 0, ("none",)]
NOT_A_FLAG = [2, -1, 0.5, "yes", None]
FLAGS = ("centered", "bias_correction", "maximize")
BAD_VALUES = [
    *((n, v, f"={float(v)!r}, expected a finite number in {DOMAINS[n]}") for n in DOMAINS for v in OUTSIDE),
    *(
        (n, float(v), f"={float(v)!r}, expected a finite number in {DOMAINS[n]}")
        for n, v in (("rho", 1.0 + 1e-15), ("momentum", 1), ("momentum", 2))
    ),
    *((n, v, f"={v!r}, expected a finite number in {DOMAINS[n]}") for n in DOMAINS for v in NOT_A_NUMBER),
    *((n, 10**400, f": too large for a float, expected a finite number in {DOMAINS[n]}") for n in DOMAINS),
    *((n, v, f"={v!r}, expected one of {CHOICES[n]}") for n in CHOICES for v in NOT_A_CHOICE),
    *((n, v, f"={v!r}, expected True or False") for n in FLAGS for v in NOT_A_FLAG),
    *(("init", v, f"={v!r}, expected 'zeros', 'ones', 'eps' or a number") for v in ("one", "0.5", "")),
    *(("init", v, f"={v!r}, expected a finite number in [0, inf)") for v in (-1.0, math.nan, math.inf, True, None)),
]


@pytest.mark.parametrize(("name", "value", "message"), BAD_VALUES)
def test_a_switch_out_of_its_domain_raises(name, value, message):
    with pytest.raises(RuleError) as caught:
        Rule(**{name: value})
    assert str(caught.value) == name + message


NO_BUFFER = "needs a momentum buffer, but buffer='none'"
CORRECTED = "bias_correction=True corrects a start at zero, but init"
CONTRADICTIONS = [
    ({"momentum": 0.9}, 'momentum=0.9 needs a buffer: buffer="unit" (lr applied after) or buffer="lr" (lr inside)'),
    ({"nesterov": "post"}, f"nesterov='post' {NO_BUFFER}"),
    ({"weight_decay_mode": "in_buffer"}, f"weight_decay_mode='in_buffer' {NO_BUFFER}"),
    (
        {"weight_decay": 0.1},
        "weight_decay=0.1 needs a weight_decay_mode: 'l2', 'decoupled', 'decoupled_corrected' or 'in_buffer'",
    ),
    ({"rho": 1.0, "bias_correction": True}, "bias_correction=True divides by 1 - rho**t, which is 0 at rho=1"),
    ({"init": "ones", "bias_correction": True}, f"{CORRECTED}='ones': choose one of the two"),
    ({"init": "eps", "bias_correction": True}, f"{CORRECTED}='eps': choose one of the two"),
]


@pytest.mark.parametrize(("switches", "message"), CONTRADICTIONS)
def test_switches_that_contradict_each_other_raise(switches, message):
    with pytest.raises(RuleError) as caught:
        Rule(**switches)
    assert str(caught.value) == message
    with pytest.raises(RuleError):
        DEFAULTS.replace(**switches)


def test_a_rule_error_is_a_value_error_of_this_library():
    assert issubclass(RuleError, ValueError)
    assert issubclass(RuleError, RMSpropError)


def test_positional_switches_raise():
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


def test_equal_values_give_equal_rules():
    assert Rule(init=0.0) == Rule(init=-0.0) == Rule(init="zeros")
    assert Rule(init=1) == Rule(init="ones")
    assert Rule(init="eps", eps=1e-3).init_value == 1e-3
    assert [Rule(init=init).init_value for init in ("zeros", "ones", 0.3)] == [0.0, 1.0, 0.3]

    assert repr(Rule(eps=-0.0)) == repr(Rule(eps=0.0))
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
def test_buffers_lists_the_state_of_a_rule(switches, buffers):
    assert Rule(**switches).buffers == buffers


def test_decay_includes_the_bias_correction():
    assert formula.decay(0.9) == (0.9, 1.0 - 0.9)
    assert formula.decay(0.9, 1) == (0.0, 1.0)
    for step in (2, 10, 1000):
        # v_t / (1 - rho^t) = rho_t v_{t-1} / (1 - rho^(t-1)) + (1 - rho_t) g^2
        rho, t = Fraction(0.9), step
        expected = (1 - rho) / (1 - rho**t)
        decay, one_minus_decay = formula.decay(0.9, step)
        assert abs(Fraction(one_minus_decay) - expected) < 4 * Fraction(2) ** -52
        assert decay == 1.0 - one_minus_decay


# ---- immutable, comparable, hashable ---------------------------------------------------------------------------------


def test_a_rule_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        DEFAULTS.rho = 0.5


def test_equal_rules_hash_alike_and_others_differ():
    rules = list(every_rule(maximize=False, nesterov="none"))
    assert len(set(rules)) == len(rules)
    assert {rule: i for i, rule in enumerate(rules)} == {rule.replace(): i for i, rule in enumerate(rules)}


def test_replace_changes_only_the_given_switches():
    changed = DEFAULTS.replace(rho=0.5, centered=True)
    assert changed.difference(DEFAULTS) == {"rho": (0.5, 0.9), "centered": (True, False)}
    assert DEFAULTS.difference(Rule()) == {}
    with pytest.raises(RuleError, match=r"^unknown switch 'alpha', expected one of bias_correction, buffer, centered"):
        DEFAULTS.replace(alpha=0.9, rho=0.5)


# ---- text forms -----------------------------------------------------------------------------------------------------

RULES = [*COVERING.values(), *every_rule(maximize=True, buffer="lr"), Rule(rho=1 / 3, eps=5e-324, init=0.1 + 0.2)]


def test_repr_json_and_pickle_restore_the_rule_exactly():
    for rule in RULES:
        assert eval(repr(rule), {"Rule": Rule}) == Rule.from_json(rule.to_json()) == rule
        assert pickle.loads(pickle.dumps(rule)) == rule
    assert set(json.loads(DEFAULTS.to_json())) == {field.name for field in dataclasses.fields(Rule)}


def test_the_repr_shows_what_differs_from_the_defaults():
    assert repr(DEFAULTS) == "Rule(rho=0.9, eps=1e-08, eps_mode='inside')"
    assert repr(Rule(centered=True)) == "Rule(rho=0.9, eps=1e-08, eps_mode='inside', centered=True)"


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
def test_json_that_is_no_rule_raises(text, message):
    with pytest.raises(RuleError) as caught:
        Rule.from_json(text)
    assert str(caught.value).startswith(message)
