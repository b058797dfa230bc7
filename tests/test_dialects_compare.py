"""A rule's first and steady step are those of the formula, and a comparison names what differs and no more."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from rmsprop import Rule, dialects, formula
from rmsprop.dialects import dialect
from rmsprop.errors import InputError, RuleError


@pytest.fixture(params=dialects.names())
def row(request):
    return dialects.get(request.param)


@pytest.mark.parametrize("grad", [1e-9, 1e-3, 1.0, 40.0])
def test_the_first_step_is_that_of_the_formula(row, grad):
    state = {name: np.zeros(1) for name in row.rule.buffers}
    state["grad_var" if row.rule.centered else "mean_sq"] += row.rule.init_value
    moved, _ = formula.step(np.zeros(1), np.array([grad]), state, row.rule, lr=1.0)
    assert dialects.first_step(row.rule, grad=grad) == pytest.approx(-float(moved[0]), rel=1e-13)


@pytest.mark.parametrize(
    "rule",
    [
        dialect("torch", rho=0.9, momentum=0.5),
        dialect("tensorflow1", eps=1e-3),
        dialect("graves2013"),
        dialect("torch", rho=0.9, centered=True),
        dialect("heavyball", rho=0.9),
        dialect("optax", momentum=0.5, nesterov="post"),
        Rule(rho=1.0, init="ones"),
    ],
)
def test_the_steady_step_is_what_the_steps_of_the_formula_tend_to(rule):
    dtype = np.float32 if rule.centered else np.float64  # how small a variance can be is a matter of the arithmetic
    p, state = np.zeros(1, dtype), {name: np.zeros(1, dtype) for name in rule.buffers}
    state["grad_var" if rule.centered else "mean_sq"] += dtype(rule.init_value)
    for step in range(1, 1501):
        p, state = formula.step(np.zeros_like(p), np.array([0.1], dtype), state, rule, lr=1.0, step=step)
    rel = 1e-6 if rule.centered else 1e-9
    assert dialects.steady_step(rule, grad=0.1) == pytest.approx(float(-p[0]), rel=rel)


@pytest.mark.parametrize("grad", [0.0, -1.0, math.inf, math.nan, "1", True])
@pytest.mark.parametrize("measure", [dialects.first_step, dialects.steady_step])
def test_a_gradient_size_must_be_a_finite_number_above_0(measure, grad):
    with pytest.raises(InputError, match="grad="):
        measure(Rule(), grad=grad)


def test_a_comparison_names_every_switch_that_differs_and_no_other():
    for left in dialects.all():
        for right in dialects.all():
            found = [item.switch for item in dialects.compare(left, right).differences]
            assert found == list(left.rule.difference(right.rule))


def test_a_comparison_says_what_the_first_step_is():
    # 1 / sqrt(1 - .99) = 10 from zero; from one, 1 / sqrt(.9 + .1) = 1.
    text = str(dialects.compare("pytorch", "tf1"))
    assert "first step, |grad| = 1: torch 10 x lr, tensorflow1 1 x lr" in text
    assert "default lr: torch 0.01, tensorflow1 none, it must be given" in text


def test_a_comparison_takes_changes_for_both_and_rules_too():
    both = dialects.compare("torch", "tensorflow1", momentum=0.9)
    assert ("unit", "lr") in [(item.left, item.right) for item in both.differences]
    one = dialects.compare(Rule(), Rule(rho=0.99))
    assert [(item.switch, item.left, item.right) for item in one.differences] == [("rho", 0.9, 0.99)]
    assert "about 10 steps" in one.differences[0].sentence
    assert "about 100 steps" in one.differences[0].sentence


def test_a_rule_compared_with_itself_is_the_same_rule():
    same = dialects.compare("torch", "torch")
    assert str(same) == "torch (left) and torch (right): the same rule"
    assert same.consequences == same.differences == same.remarks == ()


def test_every_switch_has_its_sentence():
    left = Rule()
    right = Rule(
        rho=1.0,
        eps=0.0,
        eps_mode="max",
        init=2.0,
        centered=True,
        var_floor=0.1,
        buffer="lr",
        momentum=0.9,
        nesterov="post",
        weight_decay=0.1,
        weight_decay_mode="decoupled_corrected",
        maximize=True,
    )
    sentences = {item.switch: item.sentence for item in dialects.compare(left, right).differences}
    corrected = dialects.compare(left, Rule(bias_correction=True)).differences
    assert {*sentences, *(item.switch for item in corrected)} == {field.name for field in dataclasses.fields(Rule)}
    for sentence in (*sentences.values(), corrected[0].sentence):
        left_meaning, right_meaning = (part.split(")", 1)[1] for part in sentence.split("; "))
        assert left_meaning != right_meaning


def test_a_change_that_one_side_cannot_take_is_refused():
    with pytest.raises(RuleError, match="dialect 'mlx'"):
        dialects.compare("torch", "mlx", momentum=0.9)


def test_a_notebook_shows_a_table_and_the_prompt_the_sentences():
    comparison = dialects.compare("torch", "tensorflow1")
    html = comparison._repr_html_()
    assert html.count("<tr>") == 1 + len(comparison.differences)
    assert html.count("<li>") == len(comparison.consequences) + len(comparison.remarks)
    assert repr(comparison) == str(comparison)
    assert "<table>" not in dialects.compare("libtorch", "candle")._repr_html_()
