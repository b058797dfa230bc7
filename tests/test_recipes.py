"""A recipe gives a published setting, in a rule that its framework can be set to, with its source."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import numpy as np
import pytest

import rmsprop
from rmsprop import dialects, recipes
from rmsprop.errors import InputError, RuleError
from rmsprop.recipes import warm_up_linear

# name, dialect, rho, eps, momentum, centered, lr, max_norm: written from the sources, not from the package.
PUBLISHED = [
    ("dqn-nature", "dqn", 0.95, 0.01, 0.0, True, 2.5e-4, None),
    ("dqn-dopamine", "tensorflow1", 0.95, 1e-5, 0.0, True, 2.5e-4, None),
    ("dqn-minatar", "torch", 0.95, 0.01, 0.95, True, 2.5e-4, None),
    ("a3c", "a3c", 0.99, 0.1, 0.0, False, 7e-4, 40.0),
    ("a2c-baselines", "tensorflow1", 0.99, 1e-5, 0.0, False, 7e-4, 0.5),
    ("a2c-sb3", "torch", 0.99, 1e-5, 0.0, False, 7e-4, 0.5),
    ("impala-tf", "tensorflow1", 0.99, 0.1, 0.0, False, 4.8e-4, None),
    ("impala-torchbeast", "torch", 0.99, 0.01, 0.0, False, 4.8e-4, 40.0),
    ("pymarl", "torch", 0.99, 1e-5, 0.0, False, 5e-4, 10.0),
    ("efficientnet-tf", "tensorflow1", 0.9, 1e-3, 0.9, False, 0.016 * 2048 / 256, None),
    ("efficientnet-timm", "timm", 0.9, 1e-3, 0.9, False, 0.048, None),
    ("mobilenetv3-timm", "timm", 0.9, 1e-3, 0.9, False, 0.064, None),
    ("mobilenetv3-torchvision", "torch", 0.9, 0.0316, 0.9, False, 0.064, None),
    ("inception-v3", "tensorflow1", 0.9, 1.0, 0.9, False, 0.1, None),
    ("wgan", "torch", 0.99, 1e-8, 0.0, False, 5e-5, None),
    ("dpo", "torch", 0.99, 1e-8, 0.0, False, 5e-7, 10.0),
    ("graves-2013", "graves2013", 0.95, 1e-4, 0.9, True, 1e-4, None),
    ("keras-default", "keras3", 0.9, 1e-7, 0.0, False, 1e-3, None),
]
OWN = {"steady"}


@pytest.mark.parametrize("published", PUBLISHED, ids=lambda line: line[0])
def test_a_recipe_has_its_published_numbers(published):
    name, dialect, rho, eps, momentum, centered, lr, max_norm = published
    row = recipes.get(name)
    rule = row.rule
    assert (row.dialect, rule.rho, rule.eps, rule.momentum, rule.centered) == (dialect, rho, eps, momentum, centered)
    assert row.lr == pytest.approx(lr, rel=1e-15)
    assert row.max_norm == max_norm


def test_the_recipes_are_those_that_were_published_and_our_own():
    assert set(recipes.names()) == {line[0] for line in PUBLISHED} | OWN
    assert {row.name for row in recipes.all() if row.evidence == "M"} == OWN
    assert len(recipes.all()) == len(PUBLISHED) + len(OWN)


@pytest.mark.parametrize("row", recipes.all(), ids=lambda row: row.name)
def test_a_recipes_rule_is_its_dialects_with_some_changes(row):
    dialect = dialects.get(row.dialect)
    changes = {switch: value for switch, (_, value) in dialect.rule.difference(row.rule).items()}
    assert dialect.resolve(**changes) == row.rule
    # The same from the numbers alone: what momentum and weight decay bring along is the framework's.
    numbers = {switch: value for switch, value in changes.items() if switch not in ("buffer", "weight_decay_mode")}
    assert dialect.resolve(**numbers) == row.rule


@pytest.mark.parametrize("row", recipes.all(), ids=lambda row: row.name)
def test_a_recipe_names_its_source(row):
    assert row.title
    assert "/" in row.source or "arXiv" in row.source


@pytest.mark.parametrize("name", ["efficientnet-timm", "mobilenetv3-timm", "mobilenetv3-torchvision"])
def test_weight_decay_goes_through_the_gradient(name):
    rule = recipes.get(name).rule
    assert (rule.weight_decay, rule.weight_decay_mode) == (1e-5, "l2")


def test_names_and_aliases_are_unique_and_found_in_any_case():
    keys = [key for row in recipes.all() for key in (row.name, *row.aliases)]
    assert len(keys) == len(set(keys))
    for row in recipes.all():
        for key in (row.name, *row.aliases):
            assert recipes.recipe(key.upper().replace("-", "_")) is row


@pytest.mark.parametrize(
    ("wrong", "near"), [("dqn-natur", "dqn-nature"), ("efficentnet", "efficientnet"), ("a2c_sb", "a2c-sb3")]
)
def test_an_unknown_recipe_suggests_the_nearest(wrong, near):
    with pytest.raises(RuleError, match=f"unknown recipe '{wrong}', did you mean .*'{near}'"):
        recipes.get(wrong)


def test_a_name_near_to_nothing_lists_the_names():
    with pytest.raises(RuleError, match=r"expected one of dqn-nature, .*, steady$"):
        recipes.get("0000")


def test_a_name_that_is_no_string_is_refused():
    with pytest.raises(RuleError, match="expected a name"):
        recipes.get(None)


def test_a_recipe_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipes.get("wgan").lr = 1.0


def test_the_steady_recipe_corrects_the_bias_so_that_its_first_step_is_lr():
    row, p = recipes.get("steady"), np.array([1.0, -2.0])
    optimizer = rmsprop.RMSprop(p, dialect=row.rule, lr=row.lr)
    optimizer.step(np.array([3.0, -0.5]))
    np.testing.assert_allclose(p, [1.0 - row.lr, -2.0 + row.lr], rtol=1e-6)


@pytest.mark.parametrize("warm_up", [0, 1, 10, 500])
@pytest.mark.parametrize("steps", [1, 2, 100])
def test_the_schedule_rises_and_then_falls_in_straight_lines_to_0(steps, warm_up):
    factor = warm_up_linear(steps, warm_up=warm_up)
    for t in range(steps + 5):
        rise = Fraction(t + 1, warm_up) if t + 1 < warm_up else 1
        fall = 1 - Fraction(t + 1, steps + 1) if t < steps else 0
        assert factor(t) == pytest.approx(float(rise * fall), rel=1e-12, abs=1e-15)


def test_the_schedule_is_what_torchs_lambda_lr_takes():
    torch = pytest.importorskip("torch")
    from rmsprop.torch import RMSprop

    row, w = recipes.get("steady"), torch.nn.Parameter(torch.ones(2))
    optimizer = RMSprop([w], lr=row.lr, dialect=row.rule)
    factor = warm_up_linear(3, warm_up=2)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    rates = []
    for _ in range(3):
        rates.append(optimizer.param_groups[0]["lr"])
        w.grad = torch.ones(2)
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx([row.lr * 0.5 * 0.75, row.lr * 0.5, row.lr * 0.25])
    assert optimizer.param_groups[0]["lr"] == 0


@pytest.mark.parametrize(("steps", "warm_up"), [(0, 100), (-1, 0), (10, -1)])
def test_a_schedule_of_no_steps_or_a_negative_warm_up_is_refused(steps, warm_up):
    with pytest.raises(InputError, match=f"steps={steps}, warm_up={warm_up}, expected at least one step"):
        warm_up_linear(steps, warm_up=warm_up)
